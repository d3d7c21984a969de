//! From protobuf to the JSON tree that Go would write for the same object.
//!
//! Go writes a message's plain fields even when they are empty, so that an empty value means "not set", but for the
//! fields that are pointers there. What a newer client knows and this server does not is dropped, as an unknown JSON
//! field is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::table::{self, Field, Shape, Type, Zero, table};
use super::wire::{self, Wire};
use super::{DecodeError, MAGIC, MAX_DEPTH, NO_TIME};

/// An object in its envelope, with `kind` and `apiVersion`.
pub(super) fn envelope(body: &[u8]) -> Result<Value, DecodeError> {
    let body = body.strip_prefix(MAGIC).ok_or(DecodeError::Envelope)?;
    let (mut api_version, mut kind, mut raw) = ("", "", [].as_slice());
    for field in wire::fields(body) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in wire::fields(type_meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = wire::text(text)?,
                        (2, Wire::Bytes(text)) => kind = wire::text(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let found = table::of_body(api_version, kind).ok_or_else(|| DecodeError::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })?;
    let mut tree = Map::new();
    message(found, raw, &mut tree, 0)?;
    tree.insert("apiVersion".to_owned(), api_version.into());
    tree.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(tree))
}

/// The fields of a message, added to a tree.
fn message(at: u16, bytes: &[u8], tree: &mut Map<String, Value>, depth: usize) -> Result<(), DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    let message = table().message(at);
    for found in wire::fields(bytes) {
        let (number, wire) = found?;
        if let Some(field) = table().field(message, number) {
            put(field, wire, tree, depth)?;
        }
    }
    Ok(())
}

