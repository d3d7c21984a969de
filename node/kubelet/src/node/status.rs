//! The Node object and its status from facts. Pure.
//!
//! Reasons and messages of the conditions are the kubelet's.

use std::{collections::BTreeMap, net::IpAddr};

use api::Quantity;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    machine::Machine,
    reserved::Reserved,
    thresholds::{EvictionHard, Signal},
};
use crate::{CONTAINERS_UNAVAILABLE, Limitation, ROOTLESS, resources::Capacity};

/// The part of a Node that the kubelet reads back.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) metadata: Metadata,
    pub(crate) spec: Spec,
    pub(crate) status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    #[serde(rename = "podCIDR")]
    pub(crate) pod_cidr: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) conditions: Vec<Condition>,
    /// By resource; device plugins and administrators add to what the kubelet measures.
    pub(crate) capacity: BTreeMap<String, Value>,
    pub(crate) allocatable: BTreeMap<String, Value>,
    pub(crate) volumes_attached: Vec<AttachedVolume>,
    pub(crate) volumes_in_use: Vec<String>,
}

/// `AttachedVolume`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct AttachedVolume {
    pub(crate) name: String,
}

impl Node {
    /// The volume of this name is attached, as those say who attach.
    pub(crate) fn has_attached(&self, volume: &str) -> bool {
        self.status
            .volumes_attached
            .iter()
            .any(|attached| attached.name == volume)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) last_transition_time: Option<Timestamp>,
}

/// Everything a Node's status tells.
pub(crate) struct Facts<'a> {
    pub(crate) name: &'a str,
    pub(crate) addresses: &'a [IpAddr],
    pub(crate) port: u16,
    pub(crate) version: &'a str,
    pub(crate) runtime: &'a cri::Version,
    pub(crate) machine: &'a Machine,
    /// What is short, or was not long ago: the condition stays a while, lest pods come and go.
    pub(crate) short: &'a [Pressure],
    pub(crate) capacity: Capacity,
    pub(crate) reserved: Reserved,
    pub(crate) eviction_hard: &'a EvictionHard,
    pub(crate) runtime_conditions: &'a [cri::Condition],
    pub(crate) limitation: Option<&'a Limitation>,
    pub(crate) images: &'a [cri::Image],
    /// Attached volumes that may not be detached.
    pub(crate) volumes_in_use: &'a [String],
}

/// The conditions that tell of limitations, with what they say when they hold no more.
const LIMITATIONS: [(&str, &str, &str); 2] = [
    (ROOTLESS, "HasPrivileges", "the node has its privileges"),
    (
        CONTAINERS_UNAVAILABLE,
        "HasContainerd",
        "the node can run OCI containers",
    ),
];
/// Kubernetes' `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;

/// What pods may use of the machine's resources: the rest is reserved, or what the thresholds keep free.
pub(crate) fn allocatable(capacity: Capacity, machine: &Machine, reserved: Reserved, hard: &EvictionHard) -> Capacity {
    let (memory, storage) = (capacity.memory_bytes, capacity.storage_bytes);
    let capacity = reserved.leaves(without_huge_pages(capacity, machine));
    Capacity {
        memory_bytes: (capacity.memory_bytes - hard.least(Signal::Memory, memory)).max(0),
        storage_bytes: (capacity.storage_bytes - hard.least(Signal::Nodefs, storage)).max(0),
        ..capacity
    }
}

/// The labels every node carries, and those it was given.
pub(crate) fn labels(name: &str, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let known = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ];
    let mut labels: BTreeMap<_, _> = known.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    labels.extend(own.clone());
    labels
}

/// The object that registers the node.
pub(crate) fn object(name: &str, labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Value {
    let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}})
}

