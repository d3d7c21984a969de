//! Conversion by webhook, against a webhook that speaks TLS in this process.

use serde_json::{Value, json};

use super::custom::widgets;
use super::hooks::Hook;
use super::*;

impl Hook {
    /// Widgets in `v1`, which have a size, and in `v2`, which have a width instead.
    fn definition(&self) -> Value {
        widgets(|definition| {
            definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"], "clientConfig": {"url": self.url, "caBundle": self.bundle}}});
            let mut new = definition["spec"]["versions"][0].clone();
            new["name"] = json!("v2");
            new["storage"] = json!(false);
            new["selectableFields"] = json!([{"jsonPath": ".spec.width"}]);
            new["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({"type": "object", "properties": {
                "width": {"type": "integer", "maximum": 50}, "color": {"type": "string"}}});
            new["additionalPrinterColumns"] = json!([{"name": "Width", "type": "integer", "jsonPath": ".spec.width"}]);
            definition["spec"]["versions"].as_array_mut().unwrap().push(new);
        })
    }
}

/// Renames the size to the width and back.
fn rename(review: &Value) -> Value {
    let wanted = review["request"]["desiredAPIVersion"].as_str().expect("a version");
    let (from, to) = if wanted.ends_with("/v2") {
        ("size", "width")
    } else {
        ("width", "size")
    };
    let objects = review["request"]["objects"]
        .as_array()
        .expect("objects")
        .iter()
        .map(|object| {
            let mut object = object.clone();
            object["apiVersion"] = json!(wanted);
            if let Some(size) = object["spec"].as_object_mut().and_then(|spec| spec.remove(from)) {
                object["spec"][to] = size;
            }
            object["metadata"]["labels"] = json!({"converted": "yes"});
            object["metadata"]["generation"] = json!(77);
            object
        });
    json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": {
        "uid": review["request"]["uid"], "result": {"status": "Success"}, "convertedObjects": objects.collect::<Vec<_>>()}})
}

fn refuse(review: &Value) -> Value {
    json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": {
        "uid": review["request"]["uid"], "result": {"status": "Failed", "message": "no idea how"}}})
}

