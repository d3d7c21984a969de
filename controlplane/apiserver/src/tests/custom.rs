//! Custom resources from end to end: a definition makes a kind, and takes it along when it goes.

use serde_json::{Value, json};

use super::{Answer, Fixture};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/a/widgets";

/// The definition of widgets, whose spec has a size, a color and a default.
pub(super) fn widgets(change: impl FnOnce(&mut Value)) -> Value {
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "description": "A widget.", "properties": {
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "minimum": 1, "default": 3},
                        "color": {"type": "string", "enum": ["red", "green"]},
                        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}},
                        "x-kubernetes-validations": [{"rule": "self.size < 100", "message": "too large"}]},
                    "status": {"type": "object", "properties": {
                        "size": {"type": "integer"}, "selector": {"type": "string"}}}}}},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
                    "labelSelectorPath": ".status.selector"}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]}]}});
    change(&mut definition);
    definition
}

pub(super) fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

impl Fixture {
    /// Creates a definition and waits until it is established.
    pub(super) async fn define(&self, definition: Value) {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut events = self
            .watch(&format!(
                "{CRDS}?watch=true&resourceVersion=0&fieldSelector=metadata.name={name}"
            ))
            .await;
        let created = self.post(CRDS, definition).await;
        assert_eq!(created.code, 201, "{created:?}");
        while !condition(
            &events.next().await.expect("the watch goes on")["object"],
            "Established",
        ) {}
    }

    /// Waits until a request is answered with a code.
    async fn until(&self, target: &str, code: u16) -> Answer {
        let mut version = self.server.shared.registry.watch_version();
        loop {
            let answer = self.get(target).await;
            if answer.code == code {
                return answer;
            }
            version.changed().await.expect("the registry lives");
        }
    }
}

fn condition(definition: &Value, type_: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == type_ && c["status"] == "True")
}

#[tokio::test]
async fn finalizers_of_custom_resources_bear_any_name() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| {})).await;
    let mut widget = widget("w", json!({}));
    widget["metadata"]["finalizers"] = json!(["test-finalizer"]);
    let made = fixture.post(WIDGETS, widget).await;
    assert_eq!(made.code, 201, "{made:?}");
    let map = json!({"metadata": {"name": "m", "finalizers": ["test-finalizer"]}});
    assert_eq!(fixture.post("/api/v1/namespaces/a/configmaps", map).await.code, 422);
}

#[tokio::test]
async fn a_definition_makes_a_kind() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.get(WIDGETS).await.code, 404);
    fixture.define(widgets(|_| ())).await;
    let created = fixture
        .post(WIDGETS, widget("w", json!({"color": "red", "bogus": 1})))
        .await;
    assert_eq!(created.code, 201, "{created:?}");
    let expected = json!({"size": 3, "color": "red"});
    assert_eq!(
        (created.at("/spec"), created.at("/metadata/generation")),
        (expected, json!(1))
    );
    let warning = created.headers.get("warning").and_then(|w| w.to_str().ok());
    assert_eq!(warning, Some("299 - \"unknown field \\\"spec.bogus\\\"\""));
    assert_eq!(fixture.get(WIDGETS).await.names(), ["w"]);
    let list = fixture.get("/apis/example.com/v1/widgets").await;
    assert_eq!(list.at("/kind"), "WidgetList");
    let strict = fixture
        .post(
            &format!("{WIDGETS}?fieldValidation=Strict"),
            widget("x", json!({"bogus": 1})),
        )
        .await;
    assert_eq!(
        (strict.code.as_u16(), strict.message().as_str()),
        (
            400,
            "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.bogus\""
        )
    );
}

