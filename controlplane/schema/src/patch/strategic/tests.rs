use std::sync::LazyLock;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pod() -> Schema {
    static POD: LazyLock<Schema> = LazyLock::new(|| Schema::of::<Pod>("io.k8s.api.core.v1.Pod"));
    POD.clone()
}

fn apply(document: Value, patch: Value, schema: &Schema) -> Result<Value, PatchError> {
    let mut document = document;
    strategic(&mut document, &patch, schema).map(|()| document)
}

/// Patches the spec of a pod.
fn spec(document: Value, patch: Value) -> Value {
    apply(json!({ "spec": document }), json!({ "spec": patch }), &pod()).unwrap()["spec"].take()
}

fn refusal(document: Value, patch: Value) -> String {
    apply(json!({ "spec": document }), json!({ "spec": patch }), &pod())
        .unwrap_err()
        .to_string()
}

#[test]
fn merges_maps_and_removes_by_null() {
    let document = json!({"nodeName": "n", "nodeSelector": {"a": "1", "b": "2"}, "hostNetwork": true});
    let patch =
        json!({"nodeName": null, "nodeSelector": {"a": null, "c": "3"}, "dnsPolicy": "Default", "priority": null});
    let want = json!({"nodeSelector": {"b": "2", "c": "3"}, "hostNetwork": true, "dnsPolicy": "Default"});
    assert_eq!(spec(document, patch), want);
}

#[test]
fn merges_lists_by_their_key() {
    let document = json!({"containers": [{"name": "a", "image": "1", "tty": true}, {"name": "b", "image": "1"}]});
    for (patch, want) in [
        (
            json!([{"name": "b", "image": "2"}]),
            json!([{"name": "a", "image": "1", "tty": true}, {"name": "b", "image": "2"}]),
        ),
        (
            json!([{"name": "a", "tty": null}]),
            json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]),
        ),
        // The caller's items stand in the caller's order, others where they were before them.
        (
            json!([{"name": "c", "image": null}, {"name": "a"}]),
            json!([{"name": "c"}, {"name": "a", "image": "1", "tty": true}, {"name": "b", "image": "1"}]),
        ),
        (
            json!([{"name": "a", "$patch": "delete"}]),
            json!([{"name": "b", "image": "1"}]),
        ),
        (json!([{"name": "x"}, {"$patch": "replace"}]), json!([{"name": "x"}])),
        (
            json!([{"name": "a", "$patch": "delete"}, {"name": "b", "tty": false}]),
            json!([{"name": "b", "image": "1", "tty": false}]),
        ),
    ] {
        assert_eq!(
            spec(document.clone(), json!({ "containers": patch }))["containers"],
            want,
            "{patch}"
        );
    }
}

#[test]
fn merges_deeply() {
    let document =
        json!({"containers": [{"name": "a", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}]});
    let patch =
        json!({"containers": [{"name": "a", "env": [{"name": "B", "value": "2"}, {"name": "A", "$patch": "delete"}]}]});
    let want = json!({"containers": [{"name": "a", "env": [{"name": "B", "value": "2"}]}]});
    assert_eq!(spec(document, patch), want);
}

