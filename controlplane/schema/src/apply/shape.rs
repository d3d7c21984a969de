//! What the schema says of one place in an object, as merging sees it: a scalar, an atomic list or map, a list whose items
//! are told apart, or a map of fields. The only file here that reads the model and the facts.
//!
//! Where the schema allows anything, the value decides: maps are merged field by field, lists are atomic.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::element::Element;
use crate::{
    facts::{self, FieldFacts, ListKind, NONE},
    model::{Struct, Type},
    schema::Schema,
};

/// A place in an object: its type and what is known of the field it stands in.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    type_: &'a Type,
    facts: &'a FieldFacts,
}

/// How the value in a place is merged.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    Scalar,
    /// A list or map that changes as a whole.
    AtomicList,
    AtomicMap,
    Items(Items<'a>),
    Fields(Fields<'a>),
}

/// A list whose items are told apart.
#[derive(Clone, Copy)]
pub(super) struct Items<'a> {
    pub(super) item: Slot<'a>,
    by: By<'a>,
}

/// By what the items of a list are told apart.
#[derive(Clone, Copy)]
enum By<'a> {
    Value,
    Keys(&'a [Cow<'static, str>]),
    /// The merge key of a strategic merge patch, where the list type is not said.
    Key(&'a str),
}

/// What the entries of a map are.
#[derive(Clone, Copy)]
pub(super) enum Fields<'a> {
    Struct(&'a Struct),
    /// Any key; the values are alike.
    Map(Slot<'a>),
}

static ANY: Type = Type::Any;

impl<'a> Slot<'a> {
    pub(super) fn root(schema: &'a Schema) -> Self {
        Self::bare(schema.root())
    }

    fn any() -> Self {
        Self::bare(&ANY)
    }

    fn bare(type_: &'a Type) -> Self {
        Self { type_, facts: &NONE }
    }

    /// How a value here is merged. Only where anything may stand does the value matter.
    pub(super) fn shape(self, value: Option<&Value>) -> Shape<'a> {
        match self.type_ {
            Type::List(item) => match self.told_apart_by() {
                Some(by) => Shape::Items(Items {
                    item: Self::bare(item),
                    by,
                }),
                None => Shape::AtomicList,
            },
            Type::Map(_) if self.facts.map_atomic => Shape::AtomicMap,
            Type::Map(inner) => Shape::Fields(Fields::Map(Self::bare(inner))),
            Type::Struct(link) => {
                let atomic = self.facts.map_atomic || facts::of(&link.name).is_some_and(|facts| facts.atomic);
                match atomic {
                    true => Shape::AtomicMap,
                    false => Shape::Fields(Fields::Struct(link.body())),
                }
            }
            Type::Any => match value {
                Some(Value::Array(_)) => Shape::AtomicList,
                Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => Shape::Scalar,
                Some(Value::Object(_) | Value::Null) | None => Shape::Fields(Fields::Map(Self::any())),
            },
            _ => Shape::Scalar,
        }
    }

    /// How a value here would be merged if nothing were atomic: what stands below.
    pub(super) fn granular(self) -> Shape<'a> {
        match (self.shape(None), self.type_) {
            (Shape::AtomicMap, Type::Struct(link)) => Shape::Fields(Fields::Struct(link.body())),
            (Shape::AtomicMap, _) => Shape::Fields(self.entries()),
            (shape, _) => shape,
        }
    }

    fn told_apart_by(self) -> Option<By<'a>> {
        match &self.facts.list {
            ListKind::Atomic => None,
            ListKind::Set => Some(By::Value),
            ListKind::Map(keys) => Some(By::Keys(keys)),
            ListKind::Unsaid if !self.facts.merge => None,
            ListKind::Unsaid => Some(self.facts.merge_key.map_or(By::Value, By::Key)),
        }
    }

    /// Whether anything may stand here.
    pub(super) fn is_any(self) -> bool {
        matches!(self.type_, Type::Any)
    }

    pub(super) fn type_(self) -> &'a Type {
        self.type_
    }

    /// The place of an item of an atomic list.
    pub(super) fn item(self) -> Slot<'a> {
        match self.type_ {
            Type::List(item) => Self::bare(item),
            _ => Self::any(),
        }
    }

    /// The entries of a map whose keys are free, atomic or not.
    pub(super) fn entries(self) -> Fields<'a> {
        match self.type_ {
            Type::Map(inner) => Fields::Map(Self::bare(inner)),
            _ => Fields::Map(Self::any()),
        }
    }

    fn default_of(self, field: &str) -> Option<&'a Value> {
        match self.type_ {
            Type::Struct(link) => link.body().field(field)?.facts.default.as_ref(),
            _ => None,
        }
    }
}

