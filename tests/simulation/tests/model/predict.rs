//! What Kubernetes documents that a write comes to: decided from what the model believes, before the server is asked.

use std::collections::BTreeSet;

use crate::{
    kinds::{Field, Finalizer, Key, Kind},
    object::{Fields, Object, Owner, Owners},
    operation::{DeleteOptions, Edit, Part, Propagation},
    ownership,
};

/// A code and a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub u16, pub &'static str);

pub const NOT_FOUND: Refusal = Refusal(404, "NotFound");
pub const CONFLICT: Refusal = Refusal(409, "Conflict");
pub const INVALID: Refusal = Refusal(422, "Invalid");

/// What becomes of what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It stays as it is, its resourceVersion too.
    Same,
    Put,
    Gone,
    /// It is put, and gone at the next moment.
    Ended,
}

/// What a write answers with, and what it does. The uid and revision of something new are for the server to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub code: u16,
    pub object: Object,
    pub then: Then,
}

/// The fields of a kind alone, with those that every body has.
pub fn sound(kind: Kind, fields: &Fields) -> Fields {
    let known = |field: &Field| matches!(field, Field::Finalizer(_)) || kind.slot(*field).is_some();
    let mut fields: Fields = fields.clone().into_iter().filter(|(field, _)| known(field)).collect();
    for slot in kind.slots().iter().filter(|slot| slot.required) {
        fields.entry(slot.field).or_insert(1);
    }
    fields
}

/// The same for a body of a part.
pub fn sound_part(kind: Kind, part: Part, fields: &Fields) -> Fields {
    let mut fields = sound(kind, fields);
    if (kind, part) == (Kind::Widget, Part::Status) {
        fields.entry(Field::Status(Key::A)).or_insert(1);
    }
    fields
}

/// With what the server fills in.
fn filled(kind: Kind, mut fields: Fields) -> Fields {
    for slot in kind.slots() {
        if let Some(value) = slot.default {
            fields.entry(slot.field).or_insert(value);
        }
    }
    fields
}

fn is_status(field: &Field) -> bool {
    matches!(field, Field::Status(_))
}

pub fn without_status(mut fields: Fields) -> Fields {
    fields.retain(|field, _| !is_status(field));
    fields
}

impl Edit {
    /// The part of it that fits a kind.
    pub fn sound(&self, kind: Kind) -> Edit {
        let fits = |field: &Field| kind.slot(*field).is_some();
        // What is left of a custom resource's status when its last field goes is beyond the model.
        let kept = |field: &Field| kind == Kind::Widget && is_status(field);
        let optional = |field: &Field| kind.slot(*field).is_some_and(|slot| !slot.required) && !kept(field);
        Edit {
            set: self.set.clone().into_iter().filter(|(field, _)| fits(field)).collect(),
            remove: self.remove.iter().copied().filter(optional).collect(),
            finalizers: self.finalizers.clone(),
        }
    }

    /// What it makes of fields; `merged` when finalizers are only added to.
    pub fn onto(&self, fields: &Fields, merged: bool) -> Fields {
        let mut fields = fields.clone();
        fields.retain(|field, _| !self.remove.contains(field));
        fields.extend(&self.set);
        if let Some(finalizers) = &self.finalizers {
            fields.retain(|field, _| merged || !matches!(field, Field::Finalizer(_)));
            fields.extend(finalizers.iter().map(|finalizer| (Field::Finalizer(*finalizer), 0)));
        }
        fields
    }
}

/// A new object of those fields; `config` when it is applied.
pub fn created(kind: Kind, owner: &Owner, fields: &Fields, held: bool) -> Outcome {
    let given = without_status(fields.clone());
    let fields = filled(kind, given.clone());
    let owned = match owner.applies {
        true => given.keys().copied().collect(),
        false => fields.keys().copied().collect::<BTreeSet<Field>>(),
    };
    let mut owners = Owners::new();
    if !owned.is_empty() {
        owners.insert(owner.clone(), owned);
    }
    let object = Object {
        uid: String::new(),
        revision: 0,
        generation: i64::from(kind.counts_generations()),
        fields,
        deleting: None,
        owners,
        held: held || kind == Kind::Namespace,
    };
    Outcome {
        code: 201,
        object,
        then: Then::Put,
    }
}

/// The fields that a write of a part may change, the others as they were.
fn confined(kind: Kind, part: Part, old: &Fields, new: Fields) -> Fields {
    let from_new = |field: &Field| match (part, field) {
        (Part::Whole, Field::Status(_)) => false,
        (Part::Whole, _) | (Part::Status, Field::Status(_) | Field::Case) => true,
        (Part::Status, Field::Spec(_)) => false,
        (Part::Status, Field::Label(_)) => matches!(kind, Kind::Pod | Kind::Namespace),
        (Part::Status, Field::Finalizer(_)) => kind != Kind::Widget,
    };
    let kept = old
        .iter()
        .filter(|(field, _)| !from_new(field))
        .map(|(field, value)| (*field, *value));
    let mut fields: Fields = new.into_iter().filter(|(field, _)| from_new(field)).collect();
    fields.extend(kept);
    filled(kind, fields)
}

