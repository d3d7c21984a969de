//! Every node answers for the cluster's names itself: the Service `kube-system/kube-dns` has a slice for each node, with the
//! node's own address in the pod network. The Service's internalTrafficPolicy leads every pod to its own node. A slice goes
//! with its node, and none says whether it is ready: who asks on a node that has lost the control plane must be answered
//! there all the same.

use api::{NamespacedName, Object, cluster_dns};
use client::{
    DeleteOptions, Error, Informer, OptionalExt, Scope, kinds,
    reconcile::{self, Action},
};
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use crate::{
    Context, RESYNC,
    view::{EndpointSlice, Node},
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "cluster-dns.wherry";

pub(crate) async fn run(context: Context) {
    let nodes: Informer<Node> = context.informers.get(&kinds::NODE, Scope::All);
    let slices: Informer<EndpointSlice> = context.informers.get(&kinds::ENDPOINT_SLICE, Scope::All);
    nodes.synced().await;
    slices.synced().await;
    let triggers = vec![
        reconcile::on_change(&nodes),
        reconcile::mapped(&slices, |delta| delta.states().filter_map(node_of).collect::<Vec<_>>()),
        reconcile::every(RESYNC, &nodes),
    ];
    match reconcile::keyed("cluster-dns", 2, triggers, |key| {
        reconcile(&context, &nodes, &slices, key)
    })
    .await {}
}

/// The node of a slice of ours.
fn node_of(slice: &EndpointSlice) -> Option<NamespacedName> {
    let is_ours = slice.metadata.labels.get(MANAGED_BY) == Some(MANAGER);
    let owner = slice.metadata.owner_references.iter().find(|_| is_ours)?;
    Some(NamespacedName::cluster(&owner.name))
}

async fn reconcile(
    context: &Context,
    nodes: &Informer<Node>,
    slices: &Informer<EndpointSlice>,
    key: NamespacedName,
) -> Result<Action, Error> {
    let (namespace, service) = cluster_dns::SERVICE;
    let at = NamespacedName::new(namespace, &format!("{service}-{}", key.name));
    let wanted = nodes.get(&key).and_then(|node| slice(&node));
    let there = slices.get(&at);
    let client = &context.client;
    let written = match (wanted, there) {
        (None, None) => return Ok(Action::Done),
        (None, Some(there)) => {
            let gone = DeleteOptions::of_uid(&there.metadata.uid);
            client.delete(&kinds::ENDPOINT_SLICE, &at, &gone).await.optional()?;
            return Ok(Action::Done);
        }
        (Some(wanted), Some(there)) if is_as(&there, &wanted) => return Ok(Action::Done),
        (Some(wanted), Some(there)) => {
            let uid = &there.metadata.uid;
            client
                .update(&kinds::ENDPOINT_SLICE, &at, None, uid, &change(&wanted))
                .await
        }
        (Some(wanted), None) => client
            .create(&kinds::ENDPOINT_SLICE, Some(namespace), &wanted)
            .await
            .map(Some),
    };
    match written {
        Ok(Some(slice)) => slices.wait_written(&slice).await,
        Ok(None) => {}
        Err(error) if error.is_namespace_terminating() => {}
        Err(error) => return Err(error),
    }
    Ok(Action::Done)
}

/// What a node should have; `None` while it has no pod range.
fn slice(node: &Node) -> Option<Object> {
    let (namespace, service) = cluster_dns::SERVICE;
    let range: Ipv4Net = node.spec.pod_cidr.parse().ok()?;
    let own = range.hosts().next()?;
    let name = &node.metadata.name;
    let mut slice = Object::new("discovery.k8s.io/v1", "EndpointSlice");
    slice.set_name(&format!("{service}-{name}"));
    slice.set_namespace(Some(namespace));
    slice.set("metadata.labels", json!({SERVICE_NAME: service, MANAGED_BY: MANAGER}));
    slice.set(
        "metadata.ownerReferences",
        json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.metadata.uid}]),
    );
    slice.set("addressType", "IPv4");
    slice.set("endpoints", json!([{"addresses": [own.to_string()], "nodeName": name}]));
    let port = |name: &str, protocol: &str| json!({"name": name, "port": cluster_dns::PORT, "protocol": protocol});
    slice.set("ports", json!([port("dns", "UDP"), port("dns-tcp", "TCP")]));
    Some(slice)
}