fn widget(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

const V1: &str = "/apis/example.com/v1/namespaces/a/widgets";
const V2: &str = "/apis/example.com/v2/namespaces/a/widgets";

#[tokio::test]
async fn objects_are_worked_on_in_the_version_that_is_asked_for() {
    let (fixture, hook) = (Fixture::new().await, Hook::new(rename).await);
    fixture.define(hook.definition()).await;
    let created = fixture.post(V2, widget("v2", "w", json!({"width": 5}))).await;
    assert_eq!(
        (created.code.as_u16(), created.at("/spec")),
        (201, json!({"width": 5})),
        "{created:?}"
    );
    let stored = fixture.get(&format!("{V1}/w")).await;
    assert_eq!(
        (stored.at("/apiVersion"), stored.at("/spec")),
        (json!("example.com/v1"), json!({"size": 5}))
    );
    assert_eq!(
        stored.at("/metadata/generation"),
        json!(1),
        "a webhook's word on metadata does not count"
    );
    let read = fixture.get(&format!("{V2}/w")).await;
    assert_eq!(
        (read.at("/apiVersion"), read.at("/spec")),
        (json!("example.com/v2"), json!({"width": 5}))
    );
    assert_eq!(read.at("/metadata/labels/converted"), json!("yes"));
    assert_eq!(read.revision(), stored.revision());
    let refused = fixture
        .patch(&format!("{V2}/w"), "merge", json!({"spec": {"width": 51}}))
        .await;
    assert!(
        refused
            .message()
            .contains("spec.width in body should be less than or equal to 50"),
        "{refused:?}"
    );
    let patched = fixture
        .patch(&format!("{V2}/w"), "merge", json!({"spec": {"width": 6}}))
        .await;
    assert_eq!(
        (patched.at("/spec"), patched.at("/metadata/generation")),
        (json!({"width": 6}), json!(2)),
        "{patched:?}"
    );
    assert_eq!(fixture.get(&format!("{V1}/w")).await.at("/spec/size"), json!(6));
    let deleted = fixture.delete(&format!("{V2}/w")).await;
    assert_eq!(deleted.at("/status"), "Success", "{deleted:?}");
}

#[tokio::test]
async fn lists_watches_and_tables_are_converted_once() {
    let (fixture, hook) = (Fixture::new().await, Hook::new(rename).await);
    fixture.define(hook.definition()).await;
    for name in ["a", "b", "c"] {
        assert_eq!(fixture.post(V1, widget("v1", name, json!({"size": 2}))).await.code, 201);
    }
    assert_eq!(hook.count(), 0, "what rests in the version is not converted");
    let list = fixture.get(V2).await;
    assert_eq!(
        (list.names().len(), list.at("/items/2/spec/width")),
        (3, json!(2)),
        "{list:?}"
    );
    assert_eq!(hook.count(), 1, "three objects in one review");
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = fixture.send_with("GET", V2, &accept, Vec::new()).await;
    assert_eq!(table.at("/rows/0/cells"), json!(["a", 2]));
    assert_eq!(hook.count(), 1, "and remembered");
    let from = list.revision();
    let mut events = fixture.watch(&format!("{V2}?watch=true&resourceVersion={from}")).await;
    fixture.post(V1, widget("v1", "d", json!({"size": 9}))).await;
    let event = events.next().await.expect("an event");
    assert_eq!(
        (
            &event["type"],
            &event["object"]["apiVersion"],
            &event["object"]["spec"]["width"]
        ),
        (&json!("ADDED"), &json!("example.com/v2"), &json!(9))
    );
}

#[tokio::test]
async fn selectors_look_at_the_version_that_is_asked_for() {
    let (fixture, hook) = (Fixture::new().await, Hook::new(rename).await);
    fixture.define(hook.definition()).await;
    for (name, size) in [("a", 2), ("b", 3), ("c", 2), ("d", 2)] {
        let made = fixture.post(V1, widget("v1", name, json!({"size": size}))).await;
        assert_eq!(made.code, 201, "{made:?}");
    }
    let refused = fixture.get(&format!("{V1}?fieldSelector=spec.width%3D2")).await;
    assert_eq!(refused.message(), "field label not supported: spec.width");
    let narrow = format!("{V2}?fieldSelector=spec.width%3D2");
    let list = fixture.get(&narrow).await;
    assert_eq!(list.names(), ["a", "c", "d"]);
    let labelled = fixture.get(&format!("{V2}?labelSelector=converted%3Dyes")).await;
    assert_eq!(labelled.names().len(), 4, "{labelled:?}");
    let labelled = fixture.get(&format!("{V1}?labelSelector=converted%3Dyes")).await;
    assert_eq!(labelled.names().len(), 0, "{labelled:?}");

    let first = fixture.get(&format!("{narrow}&limit=2")).await;
    assert_eq!(first.names(), ["a", "c"]);
    let token = first.at("/metadata/continue");
    let mut events = fixture
        .watch(&format!("{narrow}&watch=true&resourceVersion={}", list.revision()))
        .await;
    let wide = json!({"spec": {"size": 9}});
    assert_eq!(fixture.patch(&format!("{V1}/a"), "merge", wide).await.code, 200);
    let narrower = json!({"spec": {"width": 2}});
    assert_eq!(fixture.patch(&format!("{V2}/b"), "merge", narrower).await.code, 200);
    assert_eq!(
        (events.brief().await, events.brief().await),
        ("DELETED a".to_owned(), "ADDED b".to_owned())
    );
    // The next page is of the first one's revision, which only the store's history knows any more.
    let next = fixture
        .get(&format!(
            "{narrow}&limit=2&continue={}",
            token.as_str().expect("there are more")
        ))
        .await;
    assert_eq!(next.names(), ["d"]);
    let gone = fixture.delete(&narrow).await;
    assert_eq!(gone.names(), ["b", "c", "d"]);
    assert_eq!(fixture.get(V1).await.names(), ["a"]);
}

#[tokio::test]
async fn what_a_webhook_says_is_passed_on() {
    let (fixture, hook) = (Fixture::new().await, Hook::new(refuse).await);
    fixture.define(hook.definition()).await;
    fixture.post(V1, widget("v1", "w", json!({"size": 2}))).await;
    for target in [format!("{V2}/w"), V2.to_owned()] {
        let failed = fixture.get(&target).await;
        assert_eq!(
            (failed.code.as_u16(), failed.message().as_str()),
            (
                500,
                "conversion webhook for example.com/v1, Kind=Widget failed: no idea how"
            )
        );
    }
    assert_eq!(fixture.get(V1).await.code, 200, "the other version is not concerned");
}

#[tokio::test]
async fn a_webhook_that_is_not_there_fails_in_words() {
    let (fixture, hook) = (Fixture::new().await, Hook::new(rename).await);
    let mut definition = hook.definition();
    definition["spec"]["conversion"]["webhook"]["clientConfig"]["url"] = json!("https://127.0.0.1:1/convert");
    fixture.define(definition).await;
    let failed = fixture.post(V2, widget("v2", "w", json!({"width": 5}))).await;
    let words = "conversion webhook for example.com/v2, Kind=Widget failed: Post \"https://127.0.0.1:1/convert?timeout=30s\": \
                 dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!(failed.message(), words, "{failed:?}");
}

#[tokio::test]
async fn a_webhook_of_another_authority_is_not_believed() {
    let (fixture, hook) = (Fixture::new().await, Hook::new(rename).await);
    let other = Hook::new(rename).await;
    let mut definition = hook.definition();
    definition["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = json!(other.bundle);
    fixture.define(definition).await;
    let failed = fixture.post(V2, widget("v2", "w", json!({"width": 5}))).await;
    assert!(
        failed
            .message()
            .contains("x509: certificate signed by unknown authority"),
        "{failed:?}"
    );
    assert_eq!(hook.count(), 0);
}
