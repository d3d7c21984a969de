//! From a Service, pods and the slices that exist to the fewest writes. Pure.
//!
//! Endpoints with the same ports share slices. A slice keeps the endpoints it has, those that are gone leave it, new ones
//! go where there is room, slices being written first, and what is left over gets new slices. An endpoint never moves.

use std::collections::BTreeMap;

use api::Object;
use client::{Meta, kinds};
use serde_json::{Value, json};

use crate::{
    endpoints::{has_endpoint, hostname, ports_of, target_ref},
    pods::controller_reference,
    view::{Endpoint, EndpointSlice, For, Hints, Pod, Port, Service},
};

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Endpoints per slice.
const MOST: usize = 100;

/// One write.
#[derive(Debug, PartialEq)]
pub(crate) enum Write {
    Create(Object),
    Update {
        name: Box<str>,
        uid: Box<str>,
        labels: Value,
        endpoints: Vec<Endpoint>,
    },
    Delete {
        name: Box<str>,
        uid: Box<str>,
    },
}

/// What all slices that are made from one object have in common.
pub(crate) struct Source<'a> {
    /// Of the object, whose name is that of the Service.
    pub(crate) meta: &'a Meta,
    /// The reference by which the object owns its slices.
    pub(crate) owner: Value,
    pub(crate) labels: Value,
}

/// `service` is `None` when it is gone; `zone` gives a node's zone; `slices` are the Service's, made by this controller.
pub(super) fn plan<'a>(
    service: Option<&Service>,
    pods: impl Iterator<Item = &'a Pod>,
    zone: impl Fn(&str) -> Option<Box<str>>,
    slices: &[&EndpointSlice],
) -> Vec<Write> {
    let Some(service) = service else {
        return slices.iter().map(|slice| delete(slice)).collect();
    };
    if !service.selects() {
        return vec![]; // a selector that was taken away leaves its slices to whoever cares now
    }
    let mut by_family: Vec<Family<'_>> = families(service)
        .into_iter()
        .map(|name| Family::new(name, slices))
        .collect();
    for pod in pods.filter(|pod| service.selects_labels(&pod.metadata.labels) && has_endpoint(pod, true)) {
        for family in &mut by_family {
            if let Some(endpoint) = endpoint(service, pod, family.name, &zone) {
                family.groups.entry(ports_of(service, pod)).or_default().push(endpoint);
            }
        }
    }
    let is_wanted = |slice: &EndpointSlice| by_family.iter().any(|family| *family.name == *slice.address_type);
    let mut writes: Vec<Write> = slices
        .iter()
        .filter(|slice| !is_wanted(slice))
        .map(|slice| delete(slice))
        .collect();
    let source = Source {
        meta: &service.metadata,
        owner: controller_reference(&kinds::SERVICE, &service.metadata),
        labels: labels(service),
    };
    for family in by_family {
        writes.extend(family.plan(&source));
    }
    writes
}

/// An address family of a Service: its endpoints by their ports, and the slices there are.
struct Family<'a> {
    name: &'static str,
    groups: BTreeMap<Vec<Port>, Vec<Endpoint>>,
    slices: Vec<&'a EndpointSlice>,
}

impl<'a> Family<'a> {
    fn new(name: &'static str, slices: &[&'a EndpointSlice]) -> Self {
        let slices: Vec<&EndpointSlice> = slices
            .iter()
            .filter(|slice| &*slice.address_type == name)
            .copied()
            .collect();
        // ports that nobody has any more count too, so that their slices are emptied
        let groups = slices.iter().map(|slice| (sorted(&slice.ports), Vec::new())).collect();
        Self { name, groups, slices }
    }

    /// A Service without endpoints keeps one empty slice, by which everyone can tell that it has none.
    fn plan(self, source: &Source<'_>) -> Vec<Write> {
        let Self { name, groups, slices } = self;
        let mut writes = Vec::new();
        for (ports, endpoints) in groups {
            let same_ports = slices.iter().filter(|slice| sorted(&slice.ports) == ports).copied();
            writes.extend(fill(source, name, &ports, endpoints, same_ports.collect()));
        }
        let deletes = writes
            .iter()
            .filter(|write| matches!(write, Write::Delete { .. }))
            .count();
        if deletes < slices.len() || writes.len() > deletes {
            return writes;
        }
        match slices.as_slice() {
            [only] if only.ports.is_empty() && only.endpoints.is_empty() && has_labels(only, &source.labels) => vec![],
            _ => {
                writes.push(Write::Create(slice(source, name, &[], &[])));
                writes
            }
        }
    }
}

