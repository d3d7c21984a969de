//! The rules of custom resources: what their schema says, in the version that the request names.

use api::{FieldError, FieldErrors, Object, Path};
use schema::structural::{Part, Structural};
use serde_json::Value;

use super::Version;
use crate::registry::resource::{self, Context, Name, Operation, Subresource};
use crate::resources::copy_field;
use crate::resources::validation::meta;
use crate::resources::validation::names::is_dns1123_subdomain;

/// Where a version keeps what a Scale shows.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) spec: Name,
    pub(super) status: Name,
    pub(super) selector: Name,
}

struct Rules {
    version: Name,
    structural: Structural,
    status: bool,
    scale: Option<Scale>,
}

/// The strategy of a custom kind.
pub(super) struct Strategy {
    versions: Vec<Rules>,
}

impl Strategy {
    pub(super) fn new(versions: &[Version]) -> Self {
        let rules = |version: &Version| Rules {
            version: version.served.version.clone(),
            structural: version.structural.clone(),
            status: version
                .served
                .view
                .as_ref()
                .is_some_and(|view| view.subresources.contains(&Subresource::Status)),
            scale: version.scale.clone(),
        };
        Strategy {
            versions: versions.iter().map(rules).collect(),
        }
    }

    fn rules(&self, version: &str) -> Option<&Rules> {
        self.versions.iter().find(|rules| rules.version == version)
    }
}

/// The generation rises with every change but to metadata; writes of the status are not asked about.
pub(super) fn bumps_generation(old: &Object, new: &Object) -> bool {
    let content = |object: &Object| {
        let mut map = object.map().clone();
        map.remove("metadata");
        map
    };
    content(old) != content(new)
}

impl resource::Strategy for Strategy {
    fn reset_fields(&self, subresource: Option<&str>) -> Option<&'static [&'static str]> {
        let of_status: &[&str] = &["metadata", "spec"];
        (subresource == Some("status")).then_some(of_status)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare(&self, cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        if !self.rules(cx.version).is_some_and(|rules| rules.status) {
            return;
        }
        match op {
            Operation::Create => drop(new.remove("status")),
            Operation::Update { old } => copy_field(old, new, "status"),
            Operation::UpdateStatus { old } => keep_metadata(old, new),
            Operation::Delete { .. } => {}
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate_any(cx, op, new, is_dns1123_subdomain);
        let Some(rules) = self.rules(cx.version) else {
            return errors;
        };
        let part = part(op);
        errors.extend(rules.structural.validate(new, op.old(), part).errors);
        if let Some(scale) = &rules.scale {
            if part == Part::Whole {
                replicas(new, &scale.spec, &mut errors);
            }
            replicas(new, &scale.status, &mut errors);
            selector(new, &scale.selector, &mut errors);
        }
        errors
    }

    fn warnings(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        let mut warnings = finalizers(op.old(), new);
        // Only an update can meet what was wrong before it.
        let ruled = self.rules(cx.version).filter(|rules| rules.structural.has_rules());
        if let (Some(rules), Some(old)) = (ruled, op.old()) {
            warnings.extend(rules.structural.validate(new, Some(old), part(op)).warnings);
        }
        warnings
    }
}

fn part(op: &Operation<'_>) -> Part {
    match op {
        Operation::UpdateStatus { .. } => Part::Status,
        _ => Part::Whole,
    }
}

/// A write of the status leaves the rest alone, but for who manages which field.
fn keep_metadata(old: &Object, new: &mut Object) {
    let managed = new.at("metadata.managedFields").cloned();
    copy_field(old, new, "metadata");
    match managed {
        Some(managed) => new.set("metadata.managedFields", managed),
        None => drop(new.remove("metadata.managedFields")),
    }
}

fn replicas(object: &Object, path: &str, errors: &mut FieldErrors) {
    let Some(value) = object.at(path) else { return };
    let at = Path::root(&format!(".{path}"));
    match value.as_i64() {
        None => {
            let why = format!(
                ".{path} accessor error: {value} is of the type {}, expected int64",
                go_type(value)
            );
            errors.push(FieldError::invalid(&at, 0, why));
        }
        Some(count) if count < 0 => errors.push(FieldError::invalid(&at, count, "should be a non-negative integer")),
        Some(count) if count > i64::from(i32::MAX) => {
            let why = format!("should be less than or equal to {}", i32::MAX);
            errors.push(FieldError::invalid(&at, count, why));
        }
        Some(_) => {}
    }
}

fn selector(object: &Object, path: &str, errors: &mut FieldErrors) {
    if let Some(value) = object.at(path).filter(|value| !path.is_empty() && !value.is_string()) {
        let why = format!(
            ".{path} accessor error: {value} is of the type {}, expected string",
            go_type(value)
        );
        errors.push(FieldError::invalid(&Path::root(&format!(".{path}")), "", why));
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// What is told of finalizers that nobody can know the owner of.
fn finalizers(old: Option<&Object>, new: &Object) -> Vec<String> {
    let known: Vec<&str> = old.map(Object::finalizers).unwrap_or_default();
    let added = new.finalizers();
    let added = added.iter().filter(|name| !known.contains(name));
    added.flat_map(|name| doubts_about(name)).collect()
}

fn doubts_about(name: &str) -> Vec<String> {
    let say = |why: &str| format!("metadata.finalizers: {}: {why}", api::text::quote(name));
    let mut words: Vec<String> = api::names::is_qualified_name(name).iter().map(|why| say(why)).collect();
    if !name.contains('/') && !matches!(name, "orphan" | "foregroundDeletion" | "kubernetes") {
        let path = if name.contains('.') {
            " including a path (/)"
        } else {
            ""
        };
        words.push(say(&format!(
            "prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
        )));
    }
    words
}
