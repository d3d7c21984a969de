//! The smallest strategic merge patch that turns one status into another. Pure.

use serde_json::{Map, Value, json};

use super::{Condition, PodStatus};

/// The patch for the `status` subresource that leads from `old` to `new`, or `None` if they are equal.
///
/// The UID goes along as a precondition, so that a report never reaches another pod of the same name. Conditions merge
/// by type, hence only the changed ones are named; address lists are replaced, lest an old address survive the merge.
pub(crate) fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old_fields, new_fields) = (fields(old), fields(new));
    let mut status = Map::new();
    for (name, value) in &new_fields {
        if name != "conditions" && old_fields.get(name) != Some(value) {
            status.insert(name.clone(), outgoing(name, value));
        }
    }
    let changed = new.conditions.iter().filter(|c| old.condition(&c.kind) != Some(c));
    let mut conditions: Vec<Value> = changed
        .map(|condition| changed_condition(old.condition(&condition.kind), condition))
        .collect();
    // These two are ours to take back; what else is missing belongs to others.
    let over = TAKEN_BACK
        .iter()
        .filter(|kind| old.condition(kind).is_some() && new.condition(kind).is_none());
    conditions.extend(over.map(|kind| json!({"$patch": "delete", "type": kind})));
    if !conditions.is_empty() {
        status.insert("conditions".into(), json!(conditions));
    }
    (!status.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "status": status }))
}

/// Conditions that are there only while they hold.
const TAKEN_BACK: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

fn fields(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// A condition as it is sent: what it said before and says no more is taken back, since the merge would keep it.
fn changed_condition(old: Option<&Condition>, new: &Condition) -> Value {
    let mut sent = json!(new);
    if let (Some(old), Value::Object(fields)) = (old, &mut sent) {
        for (name, was, is) in [
            ("reason", &old.reason, &new.reason),
            ("message", &old.message, &new.message),
        ] {
            if !was.is_empty() && is.is_empty() {
                fields.insert(name.to_owned(), Value::Null);
            }
        }
    }
    sent
}

/// How a field's new value is written: an empty one is removed, merged lists are replaced.
fn outgoing(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Array(items) if matches!(name, "podIPs" | "hostIPs") => std::iter::once(json!({ "$patch": "replace" }))
            .chain(items.iter().cloned())
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Ip, Phase};

    fn condition(kind: &str, status: &str) -> Condition {
        Condition {
            kind: kind.into(),
            status: status.into(),
            ..Condition::default()
        }
    }

    #[test]
    fn equal_statuses_need_no_patch() {
        let status = PodStatus {
            phase: Phase::Running,
            ..PodStatus::default()
        };
        assert_eq!(patch("u", &status, &status), None);
    }

    #[test]
    fn a_condition_that_holds_again_says_no_more_why_it_did_not() {
        let unready = Condition {
            reason: "ContainersNotReady".into(),
            message: "containers with unready status: [main]".into(),
            ..condition("Ready", "False")
        };
        let old = PodStatus {
            conditions: vec![unready],
            ..PodStatus::default()
        };
        let new = PodStatus {
            conditions: vec![condition("Ready", "True")],
            ..PodStatus::default()
        };
        let made = patch("u", &old, &new).expect("differs");
        let sent = &made["status"]["conditions"][0];
        assert_eq!(sent["status"], "True");
        assert_eq!(
            (sent.get("reason"), sent.get("message")),
            (Some(&Value::Null), Some(&Value::Null))
        );
    }

    #[test]
    fn names_only_what_changed_with_the_uid_as_precondition() {
        let old = PodStatus {
            conditions: vec![condition("Ready", "False"), condition("Initialized", "True")],
            ..PodStatus::default()
        };
        let new = PodStatus {
            phase: Phase::Running,
            conditions: vec![condition("Ready", "True"), condition("Initialized", "True")],
            ..PodStatus::default()
        };
        let made = patch("u1", &old, &new).expect("differs");
        assert_eq!(made["metadata"], json!({"uid": "u1"}));
        assert_eq!(
            made["status"].as_object().expect("map").keys().collect::<Vec<_>>(),
            ["conditions", "phase"]
        );
        assert_eq!(made["status"]["conditions"].as_array().expect("list").len(), 1);
    }

    #[test]
    fn conditions_of_a_resize_are_taken_back() {
        let old = PodStatus {
            conditions: vec![condition("PodResizePending", "True"), condition("theirs", "True")],
            ..PodStatus::default()
        };
        let made = patch("u", &old, &PodStatus::default()).expect("differs");
        assert_eq!(
            made["status"]["conditions"],
            json!([{"$patch": "delete", "type": "PodResizePending"}])
        );
    }

    #[test]
    fn replaces_addresses_and_removes_emptied_fields() {
        let old = PodStatus {
            pod_ips: vec![Ip { ip: "10.0.0.1".into() }],
            reason: "Evicted".into(),
            ..PodStatus::default()
        };
        let new = PodStatus {
            pod_ips: vec![Ip { ip: "10.0.0.2".into() }],
            ..PodStatus::default()
        };
        let made = patch("u1", &old, &new).expect("differs");
        assert_eq!(
            made["status"]["podIPs"],
            json!([{"$patch": "replace"}, {"ip": "10.0.0.2"}])
        );
        assert_eq!(made["status"]["reason"], Value::Null);
        let emptied = patch("u1", &new, &PodStatus::default()).expect("differs");
        assert_eq!(emptied["status"]["podIPs"], Value::Null);
    }
}
