//! Event: what happened to an object. One storage kind, in the form of the core group, served by `events.k8s.io` too,
//! where the same fields have other names. Events vanish an hour after their last write.

use std::time::Duration;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, FieldErrors, Object, Path};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::events::v1::Event as NewEvent;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::names::{is_dns1123_subdomain, is_qualified_name};
use crate::resources::validation::{At, meta};

const LIFETIME: Duration = Duration::from_secs(3600);
const MAX_REASON: usize = 128;
const MAX_NOTE: usize = 1024;
/// The same field in `core/v1` and in `events.k8s.io/v1`; all others have one name.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// What `events.k8s.io/v1` selects by.
const NEW_FIELDS: &[(&str, &str)] = &[
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reason", "reason"),
    ("reportingController", "reportingComponent"),
    ("type", "type"),
];

pub(crate) fn resource() -> Resource {
    Resource::of::<Event>()
        .short_names(&["ev"])
        .strategy(Events)
        .printer(definitions(), cells)
        .field("involvedObject.kind")
        .field("involvedObject.namespace")
        .field("involvedObject.name")
        .field("involvedObject.uid")
        .field("involvedObject.apiVersion")
        .field("involvedObject.resourceVersion")
        .field("involvedObject.fieldPath")
        .field("reason")
        .field("reportingComponent")
        .field("type")
        .field_at("source", &["source.component", "reportingComponent"], "")
        .ttl(LIFETIME)
        .also_served_by::<NewEvent>(to_core, from_core, NEW_FIELDS)
        .build()
}

fn to_core(event: &mut Object) {
    for (core, new) in RENAMED {
        rename(event, new, core);
    }
}

fn from_core(event: &mut Object) {
    for (core, new) in RENAMED {
        rename(event, core, new);
    }
}

fn rename(event: &mut Object, from: &str, to: &str) {
    if let Some(value) = event.map_mut().remove(from) {
        event.map_mut().insert(to.to_owned(), value);
    }
}

struct Events;

impl Strategy for Events {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        involved_namespace(cx, new, &mut errors);
        if matches!(op, Operation::Create) && new.str_at("eventTime").is_some() {
            new_style(new, &mut errors);
        }
        if let Operation::Update { old } = op
            && new.str_at("eventTime").is_some()
        {
            unchanged(old, new, &mut errors);
        }
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// An event stands in the namespace of its object; those of cluster-scoped objects stand in `default`.
fn involved_namespace(cx: &Context<'_>, event: &Object, errors: &mut FieldErrors) {
    let involved = At::root(event, "involvedObject").child("namespace");
    let own = cx.namespace.unwrap_or_default();
    let agrees = if involved.is_empty() {
        matches!(own, "" | "default")
    } else {
        involved.str() == own
    };
    if !agrees {
        errors.push(involved.invalid("does not match event.namespace"));
    }
}

/// Events with an `eventTime` come from clients that know the newer API and fill it in (KEP-383).
fn new_style(event: &Object, errors: &mut FieldErrors) {
    let text = |field: &str| event.str_at(field).unwrap_or_default();
    let controller = text("reportingComponent");
    let path = Path::root("reportingController");
    if controller.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else {
        errors.extend(
            is_qualified_name(controller)
                .into_iter()
                .map(|m| FieldError::invalid(&path, controller, m)),
        );
    }
    for field in ["reportingInstance", "action", "reason"] {
        if text(field).is_empty() {
            errors.push(FieldError::required(&Path::root(field), ""));
        } else if text(field).len() > MAX_REASON {
            let detail = format!("can have at most {MAX_REASON} characters");
            errors.push(FieldError::invalid(&Path::root(field), "", detail));
        }
    }
    if text("message").len() > MAX_NOTE {
        let detail = format!("can have at most {MAX_NOTE} characters");
        errors.push(FieldError::invalid(&Path::root("message"), "", detail));
    }
}

/// Of a new-style event only the series moves on.
fn unchanged(old: &Object, new: &Object, errors: &mut FieldErrors) {
    for field in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "reportingComponent",
        "reportingInstance",
        "action",
        "related",
        "type",
        "eventTime",
    ] {
        let shown = if field == "reportingComponent" {
            "reportingController"
        } else {
            field
        };
        if old.at(field) != new.at(field) {
            let value = new.at(field).cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&Path::root(shown), value, "field is immutable"));
        }
    }
}

