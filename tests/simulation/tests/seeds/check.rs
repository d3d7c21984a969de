//! What must be so when a cluster is at rest: the objects as they are, compared with each other and with the runtimes.

use std::collections::{BTreeMap, BTreeSet};

use api::Object;
use client::{Kind, ListOptions, kinds};
use cri::{ContainerState, Runtime, SandboxState};
use harness::Cluster;
use serde_json::Value;

/// Everything of a cluster that the rules speak of.
struct State {
    namespaces: Vec<Object>,
    nodes: Vec<Object>,
    deployments: Vec<Object>,
    replica_sets: Vec<Object>,
    pods: Vec<Object>,
    services: Vec<Object>,
    slices: Vec<Object>,
    addresses: Vec<Object>,
}

/// What is wrong with a cluster that should be at rest; nothing, if all is well.
pub async fn violations(cluster: &Cluster) -> Vec<String> {
    let client = cluster.api.administrator();
    let list = async |kind: &Kind| {
        client
            .list::<Object>(kind, None, &ListOptions::default())
            .await
            .map(|list| list.items)
    };
    let read = async {
        Ok::<_, client::Error>(State {
            namespaces: list(&kinds::NAMESPACE).await?,
            nodes: list(&kinds::NODE).await?,
            deployments: list(&kinds::DEPLOYMENT).await?,
            replica_sets: list(&kinds::REPLICA_SET).await?,
            pods: list(&kinds::POD).await?,
            services: list(&kinds::SERVICE).await?,
            slices: list(&kinds::ENDPOINT_SLICE).await?,
            addresses: list(&kinds::IP_ADDRESS).await?,
        })
    };
    let state = match read.await {
        Ok(state) => state,
        Err(error) => return vec![format!("cannot read the cluster: {error}")],
    };
    let mut wrong = Vec::new();
    namespaces(&state, &mut wrong);
    nodes(&state, &mut wrong);
    deployments(&state, &mut wrong);
    owners(&state, &mut wrong);
    pods(&state, &mut wrong);
    endpoints(&state, &mut wrong);
    service_addresses(&state, &mut wrong);
    runtimes(cluster, &state, &mut wrong).await;
    wrong
}

fn called(object: &Object) -> String {
    format!(
        "{} {}/{}",
        object.kind(),
        object.namespace().unwrap_or_default(),
        object.name()
    )
}

fn condition<'a>(object: &'a Object, kind: &str) -> &'a str {
    let conditions = object.list_at("status.conditions").iter();
    let found = conditions
        .filter(|c| c["type"] == kind)
        .find_map(|c| c["status"].as_str());
    found.unwrap_or("missing")
}

/// Namespaces that were deleted are gone, and nothing is in a namespace that is not there.
fn namespaces(state: &State, wrong: &mut Vec<String>) {
    let there: BTreeSet<&str> = state.namespaces.iter().map(Object::name).collect();
    wrong.extend(
        state
            .namespaces
            .iter()
            .filter(|n| n.is_deleting())
            .map(|n| format!("{} is still there", called(n))),
    );
    let inside = [
        &state.deployments,
        &state.replica_sets,
        &state.pods,
        &state.services,
        &state.slices,
    ];
    let lost = inside
        .into_iter()
        .flatten()
        .filter(|o| !there.contains(o.namespace().unwrap_or_default()));
    wrong.extend(lost.map(|object| format!("{} is in no namespace", called(object))));
}

/// Every node is Ready and bears no taint.
fn nodes(state: &State, wrong: &mut Vec<String>) {
    for node in &state.nodes {
        let (ready, taints) = (condition(node, "Ready"), node.list_at("spec.taints"));
        if ready != "True" || !taints.is_empty() {
            wrong.push(format!("{} has Ready={ready} and taints {taints:?}", called(node)));
        }
    }
}

