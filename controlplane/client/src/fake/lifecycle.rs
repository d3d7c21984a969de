//! What the fake does to objects on their way: names, uids, generations, finalizers, deletion.

use api::Object;
use serde_json::{Value, json};

use super::{Place, State};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// A time that stands for "now": nothing here depends on clocks.
const NOW: &str = "2026-01-01T00:00:00Z";

impl State {
    pub(super) fn write(&mut self, place: Place, mut object: Object) {
        self.revision += 1;
        object.set_resource_version(Some(&self.revision.to_string()));
        let kind = if self.objects.contains_key(&place) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.objects.insert(place.clone(), object.clone());
        self.history.push((self.revision, place, kind, object));
    }

    pub(super) fn remove(&mut self, place: &Place) {
        if let Some(mut object) = self.objects.remove(place) {
            self.revision += 1;
            object.set_resource_version(Some(&self.revision.to_string()));
            self.history.push((self.revision, place.clone(), "DELETED", object));
        }
    }

    /// Whether a namespace is being deleted: then nothing new is made in it.
    pub(super) fn is_ending(&self, namespace: &str) -> bool {
        let place = super::place(&crate::kinds::NAMESPACE, "", namespace);
        self.objects.get(&place).is_some_and(Object::is_deleting)
    }

    /// A new object; `None` if the name is taken.
    pub(super) fn create(&mut self, mut place: Place, mut object: Object) -> Option<Object> {
        let number = self.revision + 1;
        if object.name().is_empty() {
            let base = object.generate_name().unwrap_or("").to_owned();
            object.set_name(&format!("{base}{number:05}"));
        }
        place.name = object.name().to_owned();
        if self.objects.contains_key(&place) {
            return None;
        }
        if !place.namespace.is_empty() {
            object.set_namespace(Some(&place.namespace));
        }
        object.set_uid(&format!("uid-{number}"));
        object.set("metadata.creationTimestamp", NOW);
        object.set("metadata.generation", 1);
        self.write(place.clone(), object);
        self.objects.get(&place).cloned()
    }

    /// A changed object: its generation follows its spec, and without finalizers it goes if it is being deleted.
    pub(super) fn settle(&mut self, place: Place, mut object: Object) {
        let Some(old) = self.objects.get(&place) else { return };
        if old.at("spec") != object.at("spec") {
            object.set("metadata.generation", old.generation() + 1);
        }
        let held = !object.finalizers().is_empty() || object.at("spec.finalizers").is_some_and(is_filled);
        let finished = object.is_deleting() && object.i64_at("metadata.deletionGracePeriodSeconds").is_none();
        if finished && !held {
            self.remove(&place);
        } else if *old != object {
            self.write(place, object);
        }
    }

    /// A delete: at once, or marked for whoever holds it (finalizers, or a node that runs the pod).
    pub(super) fn delete(&mut self, place: &Place, options: &Value) {
        let Some(mut object) = self.objects.get(place).cloned() else {
            return;
        };
        match options.get("propagationPolicy").and_then(Value::as_str) {
            Some("Foreground") => drop(object.add_finalizer(FOREGROUND)),
            Some("Orphan") => drop(object.add_finalizer(ORPHAN)),
            _ => {}
        }
        let runs = place.resource.ends_with("/pods") && object.str_at("spec.nodeName").is_some();
        let graceful = runs && options.get("gracePeriodSeconds").and_then(Value::as_i64) != Some(0);
        let held = !object.finalizers().is_empty() || object.at("spec.finalizers").is_some_and(is_filled);
        if !graceful && !held {
            self.remove(place);
        } else if !object.is_deleting() {
            object.set("metadata.deletionTimestamp", NOW);
            if graceful {
                object.set("metadata.deletionGracePeriodSeconds", 30);
            }
            self.write(place.clone(), object);
        }
    }
}

fn is_filled(list: &Value) -> bool {
    list.as_array().is_some_and(|list| !list.is_empty())
}

/// A strategic merge, as far as these tests need it: conditions are merged by type.
pub(super) fn strategic(target: &mut Value, patch: &Value) {
    let mut patch = patch.clone();
    if let Some(changed) = patch.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        let old = target
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let mut merged = old;
        for condition in changed.drain(..) {
            match merged.iter_mut().find(|own| own.get("type") == condition.get("type")) {
                Some(own) => crate::request::merge(own, &condition),
                None => merged.push(condition),
            }
        }
        *changed = merged;
    }
    crate::request::merge(target, &patch);
}

/// What an update of `subresource` takes from the object sent: its status alone, or all but that.
pub(super) fn part(subresource: Option<&str>, old: &Object, mut new: Object) -> Object {
    match subresource {
        Some("status") => {
            let mut object = old.clone();
            object.set("status", new.at("status").cloned().unwrap_or_else(|| json!({})));
            object
        }
        _ => {
            match old.at("status") {
                Some(status) => new.set("status", status.clone()),
                None => drop(new.remove("status")),
            }
            new
        }
    }
}
