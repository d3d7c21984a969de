//! An object as the model sees it, read from and written to JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::kinds::{FINALIZERS, Field, Kind};

/// The model's fields that an object has, each with a number; a finalizer's is 0.
pub type Fields = BTreeMap<Field, i64>;

/// Who owns fields: a manager, whether by applying, and through which subresource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub manager: String,
    pub applies: bool,
    pub subresource: String,
}

pub type Owners = BTreeMap<Owner, BTreeSet<Field>>;

/// What the model says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub uid: String,
    pub revision: u64,
    pub generation: i64,
    pub fields: Fields,
    /// Its grace period in seconds, once it is being deleted.
    pub deleting: Option<i64>,
    pub owners: Owners,
    /// Of a pod: whether it is on a node. Of a namespace: whether its content is not yet finalized.
    pub held: bool,
}

impl Object {
    /// Whether a finalizer of any sort keeps it.
    pub fn is_finalized(&self, kind: Kind) -> bool {
        let held = kind == Kind::Namespace && self.held;
        !held && !self.fields.keys().any(|field| matches!(field, Field::Finalizer(_)))
    }
}

/// Reads what the server says.
pub fn read(kind: Kind, object: &Value) -> Object {
    let meta = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let held = match kind {
        Kind::Pod => object["spec"]["nodeName"].is_string(),
        Kind::Namespace => object["spec"]["finalizers"]
            .as_array()
            .is_some_and(|list| !list.is_empty()),
        _ => false,
    };
    Object {
        uid: text(&meta["uid"]),
        revision: text(&meta["resourceVersion"]).parse().unwrap_or_default(),
        generation: meta["generation"].as_i64().unwrap_or_default(),
        fields: read_fields(kind, object),
        deleting: meta["deletionTimestamp"]
            .is_string()
            .then(|| meta["deletionGracePeriodSeconds"].as_i64().unwrap_or_default()),
        owners: read_owners(kind, meta),
        held,
    }
}

fn read_fields(kind: Kind, object: &Value) -> Fields {
    let mut fields = Fields::new();
    for slot in kind.slots() {
        let value = object
            .pointer(&pointer(slot.path))
            .and_then(|value| slot.form.read(value));
        fields.extend(value.map(|value| (slot.field, value)));
    }
    for listed in object["metadata"]["finalizers"].as_array().into_iter().flatten() {
        let known = FINALIZERS.iter().find(|(_, name)| listed == name);
        fields.extend(known.map(|(finalizer, _)| (Field::Finalizer(*finalizer), 0)));
    }
    fields
}

/// The owners of at least one of the model's fields.
fn read_owners(kind: Kind, meta: &Value) -> Owners {
    let mut owners = Owners::new();
    for entry in meta["managedFields"].as_array().into_iter().flatten() {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let owner = Owner {
            manager: text("manager"),
            applies: entry["operation"] == "Apply",
            subresource: text("subresource"),
        };
        let has = |path: &[&str]| {
            path.iter()
                .try_fold(&entry["fieldsV1"], |tree, part| tree.get(part))
                .is_some()
        };
        let slots = kind
            .slots()
            .iter()
            .filter(|slot| has(slot.owned))
            .map(|slot| slot.field);
        let finalizers = FINALIZERS
            .iter()
            .filter(|(_, name)| has(&["f:metadata", "f:finalizers", &format!("v:\"{name}\"")]))
            .map(|(finalizer, _)| Field::Finalizer(*finalizer));
        let fields: BTreeSet<Field> = slots.chain(finalizers).collect();
        if !fields.is_empty() {
            owners.entry(owner).or_default().extend(fields);
        }
    }
    owners
}

pub fn pointer(path: &[&str]) -> String {
    path.iter().map(|part| format!("/{part}")).collect()
}

/// Writes fields into an object that has the kind's skeleton.
pub fn write(kind: Kind, object: &mut Value, fields: &Fields) {
    for slot in kind.slots().iter().filter(|slot| slot.field != Field::Case) {
        match fields.get(&slot.field) {
            Some(value) => put(object, slot.path, slot.form.write(*value)),
            None => take(object, slot.path),
        }
    }
    let finalizers: Vec<&str> = finalizers(fields).collect();
    match finalizers.is_empty() {
        true => take(object, &["metadata", "finalizers"]),
        false => put(object, &["metadata", "finalizers"], json!(finalizers)),
    }
}

pub fn finalizers(fields: &Fields) -> impl Iterator<Item = &'static str> {
    let has = |finalizer| fields.contains_key(&Field::Finalizer(finalizer));
    FINALIZERS
        .iter()
        .filter(move |(finalizer, _)| has(*finalizer))
        .map(|(_, name)| *name)
}

/// Sets what lies at a path, making what is above it.
pub fn put(object: &mut Value, path: &[&str], value: Value) {
    let mut at = object;
    for part in path {
        at = match part.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[*part],
        };
    }
    *at = value;
}

fn take(object: &mut Value, path: &[&str]) {
    let Some((last, above)) = path.split_last() else { return };
    if let Some(Value::Object(map)) = object.pointer_mut(&pointer(above)) {
        map.remove(*last);
    }
}