/// Every Deployment has its replicas, all of them of its template and available, and says so.
fn deployments(state: &State, wrong: &mut Vec<String>) {
    for deployment in &state.deployments {
        let wanted = deployment.i64_at("spec.replicas").unwrap_or(1);
        let status = |field: &str| deployment.i64_at(&format!("status.{field}")).unwrap_or(0);
        let counts = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"].map(status);
        if deployment.is_deleting() || counts != [wanted; 4] || status("observedGeneration") != deployment.generation()
        {
            let status = deployment.at("status").cloned().unwrap_or_default();
            wrong.push(format!(
                "{} wants {wanted} at {}, has {status}",
                called(deployment),
                deployment.generation()
            ));
        }
        let of_it = |pod: &&Object| {
            let owner = pod.controller().map(|owner| owner.uid);
            let set = state
                .replica_sets
                .iter()
                .find(|set| Some(set.uid()) == owner.as_deref());
            set.and_then(Object::controller)
                .is_some_and(|owner| owner.uid == deployment.uid())
        };
        let pods: Vec<&Object> = state.pods.iter().filter(of_it).collect();
        let images: BTreeSet<_> = pods.iter().map(|pod| image(pod.list_at("spec.containers"))).collect();
        let template = image(deployment.list_at("spec.template.spec.containers"));
        if i64::try_from(pods.len()) != Ok(wanted) || images.iter().any(|image| *image != template) {
            let names: Vec<&str> = pods.iter().map(|pod| pod.name()).collect();
            wrong.push(format!(
                "{} wants {wanted} of {template}, has {names:?} of {images:?}",
                called(deployment)
            ));
        }
    }
}

fn image(containers: &[Value]) -> &str {
    containers
        .first()
        .and_then(|container| container["image"].as_str())
        .unwrap_or_default()
}

/// Whatever has an owner has one that exists.
fn owners(state: &State, wrong: &mut Vec<String>) {
    let all = [
        &state.deployments,
        &state.replica_sets,
        &state.pods,
        &state.services,
        &state.slices,
        &state.nodes,
    ];
    let uids: BTreeSet<&str> = all.into_iter().flatten().map(Object::uid).collect();
    for object in all.into_iter().flatten() {
        let gone = object
            .owner_references()
            .into_iter()
            .filter(|owner| !uids.contains(owner.uid.as_str()));
        wrong
            .extend(gone.map(|owner| format!("{} is of {} {}, which is gone", called(object), owner.kind, owner.name)));
    }
}

/// Every pod runs on a node that is there, at an address of its own.
fn pods(state: &State, wrong: &mut Vec<String>) {
    let nodes: BTreeSet<&str> = state.nodes.iter().map(Object::name).collect();
    let mut addresses: BTreeMap<&str, &str> = BTreeMap::new();
    for pod in &state.pods {
        let node = pod.str_at("spec.nodeName").unwrap_or_default();
        if !nodes.contains(node) {
            wrong.push(format!("{} is on {node:?}", called(pod)));
        }
        if pod.is_deleting() || condition(pod, "Ready") != "True" {
            let status = pod.at("status").cloned().unwrap_or_default();
            wrong.push(format!("{} is not Ready: {status}", called(pod)));
        }
        let address = pod.str_at("status.podIP").unwrap_or_default();
        if let Some(other) = addresses.insert(address, pod.name()) {
            wrong.push(format!("{} and {other} are both at {address}", called(pod)));
        }
    }
}

