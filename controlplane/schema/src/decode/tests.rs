use std::sync::LazyLock;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, core::v1::Secret, events::v1::Event};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pod() -> Schema {
    static POD: LazyLock<Schema> = LazyLock::new(|| Schema::of::<Pod>("io.k8s.api.core.v1.Pod"));
    POD.clone()
}

fn deployment() -> Schema {
    static DEPLOYMENT: LazyLock<Schema> = LazyLock::new(|| Schema::of::<Deployment>("io.k8s.api.apps.v1.Deployment"));
    DEPLOYMENT.clone()
}

fn decode(text: &str, schema: &Schema) -> Decoded {
    decode_json(text.as_bytes(), schema).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str, schema: &Schema) -> String {
    decode_json(text.as_bytes(), schema)
        .map(|decoded| format!("{:?}", decoded.object))
        .unwrap_err()
        .to_string()
}

#[test]
fn drops_and_reports_what_is_unknown_or_given_twice() {
    let decoded = decode(
        r#"{"kind":"Pod","Spec":{},"spec":{"foo":[{"deep":1}],"containers":[{"name":"a","name":"b","bar":null},{"nome":1}]},
            "metadata":{"labels":{"a":"1","a":"2"}}}"#,
        &pod(),
    );
    assert_eq!(
        decoded.problems,
        [
            r#"unknown field "Spec""#,
            r#"unknown field "spec.foo""#,
            r#"duplicate field "spec.containers[0].name""#,
            r#"unknown field "spec.containers[0].bar""#,
            r#"unknown field "spec.containers[1].nome""#,
            r#"duplicate field "metadata.labels.a""#,
        ]
    );
    let want = json!({"kind": "Pod", "spec": {"containers": [{"name": "b"}, {}]}, "metadata": {"labels": {"a": "2"}}});
    assert_eq!(decoded.object.into_value(), want);
    assert_eq!(
        Decoded::strict_error(&decoded.problems[..2]),
        r#"strict decoding error: unknown field "Spec", unknown field "spec.foo""#
    );
}

#[test]
fn reports_no_more_than_a_hundred_problems() {
    let fields: Vec<String> = (0..500).map(|n| format!(r#""f{n}":1"#)).collect();
    assert_eq!(decode(&format!("{{{}}}", fields.join(",")), &pod()).problems.len(), 100);
}

#[test]
fn words_wrong_types_as_go_does() {
    for (text, want) in [
        (
            r#"{"spec":{"replicas":"x"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"image":5}]}}}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type string",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"metadata":{"labels":{"a":true}}}"#,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels.a of type string",
        ),
        (
            r#"{"spec":[]}"#,
            "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        ("[]", "json: cannot unmarshal array into Go value of type v1.Deployment"),
        (
            r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":true}}}}"#,
            "json: cannot unmarshal bool into Go value of type int32",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            r#"{"metadata":{"creationTimestamp":"soon"}}"#,
            r#"parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006""#,
        ),
    ] {
        assert_eq!(refusal(text, &deployment()), want, "{text}");
    }
    let secret = Schema::of::<Secret>("io.k8s.api.core.v1.Secret");
    assert_eq!(
        refusal(r#"{"data":{"a":"!"}}"#, &secret),
        "illegal base64 data at input byte 0"
    );
    let want = "json: cannot unmarshal number into Go struct field Secret.data.a of type []uint8";
    assert_eq!(refusal(r#"{"data":{"a":1}}"#, &secret), want);
}

#[test]
fn words_what_a_strategic_merge_patch_made_as_the_converter_does() {
    for (tree, want) in [
        (json!({"spec": {"replicas": "x"}}), "unrecognized type: int32"),
        (json!({"spec": {"replicas": 1.5}}), "cannot convert float64 to int32"),
        (json!({"spec": {"paused": "x"}}), "unrecognized type: bool"),
        (json!({"spec": []}), "cannot restore struct from: slice"),
        (
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "cannot restore slice from map",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"image": 5}]}}}}),
            "cannot convert int64 to string",
        ),
        (json!({"metadata": {"labels": "x"}}), "cannot restore map from string"),
        (
            json!({"metadata": {"labels": {"a": true}}}),
            "unrecognized type: string",
        ),
    ] {
        let mut spoilt = tree.clone();
        let refused = check_merged(&mut spoilt, &deployment()).expect_err("it does not fit");
        assert_eq!(refused.to_string(), want, "{tree}");
    }
}