fn families(service: &Service) -> Vec<&'static str> {
    let known = service
        .spec
        .ip_families
        .iter()
        .map(|family| if &**family == "IPv6" { "IPv6" } else { "IPv4" });
    let known: Vec<&str> = known.collect();
    if known.is_empty() { vec!["IPv4"] } else { known }
}

pub(crate) fn sorted(ports: &[Port]) -> Vec<Port> {
    let mut ports = ports.to_vec();
    ports.sort();
    ports
}

fn endpoint(service: &Service, pod: &Pod, family: &str, zone: &impl Fn(&str) -> Option<Box<str>>) -> Option<Endpoint> {
    let of_family = |ip: &str| ip.contains(':') == (family == "IPv6");
    let listed = pod.status.pod_ips.iter().map(|ip| &ip.ip);
    let address = listed
        .chain([&pod.status.pod_ip])
        .find(|ip| !ip.is_empty() && of_family(ip))?;
    let (serving, terminating) = (pod.is_ready(), pod.metadata.is_deleting());
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    let mut endpoint = Endpoint {
        addresses: vec![address.clone()],
        ..Endpoint::default()
    };
    endpoint.conditions.ready = ready;
    endpoint.conditions.serving = serving;
    endpoint.conditions.terminating = terminating;
    endpoint.hostname = hostname(service, pod);
    endpoint.target_ref = Some(target_ref(pod));
    if !pod.spec.node_name.is_empty() {
        endpoint.zone = zone(&pod.spec.node_name);
        endpoint.node_name = Some(pod.spec.node_name.clone());
    }
    endpoint.hints = hints(&service.spec.traffic_distribution, &endpoint);
    Some(endpoint)
}

/// From where a ready endpoint had better be used, as the Service's trafficDistribution says.
fn hints(distribution: &str, endpoint: &Endpoint) -> Option<Hints> {
    let of = |name: &Option<Box<str>>| name.iter().map(|name| For { name: name.clone() }).collect::<Vec<_>>();
    let hints = match distribution {
        "PreferClose" | "PreferSameZone" => Hints {
            for_zones: of(&endpoint.zone),
            for_nodes: Vec::new(),
        },
        "PreferSameNode" => Hints {
            for_zones: of(&endpoint.zone),
            for_nodes: of(&endpoint.node_name),
        },
        _ => Hints::default(),
    };
    (endpoint.conditions.ready && hints != Hints::default()).then_some(hints)
}

/// Who an endpoint is, whatever its conditions.
fn identity(endpoint: &Endpoint) -> (Option<&str>, Option<&str>) {
    (
        endpoint.target_ref.as_ref().map(|target| &*target.uid),
        endpoint.addresses.first().map(|address| &**address),
    )
}

/// The writes for one set of ports.
pub(crate) fn fill(
    source: &Source<'_>,
    family: &str,
    ports: &[Port],
    endpoints: Vec<Endpoint>,
    slices: Vec<&EndpointSlice>,
) -> Vec<Write> {
    let mut wanted: BTreeMap<(Option<&str>, Option<&str>), &Endpoint> = endpoints
        .iter()
        .map(|endpoint| (identity(endpoint), endpoint))
        .collect();
    let mut kept: Vec<(&EndpointSlice, Vec<Endpoint>)> = slices
        .into_iter()
        .map(|slice| {
            (
                slice,
                slice
                    .endpoints
                    .iter()
                    .filter_map(|e| wanted.remove(&identity(e)).cloned())
                    .collect(),
            )
        })
        .collect();
    let mut new = wanted.into_values().cloned();
    kept.sort_by_key(|(slice, endpoints)| *endpoints == slice.endpoints); // those that change anyway come first
    for (_, endpoints) in &mut kept {
        let room = MOST.saturating_sub(endpoints.len());
        endpoints.extend(new.by_ref().take(room));
    }
    let labels = &source.labels;
    let mut writes = Vec::new();
    for (slice, endpoints) in kept {
        if endpoints.is_empty() {
            writes.push(delete(slice));
        } else if endpoints != slice.endpoints || !has_labels(slice, labels) {
            let (name, uid) = (slice.metadata.name.clone(), slice.metadata.uid.clone());
            writes.push(Write::Update {
                name,
                uid,
                labels: labels.clone(),
                endpoints,
            });
        }
    }
    loop {
        let batch: Vec<Endpoint> = new.by_ref().take(MOST).collect();
        if batch.is_empty() {
            return writes;
        }
        writes.push(Write::Create(slice(source, family, ports, &batch)));
    }
}

