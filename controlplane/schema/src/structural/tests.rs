use serde_json::json;

use super::*;

fn errors_of(schema: Value) -> Vec<String> {
    let errors = check(&schema, &Path::root("s"), false);
    errors.iter().map(ToString::to_string).collect()
}

/// A schema with one field `x` in its spec.
fn with_x(x: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": x}}}})
}

const X: &str = "s.properties[spec].properties[x]";

#[test]
fn sound_schemas_are_accepted() {
    for schema in [
        json!({"type": "object"}),
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        with_x(json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"})),
        with_x(json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})),
        with_x(json!({"x-kubernetes-int-or-string": true,
            "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "^a"}]})),
        with_x(json!({"type": "object", "additionalProperties": {"type": "string"}})),
        with_x(json!({"type": "integer", "default": 3, "minimum": 1})),
        with_x(
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        ),
        with_x(json!({"type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true})),
        json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {
            "name": {"type": "string", "maxLength": 5}}}}}),
    ] {
        assert_eq!(errors_of(schema.clone()), Vec::<String>::new(), "{schema}");
    }
}

#[test]
fn every_rule_of_structural_schemas_is_kept() {
    let cases: Vec<(Value, String)> = vec![
        (json!({}), "s.type: Required value: must not be empty at the root".into()),
        (json!({"type": "string"}), "s.type: Invalid value: \"string\": must be object at the root".into()),
        (
            json!({"type": "object", "nullable": true}),
            "s.nullable: Forbidden: nullable cannot be true at the root".into(),
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            "s.additionalProperties: Forbidden: must not be used at the root".into(),
        ),
        (with_x(json!({})), format!("{X}.type: Required value: must not be empty for specified object fields")),
        (with_x(json!({"type": "array"})), format!("{X}.items: Required value: must be specified")),
        (
            with_x(json!({"type": "array", "items": {}})),
            format!("{X}.items.type: Required value: must not be empty for specified array items"),
        ),
        (
            with_x(json!({"type": "string", "anyOf": [{"type": "string"}]})),
            format!("{X}.anyOf[0].type: Forbidden: must be empty to be structural"),
        ),
        (
            json!({"type": "object", "allOf": [{"properties": {"a": {"minimum": 1}}}]}),
            "s.properties[a]: Required value: because it is defined in s.allOf[0].properties[a]".into(),
        ),
        (
            with_x(json!({"type": "object", "not": {"additionalProperties": {}}})),
            format!("{X}.not.additionalProperties: Forbidden: must be undefined to be structural"),
        ),
        (
            with_x(json!({"type": "string", "pattern": "("})),
            format!("{X}.pattern: Invalid value: \"(\": must be a valid regular expression, but isn't"),
        ),
        (
            with_x(json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true})),
            format!("{X}.x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true"),
        ),
        (
            with_x(json!({"type": "string", "x-kubernetes-embedded-resource": true})),
            format!("{X}.type: Invalid value: \"string\": must be object if x-kubernetes-embedded-resource is true"),
        ),
        (
            with_x(json!({"type": "object", "x-kubernetes-embedded-resource": true})),
            format!("{X}.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"),
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified".into(),
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "integer"}}}),
            "s.properties[kind].type: Invalid value: \"integer\": must be string".into(),
        ),
        (
            with_x(json!({"type": "integer", "default": "a"})),
            format!("{X}.default: Invalid value: \"string\": {X}.default in body must be of type integer: \"string\""),
        ),
        (
            with_x(json!({"type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": 1}})),
            format!("{X}.default: Invalid value: {{\"b\":1}}: must not have unknown fields"),
        ),
        (
            with_x(json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}})),
            format!("{X}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"),
        ),
        (
            with_x(json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}})),
            format!("{X}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"),
        ),
        (with_x(json!({"type": "word"})), format!("{X}.type: Unsupported value: \"word\": supported values: \"array\"")),
        (with_x(json!({"type": "string", "$ref": "#/a"})), format!("{X}.$ref: Forbidden: $ref is not supported")),
        (
            with_x(json!({"type": "array", "items": [{"type": "string"}]})),
            format!("{X}.items: Forbidden: items must be a schema object and not an array"),
        ),
        (
            with_x(json!({"type": "object", "x-kubernetes-map-type": "other"})),
            format!("{X}.x-kubernetes-map-type: Unsupported value: \"other\": supported values: \"atomic\", \"granular\""),
        ),
        (
            with_x(json!({"type": "string", "x-kubernetes-list-type": "set"})),
            format!("{X}.type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified"),
        ),
        (
            with_x(json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"})),
            format!("{X}.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set"),
        ),
        (
            with_x(json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"})),
            format!("{X}.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"),
        ),
        (
            with_x(json!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["b"]})),
            format!("{X}.x-kubernetes-list-map-keys: Invalid value: [\"b\"]: entries must all be names of item properties"),
        ),
        (
            with_x(json!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"]})),
            format!("{X}.items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"),
        ),
        (
            with_x(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false})),
            format!("{X}.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"),
        ),
    ];
    for (schema, expected) in cases {
        let errors = errors_of(schema.clone());
        assert!(
            errors.iter().any(|error| error.starts_with(&expected)),
            "{schema}\nwanted {expected}\nfound {errors:#?}"
        );
    }
}

