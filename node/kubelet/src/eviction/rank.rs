//! Whom a node in need ends first. Pure; the order of Kubernetes' documentation, "Node-pressure Eviction": who uses more
//! than it asked for, then who is less important, then who is further above what it asked for.

use std::cmp::Reverse;

use crate::{
    node::Signal,
    pod::{Pod, Role},
    resources,
};

/// A pod and what it uses: bytes, and files and directories.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) pod: &'a Pod,
    pub(super) memory: i64,
    pub(super) disk: i64,
    pub(super) inodes: i64,
}

impl Candidate<'_> {
    fn used_and_requested(&self, signal: Signal) -> (i64, i64) {
        let (used, name) = match signal {
            Signal::Memory => (self.memory, "memory"),
            Signal::Nodefs | Signal::Imagefs => (self.disk, "ephemeral-storage"),
            // Nobody can ask for them.
            Signal::NodefsInodes | Signal::ImagefsInodes => return (self.inodes, 0),
            Signal::Pids => return (0, 0),
        };
        let beside = self.pod.lasting_containers().filter(|(role, _)| *role != Role::Init);
        let requested = beside.map(|(_, c)| resources::request_milli(c, name) / 1000).sum();
        (used, requested)
    }
}

/// The pod that goes first, if any may go.
pub(super) fn first<'a>(signal: Signal, candidates: Vec<Candidate<'a>>) -> Option<Candidate<'a>> {
    let may_go = |c: &Candidate<'_>| !c.pod.is_critical() && !c.pod.is_deleting();
    candidates.into_iter().filter(may_go).min_by_key(|candidate| {
        let (used, requested) = candidate.used_and_requested(signal);
        let above = used.saturating_sub(requested);
        (
            above <= 0,
            candidate.pod.spec.priority,
            Reverse(above),
            candidate.pod.key(),
        )
    })
}

/// What the chosen pod's containers did to deserve it, as upstream's messages end.
pub(super) fn blame(signal: Signal, chosen: &Candidate<'_>) -> String {
    let (used, requested) = chosen.used_and_requested(signal);
    let can_be_asked_for = matches!(signal, Signal::Memory | Signal::Nodefs | Signal::Imagefs);
    if used <= requested || !can_be_asked_for {
        return String::new();
    }
    let (text, resource) = (|bytes| signal.text(bytes), signal.resource());
    let name = chosen.pod.spec.containers.first().map_or("", |c| &c.name);
    format!(
        "Container {name} was using {}, request is {}, has larger consumption of {resource}. ",
        text(used),
        text(requested)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: i32, memory: &str) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": {"memory": memory}}});
        let spec = json!({"priority": priority, "containers": [container]});
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec})).expect("pod")
    }

    #[test]
    fn who_takes_more_than_it_asked_for_goes_first() {
        let pods = [
            pod("modest", 0, "100"),
            pod("greedy", 0, "10"),
            pod("greediest", 0, "10"),
            pod("important", 100, "1"),
            pod("critical", 2_000_000_000, "1"),
        ];
        let used = [90, 50, 60, 900, 9000];
        let mut left: Vec<_> = pods
            .iter()
            .zip(used)
            .map(|(pod, memory)| Candidate {
                pod,
                memory,
                disk: 0,
                inodes: 0,
            })
            .collect();
        let mut order = Vec::new();
        while let Some(chosen) = first(Signal::Memory, left.clone()) {
            order.push(chosen.pod.metadata.name.to_string());
            left.retain(|c| c.pod.metadata.name != chosen.pod.metadata.name);
        }
        assert_eq!(order, ["greediest", "greedy", "important", "modest"]);
    }

    #[test]
    fn of_files_who_has_most_goes_first() {
        let pods = [pod("few", 0, "1"), pod("many", 0, "1")];
        let candidates = pods.iter().zip([5, 500]).map(|(pod, inodes)| Candidate {
            pod,
            memory: 0,
            disk: 1000 - inodes,
            inodes,
        });
        let chosen = first(Signal::NodefsInodes, candidates.clone().collect()).expect("one");
        assert_eq!(&*chosen.pod.metadata.name, "many");
        let chosen = first(Signal::Nodefs, candidates.collect()).expect("one");
        assert_eq!(&*chosen.pod.metadata.name, "few");
    }

    #[test]
    fn the_message_says_what_it_used() {
        let pod = pod("p", 0, "1Mi");
        let chosen = Candidate {
            pod: &pod,
            memory: 3 << 20,
            disk: 3 << 20,
            inodes: 3,
        };
        assert_eq!(
            blame(Signal::Memory, &chosen),
            "Container c was using 3Mi, request is 1Mi, has larger consumption of memory. "
        );
        assert_eq!(
            blame(Signal::Imagefs, &chosen),
            "Container c was using 3Mi, request is 0, has larger consumption of ephemeral-storage. "
        );
        assert_eq!(blame(Signal::NodefsInodes, &chosen), "");
        assert_eq!(blame(Signal::Pids, &chosen), "");
    }
}
