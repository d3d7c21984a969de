//! What changed between two objects of a kind, as three sets of paths.

use serde_json::{Map, Value};

use super::{
    element::{Element, equal},
    set::{Node, Set},
    shape::{Fields, Items, Shape, Slot, filled_list, filled_map, root_fields},
};
use crate::schema::Schema;

/// What changed. A path is in more than one of the three only where an item stands several times in a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Comparison<'a> {
    pub(super) removed: Set<'a>,
    pub(super) modified: Set<'a>,
    pub(super) added: Set<'a>,
}

impl<'a> Comparison<'a> {
    /// Leaves out some fields and everything below them.
    #[must_use]
    pub(super) fn without(self, fields: &Set<'_>) -> Self {
        Self {
            removed: self.removed.recursive_difference(fields),
            modified: self.modified.recursive_difference(fields),
            added: self.added.recursive_difference(fields),
        }
    }

    fn put(&mut self, element: &Element<'a>, here: Here, below: Comparison<'a>) {
        for (set, member, children) in [
            (&mut self.removed, here.removed, below.removed),
            (&mut self.modified, here.modified, below.modified),
            (&mut self.added, here.added, below.added),
        ] {
            if member || !children.is_empty() {
                set.put(Node {
                    element: element.clone(),
                    member,
                    children,
                });
            }
        }
    }
}

/// What became of one place itself.
#[derive(Clone, Copy, Debug, Default)]
struct Here {
    removed: bool,
    modified: bool,
    added: bool,
}

/// Why two objects cannot be compared: a list's item cannot be told from others.
pub(super) type Untellable = String;

/// What changed from `old` to `new`.
pub(super) fn compare<'a>(
    old: &'a Map<String, Value>,
    new: &'a Map<String, Value>,
    schema: &'a Schema,
) -> Result<Comparison<'a>, Untellable> {
    maps(Some(old), Some(new), root_fields(schema))
}

/// What changed at a place, and below it.
fn values<'a>(
    old: Option<&'a Value>,
    new: Option<&'a Value>,
    slot: Slot<'a>,
) -> Result<(Here, Comparison<'a>), Untellable> {
    if old == new {
        return Ok((Here::default(), Comparison::default()));
    }
    let shape = slot.shape(new.or(old));
    let (mut changed, mut below) = shaped(old, new, shape)?;
    if slot.is_any() && old.is_some() && new.is_some() && !slot.shape(old).is_like(shape) {
        let (first, more) = shaped(old, new, slot.shape(old))?;
        changed |= first;
        below = Comparison {
            removed: below.removed.union(more.removed),
            modified: below.modified.union(more.modified),
            added: below.added.union(more.added),
        };
    }
    let here = Here {
        removed: new.is_none(),
        modified: changed,
        added: old.is_none(),
    };
    Ok((here, below))
}

/// Whether a leaf changed, or what changed in what is no leaf. Where nothing is on both sides, that is a leaf too.
fn shaped<'a>(
    old: Option<&'a Value>,
    new: Option<&'a Value>,
    shape: Shape<'a>,
) -> Result<(bool, Comparison<'a>), Untellable> {
    let leaf = || {
        let changed = old.zip(new).is_some_and(|(old, new)| !equal(old, new));
        Ok((changed, Comparison::default()))
    };
    match shape {
        Shape::Scalar | Shape::AtomicList | Shape::AtomicMap => leaf(),
        Shape::Fields(fields) => match (filled_map(old), filled_map(new)) {
            (None, None) => leaf(),
            (old, new) => Ok((false, maps(old, new, fields)?)),
        },
        Shape::Items(items) => match (filled_list(old), filled_list(new)) {
            (None, None) => leaf(),
            (old, new) => Ok((false, lists(old.unwrap_or_default(), new.unwrap_or_default(), items)?)),
        },
    }
}

fn maps<'a>(
    old: Option<&'a Map<String, Value>>,
    new: Option<&'a Map<String, Value>>,
    fields: Fields<'a>,
) -> Result<Comparison<'a>, Untellable> {
    let mut out = Comparison::default();
    let (mut ours, mut theirs) = (
        old.into_iter().flatten().peekable(),
        new.into_iter().flatten().peekable(),
    );
    loop {
        let name = match (ours.peek(), theirs.peek()) {
            (Some((a, _)), Some((b, _))) => (*a).min(*b),
            (Some((name, _)), None) | (None, Some((name, _))) => *name,
            (None, None) => return Ok(out),
        };
        let old = ours.next_if(|(key, _)| *key == name).map(|(_, value)| value);
        let new = theirs.next_if(|(key, _)| *key == name).map(|(_, value)| value);
        let (here, below) = values(old, new, fields.slot_or_any(name))?;
        out.put(&Element::field(name), here, below);
    }
}

/// The items of a list, by their elements, those that are alike side by side and otherwise in order.
fn sorted<'a>(list: &'a [Value], items: Items<'a>) -> Result<Vec<(Element<'a>, &'a Value)>, Untellable> {
    let mut sorted = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        let element = items.element(item).map_err(|why| format!("element {index}: {why}"))?;
        sorted.push((element, item));
    }
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(sorted)
}

fn lists<'a>(old: &'a [Value], new: &'a [Value], items: Items<'a>) -> Result<Comparison<'a>, Untellable> {
    let (old, new) = (sorted(old, items)?, sorted(new, items)?);
    let (mut old, mut new) = (&*old, &*new);
    let mut out = Comparison::default();
    loop {
        let element = match (old.first(), new.first()) {
            (Some((a, _)), Some((b, _))) => a.min(b),
            (Some((element, _)), None) | (None, Some((element, _))) => element,
            (None, None) => return Ok(out),
        };
        let (ours, our_rest) = old.split_at(old.iter().take_while(|(key, _)| key == element).count());
        let (theirs, their_rest) = new.split_at(new.iter().take_while(|(key, _)| key == element).count());
        let (here, below) = group(ours, theirs, items)?;
        out.put(element, here, below);
        (old, new) = (our_rest, their_rest);
    }
}

type Group<'g, 'a> = &'g [(Element<'a>, &'a Value)];

/// The items of one element on both sides. Several of them change as a whole.
fn group<'a>(old: Group<'_, 'a>, new: Group<'_, 'a>, items: Items<'a>) -> Result<(Here, Comparison<'a>), Untellable> {
    let first = |group: Group<'_, 'a>| group.first().map(|(_, value)| *value);
    match (old, new) {
        ([] | [_], [] | [_]) => values(first(old), first(new), items.item),
        ([_, _, ..], [_, _, ..]) => {
            let same = old.len() == new.len() && old.iter().zip(new).all(|((_, a), (_, b))| equal(a, b));
            let here = Here {
                modified: !same,
                ..Here::default()
            };
            Ok((here, Comparison::default()))
        }
        // No longer several: the marker goes, and the one that stays is new.
        ([_, _, ..], _) => {
            let (here, below) = alone(None, first(new), items)?;
            Ok((Here { removed: true, ..here }, below))
        }
        // Now several: the one that was goes, and the marker is new.
        (_, [_, _, ..]) => {
            let (here, below) = alone(first(old), None, items)?;
            Ok((Here { added: true, ..here }, below))
        }
    }
}

/// What changed by an item that stands on one side at most.
fn alone<'a>(
    old: Option<&'a Value>,
    new: Option<&'a Value>,
    items: Items<'a>,
) -> Result<(Here, Comparison<'a>), Untellable> {
    match (old, new) {
        (None, None) => Ok((Here::default(), Comparison::default())),
        _ => values(old, new, items.item),
    }
}
