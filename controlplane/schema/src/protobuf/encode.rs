//! From JSON text straight to protobuf, as Go writes it: fields in the order of their numbers, maps in that of their keys,
//! and every plain field even when it is empty.
//!
//! No tree is built. An object's keys are sorted into slots, one per field of its message, and the slots are written from
//! the last to the first, so that each length is known when it is written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::backward::Backward;
use super::json::{Json, Kind, Node};
use super::table::{self, Field, Shape, Table, Type, table};
use super::{ENVELOPE_END, EncodeError, MAGIC, Message, NO_TIME, when, wire};

/// A slot without a value.
const ABSENT: u32 = 0;

/// Encodes one object after the other, in buffers that it keeps.
#[derive(Default)]
pub struct Encoder {
    nodes: Vec<Node>,
    slots: Vec<u32>,
    out: Backward,
}

impl Encoder {
    /// Encodes a message without an envelope, as it stands in a list.
    ///
    /// # Errors
    /// When the text is not JSON, or not of the message's shape.
    pub fn message(&mut self, message: Message, json: &[u8]) -> Result<&[u8], EncodeError> {
        let json = Json::scan(json, &mut self.nodes)?;
        self.slots.clear();
        self.out.clear();
        pass(json, &mut self.slots, &mut self.out).object(message.0, ROOT)?;
        Ok(self.out.written())
    }

    /// Encodes an object in the envelope that names its kind.
    ///
    /// # Errors
    /// When the text is not JSON, its kind is in no table, or it is not of that kind's shape.
    pub fn object(&mut self, json: &[u8]) -> Result<&[u8], EncodeError> {
        let json = Json::scan(json, &mut self.nodes)?;
        self.slots.clear();
        self.out.clear();
        let (api_version, kind) = (text_at(json, b"apiVersion"), text_at(json, b"kind"));
        // Some discovery documents name no version.
        let known = if api_version.is_empty() { "v1" } else { api_version };
        let message = Message::of_kind(known, kind).ok_or_else(|| EncodeError::UnknownKind {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        })?;
        self.out.put(&ENVELOPE_END);
        let from = self.out.len();
        pass(json, &mut self.slots, &mut self.out).object(message.0, ROOT)?;
        self.out.close(2, from);
        put_type_meta(&mut self.out, api_version, kind);
        Ok(self.out.written())
    }
}

/// The beginning of an envelope up to its content.
pub(super) fn put_type_meta(out: &mut Backward, api_version: &str, kind: &str) {
    let from = out.len();
    out.put_field(2, kind.as_bytes());
    out.put_field(1, api_version.as_bytes());
    out.close(1, from);
    out.put(MAGIC);
}

const ROOT: Option<u32> = Some(0);

fn pass<'j>(json: Json<'j>, slots: &'j mut Vec<u32>, out: &'j mut Backward) -> Pass<'j> {
    Pass {
        json,
        table: table(),
        slots,
        out,
    }
}

/// A text of the whole object.
fn text_at<'j>(json: Json<'j>, name: &[u8]) -> &'j str {
    let found = json.children(0).find(|key| json.source(json.node(*key)) == name);
    let value = found
        .map(|key| json.node(key + 1))
        .filter(|node| node.kind == Kind::Text);
    let text = value.map(|node| json.source(node)).unwrap_or_default();
    std::str::from_utf8(text).unwrap_or_default()
}

/// The encoding of one text.
struct Pass<'j> {
    json: Json<'j>,
    table: &'static Table,
    /// Of the messages being written, one behind the other.
    slots: &'j mut Vec<u32>,
    out: &'j mut Backward,
}