#[test]
fn rules_are_compiled_when_a_schema_is_checked() {
    let rule = |rule: Value| {
        with_x(json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [rule]}))
    };
    for (given, expected) in [
        (json!({"rule": " "}), ".rule: Required value: rule is not specified"),
        (
            json!({"rule": "self.a > 0", "message": "\na\nb"}),
            ".message: Invalid value: \"\\na\\nb\": must not contain line breaks",
        ),
        (
            json!({"rule": "self.a >\n0"}),
            ".message: Required value: message must be specified if rule contains line breaks",
        ),
        (
            json!({"rule": "self.a > 0", "reason": "Other"}),
            ".reason: Unsupported value: \"Other\"",
        ),
        (
            json!({"rule": "self.a > 0", "fieldPath": ".b"}),
            ".fieldPath: Invalid value: \".b\": must be a valid path",
        ),
        (
            json!({"rule": "self.a > 0", "optionalOldSelf": true}),
            ".optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
        (
            json!({"rule": "self.a > 0", "messageExpression": "self.a"}),
            "messageExpression must evaluate to a string",
        ),
        (json!({"rule": "self.a"}), "cel expression must evaluate to a bool"),
        (json!({"rule": "self.b > 0"}), "undefined field 'b'"),
        (json!({"rule": "self.a = 0"}), "Syntax error"),
    ] {
        let errors = errors_of(rule(given.clone()));
        let found = errors
            .iter()
            .any(|error| error.starts_with(X) && error.contains(expected));
        assert!(found, "{given}: {errors:#?}");
    }
    assert_eq!(
        errors_of(rule(json!({"rule": "self.a > 0", "fieldPath": ".a"}))),
        Vec::<String>::new()
    );
    let uncorrelatable = with_x(json!({"type": "array", "items": {"type": "integer",
        "x-kubernetes-validations": [{"rule": "self > oldSelf"}]}}));
    let expected = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {X}");
    assert!(errors_of(uncorrelatable).iter().any(|error| error.contains(&expected)));
}

#[test]
fn a_status_subresource_narrows_the_root() {
    let schema = json!({"type": "object", "anyOf": [{"required": ["a"]}]});
    let errors = check(&schema, &Path::root("s"), true);
    assert!(
        errors[0]
            .to_string()
            .contains("fields are allowed at the root of the schema if the status subresource is enabled")
    );
    assert_eq!(check(&json!({"type": "object"}), &Path::root("s"), true), Vec::new());
}

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}

/// What is found wrong with an object whose spec is given.
fn found(schema: Value, spec: Value) -> Vec<String> {
    let schema = json!({"type": "object", "properties": {"spec": schema}});
    let structural = Structural::compile(&schema);
    let object = object(json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "spec": spec}));
    let findings = structural.validate(&object, None, Part::Whole);
    findings.errors.iter().map(ToString::to_string).collect()
}

