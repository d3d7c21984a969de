//! A pod's row in `kubectl get pods`: what its containers are up to, in one word.

use api::Object;
use api::table::Column;
use api::time::{Timestamp, human_duration, parse};
use serde_json::Value;

use crate::registry::printer::age;
use crate::resources::print::{columns, or_none};

pub(super) fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Ready|string||The aggregate readiness state of this pod for accepting traffic.",
        "Status|string||The aggregate status of the containers in this pod.",
        "Restarts|string||How often the containers in this pod have been restarted and when the last container restarted.",
        "Age|string",
        "IP|string||The pod's address, reachable from every node of the cluster.|wide",
        "Node|string||The node the pod has been assigned to.|wide",
        "Nominated Node|string||The node that is being cleared for the pod.|wide",
        "Readiness Gates|string||How many of the conditions that readiness waits for are true.|wide",
    ])
}

pub(super) fn cells(pod: &Object, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart.filter(|_| summary.restarts != 0) {
        Some(at) => format!(
            "{} ({} ago)",
            summary.restarts,
            human_duration(now.as_second() - at.as_second())
        ),
        None => summary.restarts.to_string(),
    };
    vec![
        pod.name().into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod.creation_timestamp(), now),
        or_none(
            pod.list_at("status.podIPs")
                .first()
                .map(|ip| text(ip, "ip"))
                .unwrap_or_default(),
        ),
        or_none(pod.str_at("spec.nodeName").unwrap_or_default()),
        or_none(pod.str_at("status.nominatedNodeName").unwrap_or_default()),
        or_none(&gates(pod)),
    ]
}

fn gates(pod: &Object) -> String {
    let gates = pod.list_at("spec.readinessGates");
    if gates.is_empty() {
        return String::new();
    }
    let met = gates
        .iter()
        .filter(|gate| condition(pod, text(gate, "conditionType")) == Some("True"))
        .count();
    format!("{met}/{}", gates.len())
}

/// What a pod's statuses add up to.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Object) -> Self {
        let sidecars = pod
            .list_at("spec.initContainers")
            .iter()
            .filter(|c| is_sidecar(c))
            .count();
        let mut summary = Summary {
            reason: first_reason(pod),
            ready: 0,
            total: pod.list_at("spec.containers").len() + sidecars,
            restarts: 0,
            last_restart: None,
        };
        let initializing = summary.add_init(pod);
        if !initializing || condition(pod, "Initialized") == Some("True") {
            summary.keep_sidecar_restarts(pod);
            summary.add_containers(pod);
        }
        summary.mark_deletion(pod);
        summary
    }

    /// Looks for the init container that is not through yet; `true` if there is one.
    fn add_init(&mut self, pod: &Object) -> bool {
        for (index, status) in pod.list_at("status.initContainerStatuses").iter().enumerate() {
            self.count_restarts(status);
            let started = status.get("started").and_then(Value::as_bool).unwrap_or_default();
            let terminated = state(status, "terminated");
            if terminated.is_some_and(|t| number(t, "exitCode") == 0) {
                continue;
            }
            if started && is_named_sidecar(pod, text(status, "name")) {
                self.ready += usize::from(is_ready(status));
                continue;
            }
            let waiting = state(status, "waiting").map(|w| text(w, "reason")).unwrap_or_default();
            self.reason = match terminated {
                Some(end) => format!("Init:{}", ending(end)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", pod.list_at("spec.initContainers").len()),
            };
            return true;
        }
        false
    }

    /// Once a pod runs, restarts of its ordinary init containers no longer matter.
    fn keep_sidecar_restarts(&mut self, pod: &Object) {
        (self.restarts, self.last_restart) = (0, None);
        let statuses = pod.list_at("status.initContainerStatuses").iter();
        for status in statuses.filter(|s| is_named_sidecar(pod, text(s, "name"))) {
            self.count_restarts(status);
        }
    }

    fn add_containers(&mut self, pod: &Object) {
        let mut running = false;
        for status in pod.list_at("status.containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = state(status, "waiting").map(|w| text(w, "reason")).unwrap_or_default();
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(end) = state(status, "terminated") {
                self.reason = ending(end);
            } else if is_ready(status) && state(status, "running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = condition(pod, "Ready") == Some("True");
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn mark_deletion(&mut self, pod: &Object) {
        if !pod.is_deleting() {
            return;
        }
        let finished = matches!(pod.str_at("status.phase"), Some("Succeeded" | "Failed"));
        if pod.str_at("status.reason") == Some("NodeLost") {
            self.reason = "Unknown".to_owned();
        } else if !finished {
            self.reason = "Terminating".to_owned();
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restarts += number(status, "restartCount");
        let ended = status
            .get("lastState")
            .and_then(|s| s.get("terminated"))
            .and_then(|t| parse(text(t, "finishedAt")));
        self.last_restart = self.last_restart.max(ended);
    }
}

fn first_reason(pod: &Object) -> String {
    let gated = pod
        .list_at("status.conditions")
        .iter()
        .any(|c| text(c, "type") == "PodScheduled" && text(c, "reason") == "SchedulingGated");
    if gated {
        return "SchedulingGated".to_owned();
    }
    let reason = pod.str_at("status.reason").filter(|r| !r.is_empty());
    reason.or(pod.str_at("status.phase")).unwrap_or_default().to_owned()
}

/// Why a container ended: its reason, else its signal or exit code.
fn ending(terminated: &Value) -> String {
    match (text(terminated, "reason"), number(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn condition<'a>(pod: &'a Object, type_: &str) -> Option<&'a str> {
    pod.list_at("status.conditions")
        .iter()
        .find(|c| text(c, "type") == type_)
        .map(|c| text(c, "status"))
}

fn state<'a>(status: &'a Value, which: &str) -> Option<&'a Value> {
    status.get("state")?.get(which).filter(|s| !s.is_null())
}

fn is_ready(status: &Value) -> bool {
    status.get("ready").and_then(Value::as_bool).unwrap_or_default()
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

fn is_named_sidecar(pod: &Object, name: &str) -> bool {
    pod.list_at("spec.initContainers")
        .iter()
        .any(|c| text(c, "name") == name && is_sidecar(c))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, field: &str) -> i64 {
    value.get(field).and_then(Value::as_i64).unwrap_or_default()
}