#[test]
fn replaces_lists_that_are_not_merged() {
    let document = json!({"tolerations": [{"key": "a"}], "containers": [{"name": "a", "args": ["1", "2"]}]});
    let patch = json!({"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["3"]}]});
    assert_eq!(spec(document, patch.clone()), patch);
}

#[test]
fn merges_lists_of_scalars_as_sets() {
    let merged = |document: Value, patch: Value| {
        apply(json!({ "metadata": document }), json!({ "metadata": patch }), &pod()).unwrap()["metadata"].take()
    };
    let document = json!({"finalizers": ["a", "b"]});
    assert_eq!(
        merged(document.clone(), json!({"finalizers": ["c", "a"]})),
        json!({"finalizers": ["c", "a", "b"]})
    );
    let patch = json!({"$deleteFromPrimitiveList/finalizers": ["a", "x"]});
    assert_eq!(merged(document.clone(), patch), json!({"finalizers": ["b"]}));
    let patch = json!({"$setElementOrder/finalizers": ["b", "c", "a"], "finalizers": ["c"]});
    assert_eq!(merged(document, patch), json!({"finalizers": ["b", "c", "a"]}));
}

#[test]
fn puts_items_in_the_order_asked_for() {
    let document = json!({"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]});
    for (order, patch, want) in [
        (vec!["b", "a"], json!([]), vec!["server", "b", "a"]),
        (vec!["a", "b"], json!([]), vec!["a", "server", "b"]),
        (
            vec!["new", "a", "b"],
            json!([{"name": "new"}]),
            vec!["new", "a", "server", "b"],
        ),
        (
            vec!["b"],
            json!([{"name": "a", "$patch": "delete"}]),
            vec!["server", "b"],
        ),
    ] {
        let order: Vec<Value> = order.into_iter().map(|name| json!({ "name": name })).collect();
        let patch = json!({"$setElementOrder/containers": order, "containers": patch});
        let merged = spec(document.clone(), patch);
        let names: Vec<&str> = merged["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, want);
    }
    let alone = json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]});
    assert_eq!(spec(json!({}), alone), json!({}));
}

#[test]
fn retains_only_the_keys_named() {
    let schema = Schema::of::<Deployment>("io.k8s.api.apps.v1.Deployment");
    let document = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let patched = apply(document.clone(), patch, &schema).unwrap();
    assert_eq!(patched, json!({"spec": {"strategy": {"type": "Recreate"}}}));
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}});
    assert_eq!(
        apply(document, patch, &schema).unwrap_err().to_string(),
        "invalid patch format of retainKeys"
    );
    let document = json!({"volumes": [{"name": "a", "emptyDir": {}}]});
    let patch = json!({"volumes": [{"$retainKeys": ["name", "secret"], "name": "a", "secret": {"secretName": "s"}}]});
    assert_eq!(
        spec(document, patch),
        json!({"volumes": [{"name": "a", "secret": {"secretName": "s"}}]})
    );
}

#[test]
fn replaces_and_deletes_whole_maps() {
    let document = json!({"securityContext": {"runAsUser": 1}, "affinity": {"nodeAffinity": {}}});
    let patch = json!({
        "securityContext": {"$patch": "replace", "runAsGroup": 2, "fsGroup": null},
        "affinity": {"$patch": "delete"},
    });
    assert_eq!(
        spec(document, patch),
        json!({"securityContext": {"runAsGroup": 2}, "affinity": {}})
    );
}

#[test]
fn keys_may_be_numbers() {
    let schema = Schema::of::<Service>("io.k8s.api.core.v1.Service");
    let document = json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}});
    let patch = json!({"spec": {"ports": [{"port": 81, "name": "c"}]}});
    let want = json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "c"}]}});
    assert_eq!(apply(document, patch, &schema).unwrap(), want);
}