#[test]
fn values_are_judged_in_kubernetes_words() {
    let props = |x: Value| json!({"type": "object", "properties": {"x": x}});
    for (schema, spec, expected) in [
        (
            props(json!({"type": "integer", "minimum": 1})),
            json!({"x": 0}),
            "spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1",
        ),
        (
            props(json!({"type": "integer", "maximum": 5, "exclusiveMaximum": true})),
            json!({"x": 5}),
            "spec.x: Invalid value: 5: spec.x in body should be less than 5",
        ),
        (
            props(json!({"type": "integer"})),
            json!({"x": "a"}),
            "spec.x: Invalid value: \"string\": spec.x in body must be of type integer: \"string\"",
        ),
        (
            props(json!({"type": "integer"})),
            json!({"x": 1.5}),
            "spec.x: Invalid value: \"number\": spec.x in body must be of type integer: \"number\"",
        ),
        (
            props(json!({"type": "string"})),
            json!({"x": null}),
            "spec.x: Invalid value: \"null\": spec.x in body must be of type string: \"null\"",
        ),
        (
            json!({"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}}),
            json!({}),
            "spec.x: Required value",
        ),
        (
            props(json!({"type": "string", "enum": ["a", "b"]})),
            json!({"x": "c"}),
            "spec.x: Unsupported value: \"c\": supported values: \"a\", \"b\"",
        ),
        (
            props(json!({"type": "string", "maxLength": 2})),
            json!({"x": "abc"}),
            "spec.x: Too long: may not be more than 2 bytes",
        ),
        (
            props(json!({"type": "string", "minLength": 2})),
            json!({"x": "a"}),
            "spec.x: Invalid value: \"a\": spec.x in body should be at least 2 chars long",
        ),
        (
            props(json!({"type": "string", "pattern": "^b"})),
            json!({"x": "a"}),
            "spec.x: Invalid value: \"a\": spec.x in body should match '^b'",
        ),
        (
            props(json!({"type": "string", "format": "ipv4"})),
            json!({"x": "a"}),
            "spec.x: Invalid value: \"a\": spec.x in body must be of type ipv4: \"a\"",
        ),
        (
            props(json!({"type": "number", "multipleOf": 0.5})),
            json!({"x": 0.7}),
            "spec.x: Invalid value: 0.7: spec.x in body should be a multiple of 0.5",
        ),
        (
            props(json!({"type": "array", "maxItems": 1, "items": {"type": "string"}})),
            json!({"x": ["a", "b"]}),
            "spec.x: Too many: 2: must have at most 1 item",
        ),
        (
            props(json!({"type": "array", "minItems": 1, "items": {"type": "string"}})),
            json!({"x": []}),
            "spec.x: Invalid value: 0: spec.x in body should have at least 1 items",
        ),
        (
            props(json!({"type": "array", "items": {"type": "string"}})),
            json!({"x": ["a", 1]}),
            "spec.x[1]: Invalid value: \"integer\": spec.x[1] in body must be of type string: \"integer\"",
        ),
        (
            props(json!({"type": "object", "additionalProperties": {"type": "string"}})),
            json!({"x": {"k": 1}}),
            "spec.x.k: Invalid value: \"integer\": spec.x.k in body must be of type string: \"integer\"",
        ),
        (
            props(json!({"x-kubernetes-int-or-string": true})),
            json!({"x": true}),
            "spec.x: Invalid value: \"boolean\": spec.x in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"a": "1", "b": "2"}),
            "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "not": {"required": ["a"]}}),
            json!({"a": "1"}),
            "<nil>: Invalid value: \"\": \"spec\" must not validate the schema (not)",
        ),
        (
            props(json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"})),
            json!({"x": ["a", "a"]}),
            "spec.x[1]: Duplicate value: \"a\"",
        ),
        (
            props(
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
            ),
            json!({"x": [{"k": "a"}, {"k": "a"}]}),
            "spec.x[1]: Duplicate value: {\"k\":\"a\"}",
        ),
        (
            props(
                json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            ),
            json!({"x": {"kind": "Pod"}}),
            "spec.x.apiVersion: Required value: must not be empty",
        ),
        (
            props(json!({"type": "integer", "x-kubernetes-validations": [{"rule": "self > 3", "message": "more"}]})),
            json!({"x": 1}),
            "spec.x: Invalid value: 1: more",
        ),
        (
            props(json!({"type": "integer", "x-kubernetes-validations": [{"rule": "self > 3"}]})),
            json!({"x": 1}),
            "spec.x: Invalid value: 1: failed rule: self > 3",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [{
                "rule": "self.a > 3", "messageExpression": "'a is ' + string(self.a)", "fieldPath": ".a"}]}),
            json!({"a": 1}),
            "spec.a: Invalid value: a is 1",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [{
                "rule": "self.a > 3", "reason": "FieldValueForbidden", "message": "no"}]}),
            json!({"a": 1}),
            "spec: Forbidden: no",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": "self.a > 3"}]}),
            json!({}),
            "spec: Invalid value: \"object\": no such key: a evaluating rule: self.a > 3",
        ),
    ] {
        let errors = found(schema.clone(), spec.clone());
        assert!(
            errors.iter().any(|error| error == expected),
            "{schema} {spec}\nwanted {expected}\nfound {errors:#?}"
        );
    }
}

