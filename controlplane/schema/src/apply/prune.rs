//! What an applier no longer names goes, if it owned it and nobody else does.

use api::Object;

use super::{
    Writer,
    extract::extract,
    managers::{Entry, Managed},
    ownership::at,
    remove::{remove, with_named_fields},
    set::Set,
};
use crate::schema::Schema;

/// Removes from the merged object, in the writer's version, what the applier's `last` set held and its new one does not.
/// `managed` has the new set.
pub(super) fn prune(writer: &Writer<'_>, merged: Object, managed: &Managed<'_>, last: Option<&Entry<'_>>) -> Object {
    let Some(last) = last.filter(|last| !last.set.is_empty()) else {
        return merged;
    };
    let version = &*last.manager.version;
    let Some(schema) = writer.schema_of(version) else {
        return merged;
    };
    let merged = match version == writer.version {
        true => merged,
        false => writer.versions.convert(&merged, writer.version, version),
    };
    let pruned = without(merged.clone(), &with_named_fields(&last.set, schema), schema);
    let (pruned, pruned_version) = add_back_owned(writer, &merged, pruned, version, managed);
    let pruned = at(writer, &pruned, &pruned_version, version);
    let pruned = add_back_dangling(&merged, &pruned, &last.set, schema);
    at(writer, &pruned, version, writer.version).into_owned()
}

fn without(object: Object, paths: &Set<'_>, schema: &Schema) -> Object {
    let map = remove(into_map(object), paths, schema);
    Object::from_value(map.into()).expect("a map is an object")
}

fn into_map(mut object: Object) -> serde_json::Map<String, serde_json::Value> {
    std::mem::take(object.map_mut())
}

/// Adds back what some manager owns, version by version, the pruned one first: a conversion may need what was removed.
/// Returns the version in which the result is.
fn add_back_owned(
    writer: &Writer<'_>,
    merged: &Object,
    pruned: Object,
    version: &str,
    managed: &Managed<'_>,
) -> (Object, String) {
    let mut versions: Vec<&str> = managed.0.iter().map(|entry| &*entry.manager.version).collect();
    versions.sort_unstable_by_key(|other| (*other != version, *other));
    versions.dedup();
    let (mut merged, mut pruned, mut current) = (merged.clone(), pruned, version.to_owned());
    for next in versions {
        let Some(schema) = writer.schema_of(next) else { continue };
        merged = at(writer, &merged, &current, next).into_owned();
        pruned = at(writer, &pruned, &current, next).into_owned();
        next.clone_into(&mut current);
        let entries = managed.0.iter().filter(|entry| entry.manager.version == next);
        let owned = entries.fold(Set::default(), |all, entry| all.union(entry.set.clone()));
        let gone = gone(&merged, &pruned, schema).difference(&with_named_fields(&owned, schema));
        pruned = without(merged.clone(), &gone, schema);
    }
    (pruned, current)
}

/// Adds back what was not the applier's to remove: nobody owns it, or it came by an update.
fn add_back_dangling(merged: &Object, pruned: &Object, last: &Set<'_>, schema: &Schema) -> Object {
    let gone = gone(merged, pruned, schema).intersection(&with_named_fields(last, schema));
    without(merged.clone(), &gone, schema)
}

/// What the merged object has and the pruned one has not.
fn gone<'a>(merged: &'a Object, pruned: &Object, schema: &'a Schema) -> Set<'a> {
    let pruned = extract(pruned.map(), schema);
    with_named_fields(&extract(merged.map(), schema), schema).difference(&with_named_fields(&pruned, schema))
}