/// The status as it is now; conditions whose status is as in `known` keep their transition time.
pub(crate) fn make(facts: &Facts<'_>, known: &Status, now: Timestamp) -> Value {
    let machine = facts.machine;
    let mut addresses: Vec<Value> = facts
        .addresses
        .iter()
        .map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": facts.name}));
    let mut status = json!({
        "addresses": addresses,
        "capacity": amounts(facts.capacity, machine),
        "allocatable": extended(amounts(allocatable(facts.capacity, machine, facts.reserved, facts.eviction_hard), machine), known),
        "conditions": conditions(facts, known, now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": facts.port}},
        "images": images(facts.images),
        "nodeInfo": {
            "architecture": labels(facts.name, &BTreeMap::new()).get("kubernetes.io/arch"),
            "bootID": machine.boot_id,
            "containerRuntimeVersion": format!("{}://{}", facts.runtime.name, facts.runtime.version),
            "kernelVersion": machine.kernel_version,
            "kubeProxyVersion": "",
            "kubeletVersion": facts.version,
            "machineID": machine.machine_id,
            "operatingSystem": "linux",
            "osImage": machine.os_image,
            "systemUUID": machine.system_uuid,
        },
    });
    // Most nodes have none, and nothing to take back.
    if !(facts.volumes_in_use.is_empty() && known.volumes_in_use.is_empty()) {
        let in_use = Some(facts.volumes_in_use).filter(|volumes| !volumes.is_empty());
        if let Value::Object(fields) = &mut status {
            fields.insert("volumesInUse".into(), json!(in_use));
        }
    }
    status
}

fn amounts(capacity: Capacity, machine: &Machine) -> Value {
    let kilo = |bytes: i64| Quantity::from_bytes(bytes / 1024 * 1024).to_string();
    let mut amounts = json!({
        "cpu": Quantity::from_milli(capacity.cpu_milli).to_string(),
        "memory": kilo(capacity.memory_bytes),
        "ephemeral-storage": kilo(capacity.storage_bytes),
        "pods": capacity.pods.to_string(),
    });
    if let Value::Object(amounts) = &mut amounts {
        let pages = machine.huge_pages.iter();
        amounts.extend(pages.map(|(name, bytes)| (name.clone(), Quantity::from_bytes(*bytes).to_string().into())));
    }
    amounts
}

/// Memory that is kept as huge pages is no other memory.
fn without_huge_pages(capacity: Capacity, machine: &Machine) -> Capacity {
    let pages = machine
        .huge_pages
        .values()
        .fold(0_i64, |sum, bytes| sum.saturating_add(*bytes));
    Capacity {
        memory_bytes: capacity.memory_bytes.saturating_sub(pages).max(0),
        ..capacity
    }
}

/// Whatever others say the node has, pods may use; what it has no longer, not.
fn extended(mut amounts: Value, known: &Status) -> Value {
    if let Value::Object(amounts) = &mut amounts {
        for (resource, amount) in &known.capacity {
            amounts.entry(resource).or_insert_with(|| amount.clone());
        }
        for resource in known.allocatable.keys() {
            amounts.entry(resource).or_insert(Value::Null);
        }
    }
    amounts
}

fn images(all: &[cri::Image]) -> Vec<Value> {
    let mut largest: Vec<&cri::Image> = all.iter().collect();
    largest.sort_by_key(|image| std::cmp::Reverse(image.size));
    let names = |image: &cri::Image| image.digests.iter().chain(&image.tags).cloned().collect::<Vec<_>>();
    largest
        .iter()
        .take(MAX_IMAGES)
        .map(|image| json!({"names": names(image), "sizeBytes": image.size}))
        .collect()
}

/// Whether the node is ready, and if not, why.
pub(crate) fn readiness(runtime: &[cri::Condition]) -> Result<(), String> {
    let failing = runtime.iter().filter(|c| !c.status).map(|c| {
        let what = if c.kind == "NetworkReady" {
            "container runtime network not ready"
        } else {
            "container runtime not ready"
        };
        format!("{what}: {}=false reason:{} message:{}", c.kind, c.reason, c.message)
    });
    let failing: Vec<String> = failing.collect();
    if failing.is_empty() {
        Ok(())
    } else {
        Err(failing.join(", "))
    }
}

/// The event that a report of readiness calls for, by what the API holds: a node that was never ready has not ceased
/// to be so, and one that stays ready, over a restart too, has nothing to tell.
pub(crate) fn transition(known: &Status, ready: bool) -> Option<&'static str> {
    let was = known.conditions.iter().find(|c| c.kind == "Ready");
    match (was.is_some_and(|c| c.status == "True"), ready) {
        (false, true) => Some("NodeReady"),
        (true, false) => Some("NodeNotReady"),
        (true, true) | (false, false) => None,
    }
}

/// What a node can run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    Memory,
    Disk,
    Pids,
}

impl Pressure {
    /// The condition of a node that does.
    pub(crate) const fn condition(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pids => "PIDPressure",
        }
    }
}

