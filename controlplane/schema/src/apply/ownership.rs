//! Who owns what after an object has changed: what was changed or added is taken from the others, what was removed from
//! everybody.

use std::{borrow::Cow, sync::LazyLock};

use api::Object;

use super::{
    Writer,
    compare::{Comparison, compare},
    conflict::Conflicts,
    managers::{Entry, Managed, Manager, Operation},
    reconcile::reconcile,
    set::Set,
};
use crate::schema::Schema;

/// How many managers may have come by updates; the oldest beyond are joined under one name.
const MAX_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Paths that nobody owns: they are the server's, or merely lead to others.
const NOBODYS: [&str; 12] = [
    "apiVersion",
    "kind",
    "metadata",
    "metadata.clusterName",
    "metadata.creationTimestamp",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.name",
    "metadata.namespace",
    "metadata.resourceVersion",
    "metadata.selfLink",
    "metadata.uid",
];

/// The versions in which a kind is served, with pure conversions between them.
pub trait Versions: Sync {
    /// The schema of a version, `None` if the kind is not served in it.
    fn schema(&self, version: &str) -> Option<&Schema>;
    /// An object of `from` as one of `to`, both versions that are served.
    fn convert(&self, object: &Object, from: &str, to: &str) -> Object;
}

/// An object in a version.
pub(super) fn at<'o>(writer: &Writer<'_>, object: &'o Object, from: &str, to: &str) -> Cow<'o, Object> {
    if from == to {
        return Cow::Borrowed(object);
    }
    Cow::Owned(writer.versions.convert(object, from, to))
}

/// Forgets managers in versions that are no longer served, and brings the others' sets to the present schema.
pub(super) fn refresh<'a>(writer: &Writer<'_>, managed: Managed<'a>) -> Managed<'a> {
    let refreshed = managed.0.into_iter().filter_map(|entry| {
        let schema = writer.schema_of(&entry.manager.version)?;
        Some(Entry {
            set: reconcile(entry.set, schema),
            ..entry
        })
    });
    Managed(refreshed.collect())
}

/// Takes from all managers but `own` what they no longer own, now that `old` has become `new`, both in the writer's version.
/// Returns what changed in that version, and what was taken though it is still there: conflicts, where the writer applies.
pub(super) fn disown<'c, 'a>(
    writer: &Writer<'c>,
    old: &'c Object,
    new: &'c Object,
    managed: &mut Managed<'a>,
    own: Option<&Manager<'_>>,
) -> Result<(Comparison<'c>, Vec<Conflicts<'a>>), String> {
    let reset = Set::of_fields(writer.reset);
    let changes = compare(old.map(), new.map(), writer.schema)?.without(&reset);
    let mut conflicts = take_all(managed, writer.version, &changes, own);
    for version in others(managed, writer.version) {
        let Some(schema) = writer.schema_of(&version) else {
            continue;
        };
        let (old, new) = (
            at(writer, old, writer.version, &version),
            at(writer, new, writer.version, &version),
        );
        let changes = compare(old.map(), new.map(), schema)?.without(&reset);
        conflicts.append(&mut take_all(managed, &version, &changes, own));
    }
    managed.0.retain(|entry| !entry.set.is_empty());
    Ok((changes, conflicts))
}

/// The versions other than `version` in which there are managers.
fn others(managed: &Managed<'_>, version: &str) -> Vec<String> {
    let mut others: Vec<String> = Vec::new();
    for entry in &managed.0 {
        let other = &*entry.manager.version;
        if other != version && !others.iter().any(|known| known == other) {
            others.push(other.to_owned());
        }
    }
    others
}

fn take_all<'a>(
    managed: &mut Managed<'a>,
    version: &str,
    changes: &Comparison<'_>,
    own: Option<&Manager<'_>>,
) -> Vec<Conflicts<'a>> {
    let mut conflicts = Vec::new();
    let theirs =
        |entry: &&mut Entry<'a>| entry.manager.version == version && !own.is_some_and(|own| entry.manager.is(own));
    for entry in managed.0.iter_mut().filter(theirs) {
        let fields = take(entry, changes);
        if !fields.is_empty() {
            conflicts.push(Conflicts {
                manager: entry.manager.clone(),
                fields,
            });
        }
    }
    conflicts
}

/// Takes what changed from an entry; returns what of it is still there.
fn take<'a>(entry: &mut Entry<'a>, changes: &Comparison<'_>) -> Set<'a> {
    let taken = entry
        .set
        .intersection(&changes.modified)
        .union(entry.set.intersection(&changes.added));
    let left = std::mem::take(&mut entry.set);
    entry.set = left.difference(&taken).difference(&changes.removed);
    taken
}

/// Without what is nobody's.
pub(super) fn owned(set: Set<'_>) -> Set<'_> {
    static SET: LazyLock<Set<'static>> = LazyLock::new(|| Set::of_fields(&NOBODYS));
    set.difference(&SET)
}

/// Joins the oldest updates of a version under one name while there are too many.
pub(super) fn cap(managed: &mut Managed<'_>) {
    let updaters = |managed: &Managed<'_>| managed.0.iter().filter(|entry| !entry.manager.is_applier()).count();
    let mut left = updaters(managed);
    if left <= MAX_UPDATERS {
        return;
    }
    let mut oldest: Vec<Manager<'_>> = {
        let mut entries: Vec<_> = managed.0.iter().filter(|entry| !entry.manager.is_applier()).collect();
        entries.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| a.manager.order(&b.manager)));
        entries.into_iter().map(|entry| entry.manager.clone()).collect()
    };
    let mut firsts: Vec<Manager<'_>> = Vec::new();
    for manager in oldest.drain(..) {
        if left <= MAX_UPDATERS {
            return;
        }
        match firsts.iter().find(|first| first.version == manager.version) {
            None => firsts.push(manager),
            Some(first) => {
                join(managed, first, &manager);
                left -= 1;
            }
        }
    }
}

/// Moves the fields of two managers into the entry for ancient changes, whose time is the second one's.
fn join<'a>(managed: &mut Managed<'a>, first: &Manager<'a>, second: &Manager<'a>) {
    let bucket = Manager {
        name: Cow::Borrowed(ANCIENT),
        operation: Operation::Update,
        version: second.version.clone(),
        subresource: Cow::Borrowed(""),
    };
    let known = managed.take(&bucket).or_else(|| managed.take(first));
    let Some(newer) = managed.take(second) else {
        managed.0.extend(known);
        return;
    };
    let set = known.map(|entry| entry.set).unwrap_or_default().union(newer.set);
    managed.put(Entry {
        manager: bucket,
        time: newer.time,
        set,
    });
}
