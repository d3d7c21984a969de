//! Deployments and ReplicaSets. Of a pod template only a digest and its labels are kept: whoever needs the whole fetches
//! it.

use client::{Labels, Meta};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Selector;

/// Label that tells the pods of one ReplicaSet of a Deployment from those of another.
pub(crate) const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// A pod template, by digest. Two are equal if they differ at most in the label `pod-template-hash`, in empty values, or
/// in the order of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) digest: [u8; 32],
    pub(crate) labels: Labels,
}

impl Template {
    pub(crate) fn of(template: &Value) -> Self {
        let labels = template.pointer("/metadata/labels").and_then(Value::as_object);
        let pairs = labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        let mut canonical = template.clone();
        if let Some(labels) = canonical.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(POD_TEMPLATE_HASH);
        }
        drop_empty(&mut canonical);
        Self {
            digest: Sha256::digest(canonical.to_string().as_bytes()).into(),
            labels: pairs.collect(),
        }
    }
}

/// Fields whose being empty says nothing. Of others it may: `emptyDir: {}` chooses a member of a union.
const EMPTY_IS_ABSENT: [&str; 7] = [
    "annotations",
    "labels",
    "limits",
    "metadata",
    "requests",
    "resources",
    "securityContext",
];

/// Removes what typed clients add when they write back what they have read: nulls, and some empty maps.
fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            map.retain(|key, value| {
                let empty = value.as_object().is_some_and(serde_json::Map::is_empty);
                let absent = value.is_null() || (empty && EMPTY_IS_ABSENT.contains(&key.as_str()));
                !absent
            });
        }
        Value::Array(list) => list.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of(&Value::deserialize(deserializer)?))
    }
}

/// A number or a percentage.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum IntOrString {
    Int(i64),
    String(Box<str>),
}

impl IntOrString {
    /// The number, or the share of `total`, rounded up or down.
    pub(crate) fn of(&self, total: i64, round_up: bool) -> i64 {
        match self {
            Self::Int(number) => *number,
            Self::String(text) => {
                let percent = text
                    .strip_suffix('%')
                    .and_then(|number| number.parse::<i64>().ok())
                    .unwrap_or(0);
                (percent * total + if round_up { 99 } else { 0 }).div_euclid(100)
            }
        }
    }
}

/// A condition of a Deployment or ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    pub(crate) r#type: Box<str>,
    pub(crate) status: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_update_time: Option<Timestamp>,
    pub(crate) last_transition_time: Option<Timestamp>,
    pub(crate) reason: Box<str>,
    pub(crate) message: Box<str>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicaSet {
    pub(crate) metadata: Meta,
    pub(crate) spec: ReplicaSetSpec,
    pub(crate) status: ReplicaSetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReplicaSetSpec {
    #[serde(deserialize_with = "one_if_absent")]
    pub(crate) replicas: i64,
    pub(crate) min_ready_seconds: i64,
    pub(crate) selector: Selector,
    pub(crate) template: Template,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReplicaSetStatus {
    pub(crate) replicas: i64,
    pub(crate) fully_labeled_replicas: i64,
    pub(crate) ready_replicas: i64,
    pub(crate) available_replicas: i64,
    pub(crate) terminating_replicas: i64,
    pub(crate) observed_generation: i64,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deployment {
    pub(crate) metadata: Meta,
    pub(crate) spec: DeploymentSpec,
    pub(crate) status: DeploymentStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentSpec {
    #[serde(deserialize_with = "one_if_absent")]
    pub(crate) replicas: i64,
    pub(crate) selector: Selector,
    pub(crate) template: Template,
    pub(crate) strategy: Strategy,
    pub(crate) min_ready_seconds: i64,
    pub(crate) paused: bool,
    pub(crate) revision_history_limit: Option<i64>,
    pub(crate) progress_deadline_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Strategy {
    pub(crate) r#type: Box<str>,
    pub(crate) rolling_update: RollingUpdate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RollingUpdate {
    pub(crate) max_surge: Option<IntOrString>,
    pub(crate) max_unavailable: Option<IntOrString>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentStatus {
    pub(crate) observed_generation: i64,
    pub(crate) replicas: i64,
    pub(crate) updated_replicas: i64,
    pub(crate) ready_replicas: i64,
    pub(crate) available_replicas: i64,
    pub(crate) unavailable_replicas: i64,
    pub(crate) terminating_replicas: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) collision_count: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
}

fn one_if_absent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(Option::<i64>::deserialize(deserializer)?.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_equal_but_for_the_hash_label_and_what_is_empty() {
        let base =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
        let hashed = json!({"metadata": {"labels": {"app": "web", "pod-template-hash": "x"}, "creationTimestamp": null},
            "spec": {"securityContext": {}, "volumes": [{"name": "v", "emptyDir": {}}]}});
        let other = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"volumes": [{"name": "v"}]}});
        assert_eq!(Template::of(&base).digest, Template::of(&hashed).digest);
        assert_ne!(Template::of(&base).digest, Template::of(&other).digest);
        assert_eq!(Template::of(&base).labels.get("app"), Some("web"));
    }

    #[test]
    fn percentages_round_as_asked() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(
            (
                quarter.of(10, true),
                quarter.of(10, false),
                IntOrString::Int(3).of(10, true)
            ),
            (3, 2, 3)
        );
    }
}
