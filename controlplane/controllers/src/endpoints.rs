//! The Endpoints object of every Service with a selector: the older form of what EndpointSlices say, which many programs
//! still read. Also the home of what both are made from: which pods back a Service, and their ports.

use std::collections::BTreeMap;

use api::{NamespacedName, Object};
use client::{
    Delta, Error, Informer, OptionalExt, Scope, kinds,
    reconcile::{self, Action, Trigger},
};
use serde_json::{Value, json};

use crate::{
    Context, RESYNC,
    view::{self, IntOrString, Pod, Port, Service, ServicePort, TargetRef},
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// An Endpoints object holds no more addresses than this.
const MOST: usize = 1000;

pub(crate) async fn run(context: Context) {
    let services: Informer<Service> = context.informers.get(&kinds::SERVICE, Scope::All);
    let pods: Informer<Pod> = context.informers.get(&kinds::POD, Scope::All);
    let endpoints: Informer<view::Endpoints> = context.informers.get(&kinds::ENDPOINTS, Scope::All);
    services.synced().await;
    pods.synced().await;
    endpoints.synced().await;
    let triggers = vec![
        reconcile::on_change(&services),
        of_pods(&pods, &services),
        reconcile::mapped(&endpoints, |delta| [delta.key.clone()]),
        reconcile::every(RESYNC, &services),
    ];
    let reconcile = |key| update(&context, &services, &pods, &endpoints, key);
    match reconcile::keyed("endpoints", 5, triggers, reconcile).await {}
}

/// The Services that a change of a pod concerns: those that selected it before, or do now.
pub(crate) fn of_pods(pods: &Informer<Pod>, services: &Informer<Service>) -> Trigger<NamespacedName> {
    let services = services.clone();
    reconcile::mapped(pods, move |delta: &Delta<Pod>| {
        let snapshot = services.snapshot();
        let selects = |service: &Service| delta.states().any(|pod| service.selects_labels(&pod.metadata.labels));
        let namespace = delta.key.namespace.as_deref().unwrap_or_default();
        let concerned = snapshot.in_namespace(namespace).filter(|(_, service)| selects(service));
        concerned.map(|(key, _)| key.clone()).collect::<Vec<_>>()
    })
}

/// The ports of a Service as one pod has them; a named port that the pod lacks is left out.
pub(crate) fn ports_of(service: &Service, pod: &Pod) -> Vec<Port> {
    let resolve = |port: &ServicePort| {
        Some(Port {
            name: port.name.clone(),
            port: target_port(port, pod)?,
            protocol: protocol(&port.protocol).into(),
            app_protocol: port.app_protocol.clone(),
        })
    };
    let mut ports: Vec<Port> = service.spec.ports.iter().filter_map(resolve).collect();
    ports.sort();
    ports
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            let sidecars = pod
                .spec
                .init_containers
                .iter()
                .filter(|container| &*container.restart_policy == "Always");
            let mut ports = pod
                .spec
                .containers
                .iter()
                .chain(sidecars)
                .flat_map(|container| &container.ports);
            let wanted = protocol(&port.protocol);
            ports
                .find(|own| own.name == *name && protocol(&own.protocol) == wanted)
                .map(|own| own.container_port)
        }
    }
}

fn protocol(text: &str) -> &str {
    if text.is_empty() { "TCP" } else { text }
}

/// Whether the pod backs anything: it has an address and has not ended.
pub(crate) fn has_endpoint(pod: &Pod, terminating_too: bool) -> bool {
    !pod.status.pod_ip.is_empty() && !pod.is_finished() && (terminating_too || !pod.metadata.is_deleting())
}

/// The host name that a headless Service gives the pod.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<Box<str>> {
    let named = !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name;
    named.then(|| pod.spec.hostname.clone())
}

pub(crate) fn target_ref(pod: &Pod) -> TargetRef {
    TargetRef {
        kind: "Pod".into(),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    }
}

/// The subsets of an Endpoints object: addresses with the same ports together, in a settled order.
fn subsets<'a>(service: &Service, pods: impl Iterator<Item = &'a Pod>) -> Value {
    let tolerant = service.spec.publish_not_ready_addresses;
    let mut groups: BTreeMap<Vec<Port>, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    let backing = pods.filter(|pod| has_endpoint(pod, tolerant) && service.selects_labels(&pod.metadata.labels));
    for pod in backing.take(MOST) {
        let ports = ports_of(service, pod);
        if ports.is_empty() && !service.is_headless() {
            continue;
        }
        let node = Some(&pod.spec.node_name).filter(|node| !node.is_empty());
        let address = without_nulls(json!({
            "ip": pod.status.pod_ip,
            "nodeName": node,
            "hostname": hostname(service, pod),
            "targetRef": target_ref(pod),
        }));
        let (ready, not_ready) = groups.entry(ports).or_default();
        if tolerant || pod.is_ready() {
            ready.push(address)
        } else {
            not_ready.push(address)
        }
    }
    let by_address = |mut addresses: Vec<Value>| {
        addresses.sort_by_key(|address| address["ip"].as_str().unwrap_or_default().to_owned());
        addresses
    };
    let subset = |(ports, (ready, not_ready)): (Vec<Port>, (Vec<Value>, Vec<Value>))| {
        let list = |list: Vec<Value>| Some(list).filter(|list| !list.is_empty());
        without_nulls(json!({
            "addresses": list(by_address(ready)),
            "notReadyAddresses": list(by_address(not_ready)),
            "ports": list(ports.iter().map(port).collect()),
        }))
    };
    groups.into_iter().map(subset).collect()
}

