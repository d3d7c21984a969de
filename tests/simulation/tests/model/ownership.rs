//! Whose a field is, as server-side apply defines it.

use std::collections::BTreeSet;

use crate::kinds::Field;
use crate::object::{Fields, Owner, Owners};

/// Fields in which two states differ, by what became of them.
struct Difference {
    set: BTreeSet<Field>,
    gone: BTreeSet<Field>,
}

fn difference(old: &Fields, new: &Fields) -> Difference {
    let set = new.iter().filter(|(field, value)| old.get(field) != Some(value));
    let gone = old.keys().filter(|field| !new.contains_key(field));
    Difference {
        set: set.map(|(field, _)| *field).collect(),
        gone: gone.copied().collect(),
    }
}

fn take(owners: &mut Owners, owner: &Owner, fields: &BTreeSet<Field>) {
    for (_, owned) in owners.iter_mut().filter(|(other, _)| *other != owner) {
        owned.retain(|field| !fields.contains(field));
    }
}

/// Owners after `owner` has changed an object otherwise than by applying: it owns what it set, nobody what is gone.
pub fn updated(owners: &Owners, owner: &Owner, old: &Fields, new: &Fields) -> Owners {
    let changes = difference(old, new);
    let mut owners = owners.clone();
    take(&mut owners, owner, &changes.set);
    take(&mut owners, owner, &changes.gone);
    let own = owners.entry(owner.clone()).or_default();
    own.retain(|field| !changes.gone.contains(field));
    own.extend(changes.set);
    owners.retain(|_, owned| !owned.is_empty());
    owners
}

/// What an apply makes of an object: its fields and owners, unless others own what it would change.
pub fn applied(owners: &Owners, owner: &Owner, old: &Fields, config: &Fields, force: bool) -> Option<(Fields, Owners)> {
    let wanted: BTreeSet<Field> = config.keys().copied().collect();
    let before = owners.get(owner).cloned().unwrap_or_default();
    let others = |field: &Field| {
        owners
            .iter()
            .any(|(other, owned)| other != owner && owned.contains(field))
    };
    let mut new = old.clone();
    new.extend(config);
    new.retain(|field, _| wanted.contains(field) || !before.contains(field) || others(field));
    let changes = difference(old, &new);
    if !force && changes.set.iter().any(others) {
        return None;
    }
    let mut owners = owners.clone();
    take(&mut owners, owner, &changes.set);
    take(&mut owners, owner, &changes.gone);
    owners.insert(owner.clone(), wanted);
    owners.retain(|_, owned| !owned.is_empty());
    Some((new, owners))
}
