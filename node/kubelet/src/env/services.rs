//! The variables that tell a container where Services are. Pure.

use std::net::IpAddr;

use serde::Deserialize;

/// The part of a Service that its variables tell.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) metadata: Metadata,
    pub(crate) spec: Spec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    pub(crate) name: Box<str>,
    pub(crate) namespace: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: Box<str>,
    pub(crate) ports: Box<[Port]>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Port {
    pub(crate) name: Box<str>,
    pub(crate) port: u16,
    pub(crate) protocol: Box<str>,
}

/// The variables for a pod of `namespace`: those of the API's own Service always, those of its namespace's Services if
/// `links` (`enableServiceLinks`). A Service of the namespace that is called `kubernetes` wins over the API's.
pub(crate) fn variables<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let is_api = |s: &Service| &*s.metadata.namespace == "default" && &*s.metadata.name == "kubernetes";
    let mut chosen: Vec<&Service> = services
        .filter(|s| is_api(s) || (links && &*s.metadata.namespace == namespace))
        .filter(|s| !matches!(&*s.spec.cluster_ip, "" | "None"))
        .collect();
    chosen.sort_by_key(|s| (s.metadata.name.clone(), &*s.metadata.namespace != namespace));
    chosen.dedup_by(|later, earlier| later.metadata.name == earlier.metadata.name);
    chosen.into_iter().flat_map(of_service).collect()
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let prefix = service.metadata.name.to_uppercase().replace('-', "_");
    let ip = &*service.spec.cluster_ip;
    let Some(first) = service.spec.ports.first() else {
        return Vec::new();
    };
    let mut out = vec![
        (format!("{prefix}_SERVICE_HOST"), ip.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in service.spec.ports.iter().filter(|p| !p.name.is_empty()) {
        let name = port.name.to_uppercase().replace('-', "_");
        out.push((format!("{prefix}_SERVICE_PORT_{name}"), port.port.to_string()));
    }
    out.push((format!("{prefix}_PORT"), url(ip, first)));
    for port in &service.spec.ports {
        let protocol = protocol(port);
        let link = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.push((link.clone(), url(ip, port)));
        out.push((format!("{link}_PROTO"), protocol));
        out.push((format!("{link}_PORT"), port.port.to_string()));
        out.push((format!("{link}_ADDR"), ip.to_owned()));
    }
    out
}

fn protocol(port: &Port) -> String {
    if port.protocol.is_empty() {
        "tcp".into()
    } else {
        port.protocol.to_lowercase()
    }
}

fn url(ip: &str, port: &Port) -> String {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => format!("{}://[{v6}]:{}", protocol(port), port.port),
        _ => format!("{}://{ip}:{}", protocol(port), port.port),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> Service {
        let ports = json!([{"name": "web-ui", "port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]);
        let object =
            json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": ip, "ports": ports}});
        serde_json::from_value(object).expect("service")
    }

    #[test]
    fn tells_host_ports_and_links() {
        let text: Vec<String> = variables([service("a", "my-db", "10.96.0.7")].iter(), "a", true)
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(
            text,
            [
                "MY_DB_SERVICE_HOST=10.96.0.7",
                "MY_DB_SERVICE_PORT=80",
                "MY_DB_SERVICE_PORT_WEB_UI=80",
                "MY_DB_PORT=tcp://10.96.0.7:80",
                "MY_DB_PORT_80_TCP=tcp://10.96.0.7:80",
                "MY_DB_PORT_80_TCP_PROTO=tcp",
                "MY_DB_PORT_80_TCP_PORT=80",
                "MY_DB_PORT_80_TCP_ADDR=10.96.0.7",
                "MY_DB_PORT_53_UDP=udp://10.96.0.7:53",
                "MY_DB_PORT_53_UDP_PROTO=udp",
                "MY_DB_PORT_53_UDP_PORT=53",
                "MY_DB_PORT_53_UDP_ADDR=10.96.0.7",
            ]
        );
    }

    #[test]
    fn the_api_is_always_told_other_namespaces_and_headless_services_never() {
        let all = [
            service("default", "kubernetes", "10.96.0.1"),
            service("default", "other", "10.96.0.2"),
            service("a", "headless", "None"),
            service("a", "kept", "10.96.0.3"),
        ];
        let hosts = |links: bool| -> Vec<String> {
            let made = variables(all.iter(), "a", links).into_iter();
            made.filter(|(k, _)| k.ends_with("SERVICE_HOST"))
                .map(|(k, _)| k)
                .collect()
        };
        assert_eq!(hosts(true), ["KEPT_SERVICE_HOST", "KUBERNETES_SERVICE_HOST"]);
        assert_eq!(hosts(false), ["KUBERNETES_SERVICE_HOST"]);
    }
}
