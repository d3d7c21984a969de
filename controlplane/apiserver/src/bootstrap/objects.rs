//! Namespaces, the Service range, and the `kubernetes` Service with its endpoints.

use std::net::{IpAddr, Ipv4Addr};

use api::Object;
use ipnet::Ipv4Net;
use serde_json::json;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const SERVICE: &str = "kubernetes";
const SERVICE_PORT: u16 = 443;

/// What the objects depend on.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Where the API server answers, as pods and nodes see it.
    pub advertise: IpAddr,
    pub advertise_port: u16,
    pub service_range: Ipv4Net,
    /// The address of the `kubernetes` Service.
    pub kubernetes_address: Ipv4Addr,
}

/// The namespaces of every cluster.
pub fn namespaces() -> Vec<Object> {
    let namespace = |name: &&str| {
        let mut object = Object::new("v1", "Namespace");
        object.set_name(name);
        object
    };
    NAMESPACES.iter().map(namespace).collect()
}

/// The ServiceCIDR `kubernetes`.
pub fn service_range(cluster: &Cluster) -> Object {
    let mut object = Object::new("networking.k8s.io/v1", "ServiceCIDR");
    object.set_name(SERVICE);
    object.set("spec.cidrs", json!([cluster.service_range.to_string()]));
    object
}

/// `default/kubernetes`: how pods find the API server.
pub fn kubernetes_service(cluster: &Cluster) -> Object {
    let mut object = in_default("v1", "Service");
    object.set(
        "spec",
        json!({
            "type": "ClusterIP",
            "clusterIP": cluster.kubernetes_address.to_string(),
            "ports": [{"name": "https", "protocol": "TCP", "port": SERVICE_PORT, "targetPort": cluster.advertise_port}],
        }),
    );
    object
}

/// Who answers for `default/kubernetes`, in the older form and as a slice.
pub fn kubernetes_endpoints(cluster: &Cluster) -> [Object; 2] {
    let (ip, port) = (cluster.advertise.to_string(), cluster.advertise_port);
    let mut endpoints = in_default("v1", "Endpoints");
    endpoints.set_label("endpointslice.kubernetes.io/skip-mirror", "true");
    endpoints.set(
        "subsets",
        json!([{"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]),
    );
    let mut slice = in_default("discovery.k8s.io/v1", "EndpointSlice");
    slice.set_label("kubernetes.io/service-name", SERVICE);
    slice.set("addressType", if cluster.advertise.is_ipv4() { "IPv4" } else { "IPv6" });
    slice.set("endpoints", json!([{"addresses": [ip], "conditions": {"ready": true}}]));
    slice.set("ports", json!([{"name": "https", "port": port, "protocol": "TCP"}]));
    [endpoints, slice]
}

fn in_default(api_version: &str, kind: &str) -> Object {
    let mut object = Object::new(api_version, kind);
    object.set_name(SERVICE);
    object.set_namespace(Some("default"));
    if kind == "Service" {
        object.set_label("component", "apiserver");
        object.set_label("provider", "kubernetes");
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_s_own_objects() {
        let cluster = Cluster {
            advertise: Ipv4Addr::new(10, 128, 0, 1).into(),
            advertise_port: 6443,
            service_range: "10.96.0.0/16".parse().expect("a range"),
            kubernetes_address: Ipv4Addr::new(10, 96, 0, 1),
        };
        let [endpoints, slice] = kubernetes_endpoints(&cluster);
        let all = [
            namespaces(),
            vec![service_range(&cluster), kubernetes_service(&cluster), endpoints, slice],
        ]
        .concat();
        insta::assert_json_snapshot!(all);
    }
}
