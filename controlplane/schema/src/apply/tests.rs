//! What Kubernetes documents and what its own tests pin down, in tables; and the laws, as properties.

mod laws;

use std::borrow::Cow;

use api::Object;
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v1::Scale,
    core::v1::{ConfigMap, Pod, Service},
};
use serde_json::{Value, json};

use super::{
    Versions, Writer, apply, described,
    element::{BadElement, Element},
    scale,
    set::Set,
    update,
};
use crate::Schema;

pub(super) struct NoOther;

impl Versions for NoOther {
    fn schema(&self, _: &str) -> Option<&Schema> {
        None
    }

    fn convert(&self, object: &Object, _: &str, _: &str) -> Object {
        object.clone()
    }
}

pub(super) fn deployments() -> Schema {
    Schema::of::<Deployment>("io.k8s.api.apps.v1.Deployment")
}

fn pods() -> Schema {
    Schema::of::<Pod>("io.k8s.api.core.v1.Pod")
}

fn config_maps() -> Schema {
    Schema::of::<ConfigMap>("io.k8s.api.core.v1.ConfigMap")
}

pub(super) fn writer<'a>(name: &'a str, schema: &'a Schema) -> Writer<'a> {
    Writer {
        name,
        version: "v1",
        subresource: "",
        schema,
        versions: &NoOther,
        reset: &[],
        now: "2026-01-01T00:00:00Z",
    }
}

pub(super) fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}

fn fields(entries: &[Value], manager: &str) -> Value {
    let mine = entries.iter().find(|entry| entry["manager"] == manager);
    mine.map(|entry| entry["fieldsV1"].clone()).unwrap_or_default()
}

/// `manager operation` of each entry.
fn managers(object: &Object) -> Vec<String> {
    let entries = object.list_at("metadata.managedFields").iter();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    entries
        .map(|entry| format!("{} {}", text(entry, "manager"), text(entry, "operation")))
        .collect()
}

/// An object that the manager `maker` has just created.
fn created(mut new: Object, schema: &Schema, maker: &str) -> Object {
    let entries = update(&writer(maker, schema), None, &new, None);
    new.set("metadata.uid", "u");
    new.set("metadata.managedFields", entries);
    new
}

/// The object after `manager` has made it what `change` says.
fn changed(old: &Object, schema: &Schema, manager: &str, change: impl FnOnce(&mut Object)) -> Object {
    let mut new = old.clone();
    new.remove("metadata.managedFields");
    change(&mut new);
    let entries = update(&writer(manager, schema), Some(old), &new, None);
    new.set("metadata.managedFields", entries);
    new
}

fn config_map(data: Value) -> Object {
    object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}))
}

