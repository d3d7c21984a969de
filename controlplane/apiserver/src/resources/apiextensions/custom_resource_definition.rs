//! CustomResourceDefinition: the kind whose objects are kinds.
//!
//! Its status is the server's: which names it has been granted, in which versions objects may be stored, and how far it has
//! come. Deleting one marks it and leaves a finalizer, so that its objects go before it.

use api::time::{Timestamp, rfc3339};
use api::{FieldErrors, Object};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::{names, spec};
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::validation::{At, meta};

/// Keeps a definition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
const APPROVAL: &str = "api-approved.kubernetes.io";

pub(crate) fn resource() -> Resource {
    Resource::of::<CustomResourceDefinition>()
        .short_names(&["crd", "crds"])
        .categories(&["api-extensions"])
        .strategy(Definitions)
        .status()
        .generation()
        .build()
}

struct Definitions;

impl Strategy for Definitions {
    fn prepare(&self, cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => {
                new.remove("status");
                complete(new);
                keep_stored_version(new);
            }
            Operation::Update { old } => {
                copy_field(old, new, "status");
                complete(new);
                keep_stored_version(new);
            }
            Operation::UpdateStatus { old } => copy_field(old, new, "spec"),
            Operation::Delete { .. } => {
                new.add_finalizer(FINALIZER);
                let words = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
                let condition = Condition::new("Terminating", true, "InstanceDeletionPending", words);
                set_condition(new, &condition, cx.now);
            }
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, api::names::is_dns1123_subdomain);
        match op {
            Operation::UpdateStatus { .. } => {
                names::form(&At::root(new, "status").child("acceptedNames"), &mut errors);
            }
            _ => {
                name(new, op, &mut errors);
                spec::validate(op.old(), new, &mut errors);
                names::form(&At::root(new, "status").child("acceptedNames"), &mut errors);
                stored_versions(new, &mut errors);
                approval(op.old(), new, &mut errors);
            }
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        if matches!(op, Operation::UpdateStatus { .. } | Operation::Delete { .. }) {
            return Vec::new();
        }
        let known = op.old().map(spec::warnings).unwrap_or_default();
        let mut warnings = spec::warnings(new);
        warnings.retain(|warning| !known.contains(warning));
        warnings
    }