#[test]
fn stores_the_canonical_form() {
    let decoded = decode(
        r#"{"metadata":{"creationTimestamp":"2026-01-01T02:00:00.5+02:00"},
            "spec":{"containers":[{"resources":{"limits":{"cpu":0.5,"memory":"1024Mi","x":"0.1"}}}]}}"#,
        &pod(),
    );
    let container = &decoded.object.list_at("spec.containers")[0];
    assert_eq!(
        container["resources"]["limits"],
        json!({"cpu": "500m", "memory": "1Gi", "x": "100m"})
    );
    assert_eq!(decoded.object.creation_timestamp(), Some("2026-01-01T00:00:00Z"));
    let event = Schema::of::<Event>("io.k8s.api.events.v1.Event");
    let decoded = decode(r#"{"eventTime":"2026-01-01T00:00:00.1234567Z"}"#, &event);
    assert_eq!(decoded.object.str_at("eventTime"), Some("2026-01-01T00:00:00.123456Z"));
}

#[test]
fn null_is_an_absent_field_and_an_empty_item() {
    let decoded = decode(
        r#"{"metadata":{"labels":{"a":null},"name":null},"spec":{"containers":[null],"nodeSelector":null}}"#,
        &pod(),
    );
    assert_eq!(decoded.problems, [""; 0]);
    let want = json!({"metadata": {"labels": {"a": ""}}, "spec": {"containers": [{}]}});
    assert_eq!(decoded.object.into_value(), want);
}

#[test]
fn what_go_leaves_out_is_not_kept() {
    let decoded = decode(
        r#"{"metadata":{"name":"a","namespace":"","labels":{}},
            "spec":{"nodeName":"","runtimeClassName":"","nodeSelector":{},"tolerations":[],"securityContext":{},
                    "volumes":[{"name":"v","emptyDir":{}}],"containers":[]}}"#,
        &pod(),
    );
    let spec = json!({
        "runtimeClassName": "", "securityContext": {}, "volumes": [{"name": "v", "emptyDir": {}}], "containers": [],
    });
    assert_eq!(
        decoded.object.into_value(),
        json!({"metadata": {"name": "a"}, "spec": spec})
    );
}