fn conditions(facts: &Facts<'_>, known: &Status, now: Timestamp) -> Vec<Value> {
    let is = |kind| facts.short.contains(&kind);
    let (memory, disk, pids) = (is(Pressure::Memory), is(Pressure::Disk), is(Pressure::Pids));
    let pressure = |pressed: bool, yes: (&'static str, &str), no: (&'static str, &str)| {
        let (reason, message) = if pressed { yes } else { no };
        (if pressed { "True" } else { "False" }, reason, message.to_owned())
    };
    let ready = match readiness(facts.runtime_conditions) {
        Ok(()) => ("True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        Err(why) => ("False", "KubeletNotReady", why),
    };
    let all = [
        (
            Pressure::Memory.condition(),
            pressure(
                memory,
                (
                    "KubeletHasInsufficientMemory",
                    "kubelet has insufficient memory available",
                ),
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ),
        ),
        (
            Pressure::Disk.condition(),
            pressure(
                disk,
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ),
        ),
        (
            Pressure::Pids.condition(),
            pressure(
                pids,
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ),
        ),
        ("Ready", ready),
    ];
    let dated = |(kind, (status, reason, message)): (&str, (&str, &str, String))| {
        let same = known.conditions.iter().find(|c| c.kind == kind && c.status == status);
        let since = same.and_then(|c| c.last_transition_time).unwrap_or(now);
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": api::time::rfc3339(now), "lastTransitionTime": api::time::rfc3339(since),
        })
    };
    all.into_iter().chain(limitations(facts, known)).map(dated).collect()
}

