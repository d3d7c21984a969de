//! The ports of a container. CRI has them only for the sandbox as a whole; a Wasm container needs its own.

use cri::{ContainerPort, PortMapping};
use serde::Deserialize;

/// Where a kubelet notes the ports of a container, as the pod declares them.
const ANNOTATION: &str = "io.kubernetes.container.ports";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Declared {
    #[serde(default)]
    name: String,
    container_port: u16,
    #[serde(default)]
    protocol: String,
}

/// The ports of a container: those that the kubelet noted, else those of its sandbox.
pub(super) fn of(annotation: Option<&String>, sandbox: &[PortMapping]) -> Vec<ContainerPort> {
    let noted = annotation.and_then(|text| serde_json::from_str::<Vec<Declared>>(text).ok());
    let Some(noted) = noted else {
        return sandbox.iter().map(of_sandbox).collect();
    };
    let port = |port: Declared| ContainerPort {
        name: port.name,
        protocol: match port.protocol.is_empty() {
            true => "TCP".to_owned(),
            false => port.protocol,
        },
        port: port.container_port,
    };
    noted.into_iter().map(port).collect()
}

fn of_sandbox(mapping: &PortMapping) -> ContainerPort {
    ContainerPort {
        name: String::new(),
        protocol: mapping.protocol.clone(),
        port: mapping.container_port,
    }
}

/// Reads the annotation out of a container's.
pub(super) fn noted(annotations: &std::collections::BTreeMap<String, String>) -> Option<&String> {
    annotations.get(ANNOTATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kubelet_noted_comes_first() {
        let sandbox = [PortMapping {
            protocol: "UDP".to_owned(),
            container_port: 53,
            host_port: 0,
            host_ip: String::new(),
        }];
        let noted = r#"[{"name":"web","containerPort":8080,"protocol":"TCP"},{"containerPort":9}]"#.to_owned();
        let ports = of(Some(&noted), &sandbox);
        let told: Vec<_> = ports
            .iter()
            .map(|p| (p.name.as_str(), p.protocol.as_str(), p.port))
            .collect();
        assert_eq!(told, [("web", "TCP", 8080), ("", "TCP", 9)]);
        for none in [None, Some("no JSON".to_owned())] {
            let ports = of(none.as_ref(), &sandbox);
            assert_eq!((ports.len(), ports[0].protocol.as_str(), ports[0].port), (1, "UDP", 53));
        }
    }
}
