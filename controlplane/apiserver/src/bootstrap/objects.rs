//! Namespaces, the Service range, the `kubernetes` Service with its endpoints, the Service of cluster DNS, the classes of Wasm pods and of pods
//! that the cluster cannot do without, and what extension servers are told about authentication.

use std::net::{IpAddr, Ipv4Addr};

use api::{Object, cluster_dns};
use ipnet::Ipv4Net;
use serde_json::json;

use crate::resources::scheduling::priority_class::SYSTEM;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const SERVICE: &str = "kubernetes";
const SERVICE_PORT: u16 = 443;

/// What the objects depend on.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Where API servers answer, as pods and nodes see it: all of one family. Empty while that is not known.
    pub advertise: Vec<IpAddr>,
    pub advertise_port: u16,
    pub service_range: Ipv4Net,
    /// The address of the `kubernetes` Service.
    pub kubernetes_address: Ipv4Addr,
    /// Who signs client certificates, in PEM.
    pub client_ca: String,
    /// Who signs the certificate that is shown to aggregated servers, in PEM.
    pub front_proxy_ca: String,
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
            "ports": [{"name": "https", "protocol": "TCP", "port": service_port(cluster), "targetPort": cluster.advertise_port}],
        }),
    );
    object
}

/// `kube-system/kube-dns`: the cluster DNS address. Every node answers its own pods, so a pod asks no other node. Nothing, if
/// the range has no such address.
pub fn dns_service(cluster: &Cluster) -> Option<Object> {
    let range = cluster.service_range;
    let address = cluster_dns::address(range.network(), range.prefix_len())?;
    let (namespace, name) = cluster_dns::SERVICE;
    let mut object = Object::new("v1", "Service");
    object.set_name(name);
    object.set_namespace(Some(namespace));
    object.set_label("k8s-app", name);
    object.set_label("kubernetes.io/cluster-service", "true");
    object.set_label("kubernetes.io/name", "KubeDNS");
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 53, "targetPort": cluster_dns::PORT});
    object.set(
        "spec",
        json!({
            "type": "ClusterIP",
            "clusterIP": address.to_string(),
            "internalTrafficPolicy": "Local",
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        }),
    );
    Some(object)
}

/// Kubernetes' 443. Where Services are on loopback addresses the cluster runs without root, and such a port is mostly
/// closed to it: then the API server's own, which clients read from their environment all the same.
fn service_port(cluster: &Cluster) -> u16 {
    match cluster.kubernetes_address.is_loopback() {
        true => cluster.advertise_port,
        false => SERVICE_PORT,
    }
}

/// Who answers for `default/kubernetes`, in the older form and as a slice.
pub fn kubernetes_endpoints(cluster: &Cluster) -> [Object; 2] {
    let port = cluster.advertise_port;
    let addresses = || cluster.advertise.iter().map(IpAddr::to_string);
    let is_ipv4 = cluster.advertise.iter().all(IpAddr::is_ipv4);
    let mut endpoints = in_default("v1", "Endpoints");
    endpoints.set_label("endpointslice.kubernetes.io/skip-mirror", "true");
    endpoints.set(
        "subsets",
        json!([{"addresses": addresses().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(), "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]),
    );
    let mut slice = in_default("discovery.k8s.io/v1", "EndpointSlice");
    slice.set_label("kubernetes.io/service-name", SERVICE);
    slice.set("addressType", if is_ipv4 { "IPv4" } else { "IPv6" });
    let answering = addresses().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}));
    slice.set("endpoints", answering.collect::<Vec<_>>());
    slice.set("ports", json!([{"name": "https", "port": port, "protocol": "TCP"}]));
    [endpoints, slice]
}

/// RuntimeClass `wasm`: the one handler that every node has. Other runtimes' classes come with their nodes.
pub fn runtime_classes() -> [Object; 1] {
    let mut wasm = Object::new("node.k8s.io/v1", "RuntimeClass");
    wasm.set_name("wasm");
    wasm.set("handler", "wasm");
    [wasm]
}

/// StorageClass `local-path`, the default: directories of the node that a claim's first pod runs on, made and removed by
/// the cluster itself.
pub fn storage_classes() -> [Object; 1] {
    let mut local = Object::new("storage.k8s.io/v1", "StorageClass");
    local.set_name("local-path");
    local.set_annotation("storageclass.kubernetes.io/is-default-class", "true");
    local.set("provisioner", "wherry.dev/local-path");
    local.set("reclaimPolicy", "Delete");
    local.set("volumeBindingMode", "WaitForFirstConsumer");
    [local]
}

/// The classes of pods that the cluster cannot do without.
pub fn priority_classes() -> [Object; 2] {
    SYSTEM.map(|(name, value)| {
        let mut class = Object::new("scheduling.k8s.io/v1", "PriorityClass");
        class.set_name(name);
        class.set("value", value);
        let description = match name {
            "system-node-critical" => "Used for system critical pods that must not be moved from their current node.",
            _ => {
                "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."
            }
        };
        class.set("description", description);
        class
    })
}

/// `kube-system/extension-apiserver-authentication`: how servers beside this one recognise its clients. It also
/// says by which certificate they know this one, and in which headers it tells who is asking.
pub fn authentication(cluster: &Cluster) -> Object {
    let mut map = Object::new("v1", "ConfigMap");
    map.set_name("extension-apiserver-authentication");
    map.set_namespace(Some("kube-system"));
    // Lists are JSON in text.
    map.set(
        "data",
        json!({
            "client-ca-file": cluster.client_ca,
            "requestheader-allowed-names": r#"["front-proxy-client"]"#,
            "requestheader-client-ca-file": cluster.front_proxy_ca,
            "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
            "requestheader-group-headers": r#"["X-Remote-Group"]"#,
            "requestheader-uid-headers": r#"["X-Remote-Uid"]"#,
            "requestheader-username-headers": r#"["X-Remote-User"]"#,
        }),
    );
    map
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
            advertise: vec![Ipv4Addr::new(10, 128, 0, 1).into()],
            advertise_port: 6443,
            service_range: "10.96.0.0/16".parse().expect("a range"),
            kubernetes_address: Ipv4Addr::new(10, 96, 0, 1),
            client_ca: "PEM".to_owned(),
            front_proxy_ca: "PROXY".to_owned(),
        };
        let [endpoints, slice] = kubernetes_endpoints(&cluster);
        let [wasm] = runtime_classes();
        let [local_path] = storage_classes();
        let [node, cluster_wide] = priority_classes();
        let rest = vec![
            service_range(&cluster),
            kubernetes_service(&cluster),
            dns_service(&cluster).expect("the range is large"),
            endpoints,
            slice,
            wasm,
            local_path,
            node,
            cluster_wide,
            authentication(&cluster),
        ];
        let all = [namespaces(), rest].concat();
        insta::assert_json_snapshot!(all);
        let rootless = Cluster {
            kubernetes_address: Ipv4Addr::new(127, 96, 0, 1),
            ..cluster
        };
        assert_eq!(
            kubernetes_service(&rootless)
                .at("spec.ports")
                .map(|ports| &ports[0]["port"]),
            Some(&json!(6443))
        );
    }
}
