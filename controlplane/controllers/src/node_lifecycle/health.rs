//! Whether a node is alive, and what its conditions and taints should be. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::view::{Node, NodeCondition, Taint};

/// A node may be silent for this long.
const GRACE: Duration = Duration::from_secs(40);
/// A new node may take this long until it first says something.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Conditions that stand for a NoSchedule taint, and the status that does.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What was last seen of a node, and when by our own clock.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    at: Instant,
    lease: Option<Box<str>>,
    heartbeat: Option<Timestamp>,
    ready: Option<Box<str>>,
    /// Whether the pods have been marked since the node fell silent.
    marked: bool,
}

impl Observed {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            at: now,
            lease: None,
            heartbeat: None,
            ready: None,
            marked: false,
        }
    }

    /// Notes what is seen now. What this controller wrote itself (an Unknown) is no sign of life.
    pub(super) fn update(&mut self, node: &Node, lease: Option<Box<str>>, now: Instant) {
        let condition = node.condition("Ready");
        let own = condition.is_some_and(|condition| &*condition.status == "Unknown");
        let heartbeat = condition.and_then(|condition| condition.last_heartbeat_time);
        let ready = condition.map(|condition| condition.status.clone());
        let moved = lease != self.lease || (!own && (heartbeat != self.heartbeat || ready != self.ready));
        if moved {
            self.at = now;
        }
        *self = Self {
            at: self.at,
            lease,
            heartbeat,
            ready,
            marked: self.marked,
        };
    }

    /// Whether the node's pods are still to be marked not ready: once for each silence, as in Kubernetes. A kubelet that
    /// is heard only half reports on its pods as they are, and would be contradicted without end.
    pub(super) fn owes_marks(&mut self, verdict: Verdict, cut_off: bool) -> bool {
        self.marked &= verdict == Verdict::Silent;
        verdict == Verdict::Silent && !cut_off && !self.marked
    }

    pub(super) fn pods_are_marked(&mut self) {
        self.marked = true;
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Healthy,
    /// It has said nothing yet, and still may take its time.
    New,
    /// It says so itself.
    NotReady,
    /// It says nothing.
    Silent,
}

pub(super) fn judge(node: &Node, seen: &Observed, now: Instant) -> Verdict {
    let grace = if node.condition("Ready").is_none() {
        STARTUP_GRACE
    } else {
        GRACE
    };
    if now.duration_since(seen.at) >= grace {
        return Verdict::Silent;
    }
    match node.condition("Ready").map(|condition| &*condition.status) {
        Some("True") => Verdict::Healthy,
        Some("Unknown") => Verdict::Silent, // until it speaks again
        None => Verdict::New,
        Some(_) => Verdict::NotReady,
    }
}

/// Whether there are nodes and every one of them is silent.
pub(super) fn all_dead(mut verdicts: impl Iterator<Item = Verdict>) -> bool {
    match verdicts.next() {
        Some(first) => first == Verdict::Silent && verdicts.all(|verdict| verdict == Verdict::Silent),
        None => false,
    }
}

/// Conditions to write for a node that fell silent; `None` if they are so already.
pub(super) fn conditions(node: &Node, verdict: Verdict, now: Timestamp) -> Option<Vec<Value>> {
    if verdict != Verdict::Silent {
        return None;
    }
    let unknown = |name: &&str| {
        let current: Option<&NodeCondition> = node.condition(name);
        if current.is_some_and(|condition| &*condition.status == "Unknown") {
            return None;
        }
        let (reason, message) = match current {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        Some(
            json!({"type": name, "status": "Unknown", "reason": reason, "message": message,
            "lastTransitionTime": api::time::rfc3339(now)}),
        )
    };
    let changed: Vec<Value> = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .iter()
        .filter_map(unknown)
        .collect();
    (!changed.is_empty()).then_some(changed)
}

/// All taints that the node should have; `None` if it has them. When we are `cut_off`, none that evicts is added, and
/// those there are go.
pub(super) fn taints(node: &Node, verdict: Verdict, cut_off: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let health = match verdict {
        Verdict::Healthy => None,
        Verdict::New | Verdict::NotReady => Some(NOT_READY),
        Verdict::Silent => Some(UNREACHABLE),
    };
    if let Some(key) = health {
        wanted.push((key, "NoSchedule"));
        // Nothing is evicted from a node that has not said how it is: it keeps the taint that it was created with.
        if !cut_off && verdict != Verdict::New {
            wanted.push((key, "NoExecute"));
        }
    }
    for (condition, key) in PRESSURES {
        if node
            .condition(condition)
            .is_some_and(|condition| &*condition.status == "True")
        {
            wanted.push((key, "NoSchedule"));
        }
    }
    if node.spec.unschedulable {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is = |taint: &Taint, (key, effect): (&str, &str)| &*taint.key == key && &*taint.effect == effect;
    let mut taints: Vec<Taint> = node.spec.taints.clone();
    taints.retain(|taint| !is_ours(taint) || wanted.iter().any(|wanted| is(taint, *wanted)));
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| is(taint, (key, effect))) {
            taints.push(Taint {
                key: key.into(),
                value: "".into(),
                effect: effect.into(),
                time_added: Some(now),
            });
        }
    }
    (taints != node.spec.taints).then_some(taints)
}