impl<'a> Shape<'a> {
    /// Whether the other shape is merged in the same way.
    pub(super) fn is_like(self, other: Shape<'_>) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl<'a> Fields<'a> {
    /// The place of an entry; `None` when the schema knows no such field.
    pub(super) fn slot(self, name: &str) -> Option<Slot<'a>> {
        match self {
            Fields::Struct(body) => {
                let known = body.field(name).map(|field| Slot {
                    type_: &field.type_,
                    facts: &field.facts,
                });
                known.or_else(|| body.open.then(Slot::any))
            }
            Fields::Map(value) => Some(value),
        }
    }

    /// The place of an entry of a stored object, where a field may have been forgotten.
    pub(super) fn slot_or_any(self, name: &str) -> Slot<'a> {
        self.slot(name).unwrap_or_else(Slot::any)
    }

    /// Whether the schema names the field, rather than allowing any.
    pub(super) fn declares(self, name: &str) -> bool {
        match self {
            Fields::Struct(body) => body.field(name).is_some(),
            Fields::Map(_) => false,
        }
    }

    /// Whether nothing at all is said of the entries.
    pub(super) fn is_free(self) -> bool {
        matches!(self, Fields::Map(value) if value.is_any())
    }
}

impl<'a> Items<'a> {
    /// The element that tells an item from the others.
    ///
    /// # Errors
    /// With the reason, when the item cannot be told from others.
    pub(super) fn element(self, item: &'a Value) -> Result<Element<'a>, String> {
        match self.by {
            By::Value => value_element(item),
            By::Keys(keys) => self.key_element(item, keys.iter().map(AsRef::as_ref)),
            By::Key(key) => self.key_element(item, std::iter::once(key)),
        }
    }

    fn key_element(self, item: &'a Value, names: impl Iterator<Item = &'a str> + Clone) -> Result<Element<'a>, String> {
        let map = match item {
            Value::Object(map) => map,
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let mut keys: Vec<(Cow<'a, str>, Cow<'a, Value>)> = Vec::with_capacity(names.size_hint().0);
        for name in names.clone() {
            if let Some(value) = map.get(name).or_else(|| self.item.default_of(name)) {
                keys.push((Cow::Borrowed(name), Cow::Borrowed(value)));
            }
        }
        let named: Vec<String> = match keys.is_empty() {
            true => names.map(api::text::quote).collect(),
            false => Vec::new(),
        };
        if !named.is_empty() {
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                named.join(" ")
            ));
        }
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Element::Key(keys))
    }
}

fn value_element(item: &Value) -> Result<Element<'_>, String> {
    let why = match item {
        Value::Object(_) => "associative list without keys has an element that's a map type",
        Value::Array(_) => "not supported: associative list with lists as elements",
        Value::Null => "associative list without keys has an element that's an explicit null",
        _ => return Ok(Element::Value(Cow::Borrowed(item))),
    };
    Err(why.to_owned())
}

/// The fields of a kind's objects.
pub(super) fn root_fields(schema: &Schema) -> Fields<'_> {
    match Slot::root(schema).shape(None) {
        Shape::Fields(fields) => fields,
        _ => Fields::Map(Slot::any()),
    }
}

/// A map that is there and holds something; null and everything that is no map count as nothing.
pub(super) fn filled_map(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|map| !map.is_empty())
}

/// The same for a list.
pub(super) fn filled_list(value: Option<&Value>) -> Option<&[Value]> {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .filter(|list| !list.is_empty())
}