impl Pass<'_> {
    /// Writes the fields of an object, or those of one that is not there.
    fn object(&mut self, message: u16, at: Option<u32>) -> Result<(), EncodeError> {
        let message = self.table.message(message);
        let first = self.slots.len();
        self.slots.resize(first + usize::from(message.slots), ABSENT);
        let (json, table) = (self.json, self.table);
        for key in at.into_iter().flat_map(|at| json.children(at)) {
            let name = json.source(json.node(key));
            if let Some(slot) = table
                .slot(message, name)
                .and_then(|slot| self.slots.get_mut(first + slot))
            {
                let null = json.node(key + 1).kind == Kind::Null;
                *slot = if null { ABSENT } else { key + 1 };
            }
        }
        self.fields(message, first)?;
        self.slots.truncate(first);
        Ok(())
    }

    fn fields(&mut self, message: table::Message, first: usize) -> Result<(), EncodeError> {
        let fields = self.table.fields(message);
        for (nth, field) in fields.iter().enumerate().rev() {
            if let Some(inner) = field.inlined() {
                let from = self.out.len();
                self.fields(self.table.message(inner), first + usize::from(field.slots))?;
                self.out.close(field.number, from);
                continue;
            }
            let slot = self.slots.get(first + nth).copied().unwrap_or(ABSENT);
            match field.shape {
                Shape::List => self.list(field, slot)?,
                Shape::Map => self.map(field, slot)?,
                Shape::One if slot != ABSENT => self.value(field, field.number, slot)?,
                Shape::One if !field.pointer => self.zero(field.number, field.type_)?,
                Shape::One => {}
            }
        }
        Ok(())
    }

    fn list(&mut self, field: &Field, at: u32) -> Result<(), EncodeError> {
        if at == ABSENT {
            return Ok(());
        }
        if self.json.node(at).kind != Kind::Array {
            return Err(wrong(field));
        }
        let first = self.slots.len();
        let json = self.json;
        self.slots.extend(json.children(at));
        for nth in (first..self.slots.len()).rev() {
            let item = self.slots.get(nth).copied().unwrap_or(ABSENT);
            self.value(field, field.number, item)?;
        }
        self.slots.truncate(first);
        Ok(())
    }

    fn map(&mut self, field: &Field, at: u32) -> Result<(), EncodeError> {
        if at == ABSENT {
            return Ok(());
        }
        if self.json.node(at).kind != Kind::Object {
            return Err(wrong(field));
        }
        let first = self.slots.len();
        let json = self.json;
        self.slots.extend(json.children(at));
        let keys = self.slots.get_mut(first..).unwrap_or_default();
        let name = |key: &u32| json.unescaped(json.node(*key));
        if !keys.is_sorted_by_key(name) {
            keys.sort_by_cached_key(name);
        }
        for nth in (first..self.slots.len()).rev() {
            let key = self.slots.get(nth).copied().unwrap_or(ABSENT);
            let from = self.out.len();
            self.value(field, 2, key + 1)?;
            self.out.put_field(1, &name(&key));
            self.out.close(field.number, from);
        }
        self.slots.truncate(first);
        Ok(())
    }

    /// Writes one value with its tag, in front of what there is.
    fn value(&mut self, field: &Field, number: u16, at: u32) -> Result<(), EncodeError> {
        let node = self.json.node(at);
        match (field.type_, node.kind) {
            (type_, Kind::Null) => self.zero(number, type_)?,
            (Type::Text, Kind::Text | Kind::Escaped) => self.out.put_field(number, &self.json.unescaped(node)),
            (Type::Bool, Kind::True | Kind::False) => {
                self.out.put_byte((node.kind == Kind::True).into());
                self.out.put_tag(number, wire::kind::VARINT);
            }
            (Type::Int32 | Type::Int64, Kind::Number) => {
                let value = integer(self.json.source(node)).ok_or_else(|| wrong(field))?;
                self.out.put_varint(value.cast_unsigned());
                self.out.put_tag(number, wire::kind::VARINT);
            }
            (Type::Double, Kind::Number) => {
                let value = float(self.json.source(node)).ok_or_else(|| wrong(field))?;
                self.out.put(&value.to_le_bytes());
                self.out.put_tag(number, wire::kind::FIXED64);
            }
            (Type::Bytes, Kind::Text | Kind::Escaped) => {
                let bytes = STANDARD.decode(self.json.unescaped(node)).map_err(|_| wrong(field))?;
                self.out.put_field(number, &bytes);
            }
            (Type::Bytes | Type::Text | Type::Bool | Type::Int32 | Type::Int64 | Type::Double, _) => {
                return Err(wrong(field));
            }
            (Type::Message(message), Kind::Object) => {
                let from = self.out.len();
                self.object(message, Some(at))?;
                self.out.close(number, from);
            }
            (Type::Message(_), _) => return Err(wrong(field)),
            _ => {
                let from = self.out.len();
                self.special(field, at, node)?;
                self.out.close(number, from);
            }
        }
        Ok(())
    }

    /// The content of a message whose JSON is not that of its fields.
    fn special(&mut self, field: &Field, at: u32, node: Node) -> Result<(), EncodeError> {
        let source = self.json.source(node);
        match (field.type_, node.kind) {
            (Type::Time | Type::MicroTime, Kind::Text) => {
                let (seconds, nanos) = when::parse(source).ok_or_else(|| wrong(field))?;
                // Go keeps whole seconds, or microseconds.
                let nanos = if field.type_ == Type::Time {
                    0
                } else {
                    nanos - nanos % 1000
                };
                if (seconds, nanos) != (NO_TIME, 0) {
                    self.out.put_varint(nanos.into());
                    self.out.put_tag(2, wire::kind::VARINT);
                    self.out.put_varint(seconds.cast_unsigned());
                    self.out.put_tag(1, wire::kind::VARINT);
                }
            }
            (Type::Quantity, Kind::Text | Kind::Escaped | Kind::Number) => {
                self.out.put_field(1, &self.json.unescaped(node));
            }
            (Type::IntOrString, Kind::Number) => {
                let value = integer(source).ok_or_else(|| wrong(field))?;
                self.int_or_string(0, value, b"");
            }
            (Type::IntOrString, Kind::Text | Kind::Escaped) => self.int_or_string(1, 0, &self.json.unescaped(node)),
            // A text's source has no quotes.
            (Type::Raw, Kind::Text | Kind::Escaped) => self.out.put_field(1, &[b"\"", source, b"\""].concat()),
            (Type::Raw, _) => self.out.put_field(1, source),
            (Type::Texts, Kind::Array) => self.items(field, at, 1, Type::Text)?,
            (Type::SchemaOrBool, Kind::True | Kind::False) => {
                self.out.put_byte((node.kind == Kind::True).into());
                self.out.put_tag(1, wire::kind::VARINT);
            }
            (Type::SchemaOrBool, Kind::Object) => {
                self.schema(2, at)?;
                self.out.put_byte(1);
                self.out.put_tag(1, wire::kind::VARINT);
            }
            (Type::SchemaOrArray | Type::SchemaOrTexts, Kind::Object) => self.schema(1, at)?,
            (Type::SchemaOrTexts, Kind::Array) => self.items(field, at, 2, Type::Text)?,
            (Type::SchemaOrArray, Kind::Array) => {
                let schema = table::json_schema_props().ok_or_else(|| wrong(field))?;
                self.items(field, at, 2, Type::Message(schema))?;
            }
            _ => return Err(wrong(field)),
        }
        Ok(())
    }

    fn int_or_string(&mut self, type_: u8, int: i64, text: &[u8]) {
        self.out.put_field(3, text);
        self.out.put_varint(int.cast_unsigned());
        self.out.put_tag(2, wire::kind::VARINT);
        self.out.put_byte(type_);
        self.out.put_tag(1, wire::kind::VARINT);
    }

    /// A list that is a message of its own, or of one of its fields.
    fn items(&mut self, field: &Field, at: u32, number: u16, type_: Type) -> Result<(), EncodeError> {
        let inner = Field {
            name: field.name,
            number,
            shape: Shape::List,
            type_,
            pointer: false,
            zero: field.zero,
            slots: 0,
        };
        self.list(&inner, at)
    }

    fn schema(&mut self, number: u16, at: u32) -> Result<(), EncodeError> {
        let schema = table::json_schema_props().ok_or(EncodeError::Json)?;
        let from = self.out.len();
        self.object(schema, Some(at))?;
        self.out.close(number, from);
        Ok(())
    }

    /// What Go writes for a value that is not set and no pointer.
    fn zero(&mut self, number: u16, type_: Type) -> Result<(), EncodeError> {
        match type_ {
            Type::Text | Type::Time | Type::MicroTime | Type::Raw | Type::SchemaOrArray | Type::SchemaOrTexts => {
                self.out.put_field(number, b"");
            }
            Type::Bool | Type::Int32 | Type::Int64 => {
                self.out.put_byte(0);
                self.out.put_tag(number, wire::kind::VARINT);
            }
            Type::Double => {
                self.out.put(&[0; 8]);
                self.out.put_tag(number, wire::kind::FIXED64);
            }
            // Slices that are nil.
            Type::Bytes | Type::Texts => {}
            Type::Message(message) => {
                let from = self.out.len();
                self.object(message, None)?;
                self.out.close(number, from);
            }
            Type::Quantity => self.out.put_field(number, b"\x0a\x010"),
            Type::IntOrString => {
                let from = self.out.len();
                self.int_or_string(0, 0, b"");
                self.out.close(number, from);
            }
            Type::SchemaOrBool => self.out.put_field(number, b"\x08\0"),
        }
        Ok(())
    }
}

fn wrong(field: &Field) -> EncodeError {
    EncodeError::Value { field: field.name }
}

fn integer(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn float(digits: &[u8]) -> Option<f64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