#[test]
fn elements_are_written_and_shown_as_kubernetes_does() {
    let text = |value: &'static str| Cow::Owned::<Value>(value.into());
    for (element, encoded, shown) in [
        (Element::field("replicas"), "f:replicas", ".replicas"),
        (
            Element::Key(vec![("name".into(), text("a"))]),
            r#"k:{"name":"a"}"#,
            r#"[name="a"]"#,
        ),
        (
            Element::Key(vec![
                ("containerPort".into(), Cow::Owned(80.into())),
                ("protocol".into(), text("TCP")),
            ]),
            r#"k:{"containerPort":80,"protocol":"TCP"}"#,
            r#"[containerPort=80,protocol="TCP"]"#,
        ),
        (Element::Value(text("a<b")), r#"v:"a\u003cb""#, r#"[="a<b"]"#),
        (Element::Value(Cow::Owned(true.into())), "v:true", "[=true]"),
        (Element::Index(3), "i:3", "[3]"),
    ] {
        assert_eq!(element.encode(), encoded);
        assert_eq!(element.to_string(), shown);
        assert_eq!(Element::decode(encoded), Ok(element));
    }
    assert_eq!(Element::decode("x:1"), Err(BadElement::Unknown));
    for text in ["", "f", "ab:c", "v:{", "k:[]", "i:x"] {
        assert!(matches!(Element::decode(text), Err(BadElement::Malformed(_))), "{text}");
    }
}

#[test]
fn elements_are_ordered_by_kind_then_value() {
    let sorted = [
        "f:a",
        "f:b",
        r#"k:{"p":8}"#,
        r#"k:{"p":80}"#,
        r#"k:{"p":443}"#,
        "v:1",
        r#"v:"a""#,
        "i:2",
        "i:10",
    ];
    let elements: Vec<_> = sorted.iter().map(|text| Element::decode(text).unwrap()).collect();
    assert!(elements.is_sorted());
}

#[test]
fn sets_read_and_write_fields_v1() {
    let fields = json!({"f:data": {".": {}, "f:a": {}}, "f:spec": {r#"k:{"name":"a"}"#: {"f:x": {}}}});
    assert_eq!(Value::Object(Set::decode(&fields).unwrap().encode()), fields);
    // What a future version may write is passed over; what is no set is refused.
    let unknown = json!({"f:a": {}, "z:b": {}});
    assert_eq!(
        Value::Object(Set::decode(&unknown).unwrap().encode()),
        json!({"f:a": {}})
    );
    for bad in [json!([]), json!({"f:a": 1}), json!({"a": {}})] {
        assert!(Set::decode(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_created_config_map_is_its_makers() {
    let new = object(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"},
        "metadata": {"name": "x", "namespace": "a", "labels": {"app": "web"}, "uid": "u", "generation": 1},
    }));
    let entries = update(&writer("kubectl-create", &config_maps()), None, &new, None);
    assert_eq!(
        Value::Array(entries),
        json!([{
            "manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:data": {".": {}, "f:k": {}},
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            },
        }])
    );
}

/// The example of Kubernetes' documentation, as its API server answers it.
#[test]
fn a_created_deployment_is_owned_field_by_field() {
    let container = json!({
        "name": "nginx", "image": "nginx:1.14.2", "imagePullPolicy": "IfNotPresent", "resources": {},
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    });
    let new = object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "nginx"},
        "spec": {
            "progressDeadlineSeconds": 600, "replicas": 3, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "nginx"}},
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}, "type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {"app": "nginx"}},
                "spec": {
                    "containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
                    "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
                },
            },
        },
    }));
    let entries = update(&writer("kubectl", &deployments()), None, &new, None);
    let port = r#"k:{"containerPort":80,"protocol":"TCP"}"#;
    assert_eq!(
        fields(&entries, "kubectl"),
        json!({"f:spec": {
            "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
            "f:strategy": {
                "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
                "f:type": {},
            },
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:containers": {r#"k:{"name":"nginx"}"#: {
                        ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {},
                        "f:ports": {".": {}, port: {".": {}, "f:containerPort": {}, "f:protocol": {}}},
                        "f:resources": {}, "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
                    }},
                    "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                    "f:terminationGracePeriodSeconds": {},
                },
            },
        }})
    );
}

#[test]
fn a_service_owns_ports_and_whole_selectors() {
    let new = object(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}], "selector": {"app": "web"}, "type": "ClusterIP"},
        "status": {"loadBalancer": {}},
    }));
    let schema = Schema::of::<Service>("io.k8s.api.core.v1.Service");
    let entries = update(&writer("kubectl-expose", &schema), None, &new, None);
    assert_eq!(
        fields(&entries, "kubectl-expose"),
        json!({"f:spec": {
            "f:ports": {".": {}, r#"k:{"port":80,"protocol":"TCP"}"#: {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
            "f:selector": {}, "f:type": {},
        }})
    );
}

