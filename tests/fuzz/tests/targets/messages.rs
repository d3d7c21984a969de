//! Kubernetes' protobuf as a function of bytes: what decodes can be encoded, and then comes back as it was.

use schema::protobuf::{Encoder, decode};
use serde_json::Value;

pub const WORDS: &[&str] = &[
    "k8s\0",
    "v1",
    "Pod",
    "Status",
    "apps/v1",
    "\n",
    "\x12",
    "\x1a",
    "\x08",
    "\0",
    "{\"a\":1}",
    "null",
];

pub fn decoded(input: &[u8]) {
    let _ = decode(input);
}

pub fn round_trip(input: &[u8]) {
    let Ok(tree) = decode(input) else { return };
    let mut encoder = Encoder::default();
    // Options are taken under any version, and written under none.
    let Ok(bytes) = encoder.object(tree.to_string().as_bytes()).map(<[u8]>::to_vec) else {
        let kind = tree["kind"].as_str().unwrap_or_default();
        assert!(kind.ends_with("Options"), "{tree} cannot be encoded");
        return;
    };
    let back = decode(&bytes).expect("what was encoded decodes");
    let again = encoder.object(back.to_string().as_bytes()).expect("and can be encoded");
    // serde_json reads fractions to the last digit but one.
    assert!(has_fraction(&tree) || again == bytes, "{tree} becomes {back}");
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}
