use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pod() -> Object {
    Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a", "namespace": "", "generation": 3, "labels": {"app.io/x": "1", "odd": 5},
            "finalizers": ["a.io/x"],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "1"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "2", "controller": true},
                {"broken": true},
            ],
        },
        "spec": {"containers": [{"name": "c"}], "hostNetwork": true},
    }))
    .unwrap()
}

#[test]
fn reads_metadata_and_takes_the_malformed_for_absent() {
    let pod = pod();
    assert_eq!(
        (pod.api_version(), pod.kind(), pod.name(), pod.uid()),
        ("v1", "Pod", "a", "")
    );
    assert_eq!(
        (pod.namespace(), pod.resource_version(), pod.generation()),
        (None, None, 3)
    );
    assert_eq!(pod.label("app.io/x"), Some("1"));
    assert_eq!(pod.labels().collect::<Vec<_>>(), [("app.io/x", "1")]);
    assert_eq!(pod.owner_references().len(), 2);
    assert_eq!(pod.controller().map(|owner| owner.name), Some("r".to_owned()));
    assert!(!pod.is_deleting());
}

#[test]
fn reads_by_path() {
    let pod = pod();
    assert_eq!(pod.bool_at("spec.hostNetwork"), Some(true));
    assert_eq!(pod.list_at("spec.containers").len(), 1);
    assert!(pod.list_at("spec.volumes").is_empty());
    assert_eq!(pod.at("spec.containers.name"), None);
    assert_eq!(pod.at("kind.x"), None);
}

#[test]
fn edits_finalizers_without_leaving_empty_lists() {
    let mut pod = pod();
    assert!(pod.add_finalizer("b.io/y"));
    assert!(!pod.add_finalizer("b.io/y"));
    assert!(pod.remove_finalizer("a.io/x"));
    assert!(!pod.remove_finalizer("a.io/x"));
    assert_eq!(pod.finalizers(), ["b.io/y"]);
    assert!(pod.remove_finalizer("b.io/y"));
    assert_eq!(pod.at("metadata.finalizers"), None);
}

#[test]
fn edits_annotations_whose_keys_hold_dots() {
    let mut pod = pod();
    pod.set_annotation("a.b/c", "1");
    pod.set_annotation("d", "2");
    assert_eq!(pod.annotations().collect::<Vec<_>>(), [("a.b/c", "1"), ("d", "2")]);
    assert_eq!(pod.remove_annotation("a.b/c"), Some(json!("1")));
    pod.remove_annotation("d");
    assert_eq!(pod.at("metadata.annotations"), None);
}

#[test]
fn refuses_a_root_that_is_no_map() {
    assert_eq!(
        Object::from_value(json!([])).unwrap_err().to_string(),
        "an object must be a JSON map, not a list"
    );
    assert!(Object::from_slice(b"5").is_err());
}

proptest! {
    #[test]
    fn what_is_set_is_got_and_what_is_removed_is_gone(path in "[a-c](\\.[a-c]){0,3}", first in "[a-c](\\.[a-c]){0,3}", n: i64) {
        let mut object = Object::new("v1", "Pod");
        object.set(&first, "in the way");
        object.set(&path, n);
        prop_assert_eq!(object.i64_at(&path), Some(n));
        prop_assert_eq!(object.remove(&path), Some(json!(n)));
        prop_assert_eq!(object.at(&path), None);
    }

    #[test]
    fn bytes_come_back_as_they_went(path in "[a-c](\\.[a-c]){0,3}", text in ".*") {
        let mut object = Object::new("v1", "Pod");
        object.set(&path, text);
        prop_assert_eq!(Object::from_slice(&object.to_vec()).unwrap(), object);
    }
}