#[tokio::test]
async fn objects_are_held_to_their_schema() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| ())).await;
    for (spec, message) in [
        (
            json!({"size": 0}),
            "Widget.example.com \"w\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            json!({"color": "blue"}),
            "Widget.example.com \"w\" is invalid: [spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]",
        ),
        (
            json!({"size": 100}),
            "Widget.example.com \"w\" is invalid: spec: Invalid value: too large",
        ),
        (
            json!({"tags": ["a", "a"]}),
            "Widget.example.com \"w\" is invalid: spec.tags[1]: Duplicate value: \"a\"",
        ),
    ] {
        let refused = fixture.post(WIDGETS, widget("w", spec)).await;
        assert_eq!((refused.code.as_u16(), refused.message().as_str()), (422, message));
    }
}

#[tokio::test]
async fn status_and_scale_are_parts_of_their_own() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| ())).await;
    let mut with_status = widget("w", json!({"size": 2}));
    with_status["status"] = json!({"size": 9});
    let created = fixture.post(WIDGETS, with_status).await;
    assert_eq!(created.at("/status"), Value::Null, "create leaves the status out");
    let target = format!("{WIDGETS}/w");
    let status = fixture
        .patch(
            &format!("{target}/status"),
            "merge",
            json!({"spec": {"size": 7}, "status": {"size": 2, "selector": "a=b"}}),
        )
        .await;
    assert_eq!(
        (status.at("/spec/size"), status.at("/status/size")),
        (json!(2), json!(2)),
        "{status:?}"
    );
    assert_eq!(status.at("/metadata/generation"), json!(1));
    let scale = fixture.get(&format!("{target}/scale")).await;
    assert_eq!(
        (scale.at("/kind"), scale.at("/spec/replicas"), scale.at("/status")),
        (json!("Scale"), json!(2), json!({"replicas": 2, "selector": "a=b"}))
    );
    let scaled = fixture
        .patch(&format!("{target}/scale"), "merge", json!({"spec": {"replicas": 5}}))
        .await;
    assert_eq!(scaled.at("/spec/replicas"), json!(5), "{scaled:?}");
    let now = fixture.get(&target).await;
    assert_eq!(
        (now.at("/spec/size"), now.at("/metadata/generation")),
        (json!(5), json!(2))
    );
    let labelled = fixture
        .patch(&target, "merge", json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    assert_eq!(labelled.at("/metadata/generation"), json!(2), "metadata is not content");
    let refused = fixture
        .patch(&target, "strategic-merge", json!({"spec": {"size": 1}}))
        .await;
    assert_eq!(
        (refused.code.as_u16(), refused.message().as_str()),
        (
            415,
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        )
    );
}

#[tokio::test]
async fn tables_and_selectors_follow_the_definition() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| ())).await;
    for (name, color) in [("r", "red"), ("g", "green")] {
        fixture.post(WIDGETS, widget(name, json!({"color": color}))).await;
    }
    let selected = fixture.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred")).await;
    assert_eq!(selected.names(), ["r"]);
    let refused = fixture.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D3")).await;
    assert_eq!(refused.message(), "field label not supported: spec.size");
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = fixture.send_with("GET", WIDGETS, &accept, Vec::new()).await;
    let columns = table.at("/columnDefinitions");
    let names: Vec<&str> = columns
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Name", "Size", "Age"]);
    assert_eq!(table.at("/rows/0/cells"), json!(["g", 3, "0s"]));
}

