//! The checks of the Pod Security Standards, each from the version of Kubernetes on that has it. Pure.

use std::collections::BTreeSet;

use api::Object;
use serde_json::{Map, Value};

use super::policy::{At, Level};
use super::{baseline, restricted};

/// The last version of Kubernetes that changed a check.
const LAST: u32 = 35;

/// What is looked at: a pod, or the template of one.
pub(super) struct Pod<'a> {
    pub(super) annotations: Option<&'a Map<String, Value>>,
    pub(super) spec: &'a Map<String, Value>,
}

/// What a check found, in short and in detail.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    reason: String,
    detail: String,
}

/// One check: its name, since when it is, which check of the baseline it makes needless, and itself.
pub(super) struct Check {
    pub(super) id: &'static str,
    pub(super) since: u32,
    pub(super) instead_of: &'static str,
    pub(super) run: fn(&Pod<'_>, u32) -> Option<Violation>,
}

/// What a pod breaks of a level, in the order in which Kubernetes says it.
pub(super) fn evaluate(at: At, pod: &Pod<'_>) -> Vec<Violation> {
    let minor = at.version.minor(LAST);
    let active = |check: &&Check| check.since <= minor;
    let stricter: Vec<&Check> = match at.level {
        Level::Restricted => restricted::CHECKS.iter().filter(active).collect(),
        Level::Baseline => Vec::new(),
        Level::Privileged => return Vec::new(),
    };
    let needed = |check: &&Check| !stricter.iter().any(|other| other.instead_of == check.id);
    let baseline = baseline::CHECKS.iter().filter(active).filter(needed);
    let all = baseline.chain(stricter.iter().copied());
    all.filter_map(|check| (check.run)(pod, minor)).collect()
}

/// `reason (detail), reason (detail)`.
pub(super) fn details(found: &[Violation]) -> String {
    let one = |v: &Violation| match v.detail.as_str() {
        "" => v.reason.clone(),
        detail => format!("{} ({detail})", v.reason),
    };
    found.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `reason, reason`.
pub(super) fn reasons(found: &[Violation]) -> String {
    found.iter().map(|v| v.reason.as_str()).collect::<Vec<_>>().join(", ")
}

impl Violation {
    pub(super) fn new(reason: &str, detail: String) -> Option<Self> {
        Some(Violation {
            reason: reason.to_owned(),
            detail,
        })
    }
}

impl<'a> Pod<'a> {
    pub(super) fn of(object: &'a Object) -> Option<Self> {
        Some(Pod {
            annotations: object.map_at("metadata.annotations"),
            spec: object.map_at("spec")?,
        })
    }

    /// All containers, those that run first at first.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
        lists.flat_map(move |list| spec.get(list).and_then(Value::as_array).into_iter().flatten())
    }

    pub(super) fn volumes(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.spec.get("volumes").and_then(Value::as_array).into_iter().flatten()
    }

    /// A field of the pod's own security context, by JSON pointer.
    pub(super) fn security(&self, pointer: &str) -> Option<&'a Value> {
        let context = self.spec.get("securityContext")?;
        context.pointer(pointer).filter(|value| !value.is_null())
    }

    pub(super) fn flag(&self, field: &str) -> Option<bool> {
        self.spec.get(field).and_then(Value::as_bool)
    }

    /// Pods for Windows have none of what some checks ask for.
    pub(super) fn is_windows(&self) -> bool {
        let os = self.spec.get("os").and_then(|os| os.get("name"));
        os.and_then(Value::as_str) == Some("windows")
    }

    /// Whether its users are not the node's.
    pub(super) fn has_own_users(&self) -> bool {
        self.flag("hostUsers") == Some(false)
    }

    /// Names of the containers for which something holds.
    pub(super) fn names(&self, mut holds: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|c| holds(c)).map(name).collect()
    }
}

/// A field of a container's security context, by JSON pointer.
pub(super) fn security<'a>(container: &'a Value, pointer: &str) -> Option<&'a Value> {
    let context = container.get("securityContext")?;
    context.pointer(pointer).filter(|value| !value.is_null())
}

pub(super) fn name(value: &Value) -> &str {
    value.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The texts in a list.
pub(super) fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

pub(super) fn plural<'w>(one: &'w str, many: &'w str, count: usize) -> &'w str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`.
pub(super) fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items = items.into_iter().map(|item| format!("\"{}\"", item.as_ref()));
    items.collect::<Vec<_>>().join(", ")
}

/// `container "a"` or `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod and containers "a", "b"`: who sets something; empty when nobody does.
pub(super) fn setters(pod: bool, names: &[&str]) -> String {
    let mut words = Vec::new();
    if pod {
        words.push("pod".to_owned());
    }
    if !names.is_empty() {
        words.push(containers(names));
    }
    words.join(" and ")
}

/// Who sets a text of the security context to what is not allowed, and to what.
pub(super) struct Bad<'a> {
    pub(super) pod: bool,
    pub(super) names: Vec<&'a str>,
    pub(super) values: BTreeSet<String>,
}

impl<'a> Bad<'a> {
    pub(super) fn find(pod: &Pod<'a>, pointer: &str, good: impl Fn(&str) -> bool) -> Self {
        let mut values = BTreeSet::new();
        let mut is_bad = |value: Option<&Value>| {
            let bad = value.and_then(Value::as_str).filter(|text| !good(text));
            values.extend(bad.map(str::to_owned));
            bad.is_some()
        };
        let by_pod = is_bad(pod.security(pointer));
        let names = pod.names(|container| is_bad(security(container, pointer)));
        Bad {
            pod: by_pod,
            names,
            values,
        }
    }
}
