//! `metadata`, the same for every kind but for the rule over the name.

use api::{FieldError, FieldErrors, Object, Path};
use serde_json::Value;

use super::At;
use super::labels::{label_name, labels};
use super::names::{is_dns1123_label, is_qualified_name};
use crate::registry::resource::{Context, Operation};
use crate::registry::verbs::wrong_manager;

/// Bytes of all keys and values of an object's annotations together.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// As long as the name of a manager's subresource may be.
const MAX_SUBRESOURCE: usize = 256;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Checks the `metadata` of a built-in kind, whose finalizers bear the names of whoever sets them.
pub(crate) fn validate(
    cx: &Context<'_>,
    op: &Operation<'_>,
    new: &Object,
    name_rule: fn(&str) -> Vec<String>,
) -> FieldErrors {
    let mut errors = validate_any(cx, op, new, name_rule);
    for finalizer in At::root(new, "metadata").child("finalizers").items() {
        let standard = [ORPHAN, FOREGROUND, "kubernetes"].contains(&finalizer.str());
        if !finalizer.str().contains('/') && !standard && is_qualified_name(finalizer.str()).is_empty() {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(finalizer.invalid(detail));
        }
    }
    errors
}

/// Checks `metadata` of any kind; `name_rule` is the kind's rule over names. Of a `generateName` the part the server adds is left out,
/// so a trailing dash is fine.
pub(crate) fn validate_any(
    cx: &Context<'_>,
    op: &Operation<'_>,
    new: &Object,
    name_rule: fn(&str) -> Vec<String>,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let meta = At::root(new, "metadata");
    match op.old() {
        None => identity(cx, &meta, name_rule, &mut errors),
        Some(old) => changes(&At::root(old, "metadata"), &meta, &mut errors),
    }
    meta.child("generation").non_negative(&mut errors);
    labels(&meta.child("labels"), &mut errors);
    annotations(&meta.child("annotations"), &mut errors);
    owner_references(&meta.child("ownerReferences"), &mut errors);
    finalizers(&meta.child("finalizers"), &mut errors);
    managed_fields(new, &mut errors);
    errors
}

/// Names that a client sent; what else is in an entry has been understood, or is not there.
fn managed_fields(object: &Object, errors: &mut FieldErrors) {
    let path = Path::root("metadata").child("managedFields");
    for (index, entry) in object.list_at("metadata.managedFields").iter().enumerate() {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let path = path.index(index);
        errors.extend(wrong_manager(text("manager"), &path.child("manager")));
        if text("subresource").len() > MAX_SUBRESOURCE {
            errors.push(FieldError::too_long(&path.child("subresource"), MAX_SUBRESOURCE));
        }
    }
}

fn identity(cx: &Context<'_>, meta: &At<'_>, name_rule: fn(&str) -> Vec<String>, errors: &mut FieldErrors) {
    let prefix = meta.child("generateName");
    if !prefix.is_empty() {
        let masked = mask_trailing_dash(prefix.str());
        errors.extend(name_rule(&masked).into_iter().map(|message| prefix.invalid(message)));
    }
    let name = meta.child("name");
    if name.is_empty() {
        errors.push(name.required("name or generateName is required"));
    } else {
        name.check(errors, name_rule);
    }
    let namespace = meta.child("namespace");
    match cx.namespace {
        Some(_) => namespace.require(errors, is_dns1123_label),
        None if !namespace.is_empty() => errors.push(namespace.forbidden("not allowed on this type")),
        None => {}
    }
}

/// A prefix may end in a dash, since a name never does.
fn mask_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}

fn changes(old: &At<'_>, new: &At<'_>, errors: &mut FieldErrors) {
    if old.child("deletionTimestamp").is_set() {
        let known: Vec<&str> = old.child("finalizers").items().iter().map(At::str).collect();
        let at = new.child("finalizers");
        let added: Vec<String> = at
            .items()
            .iter()
            .map(At::str)
            .filter(|f| !known.contains(f))
            .map(|f| format!("{f:?}"))
            .collect();
        if !added.is_empty() {
            errors.push(at.forbidden(format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            )));
        }
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        new.child(field).immutable(errors, &old.child(field));
    }
}