#[test]
fn a_status_is_owned_by_condition() {
    let pod = object(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }));
    let old = created(pod, &pods(), "kubectl-run");
    let mut new = old.clone();
    new.remove("metadata.managedFields");
    new.set(
        "status",
        json!({
            "phase": "Running", "qosClass": "BestEffort", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null}],
        }),
    );
    let schema = pods();
    let kubelet = Writer {
        subresource: "status",
        reset: &["spec"],
        ..writer("kubelet", &schema)
    };
    let entries = update(&kubelet, Some(&old), &new, None);
    let entry = entries.iter().find(|entry| entry["manager"] == "kubelet").unwrap();
    assert_eq!(entry["subresource"], "status");
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:status": {
            "f:conditions": {".": {}, r#"k:{"type":"Ready"}"#: {".": {}, "f:lastProbeTime": {}, "f:status": {}, "f:type": {}}},
            "f:phase": {}, "f:podIP": {}, "f:podIPs": {".": {}, r#"k:{"ip":"10.0.0.1"}"#: {".": {}, "f:ip": {}}},
        }})
    );
}

#[test]
fn an_update_takes_what_it_changes_and_frees_what_it_removes() {
    let schema = config_maps();
    let old = created(config_map(json!({"a": "1", "b": "1", "c": "1"})), &schema, "one");
    let new = changed(&old, &schema, "two", |map| {
        map.set("data", json!({"a": "2", "b": "1", "d": "1"}))
    });
    let entries = new.list_at("metadata.managedFields");
    assert_eq!(fields(entries, "one"), json!({"f:data": {".": {}, "f:b": {}}}));
    assert_eq!(fields(entries, "two"), json!({"f:data": {"f:a": {}, "f:d": {}}}));
    // The last field of a manager takes its entry along.
    let gone = changed(&new, &schema, "three", |map| drop(map.remove("data")));
    assert!(managers(&gone).is_empty(), "{:?}", managers(&gone));
}

#[test]
fn an_update_that_changes_nothing_leaves_the_entries_alone() {
    let schema = config_maps();
    let old = created(config_map(json!({"a": "1"})), &schema, "one");
    let same = changed(&old, &schema, "two", |_| {});
    assert_eq!(same, old);
}

#[test]
fn clients_may_forget_or_send_managed_fields_but_not_lose_them() {
    let schema = config_maps();
    let old = created(config_map(json!({"a": "1"})), &schema, "one");
    let mut new = old.clone();
    new.remove("metadata.managedFields");
    let theirs = json!([{"manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:a": {}}}}]);
    let kept: Vec<Value> = old.list_at("metadata.managedFields").to_vec();
    let cases = [
        ("absent", None, "", kept.clone()),
        ("empty", Some(json!([])), "", vec![]),
        ("one empty entry", Some(json!([{}])), "", vec![]),
        ("two empty entries", Some(json!([{}, {}])), "", kept.clone()),
        ("unreadable", Some(json!([{"manager": "x"}])), "", kept.clone()),
        ("sent", Some(theirs.clone()), "", theirs.as_array().unwrap().clone()),
        ("by way of a subresource", Some(theirs), "status", kept),
    ];
    for (what, sent, subresource, want) in cases {
        let writer = Writer {
            subresource,
            ..writer("two", &schema)
        };
        assert_eq!(update(&writer, Some(&old), &new, sent.as_ref()), want, "{what}");
    }
}

#[test]
fn what_nobody_tracks_stays_untracked_until_it_is_applied() {
    let schema = config_maps();
    let mut old = config_map(json!({"a": "1"}));
    old.set("metadata.uid", "u");
    let new = config_map(json!({"a": "2"}));
    assert!(update(&writer("two", &schema), Some(&old), &new, None).is_empty());
    let config = config_map(json!({"b": "1"}));
    let applied = apply(&writer("three", &schema), Some(&old), &config, false).unwrap();
    assert_eq!(managers(&applied), ["three Apply", "before-first-apply Update"]);
}