fn reporter(event: &Object) -> &str {
    first_of(event, "source.component", "reportingComponent")
}

fn first_of<'a>(event: &'a Object, one: &str, other: &str) -> &'a str {
    event
        .str_at(one)
        .filter(|s| !s.is_empty())
        .or(event.str_at(other))
        .unwrap_or_default()
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Last Seen|string||When the event was last seen.",
        "Type|string||Normal or Warning.",
        "Reason|string||Why it happened, in one word.",
        "Object|string||What it happened to.",
        "Subobject|string||The part it happened to.|wide",
        "Source|string||Who reports it.|wide",
        "Message|string||What happened.",
        "First Seen|string||When the event was first seen.|wide",
        "Count|string||How often it was seen.|wide",
        "Name|string|name||wide",
    ])
}

fn cells(event: &Object, now: Timestamp) -> Vec<Value> {
    let text = |path: &str| event.str_at(path).unwrap_or_default();
    let seen = |path: &str| event.str_at(path).filter(|t| !t.is_empty());
    let first = age(seen("firstTimestamp").or(seen("eventTime")), now);
    let (last, count) = match event.at("series") {
        Some(Value::Object(_)) => (
            age(seen("series.lastObservedTime"), now),
            event.i64_at("series.count").unwrap_or_default(),
        ),
        _ => {
            let last = seen("lastTimestamp").map_or_else(|| first.clone(), |t| age(Some(t), now));
            (last, event.i64_at("count").filter(|n| *n != 0).unwrap_or(1))
        }
    };
    let kind = text("involvedObject.kind").to_lowercase();
    let name = text("involvedObject.name");
    let instance = first_of(event, "source.host", "reportingInstance");
    vec![
        last,
        text("type").into(),
        text("reason").into(),
        if name.is_empty() {
            kind.into()
        } else {
            format!("{kind}/{name}").into()
        },
        text("involvedObject.fieldPath").into(),
        if instance.is_empty() {
            reporter(event).into()
        } else {
            format!("{}, {instance}", reporter(event)).into()
        },
        text("message").trim().into(),
        first,
        count.into(),
        event.name().into(),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let event = |extra: Value| {
        let mut event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a.1", "namespace": "ns"},
            "involvedObject": {"kind": "Pod", "name": "a", "namespace": "ns"}, "reason": "Started", "type": "Normal"});
        if let (Some(map), Value::Object(extra)) = (event.as_object_mut(), extra) {
            map.extend(extra);
        }
        event
    };
    crate::resources::testing::Cases {
        valid: vec![
            event(json!({"count": 1})),
            event(
                json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reportingComponent": "a.b/c", "reportingInstance": "i",
                "action": "Start"}),
            ),
        ],
        invalid: vec![
            (
                event(json!({"involvedObject": {"kind": "Pod", "namespace": "other"}})),
                vec!["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
            ),
            (
                event(json!({"eventTime": "2026-01-01T00:00:00.000000Z"})),
                vec![
                    "reportingController: Required value",
                    "reportingInstance: Required value",
                    "action: Required value",
                ],
            ),
        ],
        table: vec![
            event(
                json!({"firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T01:00:00Z", "count": 4,
                "source": {"component": "kubelet", "host": "n1"}, "message": "Started container c\n",
                "metadata": {"name": "a.1"}}),
            ),
            event(
                json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reportingComponent": "sched",
                "series": {"count": 9, "lastObservedTime": "2026-01-01T01:59:00.000000Z"}, "metadata": {"name": "a.2"}}),
            ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resources::testing::object;

    proptest! {
        #[test]
        fn conversions_are_inverse(present in proptest::collection::vec(any::<bool>(), 12), text in "[a-z]{0,8}") {
            let names = ["involvedObject", "message", "source", "firstTimestamp", "lastTimestamp", "count",
                "reportingComponent", "reportingInstance", "reason", "type", "series", "eventTime"];
            let mut core = object(json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}}));
            for (name, _) in names.iter().zip(present).filter(|(_, there)| *there) {
                core.map_mut().insert((*name).to_owned(), json!({"x": text}));
            }
            let mut there = core.clone();
            from_core(&mut there);
            for (old, _) in RENAMED {
                prop_assert!(there.map().get(*old).is_none(), "{old} must not survive in the new form");
            }
            let new = there.clone();
            to_core(&mut there);
            prop_assert_eq!(&there, &core);
            from_core(&mut there);
            prop_assert_eq!(there, new);
        }
    }
}
