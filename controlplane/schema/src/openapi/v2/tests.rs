use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;

use super::*;
use crate::openapi::{Source, Subresource, schema_json};

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

fn bytes(format: V2Format) -> Vec<u8> {
    let described = |group, kind, plural, definition, schema_json| Described {
        group,
        version: "v1",
        kind,
        plural,
        namespaced: true,
        definition,
        verbs: VERBS,
        subresources: vec![Subresource {
            name: "status",
            group,
            version: "v1",
            kind,
            verbs: &["get", "patch", "update"],
        }],
        schema_json,
    };
    let mut document = V2Document::new(format);
    let definition = "io.k8s.api.apps.v1.Deployment";
    let deployments = described(
        "apps",
        "Deployment",
        "deployments",
        definition,
        Source::BuiltIn(schema_json::<Deployment>),
    );
    document.add(&GroupVersion::new("apps", "v1"), &[deployments]);
    let definition = "io.k8s.api.core.v1.ConfigMap";
    let maps = described(
        "",
        "ConfigMap",
        "configmaps",
        definition,
        Source::BuiltIn(schema_json::<ConfigMap>),
    );
    document.add(&GroupVersion::new("", "v1"), &[maps]);
    document.finish("v1.36.2")
}

fn json() -> Value {
    serde_json::from_slice(&bytes(V2Format::Json)).expect("JSON")
}

/// Calls `f` with every object of a tree.
fn each(value: &Value, f: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            f(map);
            map.values().for_each(|value| each(value, f));
        }
        Value::Array(list) => list.iter().for_each(|value| each(value, f)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_no_word_is_of_v3() {
    let document = json();
    let mut references = Vec::new();
    each(&document, &mut |map| {
        references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
    });
    assert!(references.len() > 200, "{}", references.len());
    for reference in references {
        let name = reference
            .strip_prefix("#/definitions/")
            .unwrap_or_else(|| panic!("{reference}"));
        assert!(document["definitions"].get(name).is_some(), "{name}");
    }
    // Names of fields may be any word, so only schemas and operations themselves are looked at.
    let mut operations = 0;
    for item in document["paths"].as_object().expect("paths").values() {
        each(item, &mut |map| {
            operations += usize::from(map.contains_key("operationId"));
            for word in ["requestBody", "content", "allOf", "oneOf"] {
                assert!(!map.contains_key(word), "{word}: {map:?}");
            }
        });
    }
    assert_eq!(operations, 22);
}

#[test]
fn an_operation_says_what_it_takes_and_gives() {
    let document = json();
    let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    insta::assert_json_snapshot!(item["put"]);
    let body = &item["patch"]["parameters"][0];
    assert_eq!(
        (&body["name"], &body["in"], &body["required"]),
        (&json!("body"), &json!("body"), &json!(true))
    );
    assert_eq!(item["get"]["consumes"], json!(["*/*"]));
}

#[test]
fn fields_keep_their_descriptions_and_extensions() {
    let document = json();
    let definitions = &document["definitions"];
    let containers = &definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(
        containers["items"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.Container"
    );
    let spec = &definitions["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"];
    assert_eq!(spec["$ref"], "#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
    assert!(
        spec["description"]
            .as_str()
            .is_some_and(|text| text.starts_with("Specification"))
    );
    let either = &definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!(
        (&either["type"], &either["format"]),
        (&json!("string"), &json!("int-or-string"))
    );
    assert_eq!(
        definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"],
        "string"
    );
}

/// The fields of a message: number and bytes; numbers of varints have their value as one byte.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (byte, rest) = bytes.split_first().expect("a varint ends");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        if tag & 7 == 0 {
            found.push((tag >> 3, vec![u8::try_from(varint(&mut bytes)).expect("a flag")]));
            continue;
        }
        assert_eq!(tag & 7, 2, "only lengths and varints are written");
        let length = usize::try_from(varint(&mut bytes)).expect("it fits");
        let (field, rest) = bytes.split_at(length);
        bytes = rest;
        found.push((tag >> 3, field.to_vec()));
    }
    found
}

/// The one field of a number.
fn field(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut found = fields(bytes).into_iter().filter(|(n, _)| *n == number);
    let (_, value) = found.next().unwrap_or_else(|| panic!("no field {number}"));
    value
}

/// The value of a name in a repeated pair.
fn named(bytes: &[u8], number: u64, name: &str) -> Vec<u8> {
    let pairs = fields(bytes).into_iter().filter(|(n, _)| *n == number);
    let found = pairs
        .map(|(_, pair)| pair)
        .find(|pair| field(pair, 1) == name.as_bytes());
    field(&found.unwrap_or_else(|| panic!("{name} is missing")), 2)
}

