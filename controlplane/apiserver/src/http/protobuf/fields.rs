//! The facts about messages: their fields' numbers, names and types, of the kinds that clients send.
//!
//! They stand in `fields.txt`, one message a line, and are read on first use.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::wire::WireError;

static MESSAGES: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
    let lines = include_str!("fields.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(message).collect()
});

/// A message: its fields by number.
pub(super) struct Message(Vec<Field>);

pub(super) struct Field {
    number: u32,
    /// As in JSON; empty for a field whose content JSON inlines.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) type_: Type,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    /// By string.
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    String,
    Bytes,
    Bool,
    Integer,
    Double,
    Message(&'static str),
}

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.0.iter().find(|field| field.number == number)
    }
}

/// The message of a kind, by its `apiVersion`.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Message> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let package = group.split('.').next().unwrap_or_default();
    // Options travel under the version of whatever they are for.
    let own = MESSAGES.get(format!("{package}.{version}.{kind}").as_str());
    own.or_else(|| MESSAGES.get(format!("meta.v1.{kind}").as_str()))
}

pub(super) fn named(name: &str) -> Result<&'static Message, WireError> {
    MESSAGES
        .get(name)
        .ok_or_else(|| WireError::UnknownMessage(name.to_owned()))
}

fn message(line: &'static str) -> (&'static str, Message) {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    (name, Message(words.filter_map(field).collect()))
}

/// `7name:*type`
fn field(word: &'static str) -> Option<Field> {
    let (head, type_) = word.split_once(':')?;
    let digits = head.find(|c: char| !c.is_ascii_digit()).unwrap_or(head.len());
    let (number, name) = head.split_at_checked(digits)?;
    let (shape, type_) = match (type_.strip_prefix('*'), type_.strip_prefix('%')) {
        (Some(item), _) => (Shape::List, item),
        (_, Some(value)) => (Shape::Map, value),
        (None, None) => (Shape::One, type_),
    };
    let type_ = match type_ {
        "s" => Type::String,
        "y" => Type::Bytes,
        "b" => Type::Bool,
        "i" => Type::Integer,
        "d" => Type::Double,
        message => Type::Message(message),
    };
    Some(Field {
        number: number.parse().ok()?,
        name,
        shape,
        type_,
    })
}

/// Whether every message that a field names is in the table.
#[cfg(test)]
pub(super) fn check() -> Result<(), WireError> {
    let special = [
        "Time",
        "MicroTime",
        "Quantity",
        "IntOrString",
        "RawExtension",
        "FieldsV1",
    ];
    for field in MESSAGES.values().flat_map(|message| &message.0) {
        if let Type::Message(name) = field.type_
            && !special.iter().any(|known| name.ends_with(&format!(".{known}")))
        {
            named(name)?;
        }
    }
    Ok(())
}