/// What an update, or a patch other than an apply, makes of an object. `owners` are what the body says of them.
pub fn updated(
    kind: Kind,
    part: Part,
    old: &Object,
    owners: &Owners,
    owner: &Owner,
    new: Fields,
) -> Result<Outcome, Refusal> {
    let fields = confined(kind, part, &old.fields, new);
    let owners = ownership::updated(owners, owner, &old.fields, &fields);
    settled(kind, old, fields, owners)
}

/// What an apply makes of an object.
pub fn applied(
    kind: Kind,
    part: Part,
    old: &Object,
    owner: &Owner,
    config: &Fields,
    force: bool,
) -> Result<Outcome, Refusal> {
    let config: Fields = match part {
        Part::Whole => without_status(config.clone()),
        Part::Status => config
            .clone()
            .into_iter()
            .filter(|(field, _)| is_status(field))
            .collect(),
    };
    let (fields, owners) = ownership::applied(&old.owners, owner, &old.fields, &config, force).ok_or(CONFLICT)?;
    settled(kind, old, filled(kind, fields), owners)
}

/// What scaling makes of an object. A Scale shows no replicas as 0, and nobody comes to own them by changing it if nobody owned
/// them before.
pub fn scaled(kind: Kind, old: &Object, owner: &Owner, replicas: i64) -> Result<Outcome, Refusal> {
    let mut fields = old.fields.clone();
    let before = fields.insert(REPLICAS, replicas).unwrap_or_default();
    let owned = old.owners.values().any(|fields| fields.contains(&REPLICAS));
    let owners = match owned && before != replicas {
        true => ownership::updated(&old.owners, owner, &old.fields, &fields),
        false => old.owners.clone(),
    };
    settled(kind, old, fields, owners)
}

/// Judges new fields, counts, and says what is stored.
fn settled(kind: Kind, old: &Object, fields: Fields, owners: Owners) -> Result<Outcome, Refusal> {
    let fixed = kind.slots().iter().filter(|slot| slot.immutable);
    let broken = fixed
        .map(|slot| slot.field)
        .any(|field| old.fields.get(&field) != fields.get(&field));
    let held = |field: &&Field| matches!(field, Field::Finalizer(_));
    let added = fields.keys().filter(held).any(|field| !old.fields.contains_key(field));
    if broken || (added && old.deleting.is_some()) {
        return Err(INVALID);
    }
    let spec = |fields: &Fields| -> Fields {
        let spec = fields.iter().filter(|(field, _)| matches!(field, Field::Spec(_)));
        spec.map(|(field, value)| (*field, *value)).collect()
    };
    let changed = spec(&fields) != spec(&old.fields);
    let object = Object {
        generation: old.generation + i64::from(changed && kind.counts_generations()),
        fields,
        owners,
        ..old.clone()
    };
    let then = match (old.deleting, object.is_finalized(kind)) {
        (Some(0), true) => Then::Gone,
        _ if object == *old => Then::Same,
        _ => Then::Put,
    };
    Ok(Outcome {
        code: 200,
        object,
        then,
    })
}

/// What a namespace becomes when its content is said to be gone.
pub fn finalized(old: &Object) -> Outcome {
    let object = Object {
        held: false,
        ..old.clone()
    };
    let then = match (old.deleting, object.is_finalized(Kind::Namespace)) {
        (Some(_), true) => Then::Gone,
        _ if object == *old => Then::Same,
        _ => Then::Put,
    };
    Outcome {
        code: 200,
        object,
        then,
    }
}

/// What a delete does to an object.
pub fn deleted(kind: Kind, old: &Object, options: &DeleteOptions) -> Outcome {
    let grace = options.grace.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let mut object = old.clone();
    let unchanged = |object| Outcome {
        code: 200,
        object,
        then: Then::Same,
    };
    let period = match (kind, old.deleting) {
        (Kind::Namespace, Some(_)) if old.held => return unchanged(object),
        (Kind::Pod, Some(left)) if left > 0 => match grace.filter(|grace| *grace < left) {
            Some(shorter) => shorter,
            None => return unchanged(object),
        },
        (Kind::Pod, None) if old.held => grace.unwrap_or(30),
        _ => 0,
    };
    propagate(&mut object.fields, options.propagation);
    object.deleting = Some(period);
    object.generation += i64::from(old.deleting.is_none() && kind.counts_generations());
    let stays = (kind == Kind::Namespace && old.deleting.is_none()) || period > 0 || !object.is_finalized(kind);
    let is_news = kind == Kind::Pod && old.deleting.is_none_or(|left| left > 0);
    let then = match stays {
        false if is_news => Then::Ended,
        false => Then::Gone,
        true if object == *old => Then::Same,
        true => Then::Put,
    };
    Outcome {
        code: 200,
        object,
        then,
    }
}

/// Says by finalizers what shall become of dependents. What is not asked for stays as it was decided.
fn propagate(fields: &mut Fields, policy: Option<Propagation>) {
    let Some(policy) = policy else { return };
    fields.retain(|field, _| !matches!(field, Field::Finalizer(Finalizer::Orphan | Finalizer::Foreground)));
    match policy {
        Propagation::Orphan => fields.insert(Field::Finalizer(Finalizer::Orphan), 0),
        Propagation::Foreground => fields.insert(Field::Finalizer(Finalizer::Foreground), 0),
        Propagation::Background => None,
    };
}

/// What scaling sets.
pub const REPLICAS: Field = Field::Spec(Key::A);