/// A condition, with its status, reason and message.
type Said = (&'static str, (&'static str, &'static str, String));

/// What the node cannot do. A limitation that is none any more is said to be so, since the API keeps what was said.
fn limitations(facts: &Facts<'_>, known: &Status) -> impl Iterator<Item = Said> {
    LIMITATIONS.into_iter().filter_map(move |(kind, reason, message)| {
        let was = known.conditions.iter().any(|condition| condition.kind == kind);
        let said = match facts.limitation.filter(|limitation| limitation.condition == kind) {
            Some(limitation) => ("True", limitation.reason, limitation.message.clone()),
            None if was => ("False", reason, message.to_owned()),
            None => return None,
        };
        Some((kind, said))
    })
}

/// Whether two statuses tell the same, heartbeat times aside.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let quiet = |status: &Value| {
        let mut status = status.clone();
        for condition in status
            .get_mut("conditions")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(fields) = condition.as_object_mut() {
                fields.remove("lastHeartbeatTime");
            }
        }
        status
    };
    quiet(a) == quiet(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(runtime_conditions: &[cri::Condition], short: &[Pressure], known: &Status, second: i64) -> Value {
        limited(runtime_conditions, short, known, second, None)
    }

    fn limited(
        runtime_conditions: &[cri::Condition],
        short: &[Pressure],
        known: &Status,
        second: i64,
        limitation: Option<&Limitation>,
    ) -> Value {
        let machine = Machine {
            cpus: 2,
            ..Machine::default()
        };
        let facts = Facts {
            name: "n1",
            addresses: &["10.0.0.1".parse().expect("ip")],
            port: 10250,
            version: "v1.36.0+wherry",
            runtime: &cri::Version {
                name: "wherry-wasm".into(),
                version: "0.1.0".into(),
            },
            machine: &machine,
            short,
            capacity: Capacity {
                cpu_milli: 2000,
                memory_bytes: 4 << 30,
                storage_bytes: 100 << 30,
                pods: 500,
            },
            reserved: Reserved::default(),
            eviction_hard: &EvictionHard::default(),
            runtime_conditions,
            limitation,
            images: &[],
            volumes_in_use: &[],
        };
        make(&facts, known, Timestamp::from_second(second).expect("time"))
    }

    fn told(status: &Value) -> Vec<(String, String, String)> {
        let text = |c: &Value, field: &str| c[field].as_str().expect("text").to_owned();
        let conditions = status["conditions"].as_array().expect("list");
        conditions
            .iter()
            .map(|c| (text(c, "type"), text(c, "status"), text(c, "reason")))
            .collect()
    }

    #[test]
    fn a_healthy_node_says_so_in_kubernetes_words() {
        let status = made(&[], &[], &Status::default(), 5);
        let want = [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID"),
            ("Ready", "True", "KubeletReady"),
        ];
        assert_eq!(
            told(&status),
            want.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()))
        );
        assert_eq!(
            status["capacity"],
            json!({"cpu": "2", "memory": "4Gi", "ephemeral-storage": "100Gi", "pods": "500"})
        );
        assert_eq!(status["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10250);
        assert_eq!(
            status["addresses"][0],
            json!({"type": "InternalIP", "address": "10.0.0.1"})
        );
    }

    #[test]
    fn huge_pages_are_told_and_are_no_other_memory() {
        let machine = Machine {
            huge_pages: BTreeMap::from([("hugepages-1Gi".to_owned(), 0), ("hugepages-2Mi".to_owned(), 512 << 20)]),
            ..Machine::default()
        };
        let capacity = Capacity {
            memory_bytes: 4 << 30,
            ..Capacity::default()
        };
        let told = amounts(
            allocatable(capacity, &machine, Reserved::default(), &EvictionHard::default()),
            &machine,
        );
        assert_eq!(
            (&told["memory"], &told["hugepages-2Mi"], &told["hugepages-1Gi"]),
            (&json!("3484Mi"), &json!("512Mi"), &json!("0"))
        );
    }

    #[test]
    fn a_runtime_that_is_not_ready_makes_the_node_not_ready() {
        let network = cri::Condition {
            kind: "NetworkReady".into(),
            status: false,
            reason: "NoPodCIDR".into(),
            message: "no pod range".into(),
        };
        let status = made(&[network], &[], &Status::default(), 5);
        let ready = &status["conditions"][3];
        assert_eq!(
            (ready["status"].as_str(), ready["reason"].as_str()),
            (Some("False"), Some("KubeletNotReady"))
        );
        let want = "container runtime network not ready: NetworkReady=false reason:NoPodCIDR message:no pod range";
        assert_eq!(ready["message"], want);
    }

    #[test]
    fn a_node_without_privileges_says_so_until_it_has_them() {
        let limitation = Limitation {
            condition: ROOTLESS,
            reason: "NotRoot",
            message: "no containers".into(),
        };
        let rootless = |status: &Value| told(status).into_iter().skip(4).collect::<Vec<_>>();
        let said = |status: &str, reason: &str| vec![("Rootless".to_owned(), status.to_owned(), reason.to_owned())];
        let nobody = Status::default();
        let limited = limited(&[], &[], &nobody, 5, Some(&limitation));
        assert_eq!(rootless(&limited), said("True", "NotRoot"));
        let known: Status = serde_json::from_value(limited).expect("a status");
        assert_eq!(rootless(&made(&[], &[], &known, 6)), said("False", "HasPrivileges"));
        assert_eq!(rootless(&made(&[], &[], &nobody, 6)), []);
    }

    #[test]
    fn what_others_add_to_the_capacity_may_be_used() {
        let foo = "example.com/foo";
        let known: Status = serde_json::from_value(json!({"capacity": {"cpu": "8", foo: "5"}})).expect("a status");
        let status = made(&[], &[], &known, 5);
        assert_eq!(
            (&status["allocatable"][foo], &status["allocatable"]["cpu"]),
            (&json!("5"), &json!("2"))
        );
        assert_eq!(status["capacity"].get(foo), None);
        let known: Status = serde_json::from_value(json!({"allocatable": {"cpu": "2", foo: "5"}})).expect("a status");
        let gone = made(&[], &[], &known, 6);
        assert_eq!(gone["allocatable"].get(foo), Some(&Value::Null));
    }

    #[test]
    fn only_a_change_of_readiness_is_told() {
        let known = |status: Option<&str>| Status {
            conditions: status
                .map(|status| Condition {
                    kind: "Ready".into(),
                    status: status.into(),
                    ..Condition::default()
                })
                .into_iter()
                .collect(),
            ..Status::default()
        };
        let cases = [
            (None, false, None),
            (None, true, Some("NodeReady")),
            (Some("False"), false, None),
            (Some("False"), true, Some("NodeReady")),
            (Some("Unknown"), false, None),
            (Some("Unknown"), true, Some("NodeReady")),
            (Some("True"), true, None),
            (Some("True"), false, Some("NodeNotReady")),
        ];
        for (was, ready, want) in cases {
            assert_eq!(transition(&known(was), ready), want, "from {was:?} to {ready}");
        }
    }

    #[test]
    fn scarcity_is_pressure() {
        let all = [Pressure::Memory, Pressure::Disk, Pressure::Pids];
        let status = made(&[], &all, &Status::default(), 5);
        let pressed = told(&status)
            .into_iter()
            .filter(|(_, status, _)| status == "True")
            .map(|(kind, ..)| kind);
        assert_eq!(
            pressed.collect::<Vec<_>>(),
            ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
        );
    }

    #[test]
    fn transition_times_stay_while_the_status_does_and_heartbeats_are_no_change() {
        let first = made(&[], &[], &Status::default(), 5);
        let known: Status = serde_json::from_value(first.clone()).expect("status");
        let later = made(&[], &[], &known, 65);
        assert_eq!(
            later["conditions"][3]["lastTransitionTime"],
            first["conditions"][3]["lastTransitionTime"]
        );
        assert!(later != first && same(&later, &first));
    }
}
