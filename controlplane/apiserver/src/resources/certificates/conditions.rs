//! The conditions of a CertificateSigningRequest: Approved, Denied and Failed only ever become true, and only the
//! `approval` endpoint decides the first two.

use api::time::{Timestamp, rfc3339};
use api::{FieldError, FieldErrors, Object, Path};
use serde_json::Value;

use crate::resources::validation::At;

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
/// Conditions that never go away.
const FINAL: [&str; 3] = [APPROVED, DENIED, "Failed"];
const TRUE: &[&str] = &["True"];
const ANY: &[&str] = &["False", "True", "Unknown"];
const LIST: &str = "status.conditions";

/// Gives conditions the times that their author left out; what has not changed keeps its time.
pub(super) fn stamp(old: &Object, new: &mut Object, now: Timestamp) {
    let before = old.list_at(LIST).to_vec();
    let conditions = new.at_mut(LIST).and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        let same = |other: &&Value| ["type", "status"].iter().all(|f| other.get(*f) == condition.get(*f));
        let since = before
            .iter()
            .find(same)
            .and_then(|other| other.get("lastTransitionTime"));
        let since = since.filter(|time| !time.is_null()).cloned();
        for (field, time) in [("lastUpdateTime", None), ("lastTransitionTime", since)] {
            if condition.get(field).is_none_or(Value::is_null) {
                condition.insert(field.to_owned(), time.unwrap_or_else(|| rfc3339(now).into()));
            }
        }
    }
}

/// Puts back Approved and Denied as they are stored, where their number has not changed.
pub(super) fn keep_decisions(old: &Object, new: &mut Object) {
    for kind in [APPROVED, DENIED] {
        let kept: Vec<Value> = of(old, kind).cloned().collect();
        if kept.len() != of(new, kind).count() {
            continue;
        }
        let conditions = new.at_mut(LIST).and_then(Value::as_array_mut).into_iter().flatten();
        let places = conditions.filter(|condition| condition.get("type").and_then(Value::as_str) == Some(kind));
        places.zip(kept).for_each(|(place, kept)| *place = kept);
    }
}

fn of<'a>(request: &'a Object, kind: &str) -> impl Iterator<Item = &'a Value> {
    let is = move |c: &&Value| c.get("type").and_then(Value::as_str) == Some(kind);
    request.list_at(LIST).iter().filter(is)
}

/// The rules over the list itself. What was wrong already when it was stored is let be.
pub(super) fn rules(old: Option<&Object>, new: &Object, errors: &mut FieldErrors) {
    let both = old.is_some_and(|old| of(old, APPROVED).count() > 0 && of(old, DENIED).count() > 0);
    let duplicates = old.is_some_and(has_duplicates);
    let unnamed = old.is_some_and(|old| of(old, "").count() > 0);
    let list = At::root(new, "status").child("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for condition in list.items() {
        let (kind, status) = (condition.child("type"), condition.child("status"));
        if kind.is_empty() && !unnamed {
            errors.push(kind.required(""));
        }
        status.require_one_of(errors, if FINAL.contains(&kind.str()) { TRUE } else { ANY });
        let other = match kind.str() {
            APPROVED => Some(DENIED),
            DENIED => Some(APPROVED),
            _ => None,
        };
        if other.is_some_and(|other| !both && seen.contains(&other)) {
            errors.push(list.invalid_as(kind.str(), "Approved and Denied conditions are mutually exclusive"));
        }
        if !duplicates && seen.contains(&kind.str()) {
            errors.push(kind.duplicate());
        }
        seen.push(kind.str());
    }
}

fn has_duplicates(request: &Object) -> bool {
    let types: Vec<_> = request.list_at(LIST).iter().map(|c| c.get("type")).collect();
    let mut rest = types.as_slice();
    while let Some((first, after)) = rest.split_first() {
        if after.contains(first) {
            return true;
        }
        rest = after;
    }
    false
}

/// The rules over what an update may do to the list.
pub(super) fn changes(old: &Object, new: &Object, approval: bool, errors: &mut FieldErrors) {
    let path = Path::root(LIST);
    let forbid = |what: String| FieldError::forbidden(&path, what);
    for kind in FINAL {
        if of(new, kind).count() < of(old, kind).count() {
            errors.push(forbid(format!("updates may not remove a condition of type {kind:?}")));
        }
    }
    if approval {
        return;
    }
    for kind in [APPROVED, DENIED] {
        let (before, now) = (of(old, kind).count(), of(new, kind).count());
        if now > before {
            errors.push(forbid(format!("updates may not add a condition of type {kind:?}")));
        } else if now == before && !of(old, kind).eq(of(new, kind)) {
            errors.push(forbid(format!("updates may not modify a condition of type {kind:?}")));
        }
    }
}
