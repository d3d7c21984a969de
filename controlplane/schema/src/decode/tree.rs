//! The walk over the text, led by the schema.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{
    DecodeError,
    context::Context,
    found::Found,
    scalar::{self, Scalar},
};
use crate::model::{Field, Struct, Type};

/// Decodes one value of a type. `owner` is the Go name of the struct that the value is in.
pub(super) struct Seed<'a> {
    type_: &'a Type,
    owner: Option<&'a str>,
    context: &'a mut Context,
}

impl<'a> Seed<'a> {
    pub(super) fn root(type_: &'a Type, context: &'a mut Context) -> Self {
        Self {
            type_,
            owner: None,
            context,
        }
    }

    fn fail<E: serde::de::Error>(self, error: DecodeError) -> E {
        let text = error.to_string();
        self.context.fail(error);
        E::custom(text)
    }

    fn scalar<E: serde::de::Error>(self, scalar: Scalar<'_>) -> Result<Value, E> {
        match scalar::accept(self.type_, &scalar) {
            Ok(value) => Ok(value),
            Err(scalar::Refused::Type) => {
                let error = self.context.mismatch(scalar.found(), self.type_, self.owner);
                Err(self.fail(error))
            }
            Err(scalar::Refused::Text(message)) => Err(self.fail(DecodeError::Type { message })),
        }
    }

    fn mismatch<E: serde::de::Error>(self, found: Found<'_>) -> E {
        let error = match self.type_ {
            Type::Quantity => DecodeError::Type {
                message: api::quantity::BadQuantity::Format.to_string(),
            },
            _ => self.context.mismatch(found, self.type_, self.owner),
        };
        self.fail(error)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.context.is_too_deep() {
            return Err(self.fail(DecodeError::TooDeep));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.type_.go())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(Scalar::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(Scalar::Number(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(Scalar::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        match Number::from_f64(value) {
            Some(number) => self.scalar(Scalar::Number(number)),
            None => Err(self.mismatch(Found::Number(None))),
        }
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.scalar(Scalar::Text(value))
    }

    /// Null: the caller decides whether that is an absent field or an empty item.
    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let item_type = match self.type_ {
            Type::Any => &Type::Any,
            Type::List(item) => item,
            _ => return Err(self.mismatch(Found::List)),
        };
        let mut list = Vec::new();
        loop {
            let mark = self.context.enter_index(list.len());
            let seed = Seed {
                type_: item_type,
                owner: self.owner,
                context: self.context,
            };
            let item = items.next_element_seed(seed)?;
            self.context.leave(mark);
            match item {
                Some(item) => list.push(or_zero(item, item_type)),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
        match self.type_ {
            Type::Any => read_map(entries, &Type::Any, self.owner, self.context),
            Type::Map(value) => read_map(entries, value, self.owner, self.context),
            Type::Struct(link) => read_struct(entries, link.body(), link.go_name(), self.context),
            _ => Err(self.mismatch(Found::Map)),
        }
    }
}

fn read_map<'de, A: MapAccess<'de>>(
    mut entries: A,
    value_type: &Type,
    owner: Option<&str>,
    context: &mut Context,
) -> Result<Value, A::Error> {
    let mut map = Map::new();
    while let Some(key) = entries.next_key_seed(Key)? {
        if map.contains_key(&key) {
            context.duplicate(&key);
        }
        let mark = context.enter_field(&key);
        let value = entries.next_value_seed(Seed {
            type_: value_type,
            owner,
            context,
        })?;
        context.leave(mark);
        map.insert(key, or_zero(value, value_type));
    }
    Ok(Value::Object(map))
}

fn read_struct<'de, A: MapAccess<'de>>(
    mut entries: A,
    body: &Struct,
    owner: &str,
    context: &mut Context,
) -> Result<Value, A::Error> {
    let mut map = Map::new();
    let mut seen = vec![false; body.fields.len()];
    while let Some(key) = entries.next_key_seed(Key)? {
        let Some((index, field)) = body.find(&key) else {
            read_unknown(key, &mut entries, body.open, &mut map, context)?;
            continue;
        };
        if seen.get_mut(index).is_some_and(|seen| std::mem::replace(seen, true)) {
            context.duplicate(&key);
        }
        let mark = context.enter_field(&key);
        let value = entries.next_value_seed(Seed {
            type_: &field.type_,
            owner: Some(owner),
            context,
        })?;
        context.leave(mark);
        if !is_absent(&value, field) {
            map.insert(key, value);
        } else if !value.is_null() {
            map.remove(&key);
        }
    }
    Ok(Value::Object(map))
}

/// A field that is not known stays where unknown fields may be.
fn read_unknown<'de, A: MapAccess<'de>>(
    key: String,
    entries: &mut A,
    open: bool,
    map: &mut Map<String, Value>,
    context: &mut Context,
) -> Result<(), A::Error> {
    if !open {
        context.unknown(&key);
        return entries.next_value::<IgnoredAny>().map(drop);
    }
    if map.contains_key(&key) {
        context.duplicate(&key);
    }
    let mark = context.enter_field(&key);
    let value = entries.next_value_seed(Seed {
        type_: &Type::Any,
        owner: None,
        context,
    })?;
    context.leave(mark);
    map.insert(key, value);
    Ok(())
}

/// Null leaves a field as it was; an empty list or map of an optional field, and an empty text where that is known to
/// mean nothing, vanish when Go encodes the object again.
fn is_absent(value: &Value, field: &Field) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && field.facts.omit_empty,
        Value::Array(list) => {
            let kept = field.required || field.facts.keep_empty || matches!(field.type_, Type::Any);
            list.is_empty() && !kept
        }
        Value::Object(map) => map.is_empty() && !field.required && matches!(field.type_, Type::Map(_)),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A null item or map value decodes to its type's zero value in Go.
fn or_zero(value: Value, type_: &Type) -> Value {
    if !value.is_null() {
        return value;
    }
    match type_ {
        Type::Bool => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => Value::from(0),
        Type::String | Type::Bytes => Value::from(""),
        Type::Quantity => Value::from("0"),
        Type::Map(_) | Type::Struct(_) => Value::Object(Map::new()),
        Type::List(_) => Value::Array(Vec::new()),
        Type::Any | Type::Time | Type::MicroTime => Value::Null,
    }
}

/// A map's key: text in JSON; YAML also has numbers and booleans, which are read as their text.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        Ok(key.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, key: String) -> Result<String, E> {
        Ok(key)
    }

    fn visit_bool<E: serde::de::Error>(self, key: bool) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, key: i64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, key: u64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, key: f64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(A::Error::custom("a key must be text, not a list"))
    }
}
