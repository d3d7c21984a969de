//! Managed fields of whatever is no apply: create, update, and the other patches. The writer becomes the owner of what it
//! changed.

use api::Object;
use serde_json::Value;

use super::{
    Writer,
    managers::{Entry, Managed, Operation, is_reset},
    ownership::{cap, disown, owned, refresh},
};

const MANAGED_FIELDS: &str = "metadata.managedFields";

/// The managed fields of `new`, which has become what it is from `old`, both in the writer's version; `None` for an object
/// that is being created. `sent` are the managed fields that the client sent; `new` itself has none.
///
/// Never fails: where the change cannot be understood, the managed fields stay as they are in `old`.
pub fn update(writer: &Writer<'_>, old: Option<&Object>, new: &Object, sent: Option<&Value>) -> Vec<Value> {
    let kept = old.map(|old| old.list_at(MANAGED_FIELDS)).unwrap_or_default();
    let managed = sent_or_kept(writer, old, sent);
    if managed.0.is_empty() && old.is_some() {
        // Nobody knows who wrote what is there; the next apply begins anew.
        return Vec::new();
    }
    let before = old.unwrap_or_else(|| writer.schema.zero());
    match track(writer, before, new, managed, writer.name) {
        Ok(managed) => managed.encode(),
        Err(_) => kept.to_vec(),
    }
}

/// The managed fields that the change begins with. A client that does not understand them must not lose them, nor may one
/// set them by way of a subresource.
fn sent_or_kept<'a>(writer: &Writer<'_>, old: Option<&'a Object>, sent: Option<&'a Value>) -> Managed<'a> {
    let kept = || Managed::decode(old.and_then(|old| old.at(MANAGED_FIELDS))).unwrap_or_default();
    match sent {
        Some(_) if !writer.subresource.is_empty() => kept(),
        Some(list) if is_reset(list) => Managed::default(),
        _ => match Managed::decode(sent) {
            Ok(managed) if !managed.0.is_empty() => managed,
            _ => kept(),
        },
    }
}

/// Gives the manager called `name` what it changed.
pub(super) fn track<'a>(
    writer: &Writer<'a>,
    old: &'a Object,
    new: &'a Object,
    managed: Managed<'a>,
    name: &'a str,
) -> Result<Managed<'a>, String> {
    let mut managed = refresh(writer, managed);
    let (changes, _) = disown(writer, old, new, &mut managed, None)?;
    let set = owned(changes.modified.union(changes.added));
    if !set.is_empty() {
        let manager = writer.manager(name, Operation::Update);
        let before = managed.take(&manager).map(|entry| entry.set).unwrap_or_default();
        managed.put(Entry {
            manager,
            time: Some(writer.now.into()),
            set: before.union(set),
        });
    }
    cap(&mut managed);
    Ok(managed)
}
