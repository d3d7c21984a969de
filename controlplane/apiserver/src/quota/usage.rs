//! What one object uses, by the names under which quotas grant it. Pure.

use api::{GroupResource, Object, Quantity, Timestamp};
use serde_json::{Map, Value};

use crate::admission::amounts::{Amounts, add, amounts, of_container, of_pod};

/// Core kinds whose number had a name of its own before all kinds' had one.
const COUNTED: [&str; 5] = [
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "services",
];
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What containers must say when it is granted.
const MUST_BE_SAID: [&str; 6] = [
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];
const CLASS: &str = ".storageclass.storage.k8s.io/";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The kinds of which a quota that grants `name` counts something.
pub(super) fn kinds_of(name: &str) -> Option<GroupResource> {
    let core = |plural: &str| Some(GroupResource::new("", plural));
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return Some(GroupResource::new(group, plural));
    }
    match name {
        "pods" => core("pods"),
        "persistentvolumeclaims" | "requests.storage" => core("persistentvolumeclaims"),
        "services.nodeports" | "services.loadbalancers" => core("services"),
        _ if COUNTED.contains(&name) => core(name),
        _ if name.contains(CLASS) => core("persistentvolumeclaims"),
        _ if is_of_pods(name) => core("pods"),
        _ => None,
    }
}

fn is_of_pods(name: &str) -> bool {
    let plain = name
        .strip_prefix("requests.")
        .or_else(|| name.strip_prefix("limits."))
        .unwrap_or(name);
    COMPUTE.contains(&plain) || plain.starts_with("hugepages-") || name.starts_with("requests.") && plain.contains('/')
}

/// What an object of a kind uses; of pods whose end is overdue nothing, where the time is given.
pub(super) fn usage(kind: &GroupResource, object: &Object, now: Option<Timestamp>) -> Amounts {
    let mut used = Amounts::new();
    let one = || Quantity::from_units(1);
    used.insert(format!("count/{kind}"), one());
    if !kind.group.is_empty() {
        return used;
    }
    match &*kind.resource {
        "pods" => pod(object, now, &mut used),
        "services" => service(object, &mut used),
        "persistentvolumeclaims" => claim(object, &mut used),
        plural if COUNTED.contains(&plural) => drop(used.insert(plural.to_owned(), one())),
        _ => {}
    }
    used
}

/// A pod that has ended, or should have long ago, uses nothing but its place in the store.
fn pod(pod: &Object, now: Option<Timestamp>, used: &mut Amounts) {
    let ended = matches!(pod.str_at("status.phase"), Some("Succeeded" | "Failed"));
    let overdue = now
        .zip(pod.deletion_timestamp().and_then(api::time::parse))
        .is_some_and(|(now, at)| {
            let grace = pod.i64_at("metadata.deletionGracePeriodSeconds").unwrap_or(i64::MAX);
            now.as_second() > at.as_second().saturating_add(grace)
        });
    if ended || overdue {
        return;
    }
    let empty = Map::new();
    let spec = pod.map_at("spec").unwrap_or(&empty);
    let overhead = amounts(spec.get("overhead"));
    let (mut requests, mut limits) = (of_pod(spec, "requests"), of_pod(spec, "limits"));
    add(&mut requests, &overhead);
    let limited: Amounts = overhead
        .into_iter()
        .filter(|(name, _)| limits.get(name).is_some_and(|limit| !limit.is_zero()))
        .collect();
    add(&mut limits, &limited);
    used.insert("pods".to_owned(), Quantity::from_units(1));
    used.extend(compute(&requests, &limits));
}

/// Requests and limits, by the names quotas have for them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut named = Amounts::new();
    for (name, amount) in requests {
        let own = COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-");
        let extended = name.contains('/') && !name.contains("kubernetes.io/");
        if own {
            named.insert(name.clone(), *amount);
        }
        if own || extended {
            named.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str())) {
        named.insert(format!("limits.{name}"), *amount);
    }
    named
}

/// What a pod's containers leave unsaid of what is granted, in Kubernetes' words.
pub(super) fn unsaid(pod: &Object, granted: &[&str]) -> Option<String> {
    let required = MUST_BE_SAID.iter().filter(|name| granted.contains(name));
    let whole = ["requests", "limits"].iter().any(|field| {
        let said = amounts(pod.at(&format!("spec.resources.{field}")));
        said.keys().any(|name| matches!(name.as_str(), "cpu" | "memory"))
    });
    if whole {
        return None;
    }
    let lists = ["spec.containers", "spec.initContainers"].iter();
    let containers: Vec<&Value> = lists.flat_map(|list| pod.list_at(list)).collect();
    let mut missing = Vec::new();
    for name in required {
        let says = |container: &Value| {
            let (requests, limits) = (of_container(container, "requests"), of_container(container, "limits"));
            compute(&requests, &limits).contains_key(*name)
        };
        let silent = containers.iter().filter(|container| !says(container));
        let mut names: Vec<&str> = silent.filter_map(|c| c.get("name").and_then(Value::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        if !names.is_empty() {
            missing.push(format!("{name} for: {}", names.join(",")));
        }
    }
    (!missing.is_empty()).then(|| format!("must specify {}", missing.join("; ")))
}

fn service(service: &Object, used: &mut Amounts) {
    let ports = service.list_at("spec.ports");
    let count = |n: usize| Quantity::from_units(i64::try_from(n).unwrap_or(i64::MAX));
    let asked = || {
        ports
            .iter()
            .filter(|port| port.get("nodePort").and_then(Value::as_i64).unwrap_or_default() != 0)
            .count()
    };
    let allocates = service.bool_at("spec.allocateLoadBalancerNodePorts") != Some(false);
    let (node_ports, balancers) = match service.str_at("spec.type") {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if allocates => (ports.len(), 1),
        Some("LoadBalancer") => (asked(), 1),
        _ => (0, 0),
    };
    used.insert("services".to_owned(), count(1));
    used.insert("services.nodeports".to_owned(), count(node_ports));
    used.insert("services.loadbalancers".to_owned(), count(balancers));
}

fn claim(claim: &Object, used: &mut Amounts) {
    let size = |path: &str| amounts(claim.at(path)).remove("storage");
    let storage = size("spec.resources.requests").max(size("status.allocatedResources"));
    // Bytes are counted whole.
    let storage = storage.map(|amount| match amount.is_whole() {
        true => amount,
        false => Quantity::from_units(amount.value()),
    });
    let named = claim.str_at("spec.storageClassName").unwrap_or_default();
    let class = claim.annotation(CLASS_ANNOTATION).unwrap_or(named);
    let all = [
        ("persistentvolumeclaims", Some(Quantity::from_units(1))),
        ("requests.storage", storage),
    ];
    for (name, amount) in all.into_iter().filter_map(|(name, amount)| Some((name, amount?))) {
        if !class.is_empty() {
            used.insert(format!("{class}{CLASS}{name}"), amount);
        }
        used.insert(name.to_owned(), amount);
    }
}
