use serde_json::json;

use super::*;

fn apply(document: Value, patch: Value) -> Result<Value, PatchError> {
    let mut document = document;
    json(&mut document, patch.to_string().as_bytes()).map(|()| document)
}

#[test]
fn applies_operations_in_order() {
    let patch = json!([
        {"op": "test", "path": "/a", "value": 1},
        {"op": "add", "path": "/list/-", "value": "x"},
        {"op": "copy", "from": "/list", "path": "/again"},
        {"op": "move", "from": "/a", "path": "/b"},
        {"op": "replace", "path": "/list/0", "value": "y"},
        {"op": "remove", "path": "/gone"},
    ]);
    let patched = apply(json!({"a": 1, "list": [], "gone": 1}), patch).unwrap();
    assert_eq!(patched, json!({"b": 1, "list": ["y"], "again": ["x"]}));
}

#[test]
fn refuses_what_does_not_apply() {
    for (patch, want) in [
        (
            json!({"op": "test", "path": "/a", "value": 2}),
            "testing value /a failed: test failed",
        ),
        (
            json!({"op": "remove", "path": "/x"}),
            "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            json!({"op": "remove", "path": "/x/y"}),
            "remove operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!({"op": "replace", "path": "/x", "value": 1}),
            "replace operation does not apply: doc is missing key: /x: missing value",
        ),
        (
            json!({"op": "add", "path": "/x/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!({"op": "copy", "from": "/x", "path": "/y"}),
            "copy operation does not apply: doc is missing from path: /x: missing value",
        ),
    ] {
        assert_eq!(
            apply(json!({"a": 1}), json!([patch])),
            Err(PatchError::Unapplicable {
                message: want.to_owned()
            })
        );
    }
    for (patch, want) in [
        (
            json!({"op": "add"}),
            "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            json!(["add"]),
            "json: cannot unmarshal string into Go value of type handlers.jsonPatchOp",
        ),
    ] {
        let message = want.to_owned();
        assert_eq!(apply(json!({}), patch), Err(PatchError::Malformed { message }));
    }
    assert!(matches!(
        apply(json!({}), json!([{"op": "grow", "path": "/a"}])),
        Err(PatchError::Unapplicable { .. })
    ));
}

#[test]
fn bounds_what_a_patch_may_cost() {
    let many: Vec<Value> = vec![json!({"op": "test", "path": "", "value": {}}); 10_001];
    assert_eq!(
        apply(json!({}), many.into()).unwrap_err().to_string(),
        "The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
    let doubling: Vec<Value> = (0..60)
        .flat_map(|_| [json!({"op": "copy", "from": "/a", "path": "/a/-"})])
        .collect();
    assert!(matches!(
        apply(json!({"a": ["x"]}), doubling.into()),
        Err(PatchError::TooLarge { .. })
    ));
    let nest = json!({"op": "copy", "from": "", "path": "/a"});
    assert!(matches!(
        apply(json!({}), vec![nest; 200].into()),
        Err(PatchError::TooLarge { .. })
    ));
    let deep = format!("/{}", vec!["a"; 200].join("/"));
    assert!(matches!(
        apply(json!({}), json!([{"op": "add", "path": deep, "value": 1}])),
        Err(PatchError::TooLarge { .. })
    ));
}

#[test]
fn merges_as_the_rfc_says() {
    let mut document = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
    super::super::merge(&mut document, &json!({"a": {"b": null, "d": {"e": null}}, "l": [3]}));
    assert_eq!(document, json!({"a": {"c": 2, "d": {}}, "l": [3]}));
}