#[test]
fn the_oldest_updates_are_joined() {
    let schema = config_maps();
    let mut map = created(config_map(json!({"k0": "1"})), &schema, "m0");
    for n in 1..=11 {
        map = changed(&map, &schema, &format!("m{n:02}"), |map| {
            map.set(&format!("data.k{n}"), "1")
        });
    }
    let entries = map.list_at("metadata.managedFields");
    assert_eq!(entries.len(), 10);
    assert_eq!(
        fields(entries, "ancient-changes"),
        json!({"f:data": {".": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}}})
    );
}

#[test]
fn an_apply_creates_owns_and_removes() {
    let schema = config_maps();
    let me = writer("me", &schema);
    let mut first = apply(&me, None, &config_map(json!({"a": "1", "b": "1"})), false).unwrap();
    assert_eq!(
        first.at("metadata.managedFields"),
        Some(
            &json!([{"manager": "me", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}}}}])
        )
    );
    first.set("metadata.uid", "u");
    let other = changed(&first, &schema, "other", |map| map.set("data.c", "1"));
    let second = apply(&me, Some(&other), &config_map(json!({"a": "2"})), false).unwrap();
    assert_eq!(second.at("data"), Some(&json!({"a": "2", "c": "1"})));
    assert_eq!(managers(&second), ["me Apply", "other Update"]);
}

#[test]
fn what_two_appliers_name_stays_when_one_leaves() {
    let schema = config_maps();
    let mut map = apply(
        &writer("a", &schema),
        None,
        &config_map(json!({"x": "1", "y": "1"})),
        false,
    )
    .unwrap();
    map.set("metadata.uid", "u");
    let map = apply(&writer("b", &schema), Some(&map), &config_map(json!({"x": "1"})), false).unwrap();
    let nothing = object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}));
    let left = apply(&writer("a", &schema), Some(&map), &nothing, false).unwrap();
    assert_eq!(left.at("data"), Some(&json!({"x": "1"})));
    assert_eq!(managers(&left), ["b Apply"]);
}

#[test]
fn conflicts_name_managers_and_fields() {
    let schema = config_maps();
    let old = created(config_map(json!({"a": "1", "b": "1"})), &schema, "kubectl-create");
    let old = changed(&old, &schema, "other", |map| map.set("data.c", "1"));
    let one = apply(
        &writer("me", &schema),
        Some(&old),
        &config_map(json!({"a": "2"})),
        false,
    )
    .unwrap_err();
    assert_eq!((one.code, &*one.reason), (409, "Conflict"));
    assert_eq!(
        one.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-create\" using v1: .data.a"
    );
    let config = config_map(json!({"a": "2", "b": "2", "c": "2"}));
    let many = apply(&writer("me", &schema), Some(&old), &config, false).unwrap_err();
    assert_eq!(
        many.message,
        "Apply failed with 3 conflicts: conflicts with \"kubectl-create\" using v1:\n- .data.a\n- .data.b\nconflicts with \
         \"other\" using v1:\n- .data.c"
    );
    let causes = many.details.unwrap().causes;
    assert_eq!(causes.len(), 3);
    assert_eq!(
        (&*causes[0].reason, &*causes[0].message, &*causes[0].field),
        (
            "FieldManagerConflict",
            "conflict with \"kubectl-create\" using v1",
            ".data.a"
        )
    );
    let forced = apply(&writer("me", &schema), Some(&old), &config, true).unwrap();
    assert_eq!(managers(&forced), ["me Apply", "kubectl-create Update"]);
    assert_eq!(
        fields(forced.list_at("metadata.managedFields"), "kubectl-create"),
        json!({"f:data": {}})
    );
    // The same value is no conflict: both own it then.
    let shared = apply(
        &writer("me", &schema),
        Some(&old),
        &config_map(json!({"a": "1"})),
        false,
    )
    .unwrap();
    assert_eq!(managers(&shared), ["me Apply", "kubectl-create Update", "other Update"]);
}