fn is_ours(taint: &Taint) -> bool {
    let health = [NOT_READY, UNREACHABLE].contains(&&*taint.key);
    let pressure = PRESSURES.iter().any(|(_, key)| *key == &*taint.key) || &*taint.key == UNSCHEDULABLE;
    match &*taint.effect {
        "NoExecute" => health,
        "NoSchedule" => health || pressure,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: Option<&str>, taints: Value) -> Node {
        let conditions: Vec<Value> = ready
            .iter()
            .map(|status| json!({"type": "Ready", "status": status}))
            .collect();
        serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": {"taints": taints}, "status": {"conditions": conditions}}),
        )
        .unwrap()
    }

    fn named(taints: &[Taint]) -> Vec<String> {
        taints
            .iter()
            .map(|taint| {
                format!(
                    "{}:{}",
                    taint.key.trim_start_matches("node.kubernetes.io/"),
                    taint.effect
                )
            })
            .collect()
    }

    #[test]
    fn pods_are_marked_once_for_each_silence() {
        let mut seen = Observed::new(Instant::now());
        assert!(!seen.owes_marks(Verdict::Healthy, false));
        assert!(!seen.owes_marks(Verdict::Silent, true), "who is cut off knows nothing");
        assert!(seen.owes_marks(Verdict::Silent, false));
        assert!(seen.owes_marks(Verdict::Silent, false), "what failed is tried again");
        seen.pods_are_marked();
        assert!(!seen.owes_marks(Verdict::Silent, false));
        assert!(!seen.owes_marks(Verdict::Healthy, false));
        assert!(seen.owes_marks(Verdict::Silent, false));
    }

    #[test]
    fn silence_is_measured_by_what_was_seen_here() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut seen = Observed::new(start);
        let alive = node(Some("True"), json!([]));
        seen.update(&alive, Some("t1".into()), start);
        seen.update(&alive, Some("t2".into()), after(30));
        assert_eq!(judge(&alive, &seen, after(69)), Verdict::Healthy);
        assert_eq!(judge(&alive, &seen, after(70)), Verdict::Silent);
        let written_by_us = node(Some("Unknown"), json!([]));
        seen.update(&written_by_us, Some("t2".into()), after(71));
        assert_eq!(judge(&written_by_us, &seen, after(71)), Verdict::Silent);
        seen.update(&alive, Some("t3".into()), after(80));
        assert_eq!(judge(&alive, &seen, after(80)), Verdict::Healthy);
    }

    #[test]
    fn a_node_that_never_spoke_has_longer() {
        let start = Instant::now();
        let new = node(None, json!([]));
        let mut seen = Observed::new(start);
        seen.update(&new, None, start);
        assert_eq!(judge(&new, &seen, start + Duration::from_secs(59)), Verdict::New);
        assert_eq!(judge(&new, &seen, start + STARTUP_GRACE), Verdict::Silent);
        let written = conditions(&new, Verdict::Silent, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            (written.len(), written[0]["reason"].as_str()),
            (4, Some("NodeStatusNeverUpdated"))
        );
    }

    #[test]
    fn taints_follow_the_verdict_and_leave_others_alone() {
        let other = json!({"key": "mine", "effect": "NoSchedule"});
        let not_ready = json!({"key": NOT_READY, "effect": "NoExecute"});
        let created = json!({"key": NOT_READY, "effect": "NoSchedule"});
        let now = Timestamp::UNIX_EPOCH;
        for (taints_now, verdict, cut_off, wanted) in [
            (json!([other]), Verdict::Healthy, false, None),
            (
                json!([other]),
                Verdict::Silent,
                false,
                Some(vec![
                    "mine:NoSchedule",
                    "unreachable:NoSchedule",
                    "unreachable:NoExecute",
                ]),
            ),
            (
                json!([not_ready]),
                Verdict::Silent,
                false,
                Some(vec!["unreachable:NoSchedule", "unreachable:NoExecute"]),
            ),
            (json!([not_ready]), Verdict::Healthy, false, Some(vec![])),
            (json!([created]), Verdict::New, false, None),
            (
                json!([created]),
                Verdict::NotReady,
                false,
                Some(vec!["not-ready:NoSchedule", "not-ready:NoExecute"]),
            ),
            (json!([]), Verdict::Silent, true, Some(vec!["unreachable:NoSchedule"])),
            (
                json!([not_ready]),
                Verdict::Silent,
                true,
                Some(vec!["unreachable:NoSchedule"]),
            ),
        ] {
            let found = taints(&node(Some("True"), taints_now), verdict, cut_off, now).map(|taints| named(&taints));
            assert_eq!(found, wanted.map(|w| w.into_iter().map(str::to_owned).collect()));
        }
    }

    #[test]
    fn cordon_and_pressure_are_taints_too() {
        let mut node: Node = node(Some("True"), json!([]));
        node.spec.unschedulable = true;
        node.status.conditions = serde_json::from_value(json!([{"type": "DiskPressure", "status": "True"}])).unwrap();
        let found = taints(&node, Verdict::Healthy, false, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(named(&found), ["disk-pressure:NoSchedule", "unschedulable:NoSchedule"]);
    }

    #[test]
    fn all_dead_means_cut_off() {
        use Verdict::{Healthy, NotReady, Silent};
        for (verdicts, dead) in [
            (vec![], false),
            (vec![Silent], true),
            (vec![Silent, Silent], true),
            (vec![Silent, NotReady], false),
            (vec![Silent, Healthy], false),
        ] {
            assert_eq!(all_dead(verdicts.into_iter()), dead);
        }
    }
}
