use proptest::prelude::*;
use serde_json::{Value, json};

use super::table::{Field, Shape, Type, Zero, table};
use super::*;

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC, &field(1, &type_meta), &field(2, raw), &ENVELOPE_END].concat()
}

fn encode(value: &Value) -> Vec<u8> {
    Encoder::default()
        .object(value.to_string().as_bytes())
        .unwrap()
        .to_vec()
}

/// `ObjectMeta` with nothing but a name, as Go writes it.
fn metadata(name: &str) -> Vec<u8> {
    let mut bytes = field(1, name.as_bytes());
    (2..=6).for_each(|number| bytes.extend(field(number, b"")));
    bytes.extend(varint(7, 0));
    bytes.extend(field(8, b""));
    bytes
}

#[test]
fn writes_what_go_writes() {
    let entry = [field(1, b"k"), field(2, b"v")].concat();
    let other = [field(1, b"a"), field(2, b"")].concat();
    let map = [
        field(1, &metadata("x")),
        field(2, &other),
        field(2, &entry),
        varint(4, 1),
    ]
    .concat();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"},
        "data": {"k": "v", "a": ""}, "immutable": true});
    assert_eq!(encode(&object), body("v1", "ConfigMap", &map));
    assert_eq!(decode(&encode(&object)).unwrap(), object);
    // Null is absent, and what has no message is passed over.
    let odd = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": null},
        "data": {"k": "v", "a": ""}, "immutable": true, "unknown": {"a": [1]}});
    assert_eq!(encode(&odd), encode(&object));
}

#[test]
fn times_quantities_and_ports_are_messages() {
    let time = [varint(1, 100), varint(2, 0)].concat();
    let mut spec = field(1, b"");
    spec.extend(varint(2, 5));
    spec.extend(field(3, &time));
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}, "spec":
        {"holderIdentity": "", "leaseDurationSeconds": 5, "acquireTime": "1970-01-01T00:01:40.000000Z"}});
    let raw = [field(1, &metadata("x")), field(2, &spec)].concat();
    assert_eq!(encode(&lease), body("coordination.k8s.io/v1", "Lease", &raw));
    assert_eq!(decode(&encode(&lease)).unwrap(), lease);

    let named = [varint(1, 1), varint(2, 0), field(3, b"50%")].concat();
    let number = [varint(1, 0), varint(2, 7), field(3, b"")].concat();
    let mut status: Vec<u8> = varint(1, 0);
    (3..=6).for_each(|nth| status.extend(varint(nth, 0)));
    let spec = [field(1, &named), field(3, &number)].concat();
    let raw = [field(1, &metadata("x")), field(2, &spec), field(3, &status)].concat();
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "x"},
        "spec": {"minAvailable": "50%", "maxUnavailable": 7}});
    assert_eq!(encode(&budget), body("policy/v1", "PodDisruptionBudget", &raw));

    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "x"},
        "spec": {"hard": {"pods": "4", "cpu": "500m"}}});
    let entry = |key: &[u8], amount: &[u8]| [field(1, key), field(2, &field(1, amount))].concat();
    let spec = [field(1, &entry(b"cpu", b"500m")), field(1, &entry(b"pods", b"4"))].concat();
    let raw = [field(1, &metadata("x")), field(2, &spec), field(3, b"")].concat();
    assert_eq!(encode(&quota), body("v1", "ResourceQuota", &raw));
}

#[test]
fn schemas_of_definitions_come_back() {
    let schema = json!({
        "$ref": "#/a", "default": {"a": [1, null, "x\n"]}, "example": "text", "enum": [1, null], "maximum": 1.5,
        "items": {"type": "string"}, "additionalProperties": false, "additionalItems": {"type": "number"},
        "dependencies": {"a": ["b"], "c": {"type": "object"}}, "properties": {"p": {"items": [{"type": "a"}, {}]}},
        "x-kubernetes-preserve-unknown-fields": true,
    });
    let object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "x"}, "spec": {"group": "g", "names": {"plural": "p", "kind": "K"}, "scope": "Namespaced",
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}}}]},
        "status": {"acceptedNames": {"plural": "p", "kind": "K"}}});
    assert_eq!(decode(&encode(&object)).unwrap(), object);
}

#[test]
fn inlines_what_json_inlines_and_leaves_out_what_is_empty() {
    let probe = [field(1, &field(2, &field(1, b"/"))), varint(2, 0), varint(3, 4)].concat();
    let container = [field(1, b"c"), field(2, b""), field(10, &probe)].concat();
    let spec = [field(2, &container), varint(11, 0), varint(4, 0)].concat();
    let pod = decode(&body("v1", "Pod", &field(2, &spec))).unwrap();
    let expected = json!({
        "containers": [{"name": "c", "livenessProbe": {"httpGet": {"path": "/"}, "timeoutSeconds": 4}}],
        "terminationGracePeriodSeconds": 0,
    });
    assert_eq!(pod["spec"], expected);
}

