//! Schemas of custom resources and expressions in CEL: what is accepted must then hold for any object.

use api::{Object, Path};
use schema::{
    cel::{Budget, CALL_LIMIT, Program, Type},
    structural::{Part, Structural, check},
};
use serde_json::{Value, json};

pub const SCHEMA_WORDS: &[&str] = &[
    "\"type\":",
    "\"object\"",
    "\"array\"",
    "\"integer\"",
    "\"string\"",
    "\"properties\":",
    "\"items\":",
    "\"additionalProperties\":",
    "\"default\":",
    "\"nullable\":true",
    "\"x-kubernetes-preserve-unknown-fields\":true",
    "\"x-kubernetes-embedded-resource\":true",
    "\"x-kubernetes-int-or-string\":true",
    "\"x-kubernetes-list-type\":\"map\"",
    "\"x-kubernetes-list-map-keys\":[\"a\"]",
    "\"x-kubernetes-validations\":[{\"rule\":\"self.a == oldSelf.a\"}]",
    "\"anyOf\":[{\"required\":[\"a\"]}]",
    "\"not\":{}",
    "\"pattern\":\"^a{1,3}$\"",
    "\"minimum\":1",
    "\"a\":",
    "\"spec\":",
    "{",
    "}",
    ",",
];

/// What is accepted prunes and defaults to something that stays as it is, and judges without a panic.
pub fn schemas(input: &[u8]) {
    let Ok(schema) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    if !check(&schema, &Path::root("s"), false).is_empty() {
        return;
    }
    let structural = Structural::compile(&schema);
    for object in objects() {
        let mut once = object.clone();
        structural.prune(&mut once);
        structural.default(&mut once);
        let mut twice = once.clone();
        assert!(
            structural.prune(&mut twice).is_empty(),
            "{schema} prunes its own defaults"
        );
        structural.default(&mut twice);
        assert_eq!(once, twice, "{schema}");
        structural.validate(&once, None, Part::Whole);
        let unchanged = structural.validate(&once, Some(&once), Part::Whole);
        assert!(
            unchanged
                .errors
                .iter()
                .all(|error| error.detail.contains("rule") || error.detail.contains("failed")),
            "{schema}: {:?}",
            unchanged.errors
        );
    }
}

fn objects() -> Vec<Object> {
    let head = |spec: Value| {
        let value = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "spec": spec, "a": 1});
        Object::from_value(value).expect("an object")
    };
    vec![
        head(Value::Null),
        head(json!({"a": null, "b": [null, {}, "x"]})),
        head(json!({"a": "aa", "b": {"a": {"a": [1, 1.5, -1]}}, "spec": [{"a": "x"}, {"a": "x"}]})),
    ]
}

pub const CEL_WORDS: &[&str] = &[
    "self",
    "oldSelf",
    ".a",
    ".all(",
    ".exists(",
    ".map(",
    "x, ",
    "has(",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    " + ",
    " - ",
    " / ",
    " % ",
    " == ",
    " && ",
    " || ",
    " ? ",
    " : ",
    "!",
    "1",
    "9223372036854775807",
    "1.5",
    "'a'",
    "b'a'",
    "null",
    "true",
    "in",
    "size(",
    ".matches('",
    "quantity('1Ki')",
    "duration('1h')",
    "timestamp('2026-01-01T00:00:00Z')",
    ".getHours(",
    "ip('::1')",
    "url('https://a')",
    "semver('1.2.3')",
    ".format([",
    "lists.range(",
    "sets.contains(",
    "math.greatest(",
    ".replace(",
    ".split(",
    "optional.of(",
    "?.",
    "[?",
    ".orValue(",
    "int(",
    "string(",
    "uint(",
    "double(",
    "bytes(",
    ".substring(",
    ".charAt(",
];

/// Whatever compiles ends, within its budget.
pub fn expressions(input: &[u8]) {
    let Ok(source) = std::str::from_utf8(input) else { return };
    let Ok(program) = Program::compile(source, &[("self", Type::Dyn), ("oldSelf", Type::Dyn)], None) else {
        return;
    };
    let begun = std::time::Instant::now();
    for object in objects() {
        let value = Value::Object(object.map().clone());
        let variables = ["self", "oldSelf"].into_iter().filter_map(|name| {
            let need = program.need(name)?;
            Some((
                name,
                schema::cel::from_json::<schema::cel::values::Unshaped>(&value, None, need),
            ))
        });
        let _ = program.eval(variables.collect(), &mut Budget::new(CALL_LIMIT));
    }
    assert!(begun.elapsed().as_secs() < 20, "{source:?} took {:?}", begun.elapsed());
}
