//! The protobuf of gnostic's `openapi.v2` (OpenAPIv2.proto): the same document, each object a message. Field numbers are
//! that file's. Only what our documents say is written; extensions are YAML text there, and JSON is YAML.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

type Tree = Map<String, Value>;

/// One message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, number: u64, message: &Message) {
        self.bytes(number, &message.0);
    }

    fn text(&mut self, number: u64, tree: &Tree, key: &str) {
        if let Some(text) = tree.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.bytes(number, text.as_bytes());
        }
    }

    fn flag(&mut self, number: u64, tree: &Tree, key: &str) {
        if tree.get(key) == Some(&Value::Bool(true)) {
            self.varint(number << 3);
            self.0.push(1);
        }
    }

    fn texts(&mut self, number: u64, tree: &Tree, key: &str) {
        let list = tree.get(key).and_then(Value::as_array).into_iter().flatten();
        for text in list.filter_map(Value::as_str) {
            self.bytes(number, text.as_bytes());
        }
    }

    /// A pair of a map: its name, and its value in field 2.
    fn named(&mut self, number: u64, name: &str, value: &[u8]) {
        let mut pair = Message::default();
        pair.bytes(1, name.as_bytes());
        pair.bytes(2, value);
        self.message(number, &pair);
    }

    fn extensions(&mut self, number: u64, tree: &Tree) {
        for (name, value) in tree.iter().filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Message::default();
            any.bytes(2, format!("{value}\n").as_bytes());
            self.named(number, name, &any.0);
        }
    }
}

/// The whole document: what stands at its head, and the messages of its parts.
pub(super) fn document(
    head: &Value,
    paths: BTreeMap<String, Vec<u8>>,
    definitions: BTreeMap<String, Vec<u8>>,
) -> Vec<u8> {
    let (mut document, empty) = (Message::default(), Tree::new());
    let head = head.as_object().unwrap_or(&empty);
    document.text(1, head, "swagger");
    if let Some(info) = head.get("info").and_then(Value::as_object) {
        let mut message = Message::default();
        message.text(1, info, "title");
        message.text(2, info, "version");
        document.message(2, &message);
    }
    for (number, item, parts) in [(8, 2, paths), (9, 1, definitions)] {
        let mut all = Message::default();
        for (name, bytes) in parts {
            all.named(item, &name, &bytes);
        }
        document.message(number, &all);
    }
    for required in head.get("security").and_then(Value::as_array).into_iter().flatten() {
        let mut requirement = Message::default();
        for name in required.as_object().into_iter().flat_map(Map::keys) {
            requirement.named(1, name, &[]);
        }
        document.message(12, &requirement);
    }
    if let Some(definitions) = head.get("securityDefinitions").and_then(Value::as_object) {
        document.message(13, &security_definitions(definitions));
    }
    document.0
}

fn security_definitions(definitions: &Tree) -> Message {
    let mut all = Message::default();
    for (name, key) in definitions
        .iter()
        .filter_map(|(name, key)| Some((name, key.as_object()?)))
    {
        let mut api_key = Message::default();
        for (number, word) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
            api_key.text(number, key, word);
        }
        let mut item = Message::default();
        item.message(2, &api_key);
        all.named(1, name, &item.0);
    }
    all
}

/// A `PathItem`.
pub(super) fn path_item(item: &Value) -> Vec<u8> {
    let mut message = Message::default();
    let Some(item) = item.as_object() else { return message.0 };
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(operation) = item.get(method).and_then(Value::as_object) {
            message.message(number, &self::operation(operation));
        }
    }
    parameters(&mut message, 9, item);
    message.extensions(10, item);
    message.0
}

fn operation(operation: &Tree) -> Message {
    let mut message = Message::default();
    message.texts(1, operation, "tags");
    message.text(3, operation, "description");
    message.text(5, operation, "operationId");
    message.texts(6, operation, "produces");
    message.texts(7, operation, "consumes");
    parameters(&mut message, 8, operation);
    if let Some(responses) = operation.get("responses").and_then(Value::as_object) {
        message.message(9, &self::responses(responses));
    }
    message.texts(10, operation, "schemes");
    message.extensions(13, operation);
    message
}

fn responses(responses: &Tree) -> Message {
    let mut all = Message::default();
    for (code, response) in responses.iter().filter_map(|(code, r)| Some((code, r.as_object()?))) {
        let mut message = Message::default();
        message.text(1, response, "description");
        if let Some(schema) = response.get("schema") {
            let mut item = Message::default();
            item.bytes(1, &self::schema(schema));
            message.message(2, &item);
        }
        let mut value = Message::default();
        value.message(1, &message);
        all.named(1, code, &value.0);
    }
    all
}

fn parameters(message: &mut Message, number: u64, tree: &Tree) {
    let list = tree.get("parameters").and_then(Value::as_array).into_iter().flatten();
    for parameter in list.filter_map(Value::as_object) {
        // ParametersItem, Parameter, and then by where it stands.
        let (mut item, mut either) = (Message::default(), Message::default());
        match parameter.get("in").and_then(Value::as_str) {
            Some("body") => either.message(1, &body_parameter(parameter)),
            place => either.message(2, &plain_parameter(parameter, place == Some("path"))),
        }
        item.message(1, &either);
        message.message(number, &item);
    }
}

fn body_parameter(parameter: &Tree) -> Message {
    let mut message = Message::default();
    message.text(1, parameter, "description");
    message.text(2, parameter, "name");
    message.text(3, parameter, "in");
    message.flag(4, parameter, "required");
    if let Some(schema) = parameter.get("schema") {
        message.bytes(5, &self::schema(schema));
    }
    message
}

fn plain_parameter(parameter: &Tree, in_path: bool) -> Message {
    let mut message = Message::default();
    message.flag(1, parameter, "required");
    message.text(2, parameter, "in");
    message.text(3, parameter, "description");
    message.text(4, parameter, "name");
    // Query parameters have `allow_empty_value` before their type.
    let (kind, type_, unique) = if in_path { (4, 5, 19) } else { (3, 6, 20) };
    message.text(type_, parameter, "type");
    message.text(type_ + 1, parameter, "format");
    message.flag(unique, parameter, "uniqueItems");
    let mut either = Message::default();
    either.message(kind, &message);
    either
}

/// A `Schema`.
pub(super) fn schema(schema: &Value) -> Vec<u8> {
    let mut message = Message::default();
    let Some(schema) = schema.as_object() else {
        return message.0;
    };
    message.text(1, schema, "$ref");
    message.text(2, schema, "format");
    message.text(4, schema, "description");
    message.texts(19, schema, "required");
    if let Some(inner) = schema.get("additionalProperties") {
        let mut item = Message::default();
        item.bytes(1, &self::schema(inner));
        message.message(21, &item);
    }
    if let Some(type_) = schema.get("type").and_then(Value::as_str) {
        let mut item = Message::default();
        item.bytes(1, type_.as_bytes());
        message.message(22, &item);
    }
    if let Some(items) = schema.get("items") {
        let mut item = Message::default();
        item.bytes(1, &self::schema(items));
        message.message(23, &item);
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let mut all = Message::default();
        for (name, property) in properties {
            all.named(1, name, &self::schema(property));
        }
        message.message(25, &all);
    }
    message.extensions(31, schema);
    message.0
}