/// Annotations' keys are compared in lower case: long-standing tools write capitals in them.
pub(crate) fn annotations(at: &At<'_>, errors: &mut FieldErrors) {
    let mut size = 0;
    for (key, value) in at.entries() {
        errors.extend(
            is_qualified_name(&key.to_lowercase())
                .into_iter()
                .map(|m| at.invalid_as(key, m)),
        );
        size += key.len() + value.str().len();
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long(at.path(), MAX_ANNOTATIONS));
    }
}

fn owner_references(at: &At<'_>, errors: &mut FieldErrors) {
    let mut controller: Option<&str> = None;
    for reference in at.items() {
        let field = |name: &str| reference.child(name);
        let version = field("apiVersion").str().rsplit('/').next().unwrap_or_default();
        let parts = [
            ("apiVersion", version, "version"),
            ("kind", field("kind").str(), "kind"),
        ];
        let rest = [
            ("name", field("name").str(), "name"),
            ("uid", field("uid").str(), "uid"),
        ];
        for (name, value, word) in parts.into_iter().chain(rest) {
            if value.is_empty() {
                errors.push(
                    at.child(name)
                        .invalid_as(field(name).str(), format!("{word} must not be empty")),
                );
            }
        }
        if field("apiVersion").str() == "v1" && field("kind").str() == "Event" {
            errors.push(at.invalid("/v1, Kind=Event is disallowed from being an owner"));
        }
        if !field("controller").bool() {
            continue;
        }
        match controller {
            None => controller = Some(field("name").str()),
            Some(first) => errors.push(at.invalid(format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                field("name").str()
            ))),
        }
    }
}

fn finalizers(at: &At<'_>, errors: &mut FieldErrors) {
    let items = at.items();
    for finalizer in &items {
        label_name(at, finalizer.str(), errors);
    }
    let has = |name: &str| items.iter().any(|f| f.str() == name);
    if has(ORPHAN) && has(FOREGROUND) {
        errors.push(at.invalid(format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::names::is_dns1123_subdomain;
    use super::*;
    use crate::resources::testing::{context, messages, object};

    fn create(namespace: Option<&str>, metadata: Value) -> Vec<String> {
        let new = object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}));
        context(namespace, |cx| {
            messages(validate(cx, &Operation::Create, &new, is_dns1123_subdomain))
        })
    }

    #[test]
    fn checks_identity_on_create() {
        let ok: Vec<String> = Vec::new();
        assert_eq!(create(Some("a"), json!({"name": "x", "namespace": "a"})), ok);
        assert_eq!(
            create(
                Some("a"),
                json!({"generateName": "x-", "name": "x-abcde", "namespace": "a"})
            ),
            ok
        );
        assert_eq!(
            create(None, json!({"namespace": "a"})),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Forbidden: not allowed on this type"
            ]
        );
    }

    #[test]
    fn finds_every_bad_part_at_once() {
        let found = create(
            Some("a"),
            json!({"name": "x", "namespace": "a", "labels": {"ok": "-"}, "finalizers": ["x"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]}),
        );
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("metadata.labels: Invalid value: \"-\": a valid label must be an empty string"));
        assert_eq!(
            found[1],
            "metadata.ownerReferences.uid: Invalid value: \"\": uid must not be empty"
        );
        assert!(found[2].contains("name is neither a standard finalizer name nor is it fully qualified"));
    }

    #[test]
    fn bounds_annotations_and_controllers() {
        let huge = "x".repeat(MAX_ANNOTATIONS);
        assert_eq!(
            create(
                Some("a"),
                json!({"name": "x", "namespace": "a", "annotations": {"k": huge}})
            ),
            ["metadata.annotations: Too long: may not be more than 262144 bytes"]
        );
        let owner =
            |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": true});
        let two = create(
            Some("a"),
            json!({"name": "x", "namespace": "a", "ownerReferences": [owner("p"), owner("q")]}),
        );
        assert!(two[0].ends_with("Found \"true\" in references for p and q"), "{two:?}");
    }

    #[test]
    fn refuses_new_finalizers_on_a_dying_object() {
        let of = |finalizers: Value| {
            object(
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "a",
                "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": finalizers}}),
            )
        };
        let (old, new) = (of(json!(["a.b/c"])), of(json!(["a.b/c", "a.b/d"])));
        let found = context(Some("a"), |cx| {
            messages(validate(
                cx,
                &Operation::Update { old: &old },
                &new,
                is_dns1123_subdomain,
            ))
        });
        assert_eq!(
            found,
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
              finalizers []string{\"a.b/d\"}"
            ]
        );
    }
}
