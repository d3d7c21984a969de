//! The `kubernetes` Service in namespace `default`: how pods find the API server.

use std::net::{IpAddr, Ipv4Addr};

use api::Object;
use serde_json::json;

/// Where the API server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The address of the Service: the first of the Service range.
    pub service: Ipv4Addr,
    /// The address that stands behind it.
    pub endpoint: IpAddr,
    /// The port the API server listens on.
    pub port: u16,
}

const NAME: &str = "kubernetes";

/// The Service, its Endpoints and its EndpointSlice. The Service has no selector: the API server keeps its own endpoints.
pub fn kubernetes_service(at: Advertised) -> Vec<Object> {
    vec![service(at), endpoints(at), endpoint_slice(at)]
}

fn service(at: Advertised) -> Object {
    let mut object = named("v1", "Service");
    object.set_label("component", "apiserver");
    object.set_label("provider", NAME);
    object.set(
        "spec",
        json!({
            "type": "ClusterIP",
            "clusterIP": at.service.to_string(),
            "clusterIPs": [at.service.to_string()],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": at.port}],
        }),
    );
    object
}

fn endpoints(at: Advertised) -> Object {
    let mut object = named("v1", "Endpoints");
    object.set_label("endpointslice.kubernetes.io/skip-mirror", "true");
    object.set(
        "subsets",
        json!([{
            "addresses": [{"ip": at.endpoint.to_string()}],
            "ports": [{"name": "https", "port": at.port, "protocol": "TCP"}],
        }]),
    );
    object
}

fn endpoint_slice(at: Advertised) -> Object {
    let mut object = named("discovery.k8s.io/v1", "EndpointSlice");
    object.set_label("kubernetes.io/service-name", NAME);
    object.set("addressType", if at.endpoint.is_ipv4() { "IPv4" } else { "IPv6" });
    object.set("endpoints", json!([{"addresses": [at.endpoint.to_string()], "conditions": {"ready": true}}]));
    object.set("ports", json!([{"name": "https", "port": at.port, "protocol": "TCP"}]));
    object
}

fn named(api_version: &str, kind: &str) -> Object {
    let mut object = Object::new(api_version, kind);
    object.set_name(NAME);
    object.set_namespace(Some("default"));
    object
}