    /// A definition that is not marked yet is marked, whatever else keeps it.
    fn held(&self, definition: &Object) -> bool {
        !definition.is_deleting()
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

/// Fills in what follows from the rest of the spec.
fn complete(new: &mut Object) {
    let kind = new.str_at("spec.names.kind").unwrap_or_default().to_owned();
    if !kind.is_empty() {
        if new.str_at("spec.names.singular").unwrap_or_default().is_empty() {
            new.set("spec.names.singular", kind.to_ascii_lowercase());
        }
        if new.str_at("spec.names.listKind").unwrap_or_default().is_empty() {
            new.set("spec.names.listKind", format!("{kind}List"));
        }
    }
    if new.at("spec.conversion").is_none_or(Value::is_null) {
        new.set("spec.conversion", json!({"strategy": "None"}));
    }
    let service = "spec.conversion.webhook.clientConfig.service";
    if new.at(service).is_some_and(Value::is_object) && new.at(&format!("{service}.port")).is_none() {
        new.set(&format!("{service}.port"), 443);
    }
}

/// The storage version is one that objects may be stored in.
fn keep_stored_version(new: &mut Object) {
    let storage = new
        .list_at("spec.versions")
        .iter()
        .find(|v| v.get("storage") == Some(&Value::Bool(true)));
    let storage = storage.and_then(|v| v.get("name")).cloned();
    let mut stored = new.list_at("status.storedVersions").to_vec();
    if let Some(storage) = storage.filter(|storage| !stored.contains(storage)) {
        stored.push(storage);
        new.set("status.storedVersions", stored);
    }
}

fn name(new: &Object, op: &Operation<'_>, errors: &mut FieldErrors) {
    let part = |path: &str| new.str_at(path).unwrap_or_default();
    let expected = format!("{}.{}", part("spec.names.plural"), part("spec.group"));
    if op.old().is_none() && new.name() != expected {
        let at = At::root(new, "metadata").child("name");
        errors.push(at.invalid("must be spec.names.plural+\".\"+spec.group"));
    }
}

fn stored_versions(new: &Object, errors: &mut FieldErrors) {
    let at = At::root(new, "status").child("storedVersions");
    let stored: Vec<&str> = at.items().iter().map(At::str).collect();
    let shown = Value::from(stored.clone());
    if stored.is_empty() {
        errors.push(at.invalid_as(Value::Null, "must have at least one stored version"));
        return;
    }
    let versions = new.list_at("spec.versions");
    let name = |version: &Value| {
        version
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    for version in versions.iter().filter(|v| v.get("storage") == Some(&Value::Bool(true))) {
        if !stored.contains(&name(version).as_str()) {
            errors.push(at.invalid_as(
                shown.clone(),
                format!("must have the storage version {}", name(version)),
            ));
        }
    }
    for (item, version) in at.items().iter().zip(&stored) {
        if !versions.iter().any(|v| name(v) == *version) {
            errors.push(item.invalid(format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {version} and removes \
                 {version} from status.storedVersions"
            )));
        }
    }
}

/// Groups of Kubernetes itself need the word of somebody who may give it.
fn approval(old: Option<&Object>, new: &Object, errors: &mut FieldErrors) {
    let group = new.str_at("spec.group").unwrap_or_default();
    let community = ["k8s.io", "kubernetes.io"];
    if !community
        .iter()
        .any(|own| group == *own || group.ends_with(&format!(".{own}")))
    {
        return;
    }
    let given = |object: &Object| {
        let annotations = object.at("metadata.annotations");
        let given = annotations.and_then(|all| all.get(APPROVAL)).and_then(Value::as_str);
        given.unwrap_or_default().to_owned()
    };
    let is_approved =
        |text: &str| text.starts_with("unapproved") || text.starts_with("https://") || text.starts_with("http://");
    let approval = given(new);
    if is_approved(&approval) || old.is_some_and(|old| given(old) == approval) {
        return;
    }
    let at = api::Path::root("metadata").child("annotations").key(APPROVAL);
    let why = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
               https://github.com/kubernetes/enhancements/pull/1111";
    errors.push(match approval.as_str() {
        "" => api::FieldError::required(&at, why),
        text => {
            let why = format!(
                "protected groups must have approval annotation \"{APPROVAL}\" with either a URL or a reason starting \
                 with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
            );
            api::FieldError::invalid(&at, text, why)
        }
    });
}

/// One condition of a definition's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) type_: &'static str,
    pub(crate) status: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Condition {
    pub(crate) fn new(type_: &'static str, status: bool, reason: &str, message: &str) -> Self {
        Condition {
            type_,
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    fn status_text(&self) -> &'static str {
        if self.status { "True" } else { "False" }
    }

    /// Type, status, reason and message.
    pub(crate) fn words(&self) -> (String, String, String, String) {
        let status = self.status_text().to_owned();
        (self.type_.to_owned(), status, self.reason.clone(), self.message.clone())
    }
}

fn condition<'a>(definition: &'a Object, type_: &str) -> Option<&'a Value> {
    let mut conditions = definition.list_at("status.conditions").iter();
    conditions.rfind(|c| c.get("type").and_then(Value::as_str) == Some(type_))
}

/// Whether a condition is true.
pub(crate) fn is_true(definition: &Object, type_: &str) -> bool {
    condition(definition, type_)
        .and_then(|c| c.get("status"))
        .and_then(Value::as_str)
        == Some("True")
}

/// Sets a condition; the time of its transition is that of a change of its status.
pub(crate) fn set_condition(definition: &mut Object, new: &Condition, now: Timestamp) {
    let known = condition(definition, new.type_);
    let same = known.and_then(|c| c.get("status")).and_then(Value::as_str) == Some(new.status_text());
    let since = known
        .and_then(|c| c.get("lastTransitionTime"))
        .filter(|_| same)
        .cloned();
    let entry = json!({
        "type": new.type_, "status": new.status_text(), "reason": new.reason, "message": new.message,
        "lastTransitionTime": since.unwrap_or_else(|| rfc3339(now).into()),
    });
    let mut conditions = definition.list_at("status.conditions").to_vec();
    let place = conditions
        .iter_mut()
        .find(|c| c.get("type").and_then(Value::as_str) == Some(new.type_));
    match place {
        Some(place) => *place = entry,
        None => conditions.push(entry),
    }
    definition.set("status.conditions", conditions);
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let definition = |change: &dyn Fn(&mut Object)| {
        let mut definition = crate::resources::testing::object(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}));
        change(&mut definition);
        definition.into_value()
    };
    crate::resources::testing::Cases {
        valid: vec![definition(&|_| ())],
        invalid: spec::tests::invalid(&definition),
        table: vec![definition(&|_| ())],
    }
}