#[tokio::test]
async fn discovery_and_openapi_change_with_the_definitions() {
    let fixture = Fixture::new().await;
    let before = fixture.get("/apis").await;
    assert_eq!(fixture.get("/apis/example.com").await.code, 404);
    let index = fixture.get("/openapi/v3").await;
    fixture.define(widgets(|_| ())).await;
    let after = fixture.get("/apis").await;
    assert_ne!(before.headers.get("etag"), after.headers.get("etag"));
    let group = fixture.get("/apis/example.com").await;
    assert_eq!(group.at("/preferredVersion/version"), "v1");
    let resources = fixture.get("/apis/example.com/v1").await;
    let expected = json!({"name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget",
        "shortNames": ["wd"], "categories": ["all"]});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&resources.at(&format!("/resources/0/{key}")), value, "{key}");
    }
    assert_eq!(
        (resources.at("/resources/1/name"), resources.at("/resources/2/name")),
        (json!("widgets/scale"), json!("widgets/status"))
    );
    let aggregated = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    )];
    let all = fixture.send_with("GET", "/apis", &aggregated, Vec::new()).await;
    let groups = all.at("/items");
    let last = groups.as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["metadata"]["name"], &last["versions"][0]["freshness"]),
        (&json!("example.com"), &json!("Current"))
    );
    let new_index = fixture.get("/openapi/v3").await;
    assert_eq!(
        index.at("/paths/apis~1apps~1v1"),
        new_index.at("/paths/apis~1apps~1v1"),
        "the others stay as they are"
    );
    let document = fixture.get("/openapi/v3/apis/example.com/v1").await;
    let schema = document.at("/components/schemas/com.example.v1.Widget");
    assert_eq!(schema["description"], "A widget.");
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["default"], 3);
    assert_eq!(
        schema["x-kubernetes-group-version-kind"],
        json!([{"group": "example.com", "version": "v1", "kind": "Widget"}])
    );
    assert!(
        document
            .at("/paths")
            .as_object()
            .unwrap()
            .contains_key("/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/scale")
    );
    let v2 = fixture.get("/openapi/v2").await;
    assert_eq!(
        v2.at("/definitions/com.example.v1.Widget/properties/spec/properties/size/type"),
        "integer"
    );
    assert_eq!(fixture.delete(&format!("{CRDS}/widgets.example.com")).await.code, 200);
    fixture.until("/apis/example.com", 404).await;
    assert_eq!(
        fixture.get("/apis").await.headers.get("etag"),
        before.headers.get("etag")
    );
    assert_eq!(fixture.get("/openapi/v3").await.json(), index.json());
}

#[tokio::test]
async fn a_definition_takes_its_objects_along() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| ())).await;
    fixture.post(WIDGETS, widget("free", json!({}))).await;
    let mut held = widget("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    fixture.post(WIDGETS, held).await;
    let mut events = fixture.watch(&format!("{CRDS}?watch=true&resourceVersion=0")).await;
    assert_eq!(events.brief().await, "ADDED widgets.example.com");
    let deleted = fixture.delete(&format!("{CRDS}/widgets.example.com")).await;
    assert_eq!(
        deleted.at("/metadata/finalizers"),
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    assert!(condition(&deleted.json(), "Terminating"), "{deleted:?}");
    let refused = fixture.post(WIDGETS, widget("late", json!({}))).await;
    assert_eq!(
        (refused.code.as_u16(), refused.message().as_str()),
        (
            403,
            "widgets.example.com \"late\" is forbidden: create not allowed while custom resource definition is terminating"
        )
    );
    // The one that nothing holds goes first; the other goes when it is let go.
    let mut objects = fixture.watch(&format!("{WIDGETS}?watch=true")).await;
    loop {
        let event = objects.next().await.expect("the watch goes on");
        let is_held = event["object"]["metadata"]["name"] == "held";
        if is_held && event["object"]["metadata"]["deletionTimestamp"].is_string() {
            break;
        }
    }
    let released = fixture
        .patch(
            &format!("{WIDGETS}/held"),
            "merge",
            json!({"metadata": {"finalizers": null}}),
        )
        .await;
    assert_eq!(released.code, 200, "{released:?}");
    while events.brief().await != "DELETED widgets.example.com" {}
    fixture.until(WIDGETS, 404).await;
    let range = fixture.backend_range("example.com/").await;
    assert_eq!(range, 0, "nothing is left behind");
}

#[tokio::test]
async fn a_kind_is_there_again_after_a_restart() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| ())).await;
    fixture.post(WIDGETS, widget("w", json!({}))).await;
    let again = Fixture::over(fixture.backend.clone()).await;
    assert_eq!(
        again.get(WIDGETS).await.names(),
        ["w"],
        "as soon as the server is ready"
    );
}

