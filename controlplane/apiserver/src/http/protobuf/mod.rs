//! Request bodies in Kubernetes' protobuf, which kubectl's `create` commands send: decoded to the JSON they stand for.
//!
//! The wire form is `k8s\0` and a `runtime.Unknown` that names the kind and holds its message. Go writes a message's plain
//! fields even when they are empty, so that an empty value means "not set", but for the few numbers and booleans that are
//! pointers there ([`POINTERS`]). Answers are never protobuf: clients that ask for it accept JSON too.

mod fields;
mod wire;

use api::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use fields::{Message, Shape, Type};
use wire::{Wire, WireError};

const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may nest.
const MAX_DEPTH: usize = 64;

/// Numbers and booleans for which zero and false say something, since Go has pointers there.
const POINTERS: [&str; 39] = [
    "activeDeadlineSeconds",
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "blockOwnerDeletion",
    "controller",
    "defaultMode",
    "deletionGracePeriodSeconds",
    "enableServiceLinks",
    "expirationSeconds",
    "fsGroup",
    "gracePeriodSeconds",
    "hostUsers",
    "immutable",
    "leaseDurationSeconds",
    "leaseTransitions",
    "minDomains",
    "mode",
    "optional",
    "orphanDependents",
    "priority",
    "privileged",
    "progressDeadlineSeconds",
    "readOnlyRootFilesystem",
    "ready",
    "replicas",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seconds",
    "serving",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "started",
    "terminating",
    "terminationGracePeriodSeconds",
    "timeoutSeconds",
    "tolerationSeconds",
];

/// A body as the JSON it stands for.
pub(crate) fn to_json(body: &[u8]) -> Result<Bytes, Status> {
    decode(body)
        .map(|tree| Bytes::from(tree.to_string()))
        .map_err(|error| Status::bad_request(format!("the body cannot be decoded as protobuf: {error}")))
}

/// Whether a kind can be sent in this form.
#[cfg(test)]
pub(crate) fn knows(api_version: &str, kind: &str) -> bool {
    fields::of_kind(api_version, kind).is_some()
}

fn decode(body: &[u8]) -> Result<Value, WireError> {
    let body = body.strip_prefix(MAGIC).ok_or(WireError::Envelope)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), [].as_slice());
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
    let found = fields::of_kind(&api_version, &kind);
    let found = found.ok_or_else(|| WireError::UnknownKind {
        api_version: api_version.clone(),
        kind: kind.clone(),
    })?;
    let mut tree = Map::new();
    decode_message(found, raw, &mut tree, 0)?;
    tree.insert("apiVersion".to_owned(), api_version.into());
    tree.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(tree))
}

