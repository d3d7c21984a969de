//! An applied configuration: merged into the object, owned by its applier.

use api::{Object, Status};
use serde_json::Value;

use super::{
    Writer,
    conflict::{self, Conflicts},
    element::equal,
    extract::extract,
    last_applied,
    managers::{Entry, Managed, Operation},
    merge::merge,
    ownership::{disown, owned, refresh},
    prune::prune,
    set::Set,
    update::track,
    validate::validate,
};

const MANAGED_FIELDS: &str = "metadata.managedFields";
/// Who owns what was there before anybody's fields were known.
const BEFORE: &str = "before-first-apply";

/// The object that `config` makes of `old`, with its managed fields, all in the writer's version; `old` is `None` where
/// there is no object yet.
///
/// # Errors
/// 409 when others own fields that would change and `force` is not given; 400 or 500, as Kubernetes has it, when the
/// configuration does not fit the schema.
pub fn apply(writer: &Writer<'_>, old: Option<&Object>, config: &Object, force: bool) -> Result<Object, Box<Status>> {
    let live = old.unwrap_or_else(|| writer.schema.zero());
    let mut managed = Managed::decode(live.at(MANAGED_FIELDS))
        .map_err(|why| Status::unexplained(format!("failed to decode managed fields: {why}")))?;
    check(writer, config)?;
    if managed.0.is_empty() && old.is_some() {
        managed = track(writer, writer.schema.zero(), live, managed, BEFORE)
            .map_err(|why| Status::unexplained(format!("failed to create manager for existing fields: {why}")))?;
    }
    let applied = match merge_in(writer, live, config, managed.clone(), force) {
        Err(Failure::Conflicts(conflicts)) => {
            let conflicts = last_applied::excuse(writer, live, conflicts);
            if !conflicts.is_empty() {
                return Err(conflict::status(conflicts).into());
            }
            merge_in(writer, live, config, managed, true)
        }
        other => other,
    };
    let Applied { merged, managed } = applied.map_err(|failure| match failure {
        Failure::Conflicts(conflicts) => Box::new(conflict::status(conflicts)),
        Failure::Refused(status) => status,
    })?;
    let mut object = match (old, merged) {
        (None, _) => config.clone(),
        (Some(_), Some(merged)) => merged,
        (Some(old), None) => old.clone(),
    };
    match managed.encode() {
        entries if entries.is_empty() => {
            object.remove(MANAGED_FIELDS);
        }
        entries => object.set(MANAGED_FIELDS, entries),
    }
    last_applied::keep_current(writer, &mut object, config);
    Ok(object)
}

/// Whether the configuration may be merged at all.
fn check(writer: &Writer<'_>, config: &Object) -> Result<(), Box<Status>> {
    if config.at(MANAGED_FIELDS).is_some_and(Value::is_array) {
        return Err(Status::bad_request("metadata.managedFields must be nil").into());
    }
    match validate(config.map(), writer.schema) {
        None => Ok(()),
        Some(why) => {
            let what = described(config);
            Err(Status::unexplained(format!("failed to create typed patch object ({what}): {why}")).into())
        }
    }
}

/// An object as Kubernetes names it where it has no better words: `namespace/name; group/version, Kind=Kind`.
pub fn described(object: &Object) -> String {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name());
    let version = object.api_version();
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{namespace}/{name}; {slash}{version}, Kind={}", object.kind())
}

struct Applied<'a> {
    /// `None` when the configuration changes nothing.
    merged: Option<Object>,
    managed: Managed<'a>,
}

enum Failure<'a> {
    Conflicts(Vec<Conflicts<'a>>),
    Refused(Box<Status>),
}

fn refused<'a>(what: &str, why: &str) -> Failure<'a> {
    Failure::Refused(Box::new(Status::unexplained(format!("failed to {what}: {why}"))))
}

fn merge_in<'a>(
    writer: &Writer<'a>,
    live: &'a Object,
    config: &'a Object,
    managed: Managed<'a>,
    force: bool,
) -> Result<Applied<'a>, Failure<'a>> {
    let mut managed = refresh(writer, managed);
    let merged = merge(live.map(), config.map(), writer.schema).map_err(|why| refused("merge config", &why))?;
    let merged = Object::from_value(merged.into()).expect("a map is an object");
    let manager = writer.manager(writer.name, Operation::Apply);
    let last = managed.take(&manager);
    let set = extract(config.map(), writer.schema).recursive_difference(&Set::of_fields(writer.reset));
    let named = owned(set.clone());
    // Who names what it named before leaves nothing behind.
    let left = last
        .as_ref()
        .filter(|last| last.manager.version != writer.version || last.set != named);
    managed.put(Entry {
        manager: manager.clone(),
        time: last.as_ref().and_then(|last| last.time.clone()),
        set,
    });
    let merged = prune(writer, merged, &managed, left);
    let (_, conflicts) =
        disown(writer, live, &merged, &mut managed, Some(&manager)).map_err(|why| refused("compare objects", &why))?;
    if !force && !conflicts.is_empty() {
        return Err(Failure::Conflicts(conflicts));
    }
    let changed = !same(live, &merged);
    if let Some(mut entry) = managed.take(&manager) {
        entry.set = owned(entry.set);
        if changed {
            entry.time = Some(writer.now.into());
        }
        if !entry.set.is_empty() {
            managed.put(entry);
        }
    }
    Ok(Applied {
        merged: changed.then_some(merged),
        managed,
    })
}

fn same(a: &Object, b: &Object) -> bool {
    let (a, b) = (a.map(), b.map());
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|((a_key, a), (b_key, b))| a_key == b_key && equal(a, b))
}