#[test]
fn rules_wait_for_the_other_validations() {
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.a > 3"}]});
    assert_eq!(
        found(schema, json!({})),
        [
            "spec.a: Required value",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct \
             the existing errors to complete validation"
        ]
    );
}

fn update(schema: Value, old: Value, new: Value) -> (Vec<String>, Vec<String>) {
    let structural = Structural::compile(&json!({"type": "object", "properties": {"spec": schema}}));
    let of = |spec: Value| object(json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "spec": spec}));
    let findings = structural.validate(&of(new), Some(&of(old)), Part::Whole);
    (
        findings.errors.iter().map(ToString::to_string).collect(),
        findings.warnings,
    )
}

#[test]
fn transition_rules_see_what_was() {
    let immutable = json!({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-validations": [
        {"rule": "self == oldSelf", "message": "is immutable"}]}}});
    let (errors, _) = update(immutable.clone(), json!({"a": "x"}), json!({"a": "y"}));
    assert_eq!(errors, ["spec.a: Invalid value: \"y\": is immutable"]);
    for (old, new) in [(json!({"a": "x"}), json!({"a": "x"})), (json!({}), json!({"a": "y"}))] {
        assert_eq!(update(immutable.clone(), old, new).0, Vec::<String>::new());
    }
    let optional = json!({"type": "object", "properties": {"a": {"type": "integer", "x-kubernetes-validations": [
        {"rule": "oldSelf.hasValue() || self == 0", "optionalOldSelf": true, "message": "begins at zero"}]}}});
    assert_eq!(
        found(optional, json!({"a": 1})),
        ["spec.a: Invalid value: 1: begins at zero"]
    );
    let listed = json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "required": ["k"], "properties": {
            "k": {"type": "string"}, "v": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "may not shrink"}]}}}});
    let (errors, _) = update(
        listed,
        json!({"l": [{"k": "a", "v": 1}, {"k": "b", "v": 5}]}),
        json!({"l": [{"k": "b", "v": 4}, {"k": "c", "v": 0}]}),
    );
    assert_eq!(errors, ["spec.l[0]: Invalid value: may not shrink"]);
}

#[test]
fn an_update_is_not_blamed_for_what_it_left_alone() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "integer", "minimum": 5},
        "b": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 5", "message": "more"}]},
        "c": {"type": "string"}}});
    let (errors, warnings) = update(
        schema.clone(),
        json!({"a": 1, "b": 1}),
        json!({"a": 1, "b": 1, "c": "new"}),
    );
    assert_eq!(
        (errors, warnings),
        (Vec::new(), vec!["spec.b: Invalid value: 1: more".to_owned()])
    );
    let (errors, _) = update(schema, json!({"a": 1, "b": 1}), json!({"a": 2, "b": 2}));
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[test]
fn an_update_that_changes_nothing_is_not_blamed_for_the_root() {
    let structural = Structural::compile(&json!({"type": "object", "required": ["x"], "maxProperties": 1}));
    let was = object(json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}}));
    let errors_of = |new: &Object| structural.validate(new, Some(&was), Part::Whole).errors.len();
    assert_eq!(errors_of(&was), 0);
    let changed = object(json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "y": 1}));
    assert_eq!(errors_of(&changed), 2);
}

#[test]
fn what_is_not_named_is_pruned() {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "a": {"type": "string"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"closed": {"type": "object"}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"k": {"type": "string"}}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}}}}});
    let structural = Structural::compile(&schema);
    let mut pruned = object(
        json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n", "extra": 1}, "z": 1, "spec": {
        "a": "x", "b": 1, "open": {"anything": {"deep": 1}, "closed": {"x": 1}}, "map": {"m": {"k": "v", "l": 1}},
        "list": [{"k": "v", "l": 1}], "pod": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "x": 1}}}),
    );
    let mut gone = structural.prune(&mut pruned);
    gone.sort();
    assert_eq!(
        gone,
        [
            "spec.b",
            "spec.list[0].l",
            "spec.map.m.l",
            "spec.open.closed.x",
            "spec.pod.x",
            "z"
        ]
    );
    assert_eq!(
        pruned.into_value(),
        json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n", "extra": 1}, "spec": {
            "a": "x", "open": {"anything": {"deep": 1}, "closed": {}}, "map": {"m": {"k": "v"}},
            "list": [{"k": "v"}], "pod": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}}}})
    );
}