#[test]
fn names_are_those_of_json() {
    let class = decode(&body("node.k8s.io/v1", "RuntimeClass", &field(2, b"wasm"))).unwrap();
    assert_eq!(class["handler"], "wasm");
    let bound = field(2, &field(3, &field(4, b"u")));
    let request = decode(&body("authentication.k8s.io/v1", "TokenRequest", &bound)).unwrap();
    assert_eq!(request["spec"]["boundObjectRef"]["uid"], "u");
    let options = decode(&body("apps/v1", "DeleteOptions", &varint(1, 0))).unwrap();
    assert_eq!(options["gracePeriodSeconds"], 0);
}

#[test]
fn a_list_is_what_its_parts_are() {
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c"}]}});
    let list = json!({"apiVersion": "v1", "kind": "PodList",
        "metadata": {"resourceVersion": "7", "remainingItemCount": 300}, "items": [pod("a"), pod("b")]});
    let message = Message::of_kind("v1", "Pod").unwrap();
    let mut encoder = Encoder::default();
    let items: Vec<Vec<u8>> = ["a", "b"]
        .map(|name| {
            encoder
                .message(message, pod(name).to_string().as_bytes())
                .unwrap()
                .to_vec()
        })
        .into();
    let length = items.iter().map(|item| item_length(item.len())).sum();
    let metadata = list["metadata"].to_string();
    let mut out = list_head("v1", "PodList", metadata.as_bytes(), length).unwrap();
    items.iter().for_each(|item| put_item(&mut out, item));
    out.extend(LIST_END);
    assert_eq!(out, encode(&list));
}

#[test]
fn a_frame_of_a_watch_holds_an_event() {
    let object = encode(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x".repeat(200)}}));
    let frame = [event_head("ADDED", object.len()), object.clone()].concat();
    let (length, event) = frame.split_at(4);
    assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, event.len());
    let fields: Vec<(u32, &[u8])> = wire::fields(event)
        .map(|field| {
            field
                .map(|(number, wire)| (number, wire::bytes(wire).unwrap()))
                .unwrap()
        })
        .collect();
    assert_eq!(fields[0], (1, b"ADDED".as_slice()));
    let inner: Vec<u32> = wire::fields(fields[1].1).map(|field| field.unwrap().0).collect();
    assert_eq!((fields[1].0, inner), (2, vec![1]));
    assert!(fields[1].1.ends_with(&object));
}

#[test]
fn says_what_it_cannot_decode() {
    let cases: [(&[u8], &str); 3] = [
        (
            b"{}",
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        ),
        (b"k8s\0\x0a\xff", "unexpected EOF"),
        (b"k8s\0", "no kind \"\" is known in version \"\""),
    ];
    for (body, message) in cases {
        assert_eq!(decode(body).unwrap_err().to_string(), message);
    }
    // A number that is written as a text.
    let odd = body("v1", "Secret", &field(5, b"\x01"));
    assert_eq!(decode(&odd), Err(DecodeError::Type));
    // A schema in a schema in a schema.
    let mut deep = Vec::new();
    for _ in 0..200 {
        // The tag of `not`.
        let mut outer = vec![0xe2, 1];
        wire::put_varint(&mut outer, deep.len() as u64);
        deep = [outer.as_slice(), &deep].concat();
    }
    let mut whole = body("apiextensions.k8s.io/v1", "JSONSchemaProps", b"");
    whole.extend([0x12]);
    wire::put_varint(&mut whole, deep.len() as u64);
    whole.extend(deep);
    assert_eq!(decode(&whole), Err(DecodeError::TooDeep));
}

