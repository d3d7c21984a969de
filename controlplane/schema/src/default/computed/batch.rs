//! Jobs. A CronJob's template gets none of this: its Jobs do when they are made.

use serde_json::Value;

use super::{Tree, ensure};

/// A Job without labels takes its template's.
pub(super) fn job(job: &mut Tree) {
    let labels = job
        .get("spec")
        .and_then(|spec| spec.pointer("/template/metadata/labels"))
        .cloned();
    if let (Some(labels), Some(metadata)) = (labels, job.get_mut("metadata").and_then(Value::as_object_mut)) {
        ensure(metadata, "labels", || labels);
    }
    if let Some(spec) = job.get_mut("spec").and_then(Value::as_object_mut) {
        self::spec(spec);
    }
}

fn spec(spec: &mut Tree) {
    let absent = |spec: &Tree, field: &str| spec.get(field).is_none_or(Value::is_null);
    if absent(spec, "completions") && absent(spec, "parallelism") {
        spec.insert("completions".to_owned(), 1.into());
    }
    ensure(spec, "parallelism", || 1.into());
    let limit = if absent(spec, "backoffLimitPerIndex") {
        6
    } else {
        i32::MAX
    };
    ensure(spec, "backoffLimit", || limit.into());
    let replacement = if absent(spec, "podFailurePolicy") {
        "TerminatingOrFailed"
    } else {
        "Failed"
    };
    ensure(spec, "podReplacementPolicy", || replacement.into());
    ensure(spec, "completionMode", || "NonIndexed".into());
    ensure(spec, "suspend", || false.into());
    ensure(spec, "manualSelector", || false.into());
}