#[test]
fn leaves_no_directive_in_what_it_adds() {
    let patch = json!({
        "$setElementOrder/containers": [{"name": "a"}],
        "containers": [{
            "name": "a", "$setElementOrder/env": [{"name": "A"}], "tty": null,
            "env": [{"name": "A", "value": "1"}, {"name": "B", "$patch": "delete"}],
        }],
        "securityContext": {"$retainKeys": ["runAsUser"], "runAsUser": 1},
    });
    let want = json!({
        "containers": [{"name": "a", "env": [{"name": "A", "value": "1"}]}],
        "securityContext": {"runAsUser": 1},
    });
    assert_eq!(spec(json!({}), patch.clone()), want);
    assert_eq!(
        spec(json!({"containers": [{"name": "z", "$x": 1}]}), patch)["containers"][0]["env"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn refuses_directives_that_make_no_sense() {
    let document = json!({"containers": [{"name": "a"}]});
    for (patch, want) in [
        (json!({"$patch": "merge"}), "unknown patch type 'merge' in map: {}"),
        (
            json!({"containers": [{"image": "x"}]}),
            r#"map: {"image":"x"} does not contain declared merge key: name"#,
        ),
        (
            json!({"containers": [{"$patch": "delete"}]}),
            r#"map: {"$patch":"delete"} does not contain declared merge key: name"#,
        ),
        (
            json!({"containers": [{"name": "a", "$patch": "merge"}]}),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}),
            "The order in patch list:\n[{\"name\":\"a\"}]\n doesn't match $setElementOrder list:\n[{\"name\":\"b\"}]\n",
        ),
        (
            json!({"$setElementOrder/containers": 1}),
            "invalid patch format of setElementOrder list",
        ),
        (
            json!({"$deleteFromPrimitiveList": []}),
            "invalid patch format of primitive list",
        ),
    ] {
        assert_eq!(refusal(document.clone(), patch), want);
    }
    assert!(matches!(
        apply(json!({}), json!([]), &pod()),
        Err(PatchError::Malformed { .. })
    ));
}

#[test]
fn applies_what_kubectl_apply_sends() {
    let schema = Schema::of::<Deployment>("io.k8s.api.apps.v1.Deployment");
    let template =
        |containers: Value| json!({"spec": {"replicas": 3, "template": {"spec": {"containers": containers}}}});
    let stored = template(json!([
        {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]},
        {"name": "sidecar", "image": "s"},
        {"name": "b", "image": "b:1"},
    ]));
    let patch = json!({"spec": {"paused": null, "template": {"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
        "containers": [
            {"image": "b:2", "name": "b"},
            {"$setElementOrder/env": [{"name": "X"}], "env": [{"name": "X", "value": "2"}], "name": "a"},
        ],
    }}}});
    let want = template(json!([
        {"name": "sidecar", "image": "s"},
        {"name": "b", "image": "b:2"},
        {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "2"}]},
    ]));
    assert_eq!(apply(stored, patch, &schema).unwrap(), want);
}

fn containers() -> impl Strategy<Value = Vec<Value>> {
    let container = ("[a-e]", prop::option::of("[1-3]")).prop_map(|(name, image)| match image {
        Some(image) => json!({"name": name, "image": image}),
        None => json!({ "name": name }),
    });
    prop::collection::vec(container, 0..5).prop_map(|mut list| {
        let mut seen = Vec::new();
        list.retain(|item| {
            !seen.contains(&item["name"]) && {
                seen.push(item["name"].clone());
                true
            }
        });
        list
    })
}

proptest! {
    #[test]
    fn patching_twice_is_patching_once(document in containers(), patch in containers()) {
        let patch = json!({ "containers": patch });
        let once = spec(json!({ "containers": document }), patch.clone());
        prop_assert_eq!(spec(once.clone(), patch), once);
    }

    #[test]
    fn every_item_of_the_patch_is_there_in_its_order(document in containers(), patch in containers()) {
        let merged = spec(json!({ "containers": document.clone() }), json!({ "containers": patch.clone() }));
        let names: Vec<Value> = merged["containers"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
        let wanted: Vec<Value> = patch.iter().map(|item| item["name"].clone()).collect();
        prop_assert_eq!(names.iter().filter(|name| wanted.contains(name)).cloned().collect::<Vec<_>>(), wanted);
        prop_assert!(document.iter().all(|item| names.contains(&item["name"])));
    }

    #[test]
    fn an_empty_patch_changes_nothing(document in containers()) {
        let document = json!({"spec": {"containers": document}});
        prop_assert_eq!(apply(document.clone(), json!({}), &pod()).unwrap(), document);
    }
}

#[test]
fn replaces_a_list_that_is_not_there_by_what_the_patch_holds() {
    let patch = json!([{"$patch": "replace"}, {"name": "x"}]);
    assert_eq!(
        spec(json!({}), json!({ "containers": patch })),
        json!({"containers": [{"name": "x"}]})
    );
}