fn decode_message(
    message: &Message,
    bytes: &[u8],
    tree: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), WireError> {
    if depth > MAX_DEPTH {
        return Err(WireError::TooDeep);
    }
    for field in wire::fields(bytes) {
        let (number, wire) = field?;
        // What a newer client knows and this server does not is dropped, as an unknown JSON field is.
        let Some(known) = message.field(number) else { continue };
        match known.shape {
            Shape::Map => {
                let (key, value) = map_entry(&known.type_, wire, depth)?;
                if let Value::Object(map) = tree.entry(known.name).or_insert_with(|| json!({})) {
                    map.insert(key, value);
                }
            }
            Shape::List => {
                let list = tree.entry(known.name).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    push(list, &known.type_, wire, depth)?;
                }
            }
            Shape::One if known.name.is_empty() => {
                let (Type::Message(name), Wire::Bytes(inner)) = (&known.type_, wire) else {
                    continue;
                };
                decode_message(fields::named(name)?, inner, tree, depth + 1)?;
            }
            Shape::One => {
                let value = decode_value(&known.type_, wire, depth)?;
                if !is_unset(known.name, &value) {
                    tree.insert(known.name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

fn is_unset(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Bool(false) => !POINTERS.contains(&name),
        Value::Number(number) => number.as_f64() == Some(0.0) && !POINTERS.contains(&name),
        _ => false,
    }
}

fn push(list: &mut Vec<Value>, type_: &Type, wire: Wire<'_>, depth: usize) -> Result<(), WireError> {
    match (type_, wire) {
        (Type::Integer | Type::Bool, Wire::Bytes(mut packed)) => {
            while !packed.is_empty() {
                let number = wire::varint(&mut packed)?;
                list.push(decode_value(type_, Wire::Varint(number), depth)?);
            }
        }
        (_, wire) => list.push(decode_value(type_, wire, depth)?),
    }
    Ok(())
}

fn map_entry(type_: &Type, wire: Wire<'_>, depth: usize) -> Result<(String, Value), WireError> {
    let Wire::Bytes(entry) = wire else {
        return Err(WireError::Type);
    };
    let (mut key, mut value) = (String::new(), None);
    for field in wire::fields(entry) {
        match field? {
            (1, Wire::Bytes(text)) => key = wire::text(text)?,
            (2, wire) => value = Some(decode_value(type_, wire, depth)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        None => decode_value(type_, Wire::Bytes(&[]), depth)?,
    };
    Ok((key, value))
}

fn decode_value(type_: &Type, wire: Wire<'_>, depth: usize) -> Result<Value, WireError> {
    Ok(match (type_, wire) {
        (Type::String, Wire::Bytes(bytes)) => wire::text(bytes)?.into(),
        (Type::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Type::Bool, Wire::Varint(number)) => (number != 0).into(),
        (Type::Integer, Wire::Varint(number)) => number.cast_signed().into(),
        (Type::Double, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Type::Message(name), Wire::Bytes(bytes)) => match special(name, bytes)? {
            Some(value) => value,
            None => {
                let mut tree = Map::new();
                decode_message(fields::named(name)?, bytes, &mut tree, depth + 1)?;
                Value::Object(tree)
            }
        },
        _ => return Err(WireError::Type),
    })
}

/// Messages whose JSON is not an object.
fn special(name: &str, bytes: &[u8]) -> Result<Option<Value>, WireError> {
    let integer = |number: u32| -> Result<i64, WireError> {
        let mut found = 0;
        for field in wire::fields(bytes) {
            if let (n, Wire::Varint(value)) = field?
                && n == number
            {
                found = value.cast_signed();
            }
        }
        Ok(found)
    };
    let blob = |number: u32| -> Result<&[u8], WireError> {
        let mut found: &[u8] = &[];
        for field in wire::fields(bytes) {
            if let (n, Wire::Bytes(value)) = field?
                && n == number
            {
                found = value;
            }
        }
        Ok(found)
    };
    Ok(Some(match name {
        "meta.v1.Time" | "meta.v1.MicroTime" if bytes.is_empty() => Value::Null,
        "meta.v1.Time" => api::time::rfc3339(time(integer(1)?, 0)?).into(),
        "meta.v1.MicroTime" => api::time::micro(time(integer(1)?, integer(2)?)?).into(),
        "resource.Quantity" => match wire::text(blob(1)?)? {
            empty if empty.is_empty() => "0".into(),
            quantity => quantity.into(),
        },
        "intstr.IntOrString" if integer(1)? == 0 => integer(2)?.into(),
        "intstr.IntOrString" => wire::text(blob(3)?)?.into(),
        "runtime.RawExtension" | "meta.v1.FieldsV1" => {
            serde_json::from_slice(blob(1)?).map_err(|_| WireError::Embedded)?
        }
        "authentication.v1.ExtraValue" | "authorization.v1.ExtraValue" => {
            let mut items = Vec::new();
            for field in wire::fields(bytes) {
                if let (1, Wire::Bytes(text)) = field? {
                    items.push(Value::from(wire::text(text)?));
                }
            }
            items.into()
        }
        _ => return Ok(None),
    }))
}

fn time(seconds: i64, nanos: i64) -> Result<api::Timestamp, WireError> {
    let nanos = i32::try_from(nanos).map_err(|_| WireError::Type)?;
    api::Timestamp::new(seconds, nanos).map_err(|_| WireError::Type)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_field(number: u8, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128);
        [&[number << 3 | 2, u8::try_from(content.len()).expect("short")], content].concat()
    }

    fn varint_field(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [bytes_field(1, api_version.as_bytes()), bytes_field(2, kind.as_bytes())].concat();
        [
            MAGIC,
            &bytes_field(1, &type_meta),
            &bytes_field(2, raw),
            &bytes_field(3, b""),
            &bytes_field(4, b""),
        ]
        .concat()
    }

    #[test]
    fn decodes_what_kubectl_create_sends() {
        let metadata = [bytes_field(1, b"x"), bytes_field(2, b""), bytes_field(8, b"")].concat();
        let entry = [bytes_field(1, b"k"), bytes_field(2, b"v")].concat();
        let map = [bytes_field(1, &metadata), bytes_field(2, &entry)].concat();
        assert_eq!(
            decode(&body("v1", "ConfigMap", &map)).expect("valid"),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"k": "v"}})
        );
        let eviction = body(
            "policy/v1",
            "Eviction",
            &[bytes_field(1, &metadata), bytes_field(2, &varint_field(1, 0))].concat(),
        );
        assert_eq!(
            decode(&eviction).expect("valid")["deleteOptions"],
            json!({"gracePeriodSeconds": 0})
        );
    }

    #[test]
    fn inlines_what_json_inlines_and_leaves_out_what_is_empty() {
        let probe = [
            bytes_field(1, &bytes_field(2, &bytes_field(1, b"/"))),
            varint_field(2, 0),
            varint_field(3, 4),
        ]
        .concat();
        let container = [bytes_field(1, b"c"), bytes_field(10, &probe)].concat();
        let spec = [bytes_field(2, &container), varint_field(11, 0), varint_field(4, 0)].concat();
        let pod = decode(&body("v1", "Pod", &bytes_field(2, &spec))).expect("valid");
        let expected = json!({
            "containers": [{"name": "c", "livenessProbe": {"httpGet": {"path": "/"}, "timeoutSeconds": 4}}],
            "terminationGracePeriodSeconds": 0,
        });
        assert_eq!(pod["spec"], expected);
    }

    #[test]
    fn names_are_those_of_json() {
        let class = decode(&body("node.k8s.io/v1", "RuntimeClass", &bytes_field(2, b"wasm"))).expect("valid");
        assert_eq!(class["handler"], "wasm");
        let bound = bytes_field(2, &bytes_field(3, &bytes_field(4, b"u")));
        let request = decode(&body("authentication.k8s.io/v1", "TokenRequest", &bound)).expect("valid");
        assert_eq!(request["spec"]["boundObjectRef"]["uid"], "u");
    }

    #[test]
    fn every_message_of_the_table_is_in_the_table() {
        fields::check().expect("complete");
    }

    #[test]
    fn says_what_it_cannot_decode() {
        let cases: [(&[u8], &str); 3] = [
            (b"{}", "it does not begin as Kubernetes' protobuf does"),
            (b"k8s\0\x0a\xff", "it ends too early"),
            (b"k8s\0", "no kind \"\" is known in version \"\""),
        ];
        for (body, message) in cases {
            let error = decode(body).expect_err("refused");
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let type_meta = [bytes_field(1, b"v1"), bytes_field(2, b"Pod")].concat();
            let mut whole = [MAGIC, &bytes_field(1, &type_meta)].concat();
            whole.extend([0x12, 0x80 | (raw.len() % 128) as u8, (raw.len() / 128) as u8]);
            whole.extend(&raw);
            let _ = decode(&whole);
            let _ = decode(&raw);
        }
    }
}