#[test]
fn refuses_text_that_is_not_json_or_too_deep() {
    for text in ["", "{", r#"{"a":1}x"#, "{'a':1}", "nul"] {
        assert!(
            matches!(decode_json(text.as_bytes(), &pod()), Err(DecodeError::Json { .. })),
            "{text}"
        );
    }
    let deep = |field: &str| format!(r#"{{"{field}":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(
        decode_json(deep("x").as_bytes(), &Schema::preserve_unknown()).unwrap_err(),
        DecodeError::TooDeep
    );
    assert!(decode_json(deep("spec").as_bytes(), &pod()).is_err());
    // What is unknown is skipped without going down into it.
    assert_eq!(decode(&deep("x"), &pod()).problems, [r#"unknown field "x""#]);
}

#[test]
fn keeps_everything_without_a_schema() {
    let text = r#"{"a":{"b":[null,1.5,"x",{"c":null}]}}"#;
    let decoded = decode(text, &Schema::preserve_unknown());
    assert_eq!(
        decoded.object.into_value(),
        serde_json::from_str::<Value>(text).unwrap()
    );
}

#[test]
fn reads_yaml_as_kubernetes_does() {
    let text = "
apiVersion: v1 # a comment
kind: Pod
metadata:
  labels: &labels {app: web}
  annotations: *labels
spec:
  foo: 1
  hostNetwork: yes
  volumes:
  - name: a
    secret: {secretName: s, defaultMode: 0644}
  - name: b
    name: c
";
    let decoded = decode_yaml(text.as_bytes(), &pod()).unwrap();
    assert_eq!(
        decoded.problems,
        [
            r#"unknown field "spec.foo""#,
            r#"duplicate field "spec.volumes[1].name""#
        ]
    );
    assert_eq!(decoded.object.annotation("app"), Some("web"));
    assert_eq!(decoded.object.bool_at("spec.hostNetwork"), Some(true));
    assert_eq!(
        decoded.object.list_at("spec.volumes")[0]["secret"]["defaultMode"],
        json!(420)
    );
}

#[test]
fn repeated_keys_are_told_by_line() {
    let text = "\na: &a {b: 1, b: 2}\nlist:\n- c: [~, 1.5, true]\n  d: x\n  c:\n    e: 1\n    e: 2\nf: *a\na: 3\n";
    let want = [
        r#"line 2: key "b" already set in map"#,
        r#"line 8: key "e" already set in map"#,
        r#"line 7: key "c" already set in map"#,
        r#"line 2: key "b" already set in map"#,
        r#"line 10: key "a" already set in map"#,
    ];
    assert_eq!(repeated_keys(text.as_bytes()), want);
    assert!(repeated_keys(b"{\"a\": {\"b\": 1}, \"c\": 99999999999999999999}").is_empty());
    assert!(repeated_keys(b"a: [").is_empty());
}

#[test]
fn refuses_yaml_that_is_wrong_or_a_bomb() {
    let want = "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool";
    assert_eq!(
        decode_yaml(b"spec: {hostNetwork: 'true'}", &pod())
            .unwrap_err()
            .to_string(),
        want
    );
    assert!(matches!(decode_yaml(b"a: [", &pod()), Err(DecodeError::Yaml { .. })));
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..30 {
        let of = vec![format!("*a{}", n - 1); 10].join(",");
        bomb.push_str(&format!("a{n}: &a{n} [{of}]\n"));
    }
    assert!(decode_yaml(bomb.as_bytes(), &Schema::preserve_unknown()).is_err());
    let deep = "[".repeat(10_000);
    assert!(decode_yaml(deep.as_bytes(), &Schema::preserve_unknown()).is_err());
}

#[test]
fn checks_a_patched_tree_as_if_it_were_decoded() {
    let mut tree = json!({"spec": {"replicas": null, "foo": 1, "minReadySeconds": 5}});
    assert_eq!(
        check(&mut tree, &deployment()).unwrap(),
        [r#"unknown field "spec.foo""#]
    );
    assert_eq!(tree, json!({"spec": {"minReadySeconds": 5}}));
    let mut tree = json!({"spec": {"replicas": "5"}});
    assert!(check(&mut tree, &deployment()).is_err());
    let mut deep = json!(1);
    for _ in 0..1000 {
        deep = json!({ "a": deep });
    }
    assert_eq!(check(&mut deep, &Schema::preserve_unknown()), Err(DecodeError::TooDeep));
}

#[test]
fn reads_the_field_validation_parameter() {
    assert_eq!(FieldValidation::parse("Strict"), Ok(FieldValidation::Strict));
    assert_eq!(FieldValidation::parse(""), Ok(FieldValidation::Warn));
    assert_eq!(
        FieldValidation::parse("x").unwrap_err(),
        r#"fieldValidation: Unsupported value: "x": supported values: "Ignore", "Strict", "Warn""#
    );
}

proptest! {
    #[test]
    fn outside_bytes_never_panic(text in "[\\[\\]{}:,\"a-z0-9. \n-]{0,60}|.*") {
        let _ = decode_json(text.as_bytes(), &pod());
        let _ = decode_yaml(text.as_bytes(), &pod());
    }

    #[test]
    fn decoding_what_was_decoded_changes_nothing(
        cpu in "[0-9]{1,4}(\\.[0-9]{1,3})?(m|k|Ki|Gi)?", replicas: Option<i32>, labels in prop::collection::btree_map("[a-z]{1,5}", "[a-z]{0,5}", 0..4),
    ) {
        let tree = json!({
            "metadata": {"labels": labels},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"resources": {"limits": {"cpu": cpu}}}]}}},
        });
        let once = decode(&tree.to_string(), &deployment()).object;
        let twice = decode(&String::from_utf8(once.to_vec()).unwrap(), &deployment());
        prop_assert_eq!(twice.problems, [""; 0]);
        prop_assert_eq!(twice.object, once);
    }
}

#[test]
fn says_that_text_ends_too_early_as_go_does() {
    for text in ["", "{\"metadata\":{\"name\":", "{"] {
        let error = decode_json(text.as_bytes(), &pod()).unwrap_err().to_string();
        assert_eq!(
            error, "couldn't get version/kind; json parse error: unexpected end of JSON input",
            "{text:?}"
        );
    }
}
