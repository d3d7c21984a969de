//! `pods/resize`: gives the containers of a running pod more or less of processor and memory.

use api::field::Path;
use api::{FieldError, FieldErrors, Object};
use serde_json::{Map, Value};

use super::{MIRROR, keep_metadata, qos};
use crate::resources::copy_field;
use crate::resources::validation::At;
use crate::resources::validation::pod::update::differences;

const LISTS: [&str; 2] = ["containers", "initContainers"];
/// What a resize may change in a container, or ask to.
const RESIZED: [&str; 2] = ["resources", "resizePolicy"];
const MUTABLE: [&str; 2] = ["cpu", "memory"];

/// Takes the resources of the new pod and all else of the old. Containers that are others than before are left for
/// [`rules`] to find.
pub(super) fn prepare(old: &Object, new: &mut Object) {
    let count = |pod: &Object, list: &str| pod.list_at(&format!("spec.{list}")).len();
    if LISTS.iter().any(|list| count(old, list) != count(new, list)) {
        return;
    }
    let spec = new.remove("spec").unwrap_or_default();
    copy_field(old, new, "spec");
    copy_field(old, new, "status");
    keep_metadata(old, new);
    if let Some(kept) = new.at_mut("spec").and_then(Value::as_object_mut) {
        copy(&spec, kept, "resources");
        for list in LISTS {
            resize_all(kept.get_mut(list), spec.get(list));
        }
    }
}

fn resize_all(kept: Option<&mut Value>, new: Option<&Value>) {
    let (Some(Value::Array(kept)), Some(Value::Array(new))) = (kept, new) else {
        return;
    };
    if kept
        .iter()
        .zip(new)
        .any(|(old, new)| old.get("name") != new.get("name"))
    {
        kept.clone_from(new);
        return;
    }
    for (container, new) in kept.iter_mut().filter_map(Value::as_object_mut).zip(new) {
        for field in RESIZED {
            copy(new, container, field);
        }
    }
}

fn copy(from: &Value, to: &mut Map<String, Value>, field: &str) {
    match from.get(field) {
        Some(value) => to.insert(field.to_owned(), value.clone()),
        None => to.remove(field),
    };
}

pub(super) fn rules(old: &Object, new: &Object, errors: &mut FieldErrors) {
    let never = |why: &str| vec![FieldError::forbidden(&Path::root(""), why)];
    if old.annotation(MIRROR).is_some() {
        *errors = never("static pods cannot be resized");
        return;
    }
    if old.str_at("spec.os.name") == Some("windows") {
        *errors = never("windows pods cannot be resized");
        return;
    }
    let (before, spec) = (At::root(old, "spec"), At::root(new, "spec"));
    let class = old.str_at("status.qosClass").unwrap_or_else(|| qos::class(old));
    if class != qos::class(new) {
        errors.push(spec.invalid_as(class, "Pod QOS Class may not change as a result of resizing"));
    }
    if !node_can_resize(old) {
        errors.push(spec.forbidden("Pod running on node without support for resize"));
    }
    of_the_pod(&before, &spec, errors);
    if !old.list_at("status.nodeAllocatableResourceClaimStatuses").is_empty() {
        errors.push(spec.forbidden("pods with node allocatable resource claims cannot be resized"));
    }
    if same_containers(&before, &spec, errors) {
        for list in LISTS {
            of_containers(list, &before, &spec, errors);
        }
    }
}

/// A node that can resize reports what its containers have.
fn node_can_resize(pod: &Object) -> bool {
    let statuses = At::root(pod, "status").child("containerStatuses").items();
    let running = statuses
        .iter()
        .find(|status| status.child("state").child("running").is_set());
    running.is_none_or(|status| status.child("resources").is_set())
}

/// No container comes, goes, or changes its name or place.
fn same_containers(before: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) -> bool {
    let known = errors.len();
    for list in LISTS {
        let (old, new) = (before.child(list).items(), spec.child(list).items());
        if old.len() != new.len() {
            errors.push(
                spec.child(list)
                    .forbidden(format!("{list} may not be added or removed on resize")),
            );
            continue;
        }
        for (old, new) in old.iter().zip(&new) {
            let name = new.child("name");
            if name.str() != old.child("name").str() {
                errors.push(name.forbidden(format!("{list} may not be renamed or reordered on resize")));
            }
        }
    }
    errors.len() == known
}

fn of_containers(list: &str, before: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) {
    for (old, new) in before.child(list).items().iter().zip(spec.child(list).items()) {
        removed(&old.child("resources"), &new.child("resources"), "resource", errors);
        let sidecar = old.child("restartPolicy").str() == "Always";
        let changed = !alike(new.value(), old.value());
        if !alike(Some(&with_old_amounts(&new, old)), old.value()) {
            errors.push(match list {
                "containers" => spec.forbidden("only cpu and memory resources are mutable"),
                _ => new.forbidden("only cpu and memory resources for init or sidecar containers are mutable"),
            });
        }
        let policies = new.child("resizePolicy").items();
        let restarts = policies
            .iter()
            .any(|policy| policy.child("restartPolicy").str() == "RestartContainer");
        if list == "initContainers" && changed && !sidecar && restarts {
            let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.push(new.forbidden(why));
        }
    }
}

fn of_the_pod(before: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) {
    let (old, new) = (before.child("resources"), spec.child("resources"));
    if old.is_set() && !new.is_set() {
        return errors.push(new.forbidden("pod-level resources cannot be removed"));
    }
    removed(&old, &new, "pod-level resource", errors);
    if !alike(Some(&old_amounts(&new, &old)), old.value()) {
        errors.push(spec.forbidden("only cpu and memory resources are mutable at pod-level"));
    }
}

/// An amount may change but not go.
fn removed(old: &At<'_>, new: &At<'_>, what: &str, errors: &mut FieldErrors) {
    for kind in ["requests", "limits"] {
        let now = new.child(kind);
        let gone = |name: &str| !now.map().is_some_and(|map| map.contains_key(name));
        if old.child(kind).entries().iter().any(|(name, _)| gone(name)) {
            errors.push(now.forbidden(format!("{what} {kind} cannot be removed")));
        }
    }
}

/// A container with the amounts of processor and memory that it had.
fn with_old_amounts(new: &At<'_>, old: &At<'_>) -> Value {
    let mut container = new.value().cloned().unwrap_or_default();
    if let Some(map) = container.as_object_mut() {
        let resources = old_amounts(&new.child("resources"), &old.child("resources"));
        let mut kept = Map::new();
        for kind in ["requests", "limits"] {
            copy(&resources, &mut kept, kind);
        }
        map.insert("resources".to_owned(), Value::Object(kept));
    }
    container
}

fn old_amounts(new: &At<'_>, old: &At<'_>) -> Value {
    let mut resources = new.map().cloned().unwrap_or_default();
    for kind in ["requests", "limits"] {
        let mut amounts = new.child(kind).map().cloned().unwrap_or_default();
        let before = old.child(kind).value().cloned().unwrap_or_default();
        for name in MUTABLE {
            copy(&before, &mut amounts, name);
        }
        match amounts.is_empty() {
            true => resources.remove(kind),
            false => resources.insert(kind.to_owned(), Value::Object(amounts)),
        };
    }
    Value::Object(resources)
}

/// Whether two values say the same; nothing and something empty do.
fn alike(one: Option<&Value>, other: Option<&Value>) -> bool {
    let mut lines = Vec::new();
    differences(
        one.unwrap_or(&Value::Null),
        other.unwrap_or(&Value::Null),
        "",
        &mut lines,
    );
    lines.is_empty()
}
