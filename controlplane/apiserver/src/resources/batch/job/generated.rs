//! The selector that a Job gets, by which it finds its own pods and no others.

use api::{FieldErrors, Object};
use serde_json::{Map, Value};

use crate::resources::validation::At;

pub(super) const UID: &str = "batch.kubernetes.io/controller-uid";
pub(super) const NAME: &str = "batch.kubernetes.io/job-name";
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

/// Writes the labels and the selector, unless the caller chose to bring its own. What stands there stays: where it is wrong,
/// [`validate`] says so.
pub(super) fn write(job: &mut Object) {
    if job.bool_at("spec.manualSelector") == Some(true) {
        return;
    }
    let name = job.name().to_owned();
    let uid = job.str_at("metadata.uid").unwrap_or_default().to_owned();
    let labels = map_at(job, "spec.template.metadata.labels");
    for (key, value) in [(OLD_NAME, &name), (NAME, &name), (OLD_UID, &uid), (UID, &uid)] {
        labels.entry(key).or_insert_with(|| value.as_str().into());
    }
    map_at(job, "spec.selector.matchLabels")
        .entry(UID)
        .or_insert_with(|| uid.as_str().into());
}

/// The map at a path, made where there is none.
fn map_at<'a>(object: &'a mut Object, path: &str) -> &'a mut Map<String, Value> {
    let mut map = object.map_mut();
    for part in path.split('.') {
        let value = map.entry(part).or_insert(Value::Null);
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        map = value.as_object_mut().expect("made a map just now");
    }
    map
}

/// Checks the labels and the selector of a Job that did not bring its own; `prefixed` ones are asked of all but old Jobs.
pub(super) fn validate(job: &Object, prefixed: bool, errors: &mut FieldErrors) {
    let spec = At::root(job, "spec");
    let selector = spec.child("selector");
    if spec.child("manualSelector").bool() || !selector.is_set() {
        return;
    }
    let uid = At::root(job, "metadata").child("uid");
    if uid.is_empty() {
        errors.push(uid.required(""));
    }
    let labels = spec.child("template").child("metadata").child("labels");
    let mut expected = vec![(OLD_UID, uid.str()), (OLD_NAME, job.name())];
    if prefixed {
        expected.extend([(UID, uid.str()), (NAME, job.name())]);
    }
    for (key, value) in &expected {
        let label = labels.key(key);
        let words = format!("must be '{value}'");
        if !label.is_set() {
            errors.push(label.required(&words));
        } else if label.str() != *value {
            let shown = labels.value().cloned().unwrap_or(Value::Null);
            errors.push(label.invalid_as(shown, words));
        }
    }
    let own = |key: &str| expected.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    let parsed = selector.value().map(api::LabelSelector::from_json);
    if let Some(Ok(parsed)) = parsed
        && !parsed.matches(own)
    {
        errors.push(selector.invalid("`selector` not auto-generated"));
    }
}