#[tokio::test]
async fn a_second_server_over_the_store_serves_the_kind_too() {
    let first = Fixture::new().await;
    let second = Fixture::over(first.backend.clone()).await;
    first.define(widgets(|_| ())).await;
    second.until(WIDGETS, 200).await;
    first.post(WIDGETS, widget("w", json!({}))).await;
    assert_eq!(second.get(&format!("{WIDGETS}/w")).await.code, 200);
}

#[tokio::test]
async fn conflicting_names_are_not_accepted() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| ())).await;
    let mut events = fixture
        .watch(&format!(
            "{CRDS}?watch=true&fieldSelector=metadata.name%3Dgadgets.example.com"
        ))
        .await;
    let gadgets = widgets(|d| {
        d["metadata"]["name"] = json!("gadgets.example.com");
        d["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget", "shortNames": ["wd"]});
    });
    assert_eq!(fixture.post(CRDS, gadgets).await.code, 201);
    let refused = loop {
        let event = events.next().await.expect("the watch goes on");
        if let Some(conditions) = event["object"]["status"]["conditions"].as_array() {
            break conditions.clone();
        }
    };
    assert_eq!(refused[0]["reason"], "ShortNamesConflict");
    assert_eq!(refused[0]["message"], "\"wd\" is already in use");
    assert_eq!(fixture.get("/apis/example.com/v1/gadgets").await.code, 404);
}

#[tokio::test]
async fn a_changed_schema_holds_for_what_is_stored() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| ())).await;
    fixture.post(WIDGETS, widget("w", json!({"color": "red"}))).await;
    let current = fixture.get(&format!("{CRDS}/widgets.example.com")).await.json();
    let mut changed = current.clone();
    let spec = &mut changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    spec.as_object_mut().unwrap().remove("color");
    spec["shape"] = json!({"type": "string", "default": "round"});
    changed["spec"]["versions"][0]
        .as_object_mut()
        .unwrap()
        .remove("selectableFields");
    let mut version = fixture.server.shared.registry.watch_version();
    version.borrow_and_update();
    let written = fixture.put(&format!("{CRDS}/widgets.example.com"), changed).await;
    assert_eq!(written.code, 200, "{written:?}");
    version.changed().await.expect("the registry lives");
    let read = fixture.get(&format!("{WIDGETS}/w")).await;
    assert_eq!(read.at("/spec"), json!({"size": 3, "shape": "round"}));
    let mut renamed = fixture.get(&format!("{CRDS}/widgets.example.com")).await.json();
    renamed["spec"]["names"]["kind"] = json!("Other");
    let refused = fixture.put(&format!("{CRDS}/widgets.example.com"), renamed).await;
    assert!(
        refused
            .message()
            .contains("spec.names.kind: Invalid value: \"Other\": field is immutable"),
        "{refused:?}"
    );
}

/// Widgets in two versions, of which the older one is on its way out.
pub(super) fn two_versions(definition: &mut Value) {
    let mut old = definition["spec"]["versions"][0].clone();
    old["name"] = json!("v1beta1");
    old["storage"] = json!(false);
    old["deprecated"] = json!(true);
    old.as_object_mut().unwrap().remove("subresources");
    definition["spec"]["versions"].as_array_mut().unwrap().insert(0, old);
}