/// A Service's slices name exactly the ready pods that it selects.
fn endpoints(state: &State, wrong: &mut Vec<String>) {
    for service in &state.services {
        let Some(selector) = service.map_at("spec.selector") else {
            continue;
        };
        let selects = |pod: &&Object| {
            pod.namespace() == service.namespace()
                && selector.iter().all(|(key, value)| pod.label(key) == value.as_str())
        };
        let wanted: BTreeSet<&str> = state
            .pods
            .iter()
            .filter(selects)
            .filter_map(|pod| pod.str_at("status.podIP"))
            .collect();
        let of_it = |slice: &&Object| {
            slice.namespace() == service.namespace()
                && slice.label("kubernetes.io/service-name") == Some(service.name())
        };
        let endpoints = state
            .slices
            .iter()
            .filter(of_it)
            .flat_map(|slice| slice.list_at("endpoints"));
        let found: Vec<&str> = endpoints
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .filter_map(|endpoint| endpoint["addresses"][0].as_str())
            .collect();
        let distinct: BTreeSet<&str> = found.iter().copied().collect();
        if wanted != distinct || found.len() != distinct.len() {
            wrong.push(format!(
                "{} should lead to {wanted:?}, leads to {found:?}",
                called(service)
            ));
        }
    }
    let services: BTreeSet<_> = state
        .services
        .iter()
        .map(|service| (service.namespace(), Some(service.name())))
        .collect();
    let lost = state
        .slices
        .iter()
        .filter(|s| !services.contains(&(s.namespace(), s.label("kubernetes.io/service-name"))));
    wrong.extend(lost.map(|slice| format!("{} is of no Service", called(slice))));
}

/// Every Service address is claimed by an IPAddress, once, and no claim is left behind.
fn service_addresses(state: &State, wrong: &mut Vec<String>) {
    let mut held: Vec<&str> = Vec::new();
    let mut ports: Vec<i64> = Vec::new();
    for service in &state.services {
        held.extend(
            service
                .str_at("spec.clusterIP")
                .filter(|address| !address.is_empty() && *address != "None"),
        );
        ports.extend(
            service
                .list_at("spec.ports")
                .iter()
                .filter_map(|port| port["nodePort"].as_i64()),
        );
    }
    let distinct: BTreeSet<&str> = held.iter().copied().collect();
    let claimed: BTreeSet<&str> = state.addresses.iter().map(Object::name).collect();
    if held.len() != distinct.len() || distinct != claimed {
        wrong.push(format!("Services hold {held:?}, claimed are {claimed:?}"));
    }
    if ports.iter().collect::<BTreeSet<_>>().len() != ports.len() {
        wrong.push(format!("a node port is given twice: {ports:?}"));
    }
}

/// What runs on each node is what the API says runs there: one sandbox and one container for each pod, and nothing else.
async fn runtimes(cluster: &Cluster, state: &State, wrong: &mut Vec<String>) {
    for node in &cluster.nodes {
        let sandboxes = node.runtime.list_sandboxes().await.expect("the runtime answers");
        let containers = node.runtime.list_containers().await.expect("the runtime answers");
        let here = |pod: &&Object| pod.str_at("spec.nodeName") == Some(&node.name);
        let mut wanted: Vec<&str> = state.pods.iter().filter(here).map(Object::uid).collect();
        let ready = sandboxes.iter().filter(|sandbox| sandbox.state == SandboxState::Ready);
        let mut live: Vec<&str> = ready.map(|sandbox| sandbox.config.uid.as_str()).collect();
        let running = containers
            .iter()
            .filter(|container| container.state == ContainerState::Running);
        let mut runs: Vec<&str> = running.map(|container| container.pod_uid.as_str()).collect();
        [&mut wanted, &mut live, &mut runs]
            .into_iter()
            .for_each(|uids| uids.sort_unstable());
        if wanted != live || wanted != runs {
            wrong.push(format!(
                "{}: pods {wanted:?}, sandboxes {live:?}, containers {runs:?}",
                node.name
            ));
        }
        let known: BTreeSet<&str> = wanted.iter().copied().collect();
        let lost = sandboxes
            .iter()
            .filter(|sandbox| !known.contains(sandbox.config.uid.as_str()));
        wrong.extend(lost.map(|sandbox| format!("{}: {} is left behind", node.name, sandbox.id)));
        if node.runtime.most_copies() > 1 {
            wrong.push(format!(
                "{}: a container ran {} times at once",
                node.name,
                node.runtime.most_copies()
            ));
        }
    }
}