#[test]
fn protobuf_says_the_same() {
    let (bytes, document) = (bytes(V2Format::Protobuf), json());
    assert_eq!(field(&bytes, 1), b"2.0");
    let (paths, definitions) = (field(&bytes, 8), field(&bytes, 9));
    assert_eq!(
        fields(&paths).len(),
        document["paths"].as_object().expect("paths").len()
    );
    assert_eq!(
        fields(&definitions).len(),
        document["definitions"].as_object().expect("definitions").len()
    );

    let deployment = named(&definitions, 1, "io.k8s.api.apps.v1.Deployment");
    let kind = named(&deployment, 31, "x-kubernetes-group-version-kind");
    let kind: Value = serde_json::from_slice(&field(&kind, 2)).expect("JSON is YAML");
    assert_eq!(kind, json!([{"group": "apps", "version": "v1", "kind": "Deployment"}]));
    let spec = named(&field(&deployment, 25), 1, "spec");
    assert_eq!(field(&spec, 1), b"#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
    assert!(field(&spec, 4).starts_with(b"Specification"));
    let data = named(
        &field(&named(&definitions, 1, "io.k8s.api.core.v1.ConfigMap"), 25),
        1,
        "data",
    );
    assert_eq!(field(&field(&data, 22), 1), b"object");
    assert_eq!(field(&field(&field(&field(&data, 21), 1), 22), 1), b"string");

    let item = named(&paths, 2, "/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
    let put = field(&item, 3);
    assert_eq!(field(&put, 5), b"replaceAppsV1NamespacedDeployment");
    // Parameters: the body first, with its schema; then what stands in the query.
    let parameters: Vec<Vec<u8>> = fields(&put)
        .into_iter()
        .filter(|(n, _)| *n == 8)
        .map(|(_, p)| p)
        .collect();
    let body = field(&field(&parameters[0], 1), 1);
    assert_eq!((field(&body, 2), field(&body, 4)), (b"body".to_vec(), vec![1]));
    let query = field(&field(&field(&parameters[1], 1), 2), 3);
    assert_eq!(
        (field(&query, 4), field(&query, 6), field(&query, 20)),
        (b"dryRun".to_vec(), b"string".to_vec(), vec![1])
    );
    let answer = field(&field(&named(&field(&put, 9), 1, "200"), 1), 2);
    assert_eq!(
        field(&field(&answer, 1), 1),
        b"#/definitions/io.k8s.api.apps.v1.Deployment"
    );
}

fn custom(schema: Value) -> Value {
    let definition = "com.example.v1.Foo";
    let foos = Described {
        group: "example.com",
        version: "v1",
        kind: "Foo",
        plural: "foos",
        namespaced: true,
        definition,
        verbs: VERBS,
        subresources: Vec::new(),
        schema_json: Source::Custom(std::sync::Arc::new(move || schema.clone())),
    };
    let mut document = V2Document::new(V2Format::Json);
    document.add(&GroupVersion::new("example.com", "v1"), &[foos]);
    let mut document: Value = serde_json::from_slice(&document.finish("v1.36.2")).expect("JSON");
    document["definitions"][definition].take()
}

/// Conformance compares these with what the definition says.
#[test]
fn custom_resources_keep_their_authors_words() {
    let spec = json!({"type": "object", "description": "Specification of Foo", "required": ["feeling"], "properties": {
        "feeling": {"type": "string", "enum": ["Great", "Down"], "default": "Great"},
        "qux": {"type": "string", "pattern": "in-tree|out-of-tree"},
        "bars": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
    }});
    let found = custom(json!({"type": "object", "description": "Foo CRD for Testing", "properties": {"spec": spec}}));
    assert_eq!(found["description"], "Foo CRD for Testing");
    assert_eq!(found["properties"]["spec"], spec);
    let metadata = &found["properties"]["metadata"]["$ref"];
    assert_eq!(
        metadata,
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    let kind = json!([{"group": "example.com", "version": "v1", "kind": "Foo"}]);
    assert_eq!(found["x-kubernetes-group-version-kind"], kind);
}

#[test]
fn what_v2_cannot_say_of_custom_resources_is_left_out() {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"spec": {"type": "object"}}});
    let kind = json!([{"group": "example.com", "version": "v1", "kind": "Foo"}]);
    assert_eq!(
        custom(open.clone()),
        json!({"type": "object", "x-kubernetes-group-version-kind": kind})
    );
    let found = custom(
        json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["a", "b"],
        "properties": {
            "a": {"type": "object", "nullable": true, "properties": {"x": {"type": "string"}}},
            "b": {"type": "string", "anyOf": [{"pattern": "a"}], "maxLength": 3},
            "c": open,
        }}}}),
    );
    assert_eq!(
        found["properties"]["spec"],
        json!({"type": "object", "required": ["b"], "properties": {
            "a": {},
            "b": {"type": "string", "maxLength": 3},
            "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }})
    );
}