fn port(port: &Port) -> Value {
    let mut value = json!(port);
    if port.name.is_empty()
        && let Some(map) = value.as_object_mut()
    {
        map.remove("name");
    }
    value
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    value
}

async fn update(
    context: &Context,
    services: &Informer<Service>,
    pods: &Informer<Pod>,
    endpoints: &Informer<view::Endpoints>,
    key: NamespacedName,
) -> Result<Action, Error> {
    let existing = endpoints.get(&key);
    let Some(service) = services.get(&key).filter(|service| !service.metadata.is_deleting()) else {
        if existing.is_some_and(|existing| existing.metadata.labels.get(MANAGED_BY) == Some(MANAGER)) {
            context
                .client
                .delete(&kinds::ENDPOINTS, &key, &Default::default())
                .await
                .optional()?;
        }
        return Ok(Action::Done);
    };
    if !service.selects() {
        return Ok(Action::Done); // somebody else's endpoints
    }
    let subsets = {
        let snapshot = pods.snapshot();
        subsets(
            &service,
            snapshot
                .in_namespace(&service.metadata.namespace)
                .map(|(_, pod)| &**pod),
        )
    };
    let labels = labels(&service);
    let client = &context.client;
    let written = match existing {
        Some(existing) if same(&existing, &labels, &subsets) => return Ok(Action::Done),
        Some(existing) => {
            let change = json!({"metadata": {"labels": labels}, "subsets": subsets});
            client
                .update(&kinds::ENDPOINTS, &key, None, &existing.metadata.uid, &change)
                .await
        }
        None => {
            let mut object = Object::new("v1", "Endpoints");
            object.set("metadata.name", key.name.to_string());
            object.set("metadata.labels", labels);
            object.set("subsets", subsets);
            client
                .create(&kinds::ENDPOINTS, Some(&service.metadata.namespace), &object)
                .await
                .map(Some)
        }
    };
    match written {
        Ok(Some(object)) => endpoints.wait_written(&object).await,
        Ok(None) => {}
        Err(error) if error.is_namespace_terminating() => {}
        Err(error) => return Err(error),
    }
    Ok(Action::Done)
}

fn labels(service: &Service) -> Value {
    let mut labels: BTreeMap<&str, &str> = service.metadata.labels.iter().collect();
    labels.insert(MANAGED_BY, MANAGER);
    if service.is_headless() {
        labels.insert(HEADLESS, "");
    }
    json!(labels)
}

fn same(existing: &view::Endpoints, labels: &Value, subsets: &Value) -> bool {
    let empty = Value::Array(vec![]);
    let current = if existing.subsets.is_null() {
        &empty
    } else {
        &existing.subsets
    };
    let labels = labels.as_object();
    current == subsets
        && labels.is_some_and(|labels| {
            labels
                .iter()
                .all(|(key, value)| existing.metadata.labels.get(key) == value.as_str())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})).unwrap()
    }

    fn pod(name: &str, ip: &str, ready: bool, named_port: u16) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": [{"ports": [{"name": "http", "containerPort": named_port}]}]},
            "status": {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"}}]},
        })).unwrap()
    }

    #[test]
    fn addresses_are_grouped_by_their_ports() {
        let web = service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}));
        let pods = [
            pod("b", "10.0.0.2", true, 8080),
            pod("a", "10.0.0.1", true, 8080),
            pod("c", "10.0.0.3", false, 9090),
        ];
        let subsets = subsets(&web, pods.iter());
        let address = |name: &str, ip: &str| {
            json!({"ip": ip, "nodeName": "n",
            "targetRef": {"kind": "Pod", "namespace": "ns", "name": name, "uid": name}})
        };
        assert_eq!(
            subsets,
            json!([
                {"addresses": [address("a", "10.0.0.1"), address("b", "10.0.0.2")], "ports": [{"port": 8080, "protocol": "TCP"}]},
                {"notReadyAddresses": [address("c", "10.0.0.3")], "ports": [{"port": 9090, "protocol": "TCP"}]},
            ])
        );
    }

    #[test]
    fn what_is_not_ready_may_be_published() {
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}], "publishNotReadyAddresses": true});
        let subsets = subsets(&service(spec), [pod("a", "10.0.0.1", false, 1)].iter());
        assert_eq!(subsets[0]["addresses"][0]["ip"], "10.0.0.1");
    }

    #[test]
    fn ports_resolve_by_number_name_and_default() {
        let pod = pod("a", "10.0.0.1", true, 8080);
        for (target, found) in [
            (json!({"port": 80}), vec![80]),
            (json!({"port": 80, "targetPort": 81}), vec![81]),
            (json!({"port": 80, "targetPort": "http"}), vec![8080]),
            (json!({"port": 80, "targetPort": "http", "protocol": "UDP"}), vec![]),
            (json!({"port": 80, "targetPort": "missing"}), vec![]),
        ] {
            let service = service(json!({"selector": {"app": "web"}, "ports": [target]}));
            assert_eq!(
                ports_of(&service, &pod)
                    .iter()
                    .map(|port| port.port)
                    .collect::<Vec<_>>(),
                found
            );
        }
    }
}