#[test]
fn says_what_it_cannot_encode() {
    let cases = [
        (
            json!({"apiVersion": "example.com/v1", "kind": "Thing"}),
            "has no protobuf message",
        ),
        (json!({"apiVersion": "v1", "kind": "Table"}), "has no protobuf message"),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": 1}),
            "the value of field \"metadata\"",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": {}}}),
            "the value of field \"containers\"",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "?"}}),
            "the value of field \"data\"",
        ),
    ];
    for (object, message) in cases {
        let error = Encoder::default().object(object.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// Objects of a message as Go would write them: what is never left out is there.
fn objects(message: u16, depth: u32) -> BoxedStrategy<Value> {
    let known = table();
    let fields = known.fields(known.message(message)).iter();
    let fields: Vec<BoxedStrategy<Vec<(String, Value)>>> = fields.map(|field| entries(field, depth)).collect();
    fields
        .prop_map(|entries| Value::Object(entries.into_iter().flatten().collect()))
        .boxed()
}

fn entries(field: &'static Field, depth: u32) -> BoxedStrategy<Vec<(String, Value)>> {
    if let Some(inner) = field.inlined() {
        return objects(inner, depth)
            .prop_map(|inner| match inner {
                Value::Object(map) => map.into_iter().collect(),
                _ => Vec::new(),
            })
            .boxed();
    }
    let entry = |value: Value| vec![(field.name.to_owned(), value)];
    let message = matches!(field.type_, Type::Message(_));
    let needed = field.shape == Shape::One && !field.pointer && field.zero != Zero::Omitted;
    if message && depth == 0 && !(needed && field.shape == Shape::One) {
        return Just(Vec::new()).boxed();
    }
    let inner = values(field.type_, depth.saturating_sub(1));
    match field.shape {
        Shape::List => prop_oneof![
            2 => Just(Vec::new()),
            1 => prop::collection::vec(inner, 1..3).prop_map(move |list| entry(list.into())),
        ]
        .boxed(),
        Shape::Map => prop_oneof![
            2 => Just(Vec::new()),
            1 => prop::collection::btree_map("[a-z\"\u{e9}]{0,4}", inner, 1..3)
                .prop_map(move |map| entry(Value::Object(map.into_iter().collect()))),
        ]
        .boxed(),
        Shape::One => {
            let scalar = matches!(
                field.type_,
                Type::Text | Type::Bool | Type::Int32 | Type::Int64 | Type::Double
            );
            let always = needed
                && !matches!(
                    field.type_,
                    Type::Bytes | Type::Raw | Type::Time | Type::MicroTime | Type::Texts
                )
                && (!scalar || field.zero == Zero::Written);
            let zeros = field.pointer || field.zero == Zero::Written || !scalar;
            let value = inner.prop_filter("Go leaves it out", move |value| zeros || !is_zero(value));
            match always {
                true => value.prop_map(entry).boxed(),
                false => prop_oneof![1 => Just(Vec::new()), 1 => value.prop_map(entry)].boxed(),
            }
        }
    }
}

fn is_zero(value: &Value) -> bool {
    value == "" || value == false || value.as_f64() == Some(0.0)
}

fn values(type_: Type, depth: u32) -> BoxedStrategy<Value> {
    let text = || prop_oneof![3 => "[a-z]{0,6}", 1 => "\\PC{0,4}|[\"\\\\\n]{1,3}"];
    let time = |print: fn(api::Timestamp) -> String| {
        (-1_000_000_000i64..10_000_000_000, 0..1000i32)
            .prop_map(move |(at, millis)| print(api::Timestamp::new(at, millis * 1_000_000).unwrap()).into())
            .boxed()
    };
    let texts = || prop::collection::vec(text(), 0..3).prop_map(Value::from);
    let schema = table::json_schema_props().unwrap();
    match type_ {
        Type::Text => text().prop_map(Value::from).boxed(),
        Type::Bytes => prop::collection::vec(any::<u8>(), 1..5)
            .prop_map(|bytes| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes).into())
            .boxed(),
        Type::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Type::Int32 => any::<i32>().prop_map(Value::from).boxed(),
        Type::Int64 => any::<i64>().prop_map(Value::from).boxed(),
        Type::Double => (-1_000_000i32..1_000_000)
            .prop_map(|n| (f64::from(n) / 64.0).into())
            .boxed(),
        Type::Time => time(api::time::rfc3339),
        Type::MicroTime => time(api::time::micro),
        Type::Quantity => "[1-9]{1,3}(m|Ki|Mi)?".prop_map(Value::from).boxed(),
        Type::IntOrString => prop_oneof![any::<i32>().prop_map(Value::from), text().prop_map(Value::from)].boxed(),
        Type::Raw => prop_oneof![text().prop_map(Value::from), Just(json!({"a": [1, {"b": null}]}))].boxed(),
        Type::Texts => texts().boxed(),
        Type::SchemaOrArray => prop_oneof![
            objects(schema, 0),
            prop::collection::vec(objects(schema, 0), 0..3).prop_map(Value::from)
        ]
        .boxed(),
        Type::SchemaOrBool => prop_oneof![objects(schema, 0), any::<bool>().prop_map(Value::from)].boxed(),
        Type::SchemaOrTexts => prop_oneof![objects(schema, 0), texts()].boxed(),
        Type::Message(inner) => objects(inner, depth),
    }
}

/// Kinds whose messages together have every type and shape.
const KINDS: [(&str, &str); 9] = [
    ("v1", "Pod"),
    ("v1", "Secret"),
    ("v1", "Node"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("coordination.k8s.io/v1", "Lease"),
    ("authentication.k8s.io/v1", "TokenReview"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("resource.k8s.io/v1", "ResourceSlice"),
];

fn any_object() -> impl Strategy<Value = Value> {
    prop::sample::select(&KINDS[..]).prop_flat_map(|(api_version, kind)| {
        objects(table::of_kind(api_version, kind).unwrap(), 3).prop_map(move |mut object| {
            object["apiVersion"] = api_version.into();
            object["kind"] = kind.into();
            object
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_go_would_write_comes_back_as_it_was(object in any_object()) {
        prop_assert_eq!(decode(&encode(&object)).unwrap(), object);
    }

    #[test]
    fn no_bytes_make_it_panic(raw in prop::collection::vec(any::<u8>(), 0..120)) {
        let whole = body("v1", "Pod", &raw);
        let _ = decode(&raw);
        if let Ok(tree) = decode(&whole) {
            let _ = Encoder::default().object(tree.to_string().as_bytes());
        }
    }

    #[test]
    fn a_broken_object_is_refused_or_decoded(object in any_object(), at: prop::sample::Index, byte: u8) {
        let mut bytes = encode(&object);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes);
        let _ = decode(&bytes[..at]);
    }
}