#[tokio::test]
async fn versions_without_a_webhook_differ_in_name() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(two_versions)).await;
    let group = fixture.get("/apis/example.com").await;
    assert_eq!(group.at("/versions/0/version"), "v1");
    assert_eq!(group.at("/versions/1/version"), "v1beta1");
    let old = "/apis/example.com/v1beta1/namespaces/a/widgets";
    let mut given = widget("w", json!({"size": 4}));
    given["apiVersion"] = json!("example.com/v1beta1");
    let created = fixture.post(old, given).await;
    assert_eq!(created.at("/apiVersion"), "example.com/v1beta1", "{created:?}");
    let warning = created.headers.get("warning").and_then(|w| w.to_str().ok());
    assert_eq!(
        warning,
        Some("299 - \"example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget\"")
    );
    let read = fixture.get(&format!("{WIDGETS}/w")).await;
    assert_eq!(
        (read.at("/apiVersion"), read.at("/spec/size")),
        (json!("example.com/v1"), json!(4))
    );
    assert!(read.headers.get("warning").is_none());
    assert_eq!(
        fixture.get(&format!("{old}/w/status")).await.code,
        404,
        "subresources are a version's own"
    );
    let mut events = fixture.watch(&format!("{old}?watch=true")).await;
    let event = events.next().await.expect("an event");
    assert_eq!(event["object"]["apiVersion"], "example.com/v1beta1");
    let patched = fixture
        .patch(&format!("{old}/w"), "merge", json!({"spec": {"size": 5}}))
        .await;
    assert_eq!(
        (patched.at("/apiVersion"), patched.at("/spec/size")),
        (json!("example.com/v1beta1"), json!(5))
    );
    let list = fixture.get(old).await;
    assert_eq!(
        (list.at("/apiVersion"), list.at("/items/0/apiVersion")),
        (json!("example.com/v1beta1"), json!("example.com/v1beta1"))
    );
}

#[tokio::test]
async fn definitions_are_refused_in_kubernetes_words() {
    let fixture = Fixture::new().await;
    let refused = fixture
        .post(CRDS, widgets(|d| {
            let rules = json!([{"rule": "self.z == 42"}]);
            d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] = rules;
        }))
        .await;
    assert_eq!(refused.code, 422);
    assert!(
        refused.message().contains("undefined field 'z'"),
        "{}",
        refused.message()
    );
    let expected = "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule";
    assert_eq!(refused.at("/details/causes/0/field"), expected);
}

#[tokio::test]
async fn nobody_owns_a_status_by_another_endpoint_than_its_own() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| ())).await;
    let mut body = widget("w", json!({"color": "red"}));
    body["status"] = json!({"size": 3});
    let target = format!("{WIDGETS}/w?fieldManager=me");
    let config = [("content-type", "application/apply-patch+yaml")];
    let applied = fixture
        .send_with("PATCH", &target, &config, body.to_string().into())
        .await;
    let owned = "/metadata/managedFields/0/fieldsV1";
    assert_eq!(applied.code, 201, "{applied:?}");
    assert_eq!(applied.at(&format!("{owned}/f:status")), json!(null), "{applied:?}");
    let of_status = json!({"metadata": {"labels": {"a": "b"}}, "status": {"size": 4}});
    let patched = fixture
        .patch(&format!("{WIDGETS}/w/status?fieldManager=other"), "merge", of_status)
        .await;
    assert_eq!(patched.code, 200, "{patched:?}");
    let entries = patched.at("/metadata/managedFields");
    let entry = entries
        .as_array()
        .and_then(|list| list.iter().find(|entry| entry["manager"] == "other"));
    assert_eq!(
        entry.expect("an entry")["fieldsV1"],
        json!({"f:status": {".": {}, "f:size": {}}})
    );
}

#[tokio::test]
async fn custom_resources_are_replaced_as_they_were_read() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| ())).await;
    fixture.post(WIDGETS, widget("w", json!({"color": "red"}))).await;
    let target = format!("{WIDGETS}/w");
    let refused = fixture.put(&target, widget("w", json!({"color": "green"}))).await;
    assert_eq!(
        (refused.code.as_u16(), refused.message().as_str()),
        (
            422,
            "widgets.example.com \"w\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
        )
    );
    // Who scales one need not know it.
    let scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "w", "namespace": "a"},
        "spec": {"replicas": 7}});
    let scaled = fixture.put(&format!("{target}/scale"), scale).await;
    assert_eq!(scaled.code, 200, "{scaled:?}");
    let mut read = fixture.get(&target).await.json();
    read["spec"]["color"] = json!("green");
    assert_eq!(fixture.put(&target, read).await.code, 200);
}
