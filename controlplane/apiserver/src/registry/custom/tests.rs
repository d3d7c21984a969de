use serde_json::{Value, json};

use super::jsonpath::JsonPath;

#[test]
fn paths_find_what_kubectl_users_expect() {
    let object = json!({
        "spec": {"replicas": 3, "a.b": "dotted", "names": ["x", "y", "z"], "ports": [
            {"name": "http", "port": 80}, {"name": "https", "port": 443}]},
        "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Synced", "status": "False", "reason": "Because"}]},
    });
    let map = object.as_object().expect("a map");
    for (path, expected) in [
        (".spec.replicas", json!([3])),
        (".spec.missing", json!([])),
        (".spec.names[1]", json!(["y"])),
        (".spec.names[-1]", json!(["z"])),
        (".spec.names[0:2]", json!(["x", "y"])),
        (".spec.names[0:3:2]", json!(["x", "z"])),
        (".spec.names[0,2]", json!(["x", "z"])),
        (".spec.names[9]", json!([])),
        (".spec.names[*]", json!(["x", "y", "z"])),
        (".spec['a.b']", json!(["dotted"])),
        (".spec.a\\.b", json!(["dotted"])),
        (".spec.ports[*].port", json!([80, 443])),
        (".spec.ports[?(@.name=='https')].port", json!([443])),
        (".spec.ports[?(@.port>100)].name", json!(["https"])),
        (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
        (".status.conditions[?(@.reason)].type", json!(["Synced"])),
        ("..port", json!([80, 443])),
        (".status..type", json!(["Ready", "Synced"])),
    ] {
        let parsed = JsonPath::parse(path).unwrap_or_else(|| panic!("{path} does not parse"));
        let found: Vec<Value> = parsed.find(map).into_iter().cloned().collect();
        assert_eq!(Value::from(found), expected, "{path}");
    }
}

#[test]
fn what_is_no_path_is_refused() {
    for path in [
        "spec",
        ".spec[",
        ".spec[x]",
        ".spec[?(@.a==]",
        ".spec.names[1:2:3:4]",
        ".a]",
    ] {
        assert_eq!(JsonPath::parse(path), None, "{path}");
    }
    assert_eq!(JsonPath::parse(&".a".repeat(100)), None, "too long");
}

#[test]
fn cells_have_the_type_of_their_column() {
    let version = json!({"additionalPrinterColumns": [
        {"name": "N", "type": "integer", "jsonPath": ".spec.n"},
        {"name": "F", "type": "number", "jsonPath": ".spec.n"},
        {"name": "S", "type": "string", "jsonPath": ".spec.list"},
        {"name": "B", "type": "boolean", "jsonPath": ".spec.text", "priority": 1},
        {"name": "D", "type": "date", "jsonPath": ".spec.when", "description": "when"},
        {"name": "X", "type": "date", "jsonPath": ".spec.text"}]});
    let (columns, cells) = super::columns::of(&version);
    let names: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.priority)).collect();
    assert_eq!(
        names,
        [("Name", 0), ("N", 0), ("F", 0), ("S", 0), ("B", 1), ("D", 0), ("X", 0)]
    );
    let object = api::Object::from_value(json!({"metadata": {"name": "o"},
        "spec": {"n": 3, "list": ["a", 1], "text": "t", "when": "2026-01-01T00:00:00Z"}}))
    .expect("an object");
    let now = "2026-01-01T02:00:00Z".parse().expect("a time");
    assert_eq!(
        cells(&object, now),
        json!(["o", 3, 3.0, "[\"a\",1]", null, "120m", "<invalid>"])
            .as_array()
            .unwrap()
            .clone()
    );
}

#[test]
fn without_columns_of_its_own_a_kind_shows_its_age() {
    let (columns, _) = super::columns::of(&json!({}));
    let shown: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.type_.as_str())).collect();
    assert_eq!(shown, [("Name", "string"), ("Age", "date")]);
}