pub(crate) fn delete(slice: &EndpointSlice) -> Write {
    Write::Delete {
        name: slice.metadata.name.clone(),
        uid: slice.metadata.uid.clone(),
    }
}

fn labels(service: &Service) -> Value {
    let mut labels: BTreeMap<&str, &str> = service.metadata.labels.iter().collect();
    labels.insert(SERVICE_NAME, &service.metadata.name);
    labels.insert(MANAGED_BY, MANAGER);
    if service.is_headless() {
        labels.insert(HEADLESS, "");
    }
    json!(labels)
}

fn has_labels(slice: &EndpointSlice, labels: &Value) -> bool {
    let wanted = labels.as_object().into_iter().flatten();
    wanted
        .into_iter()
        .all(|(key, value)| slice.metadata.labels.get(key) == value.as_str())
}

fn slice(source: &Source<'_>, family: &str, ports: &[Port], endpoints: &[Endpoint]) -> Object {
    let mut slice = Object::new("discovery.k8s.io/v1", "EndpointSlice");
    slice.set("metadata.generateName", format!("{}-", source.meta.name));
    slice.set("metadata.namespace", source.meta.namespace.to_string());
    slice.set("metadata.labels", source.labels.clone());
    slice.set("metadata.ownerReferences", json!([source.owner]));
    slice.set("addressType", family);
    slice.set("ports", json!(ports));
    slice.set("endpoints", json!(endpoints));
    slice
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(spec: Value) -> Service {
        let mut value = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"tier": "front"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
        for (key, part) in spec.as_object().unwrap() {
            value["spec"][key] = part.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn pod(n: usize, more: Value) -> Pod {
        let mut value = json!({
            "metadata": {"name": format!("p{n}"), "namespace": "ns", "uid": format!("u{n}"), "labels": {"app": "web"}},
            "spec": {"nodeName": "n1"},
            "status": {"podIP": format!("10.0.{}.{}", n / 250, n % 250 + 1), "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}]},
        });
        for (path, part) in more.as_object().unwrap() {
            *value.pointer_mut(path).unwrap() = part.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn zone(node: &str) -> Option<Box<str>> {
        (node == "n1").then(|| "z1".into())
    }

    /// Carries the writes out.
    fn obey(slices: &mut Vec<EndpointSlice>, writes: Vec<Write>, next: &mut usize) {
        for write in writes {
            match write {
                Write::Create(object) => {
                    let mut slice: EndpointSlice = serde_json::from_value(object.into_value()).unwrap();
                    *next += 1;
                    slice.metadata.name = format!("web-{next}").into();
                    slices.push(slice);
                }
                Write::Update { name, endpoints, .. } => {
                    slices
                        .iter_mut()
                        .find(|slice| slice.metadata.name == name)
                        .unwrap()
                        .endpoints = endpoints;
                }
                Write::Delete { name, .. } => slices.retain(|slice| slice.metadata.name != name),
            }
        }
    }

    #[test]
    fn a_slice_says_what_kubernetes_says() {
        let pods = [pod(0, json!({}))];
        let writes = plan(Some(&service(json!({}))), pods.iter(), zone, &[]);
        let [Write::Create(slice)] = writes.as_slice() else {
            panic!("{writes:?}")
        };
        assert_eq!(
            slice.clone().into_value(),
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"generateName": "web-", "namespace": "ns",
                    "labels": {"tier": "front", "kubernetes.io/service-name": "web",
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "s",
                        "controller": true, "blockOwnerDeletion": true}]},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "z1",
                    "conditions": {"ready": true, "serving": true, "terminating": false},
                    "targetRef": {"kind": "Pod", "namespace": "ns", "name": "p0", "uid": "u0"}}],
            })
        );
    }

    #[test]
    fn conditions_follow_the_pod() {
        let deleted = json!("2026-01-01T00:00:00Z");
        for (spec, ready, deleting, conditions) in [
            (json!({}), "True", false, (true, true, false)),
            (json!({}), "False", false, (false, false, false)),
            (json!({}), "True", true, (false, true, true)),
            (
                json!({"publishNotReadyAddresses": true}),
                "False",
                false,
                (true, false, false),
            ),
            (
                json!({"publishNotReadyAddresses": true}),
                "False",
                true,
                (true, false, true),
            ),
        ] {
            let mut pod = pod(0, json!({"/status/conditions/0/status": ready}));
            if deleting {
                pod.metadata.deletion_timestamp = serde_json::from_value(deleted.clone()).unwrap();
            }
            let found = endpoint(&service(spec), &pod, "IPv4", &zone).unwrap().conditions;
            assert_eq!((found.ready, found.serving, found.terminating), conditions);
        }
    }

    #[test]
    fn hints_follow_the_distribution_that_the_service_asks_for() {
        let hints = |distribution: Value, ready: &str| {
            let pod = pod(0, json!({"/status/conditions/0/status": ready}));
            let service = service(json!({"trafficDistribution": distribution}));
            json!(endpoint(&service, &pod, "IPv4", &zone).unwrap().hints)
        };
        let near = json!({"forZones": [{"name": "z1"}]});
        for (distribution, expected) in [
            ("", Value::Null),
            ("PreferClose", near.clone()),
            ("PreferSameZone", near.clone()),
            (
                "PreferSameNode",
                json!({"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}),
            ),
        ] {
            assert_eq!(hints(json!(distribution), "True"), expected, "{distribution}");
        }
        assert_eq!(hints(json!("PreferClose"), "False"), Value::Null);
    }

    #[test]
    fn a_service_that_is_gone_takes_its_slices_along() {
        let slice: EndpointSlice = serde_json::from_value(json!({"metadata": {"name": "a", "uid": "u"}})).unwrap();
        let writes = plan(None, [].iter(), zone, &[&slice]);
        assert_eq!(
            writes,
            [Write::Delete {
                name: "a".into(),
                uid: "u".into()
            }]
        );
    }

    #[test]
    fn a_service_without_pods_has_one_empty_slice() {
        let (service, mut slices, mut next) = (service(json!({})), Vec::new(), 0);
        let pods = [pod(0, json!({}))];
        for round in [&pods[..0], &pods[..], &pods[..0]] {
            let existing: Vec<EndpointSlice> = slices.clone();
            let writes = plan(Some(&service), round.iter(), zone, &existing.iter().collect::<Vec<_>>());
            obey(&mut slices, writes, &mut next);
            assert_eq!(
                slices.iter().map(|slice| slice.endpoints.len()).collect::<Vec<_>>(),
                [round.len()]
            );
        }
        assert!(plan(Some(&service), [].iter(), zone, &[&slices[0]]).is_empty());
    }

    #[test]
    fn one_pod_less_is_one_write() {
        let (service, mut slices, mut next) = (service(json!({})), Vec::new(), 0);
        let mut pods: Vec<Pod> = (0..250).map(|n| pod(n, json!({}))).collect();
        obey(&mut slices, plan(Some(&service), pods.iter(), zone, &[]), &mut next);
        assert_eq!(
            slices.iter().map(|slice| slice.endpoints.len()).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        pods.remove(7);
        let existing: Vec<&EndpointSlice> = slices.iter().collect();
        assert_eq!(plan(Some(&service), pods.iter(), zone, &existing).len(), 1);
    }

    proptest! {
        /// However pods come and go, the slices hold each of them exactly once, none is too long, and a second plan has
        /// nothing to do.
        #[test]
        fn slices_hold_exactly_the_pods(rounds in prop::collection::vec(prop::collection::vec(0usize..260, 0..260), 1..4)) {
            let (service, mut slices, mut next) = (service(json!({})), Vec::new(), 0);
            for round in rounds {
                let wanted: std::collections::BTreeSet<usize> = round.into_iter().collect();
                let pods: Vec<Pod> = wanted.iter().map(|n| pod(*n, json!({}))).collect();
                let existing: Vec<EndpointSlice> = slices.clone();
                let writes = plan(Some(&service), pods.iter(), zone, &existing.iter().collect::<Vec<_>>());
                obey(&mut slices, writes, &mut next);
                let mut held: Vec<_> = slices.iter().flat_map(|s| &s.endpoints).map(|e| e.addresses[0].clone()).collect();
                held.sort();
                let mut should: Vec<_> = pods.iter().map(|pod| pod.status.pod_ip.clone()).collect();
                should.sort();
                prop_assert_eq!(held, should);
                prop_assert!(slices.iter().all(|slice| slice.endpoints.len() <= MOST));
                let again = plan(Some(&service), pods.iter(), zone, &slices.iter().collect::<Vec<_>>());
                prop_assert!(again.is_empty(), "{:?}", again);
            }
        }
    }
}