#[test]
fn defaults_fill_what_is_absent_or_may_not_be_null() {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "default": {}, "properties": {
            "a": {"type": "integer", "default": 3},
            "b": {"type": "integer", "nullable": true, "default": 4},
            "c": {"type": "string"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string", "default": "v"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "integer", "default": 1}}}}}});
    let structural = Structural::compile(&schema);
    for (spec, expected) in [
        (None, json!({"a": 3, "b": 4})),
        (
            Some(json!({"a": null, "b": null, "c": null})),
            json!({"a": 3, "b": null}),
        ),
        (
            Some(json!({"a": 1, "list": [{}], "map": {"x": null}})),
            json!({"a": 1, "b": 4, "list": [{"k": "v"}], "map": {"x": 1}}),
        ),
    ] {
        let mut value = json!({"metadata": {}});
        if let Some(spec) = spec {
            value["spec"] = spec;
        }
        let mut once = object(value);
        structural.default(&mut once);
        assert_eq!(once.at("spec"), Some(&expected));
        let mut twice = once.clone();
        structural.default(&mut twice);
        assert_eq!(once, twice);
    }
}

#[test]
fn custom_resources_decode_as_they_are_and_report_what_went() {
    let schema = crate::Schema::structural(Structural::compile(&with_x(json!({"type": "integer"}))));
    let text = br#"{"apiVersion":"a/v1","kind":"K","metadata":{"name":"n","bogus":1},"spec":{"x":"1","y":[],"x":[]}}"#;
    let decoded = crate::decode_json(text, &schema).unwrap();
    assert_eq!(
        decoded.problems,
        [
            "unknown field \"metadata.bogus\"",
            "duplicate field \"spec.x\"",
            "unknown field \"spec.y\""
        ]
    );
    assert_eq!(
        decoded.object.at("spec"),
        Some(&json!({"x": []})),
        "types are validated, not decoded"
    );
    let wrong = crate::decode_json(br#"{"metadata":{"labels":{"a":1}}}"#, &schema).unwrap_err();
    assert!(
        wrong.to_string().starts_with("json: cannot unmarshal number into"),
        "{wrong}"
    );
}

#[test]
fn paths_lead_to_their_schemas() {
    let schema = with_x(json!({"type": "string"}));
    assert_eq!(field_at(&schema, ".spec.x").unwrap().0, "spec.x");
    for (path, why) in [
        ("spec.x", "expected [ or . but got: spec.x"),
        (".spec.y", "does not refer to a valid field"),
        (".spec.x[0]", "array notation is not allowed"),
    ] {
        assert_eq!(field_at(&schema, path).unwrap_err(), why);
    }
}

#[test]
fn a_schema_goes_with_its_last_holder() {
    let structural = Structural::compile(&with_x(json!({"type": "string", "pattern": "^a"})));
    let weak = Arc::downgrade(&structural.0);
    let schema = crate::Schema::structural(structural);
    assert!(schema.root().definition().is_some());
    drop(schema);
    assert!(weak.upgrade().is_none());
}

#[test]
fn rules_that_could_take_too_long_are_refused() {
    let rule = json!([{"rule": "self.all(s, s == 'a')"}]);
    let strings = |bounds: Value| {
        let mut list = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": rule});
        list.as_object_mut()
            .unwrap()
            .extend(bounds.as_object().unwrap().clone());
        list
    };
    let nested = |outer: Value, inner: Value| {
        let mut list = json!({"type": "array", "items": inner});
        list.as_object_mut().unwrap().extend(outer.as_object().unwrap().clone());
        with_x(list)
    };
    let words =
        "estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems";
    let errors = errors_of(nested(json!({}), strings(json!({}))));
    assert!(errors.iter().any(|error| error.contains(words)), "{errors:?}");
    for schema in [
        with_x(strings(json!({}))),
        nested(json!({"maxItems": 100}), strings(json!({"maxItems": 100}))),
        nested(
            json!({}),
            json!({"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}),
        ),
    ] {
        assert_eq!(errors_of(schema.clone()), Vec::<String>::new(), "{schema}");
    }
    let square = with_x(json!({"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, a == b))"}]}));
    assert!(errors_of(square).iter().any(|error| error.contains(words)));
}