#[test]
fn applied_items_keep_and_get_their_order() {
    let schema = deployments();
    let with = |names: &[&str]| {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "i"})).collect();
        object(
            json!({"apiVersion": "v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"template": {"spec": {"containers": containers}}}}),
        )
    };
    let cases: [(&[&str], &[&str], &[&str]); 7] = [
        (&["a", "b"], &["a", "b"], &["a", "b"]),
        (&["a", "b"], &["b", "a"], &["b", "a"]),
        (&["a", "b"], &["c"], &["a", "b", "c"]),
        (&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]),
        (&["a", "b"], &["c", "a"], &["c", "a", "b"]),
        (&["a", "x", "b"], &["b", "y", "a"], &["x", "b", "y", "a"]),
        (&[], &["a"], &["a"]),
    ];
    for (live, config, want) in cases {
        let mut old = with(live);
        old.set("metadata.uid", "u");
        let merged = apply(&writer("me", &schema), Some(&old), &with(config), true).unwrap();
        let names: Vec<&str> = merged
            .list_at("spec.template.spec.containers")
            .iter()
            .filter_map(|container| container["name"].as_str())
            .collect();
        assert_eq!(names, want, "{live:?} {config:?}");
    }
}

#[test]
fn keys_left_out_have_their_defaults() {
    let schema = pods();
    let with = |ports: Value| {
        object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "ports": ports}]}}))
    };
    let mut old = with(json!([{"containerPort": 80, "protocol": "TCP"}]));
    old.set("metadata.uid", "u");
    let merged = apply(
        &writer("me", &schema),
        Some(&old),
        &with(json!([{"containerPort": 80, "name": "http"}])),
        true,
    );
    assert_eq!(
        merged.unwrap().at("spec.containers").unwrap()[0]["ports"],
        json!([{"containerPort": 80, "name": "http", "protocol": "TCP"}])
    );
}

#[test]
fn a_configuration_must_fit_the_schema() {
    let schema = pods();
    let container = |more: Value| {
        let mut container = json!({"name": "c"});
        container
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"spec": {"containers": [container]}})
    };
    let port = json!({"containerPort": 80});
    for (what, why) in [
        (json!({"spec": {"foo": 1}}), ".spec.foo: field not declared in schema"),
        (
            json!({"spec": {"nodeName": 1}}),
            ".spec.nodeName: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            json!({"spec": {"hostNetwork": "x"}}),
            ".spec.hostNetwork: expected boolean, got &{x}",
        ),
        (
            json!({"spec": {"priority": "x"}}),
            ".spec.priority: expected numeric (int or float), got string",
        ),
        (json!({"spec": []}), ".spec: expected map, got &{[]}"),
        (
            json!({"spec": {"containers": {}}}),
            ".spec.containers: expected list, got &{map[]}",
        ),
        (
            container(json!({"ports": [port, port]})),
            ".spec.containers[name=\"c\"].ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]",
        ),
        (
            json!({"spec": {"containers": [{"image": "i"}]}}),
            ".spec.containers: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and \
             doesn't have default values for any key fields)",
        ),
        (
            json!({"a": 1, "b": 2}),
            "errors:\n  .a: field not declared in schema\n  .b: field not declared in schema",
        ),
    ] {
        let mut config = object(what);
        config.set("apiVersion", "v1");
        config.set("kind", "Pod");
        config.set("metadata.name", "p");
        let status = apply(&writer("me", &schema), None, &config, false).unwrap_err();
        assert_eq!(status.code, 500);
        assert_eq!(
            status.message,
            format!("failed to create typed patch object (/p; /v1, Kind=Pod): {why}")
        );
    }
    let mut config = config_map(json!({}));
    config.set("metadata.managedFields", json!([]));
    let status = apply(&writer("me", &config_maps()), None, &config, false).unwrap_err();
    assert_eq!(
        (status.code, &*status.message),
        (400, "metadata.managedFields must be nil")
    );
    assert_eq!(described(&config), "/x; /v1, Kind=ConfigMap");
}