fn put(field: &Field, wire: Wire<'_>, tree: &mut Map<String, Value>, depth: usize) -> Result<(), DecodeError> {
    match (field.shape, field.inlined()) {
        (_, Some(inner)) => message(inner, wire::bytes(wire)?, tree, depth + 1)?,
        (Shape::Map, _) => {
            let (key, value) = map_entry(field.type_, wire::bytes(wire)?, depth)?;
            let map = tree.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                map.insert(key, value);
            }
        }
        (Shape::List, _) => {
            let list = tree.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                push(list, field.type_, wire, depth)?;
            }
        }
        (Shape::One, _) => {
            let value = value(field.type_, wire, depth)?;
            if !is_left_out(field, &value) {
                tree.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Whether Go leaves a decoded value out of JSON.
fn is_left_out(field: &Field, value: &Value) -> bool {
    match value {
        // A time that is zero, and raw JSON that is not there.
        Value::Null => true,
        _ if field.pointer => false,
        _ if field.zero == Zero::Written => false,
        Value::String(text) => text.is_empty(),
        Value::Bool(value) => !value && field.type_ == Type::Bool,
        Value::Number(number) => field.type_ != Type::IntOrString && number.as_f64() == Some(0.0),
        Value::Array(_) | Value::Object(_) => false,
    }
}

fn push(list: &mut Vec<Value>, type_: Type, wire: Wire<'_>, depth: usize) -> Result<(), DecodeError> {
    match (type_, wire) {
        (Type::Int32 | Type::Int64 | Type::Bool, Wire::Bytes(mut packed)) => {
            while !packed.is_empty() {
                let number = wire::varint(&mut packed)?;
                list.push(value(type_, Wire::Varint(number), depth)?);
            }
        }
        (_, wire) => list.push(value(type_, wire, depth)?),
    }
    Ok(())
}

fn map_entry(type_: Type, entry: &[u8], depth: usize) -> Result<(String, Value), DecodeError> {
    let (mut key, mut found) = ("", None);
    for field in wire::fields(entry) {
        match field? {
            (1, wire) => key = wire::text(wire::bytes(wire)?)?,
            (2, wire) => found = Some(value(type_, wire, depth)?),
            _ => {}
        }
    }
    let found = match (found, type_) {
        (Some(found), _) => found,
        (None, Type::Bool) => false.into(),
        (None, Type::Int32 | Type::Int64) => 0.into(),
        (None, Type::Double) => 0.0.into(),
        (None, _) => value(type_, Wire::Bytes(&[]), depth)?,
    };
    Ok((key.to_owned(), found))
}

fn value(type_: Type, wire: Wire<'_>, depth: usize) -> Result<Value, DecodeError> {
    Ok(match (type_, wire) {
        (Type::Bool, Wire::Varint(number)) => (number != 0).into(),
        // Go keeps the low half as well.
        (Type::Int32, Wire::Varint(number)) => (number as i32).into(),
        (Type::Int64, Wire::Varint(number)) => number.cast_signed().into(),
        (Type::Double, Wire::Fixed64(bits)) => {
            let number = Number::from_f64(f64::from_bits(bits)).ok_or(DecodeError::Type)?;
            Value::Number(number)
        }
        (Type::Text, Wire::Bytes(bytes)) => wire::text(bytes)?.into(),
        (Type::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Type::Message(at), Wire::Bytes(bytes)) => Value::Object(tree(at, bytes, depth)?),
        (_, Wire::Bytes(bytes)) => special(type_, bytes, depth)?,
        _ => return Err(DecodeError::Type),
    })
}

fn tree(at: u16, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, DecodeError> {
    let mut tree = Map::new();
    message(at, bytes, &mut tree, depth + 1)?;
    Ok(tree)
}

/// Messages whose JSON is not that of their fields.
fn special(type_: Type, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
    Ok(match type_ {
        Type::Time | Type::MicroTime if bytes.is_empty() => Value::Null,
        Type::Time => time(integer(bytes, 1)?, 0)?.map(api::time::rfc3339).into(),
        Type::MicroTime => time(integer(bytes, 1)?, integer(bytes, 2)?)?
            .map(api::time::micro)
            .into(),
        Type::Quantity => match wire::text(blob(bytes, 1)?)? {
            "" => "0".into(),
            quantity => quantity.into(),
        },
        Type::IntOrString if integer(bytes, 1)? == 0 => (integer(bytes, 2)? as i32).into(),
        Type::IntOrString => wire::text(blob(bytes, 3)?)?.into(),
        Type::Raw => match blob(bytes, 1)? {
            [] => Value::Null,
            raw => serde_json::from_slice(raw).map_err(|_| DecodeError::Embedded)?,
        },
        Type::Texts => texts(bytes, 1)?.into(),
        Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrTexts => union(type_, bytes, depth)?,
        _ => return Err(DecodeError::Type),
    })
}

/// The unions of a CustomResourceDefinition's schema: field 1 or 2 says which it is.
fn union(type_: Type, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
    let schema = table::json_schema_props().ok_or(DecodeError::Type)?;
    let found = |number: u32| {
        wire::fields(bytes).find_map(|field| match field {
            Ok((n, Wire::Bytes(content))) if n == number => Some(Ok(content)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    };
    let schema_in = if type_ == Type::SchemaOrBool { 2 } else { 1 };
    if let Some(content) = found(schema_in) {
        return tree(schema, content?, depth).map(Value::Object);
    }
    Ok(match type_ {
        Type::SchemaOrBool => (integer(bytes, 1)? != 0).into(),
        Type::SchemaOrTexts => texts(bytes, 2)?.into(),
        _ => {
            let mut items = Vec::new();
            for field in wire::fields(bytes) {
                if let (2, Wire::Bytes(content)) = field? {
                    items.push(Value::Object(tree(schema, content, depth)?));
                }
            }
            items.into()
        }
    })
}

fn texts(bytes: &[u8], number: u32) -> Result<Vec<Value>, DecodeError> {
    let mut items = Vec::new();
    for field in wire::fields(bytes) {
        match field? {
            (n, Wire::Bytes(text)) if n == number => items.push(wire::text(text)?.into()),
            _ => {}
        }
    }
    Ok(items)
}

fn integer(bytes: &[u8], number: u32) -> Result<i64, DecodeError> {
    let mut found = 0;
    for field in wire::fields(bytes) {
        match field? {
            (n, Wire::Varint(value)) if n == number => found = value.cast_signed(),
            _ => {}
        }
    }
    Ok(found)
}

fn blob(bytes: &[u8], number: u32) -> Result<&[u8], DecodeError> {
    let mut found: &[u8] = &[];
    for field in wire::fields(bytes) {
        match field? {
            (n, Wire::Bytes(value)) if n == number => found = value,
            _ => {}
        }
    }
    Ok(found)
}

/// A point in time; `None` for the one that means that it is not set.
fn time(seconds: i64, nanos: i64) -> Result<Option<api::Timestamp>, DecodeError> {
    let nanos = i32::try_from(nanos).map_err(|_| DecodeError::Type)?;
    // RFC 3339 has four digits for a year.
    let fits = (0..1_000_000_000).contains(&nanos) && (NO_TIME..253_402_300_800).contains(&seconds);
    if !fits {
        return Err(DecodeError::Type);
    }
    let at = api::Timestamp::new(seconds, nanos).map_err(|_| DecodeError::Type)?;
    Ok(((seconds, nanos / 1000) != (NO_TIME, 0)).then_some(at))
}