/// Whether what is there leads where it should, and goes with the node that is there now.
fn is_as(there: &EndpointSlice, wanted: &Object) -> bool {
    let addresses: Vec<_> = there.endpoints.iter().map(|endpoint| &endpoint.addresses).collect();
    let nodes: Vec<_> = there.endpoints.iter().map(|endpoint| &endpoint.node_name).collect();
    let ports: Vec<Value> = there
        .ports
        .iter()
        .map(|port| json!({"name": port.name, "port": port.port, "protocol": port.protocol}))
        .collect();
    let labels = &there.metadata.labels;
    let owner = there.metadata.owner_references.first().map(|owner| &*owner.uid);
    let endpoint = wanted.list_at("endpoints").first();
    let of = |field: &str| endpoint.and_then(|endpoint| endpoint.get(field)).cloned();
    let wanted_owner = wanted.list_at("metadata.ownerReferences").first();
    json!(addresses.first()) == json!(of("addresses"))
        && json!(nodes) == json!([of("nodeName")])
        && ports == wanted.list_at("ports")
        && labels.get(MANAGED_BY) == Some(MANAGER)
        && labels.get(SERVICE_NAME) == Some(cluster_dns::SERVICE.1)
        && owner == wanted_owner.and_then(|owner| owner.get("uid")?.as_str())
}

fn change(wanted: &Object) -> Value {
    let field = |path: &str| wanted.at(path).cloned();
    json!({
        "metadata": {"labels": field("metadata.labels"), "ownerReferences": field("metadata.ownerReferences")},
        "endpoints": field("endpoints"),
        "ports": field("ports"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(spec: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n1", "uid": "u1"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_node_answers_at_its_own_address_of_the_pod_network() {
        assert_eq!(slice(&node(json!({}))), None);
        let wanted = slice(&node(json!({"podCIDR": "10.128.128.0/17"}))).unwrap();
        assert_eq!(
            wanted.clone().into_value(),
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": "kube-dns-n1", "namespace": "kube-system",
                    "labels": {"kubernetes.io/service-name": "kube-dns",
                        "endpointslice.kubernetes.io/managed-by": "cluster-dns.wherry"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1"}]},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.128.128.1"], "nodeName": "n1"}],
                "ports": [{"name": "dns", "port": 10053, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 10053, "protocol": "TCP"}],
            })
        );
    }

    #[test]
    fn a_slice_is_left_alone_only_as_it_should_be() {
        let wanted = slice(&node(json!({"podCIDR": "10.128.0.0/17"}))).unwrap();
        let there = |change: &dyn Fn(&mut Object)| -> EndpointSlice {
            let mut slice = wanted.clone();
            change(&mut slice);
            serde_json::from_value(slice.into_value()).unwrap()
        };
        assert!(is_as(&there(&|_| {}), &wanted));
        assert_eq!(node_of(&there(&|_| {})), Some(NamespacedName::cluster("n1")));
        let changes: [&dyn Fn(&mut Object); 5] = [
            &|slice| slice.set("endpoints", json!([])),
            &|slice| slice.set("endpoints", json!([{"addresses": ["10.128.0.1"]}])),
            &|slice| slice.set("ports", json!([])),
            &|slice| slice.set("metadata.labels", json!({})),
            &|slice| slice.set("metadata.ownerReferences", json!([])),
        ];
        for change in changes {
            assert!(!is_as(&there(change), &wanted));
        }
    }
}