#[test]
fn items_that_stand_twice_are_owned_as_one() {
    let schema = pods();
    let env = |items: Value| {
        object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "env": items}]}}))
    };
    let twice = env(json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]));
    let old = created(twice, &schema, "one");
    let env_of = |object: &Object, manager: &str| {
        fields(object.list_at("metadata.managedFields"), manager)
            .pointer("/f:spec/f:containers/k:{\"name\":\"c\"}/f:env")
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(env_of(&old, "one"), json!({".": {}, r#"k:{"name":"A"}"#: {}}));
    let once = changed(&old, &schema, "two", |pod| {
        pod.set(
            "spec.containers",
            json!([{"name": "c", "env": [{"name": "A", "value": "2"}]}]),
        );
    });
    assert_eq!(
        env_of(&once, "two"),
        json!({r#"k:{"name":"A"}"#: {".": {}, "f:name": {}, "f:value": {}}})
    );
    assert_eq!(env_of(&once, "one"), json!({}));
}

#[test]
fn without_a_schema_maps_are_merged_and_lists_are_whole() {
    let schema = Schema::preserve_unknown();
    let new = |spec: Value| object(json!({"apiVersion": "v1", "kind": "Any", "metadata": {"name": "x"}, "spec": spec}));
    let mut first = apply(
        &writer("a", &schema),
        None,
        &new(json!({"map": {"x": 1}, "list": [1, {"y": 2}]})),
        false,
    )
    .unwrap();
    assert_eq!(
        fields(first.list_at("metadata.managedFields"), "a"),
        json!({"f:spec": {".": {}, "f:list": {}, "f:map": {".": {}, "f:x": {}}}})
    );
    first.set("metadata.uid", "u");
    let both = apply(
        &writer("b", &schema),
        Some(&first),
        &new(json!({"map": {"z": 1}})),
        false,
    )
    .unwrap();
    assert_eq!(both.at("spec.map"), Some(&json!({"x": 1, "z": 1})));
    let status = apply(&writer("b", &schema), Some(&both), &new(json!({"list": [1]})), false).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.list"
    );
    // A map that becomes a scalar is another value of the same field.
    let scalar = apply(&writer("b", &schema), Some(&both), &new(json!({"map": 1})), true).unwrap();
    assert_eq!(scalar.at("spec.map"), Some(&json!(1)));
}

#[test]
fn sets_of_an_earlier_schema_are_brought_up_to_date() {
    // A selector was once owned key by key, labels as a whole.
    let sent = json!([{"manager": "old", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:selector": {"f:matchLabels": {"f:app": {}}}, "f:replicas": {}}}}]);
    let schema = deployments();
    let old = object(
        json!({"metadata": {"name": "d", "uid": "u"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}}}),
    );
    let entries = update(&writer("two", &schema), Some(&old), &old, Some(&sent));
    assert_eq!(
        fields(&entries, "old"),
        json!({"f:spec": {"f:replicas": {}, "f:selector": {}}})
    );
}

#[test]
fn client_side_apply_hands_over_to_server_side_apply() {
    let schema = config_maps();
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let last =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "1", "b": "1"}});
    let mut live = config_map(json!({"a": "1", "b": "changed"}));
    live.set_annotation(annotation, &last.to_string());
    let live = created(live, &schema, "kubectl-client-side-apply");
    let ours = apply(
        &writer("kubectl", &schema),
        Some(&live),
        &config_map(json!({"a": "2"})),
        false,
    )
    .unwrap();
    assert_eq!(ours.at("data.a"), Some(&json!("2")));
    assert_eq!(
        ours.annotation(annotation),
        Some("{\"apiVersion\":\"v1\",\"data\":{\"a\":\"2\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"x\"}}\n")
    );
    // What has been changed since is not ours, and others than kubectl have no such right.
    for (who, data) in [("kubectl", json!({"b": "2"})), ("me", json!({"a": "2"}))] {
        assert!(
            apply(&writer(who, &schema), Some(&live), &config_map(data), false)
                .unwrap_err()
                .is("Conflict")
        );
    }
}

#[test]
fn a_scale_shares_the_owner_of_the_replicas() {
    let paths = [("apps/v1", "spec.replicas")];
    let parent = json!([
        {"manager": "a", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}, "f:selector": {}}}},
        {"manager": "b", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:paused": {}}}},
    ]);
    let known = scale::of_object(Some(&parent), &paths).unwrap();
    assert_eq!(
        Value::Array(known.clone()),
        json!([{"manager": "a", "operation": "Apply", "apiVersion": "autoscaling/v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}}}])
    );
    let of = |replicas: i64| {
        let metadata = json!({"name": "d", "uid": "u", "managedFields": known});
        object(
            json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {"replicas": replicas}}),
        )
    };
    let schema = Schema::of::<Scale>("io.k8s.api.autoscaling.v1.Scale");
    let hpa = Writer {
        version: "autoscaling/v1",
        subresource: "scale",
        ..writer("hpa", &schema)
    };
    let mut new = of(5);
    new.remove("metadata.managedFields");
    let entries = Value::Array(update(&hpa, Some(&of(3)), &new, None));
    let after = scale::to_object(Some(&parent), Some(&entries), "apps/v1", &paths).unwrap();
    assert_eq!(
        Value::Array(after),
        json!([
            {"manager": "a", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:selector": {}}}},
            {"manager": "b", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:paused": {}}}},
            {"manager": "hpa", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        ])
    );
    let conflict = apply(
        &hpa,
        Some(&of(3)),
        &object(json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": "d"}, "spec": {"replicas": 5}})),
        false,
    );
    assert_eq!(
        conflict.unwrap_err().message,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas"
    );
}

/// A kind of two versions, which name a field differently.
struct Two(Schema);

impl Versions for Two {
    fn schema(&self, version: &str) -> Option<&Schema> {
        matches!(version, "v1" | "v2").then_some(&self.0)
    }

    fn convert(&self, object: &Object, from: &str, to: &str) -> Object {
        let name = |version: &str| if version == "v1" { "spec.size" } else { "spec.count" };
        let mut object = object.clone();
        if let Some(value) = object.remove(name(from)) {
            object.set(name(to), value);
        }
        object.set("apiVersion", to);
        object
    }
}

#[test]
fn managers_in_other_versions_are_told_in_theirs() {
    let two = Two(Schema::preserve_unknown());
    let in_version = |name, version| Writer {
        version,
        versions: &two,
        ..writer(name, &two.0)
    };
    let config = |version: &str, spec: Value| {
        object(json!({"apiVersion": version, "kind": "K", "metadata": {"name": "x"}, "spec": spec}))
    };
    let mut first = apply(
        &in_version("a", "v1"),
        None,
        &config("v1", json!({"size": 1, "y": 1})),
        false,
    )
    .unwrap();
    first.set("metadata.uid", "u");
    let live = two.convert(&first, "v1", "v2");
    let conflict = apply(
        &in_version("b", "v2"),
        Some(&live),
        &config("v2", json!({"count": 2})),
        false,
    )
    .unwrap_err();
    assert_eq!(
        conflict.message,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.size"
    );
    // An applier that comes back in another version removes what it named in the first.
    let moved = apply(
        &in_version("a", "v2"),
        Some(&live),
        &config("v2", json!({"y": 1})),
        false,
    )
    .unwrap();
    assert_eq!(moved.at("spec"), Some(&json!({"y": 1})));
    // A version that is no longer served is forgotten.
    let sent = json!([{"manager": "old", "operation": "Update", "apiVersion": "v0", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}},
        {"manager": "new", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]);
    let entries = update(&in_version("c", "v1"), Some(&first), &first, Some(&sent));
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["manager"], "new");
}
