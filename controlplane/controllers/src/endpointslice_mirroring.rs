//! EndpointSlices for Endpoints that somebody else writes, for Services without a selector, so that who reads slices alone
//! misses nothing.
//!
//! Endpoints that say `skip-mirror` are left alone, as are those of old leader elections. Labels are mirrored, annotations
//! are not. At most a thousand addresses of a subset are.

use std::collections::BTreeMap;

use api::NamespacedName;
use client::{
    Error, Informer, Scope, kinds,
    reconcile::{self, Action},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Context, RESYNC,
    endpointslice::{
        Write, carry_out,
        plan::{MANAGED_BY, SERVICE_NAME, Source, delete, fill, sorted},
    },
    pods::controller_reference,
    view::{Endpoint, EndpointSlice, Endpoints, Port, Service, TargetRef},
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of a subset that are mirrored.
const MOST: usize = 1000;

pub(crate) async fn run(context: Context) {
    let endpoints: Informer<Endpoints> = context.informers.get(&kinds::ENDPOINTS, Scope::All);
    let services: Informer<Service> = context.informers.get(&kinds::SERVICE, Scope::All);
    let slices: Informer<EndpointSlice> = context.informers.get(&kinds::ENDPOINT_SLICE, Scope::All);
    endpoints.synced().await;
    services.synced().await;
    slices.synced().await;
    let triggers = vec![
        reconcile::on_change(&endpoints),
        reconcile::mapped(&services, |delta| [delta.key.clone()]),
        reconcile::mapped(&slices, |delta| {
            delta.states().filter_map(source_of).collect::<Vec<_>>()
        }),
        reconcile::every(RESYNC, &endpoints),
    ];
    let mirror = |key| mirror(&context, &endpoints, &services, &slices, key);
    match reconcile::keyed("endpointslice-mirroring", 5, triggers, mirror).await {}
}

/// The Endpoints that a slice of ours mirrors.
fn source_of(slice: &EndpointSlice) -> Option<NamespacedName> {
    let labels = &slice.metadata.labels;
    let name = labels
        .get(SERVICE_NAME)
        .filter(|_| labels.get(MANAGED_BY) == Some(MANAGER))?;
    Some(NamespacedName::new(&slice.metadata.namespace, name))
}

async fn mirror(
    context: &Context,
    endpoints: &Informer<Endpoints>,
    services: &Informer<Service>,
    slices: &Informer<EndpointSlice>,
    key: NamespacedName,
) -> Result<Action, Error> {
    let namespace = key.namespace.as_deref().unwrap_or_default();
    let writes = {
        let by_hand = services.get(&key).is_some_and(|service| is_by_hand(&service));
        let source = endpoints.get(&key).filter(|source| by_hand && is_mirrored(source));
        let slices = slices.snapshot();
        let ours = slices.in_namespace(namespace).map(|(_, slice)| &**slice);
        let ours: Vec<&EndpointSlice> = ours.filter(|slice| source_of(slice).as_ref() == Some(&key)).collect();
        plan(source.as_deref(), &ours)
    };
    for write in writes {
        carry_out(context, slices, namespace, write).await?;
    }
    Ok(Action::Done)
}

/// Whether a Service's endpoints are somebody else's to name.
fn is_by_hand(service: &Service) -> bool {
    service.spec.selector.is_empty() && !service.metadata.is_deleting()
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    !meta.is_deleting() && meta.labels.get(SKIP) != Some("true") && meta.annotations.get(LEADER).is_none()
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subset {
    addresses: Vec<Address>,
    not_ready_addresses: Vec<Address>,
    ports: Vec<Port>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Address {
    ip: Box<str>,
    hostname: Option<Box<str>>,
    node_name: Option<Box<str>>,
    target_ref: Option<TargetRef>,
}

impl Address {
    fn family(&self) -> &'static str {
        if self.ip.contains(':') { "IPv6" } else { "IPv4" }
    }

    fn endpoint(self, ready: bool) -> Endpoint {
        let mut endpoint = Endpoint {
            addresses: vec![self.ip],
            hostname: self.hostname,
            node_name: self.node_name,
            target_ref: self.target_ref,
            ..Endpoint::default()
        };
        endpoint.conditions.ready = ready;
        endpoint.conditions.serving = ready;
        endpoint
    }
}

/// The writes that make the slices, which are all of these Endpoints, say what they say; `None` when there is nothing to
/// mirror. Pure.
fn plan(endpoints: Option<&Endpoints>, slices: &[&EndpointSlice]) -> Vec<Write> {
    let Some(endpoints) = endpoints else {
        return slices.iter().map(|slice| delete(slice)).collect();
    };
    // ports that nobody has any more count too, so that their slices go
    let place = |slice: &&EndpointSlice| (slice.address_type.to_string(), sorted(&slice.ports));
    let mut groups: BTreeMap<(String, Vec<Port>), Vec<Endpoint>> =
        slices.iter().map(|slice| (place(slice), Vec::new())).collect();
    let subsets: Vec<Subset> = serde_json::from_value(endpoints.subsets.clone()).unwrap_or_default();
    for subset in subsets {
        let ports = sorted(&subset.ports);
        let ready = subset.addresses.into_iter().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.into_iter().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready).take(MOST) {
            let group = (address.family().to_owned(), ports.clone());
            groups.entry(group).or_default().push(address.endpoint(ready));
        }
    }
    let source = Source {
        meta: &endpoints.metadata,
        owner: controller_reference(&kinds::ENDPOINTS, &endpoints.metadata),
        labels: labels(endpoints),
    };
    let write = |(group, endpoints): ((String, Vec<Port>), Vec<Endpoint>)| {
        let there = slices.iter().copied().filter(|slice| place(slice) == group).collect();
        fill(&source, &group.0, &group.1, endpoints, there)
    };
    groups.into_iter().flat_map(write).collect()
}

fn labels(endpoints: &Endpoints) -> Value {
    let mut labels: BTreeMap<&str, &str> = endpoints.metadata.labels.iter().collect();
    labels.insert(SERVICE_NAME, &endpoints.metadata.name);
    labels.insert(MANAGED_BY, MANAGER);
    json!(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(subsets: Value) -> Endpoints {
        let meta = json!({"name": "web", "namespace": "ns", "uid": "e", "labels": {"tier": "back"}});
        serde_json::from_value(json!({"metadata": meta, "subsets": subsets})).unwrap()
    }

    fn created(write: &Write) -> EndpointSlice {
        let Write::Create(object) = write else {
            panic!("{write:?}")
        };
        let mut value = object.clone().into_value();
        value["metadata"]["name"] = json!("web-1");
        value["metadata"]["uid"] = json!("u1");
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn subsets_become_slices_by_family_and_ports() {
        let source = endpoints(json!([
            {"addresses": [{"ip": "10.1.2.3", "nodeName": "n"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.1.2.4"}],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.1.2.5"}], "ports": [{"port": 81, "protocol": "UDP"}]},
        ]));
        let slices: Vec<EndpointSlice> = plan(Some(&source), &[]).iter().map(created).collect();
        let told = |slice: &EndpointSlice| {
            let endpoints = slice.endpoints.iter();
            let endpoints: Vec<_> = endpoints
                .map(|e| (e.addresses[0].to_string(), e.conditions.ready))
                .collect();
            (slice.address_type.to_string(), slice.ports[0].port, endpoints)
        };
        let want = [
            ("IPv4".to_owned(), 81, vec![("10.1.2.5".to_owned(), true)]),
            (
                "IPv4".to_owned(),
                80,
                vec![("10.1.2.3".to_owned(), true), ("10.1.2.4".to_owned(), false)],
            ),
            ("IPv6".to_owned(), 80, vec![("fd00::1".to_owned(), true)]),
        ];
        assert_eq!(slices.iter().map(told).collect::<Vec<_>>(), want);
        let meta = &slices[0].metadata;
        assert_eq!(meta.labels.get("tier"), Some("back"));
        assert_eq!(source_of(&slices[0]), Some(NamespacedName::new("ns", "web")));
        assert_eq!(meta.controller().map(|owner| &*owner.kind), Some("Endpoints"));
        assert!(plan(Some(&source), &slices.iter().collect::<Vec<_>>()).is_empty());
    }

    #[test]
    fn a_changed_address_changes_the_slice_and_no_address_removes_it() {
        let port = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
        let at = |ip: &str| endpoints(json!([{"addresses": [{"ip": ip}], "ports": port}]));
        let slice = created(&plan(Some(&at("10.1.2.3")), &[])[0]);
        let writes = plan(Some(&at("10.2.3.4")), &[&slice]);
        let [
            Write::Update {
                name, endpoints: told, ..
            },
        ] = writes.as_slice()
        else {
            panic!("{writes:?}")
        };
        assert_eq!((&**name, &*told[0].addresses[0]), ("web-1", "10.2.3.4"));
        let gone = [delete(&slice)];
        assert_eq!(plan(Some(&endpoints(json!(null))), &[&slice]), gone);
        assert_eq!(plan(None, &[&slice]), gone);
    }

    #[test]
    fn what_is_not_for_slices_is_not_mirrored() {
        let with = |meta: Value| serde_json::from_value::<Endpoints>(json!({"metadata": meta})).unwrap();
        assert!(is_mirrored(&with(json!({"name": "web"}))));
        assert!(!is_mirrored(&with(json!({"labels": {SKIP: "true"}}))));
        assert!(!is_mirrored(&with(json!({"annotations": {LEADER: "{}"}}))));
        let service = |spec: Value| {
            serde_json::from_value::<Service>(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
        };
        assert!(is_by_hand(&service(json!({}))));
        assert!(!is_by_hand(&service(json!({"selector": {"a": "b"}}))));
    }
}
