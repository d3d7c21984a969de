//! Writes to parts of a pod: ephemeral containers and sizes.

use api::Object;
use serde_json::{Value, json};

use super::resource;
use crate::registry::resource::{Context, Operation};
use crate::resources::testing::{context, messages, object};

/// What a write to a part of a pod makes of it, and what is said of it.
fn write_part(part: &'static str, old: &Object, change: impl FnOnce(&mut Object)) -> (Object, Vec<String>) {
    let mut new = old.clone();
    change(&mut new);
    let found = context(Some("ns"), |cx| {
        let cx = Context {
            subresource: Some(part),
            ..*cx
        };
        let op = Operation::Update { old };
        resource().strategy.prepare(&cx, &op, &mut new);
        messages(resource().strategy.validate(&cx, &op, &new))
    });
    (new, found)
}

/// A pod that runs, two containers and one before them, on a node that can resize.
fn running() -> Object {
    let resources = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}});
    let container = |name: &str| json!({"name": name, "image": "reg/web:1", "resources": resources});
    let mut pod = object(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"containers": [container("a"), container("b")], "initContainers": [container("i")]}}),
    );
    schema::default(&mut pod, resource().storage().schema());
    context(Some("ns"), |cx| {
        resource().strategy.prepare(cx, &Operation::Create, &mut pod)
    });
    pod.set(
        "status.containerStatuses",
        json!([{"name": "a", "state": {"running": {}}, "resources": {}}]),
    );
    pod
}

fn debugger(name: &str, image: &str) -> Value {
    json!({"name": name, "image": image, "imagePullPolicy": "Always", "terminationMessagePolicy": "File", "resources": {}})
}

#[test]
fn ephemeral_containers_come_and_stay() {
    let part = "ephemeralcontainers";
    let (with, found) = write_part(part, &running(), |new| {
        new.set("spec.ephemeralContainers", json!([debugger("d", "reg/shell")]));
        new.set("spec.nodeName", "elsewhere");
        new.set("metadata.labels", json!({"a": "b"}));
        new.remove("status");
    });
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(with.list_at("spec.ephemeralContainers").len(), 1);
    let mut rest = with.clone();
    rest.remove("spec.ephemeralContainers");
    assert_eq!(rest, running(), "nothing else changes");
    let (_, found) = write_part(part, &with, |new| drop(new.remove("spec.ephemeralContainers")));
    assert_eq!(
        found,
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n"]
    );
    let (_, found) = write_part(part, &with, |new| {
        new.set("spec.ephemeralContainers", json!([debugger("d", "reg/other")]));
    });
    assert_eq!(
        found,
        [
            "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be changed\n  image: \
            \"reg/other\" != \"reg/shell\""
        ]
    );
    let mut mirror = running();
    mirror.set_annotation("kubernetes.io/config.mirror", "x");
    let (_, found) = write_part(part, &mirror, |_| {});
    assert_eq!(found, [": Forbidden: static pods do not support ephemeral containers"]);
}

#[test]
fn a_whole_write_adds_no_ephemeral_containers() {
    let old = running();
    let mut new = old.clone();
    new.set("spec.ephemeralContainers", json!([debugger("d", "reg/shell")]));
    let found = context(Some("ns"), |cx| {
        messages(resource().strategy.validate(cx, &Operation::Update { old: &old }, &new))
    });
    assert!(
        found
            .iter()
            .any(|m| m.contains("pod updates may not change fields other than")),
        "{found:?}"
    );
}

fn set_container(pod: &mut Object, list: &str, index: usize, pointer: &str, value: Value) {
    let mut containers = pod.list_at(&format!("spec.{list}")).to_vec();
    *containers[index].pointer_mut(pointer).expect("a place") = value;
    pod.set(&format!("spec.{list}"), containers);
}

#[test]
fn a_resize_changes_amounts_and_nothing_else() {
    let (new, found) = write_part("resize", &running(), |new| {
        set_container(new, "containers", 1, "/resources/requests/cpu", json!("1500m"));
        set_container(new, "initContainers", 0, "/resources/limits/cpu", json!("3"));
        set_container(new, "containers", 0, "/image", json!("reg/other"));
        new.set("metadata.labels", json!({"a": "b"}));
    });
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(
        new.list_at("spec.containers")[1]["resources"]["requests"]["cpu"],
        "1500m"
    );
    assert_eq!(new.list_at("spec.initContainers")[0]["resources"]["limits"]["cpu"], "3");
    assert_eq!(new.list_at("spec.containers")[0]["image"], "reg/web:1");
    assert!(new.at("metadata.labels").is_none());
}

#[test]
fn a_resize_is_refused_with_reasons() {
    type Change = fn(&mut Object);
    let cases: [(Change, &[&str]); 6] = [
        (
            |new| set_container(new, "containers", 0, "/resources/requests", json!({"cpu": "1"})),
            &["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"],
        ),
        (
            |new| set_container(new, "containers", 0, "/name", json!("z")),
            &["spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"],
        ),
        (
            |new| {
                let first = new.list_at("spec.containers")[..1].to_vec();
                new.set("spec.containers", first);
            },
            &["spec.containers: Forbidden: containers may not be added or removed on resize"],
        ),
        (
            |new| {
                let resources = json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1"}, "limits": {"cpu": "2"}});
                set_container(new, "containers", 0, "/resources", resources);
            },
            &["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            |new| {
                let resources = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "ephemeral-storage": "1"}});
                set_container(new, "initContainers", 0, "/resources", resources);
            },
            &[
                "spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable",
            ],
        ),
        (
            |new| {
                let all = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
                set_container(new, "containers", 0, "/resources", all.clone());
                set_container(new, "containers", 1, "/resources", all.clone());
                set_container(new, "initContainers", 0, "/resources", all);
            },
            &["spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"],
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(write_part("resize", &running(), change).1, expected);
    }
    let grow: Change = |new| set_container(new, "containers", 0, "/resources/requests/cpu", json!("2"));
    let with = |change: Change| {
        let mut old = running();
        change(&mut old);
        write_part("resize", &old, grow).1
    };
    assert_eq!(
        with(|old| old.set_annotation("kubernetes.io/config.mirror", "x")),
        [": Forbidden: static pods cannot be resized"]
    );
    assert_eq!(
        with(|old| old.set(
            "status.containerStatuses",
            json!([{"name": "a", "state": {"running": {}}}])
        )),
        ["spec: Forbidden: Pod running on node without support for resize"]
    );
}
