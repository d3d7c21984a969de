//! watch: what is told, in which order, and how it ends.

use http::StatusCode;
use serde_json::json;

use super::*;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

#[tokio::test]
async fn tells_what_is_there_and_what_changes() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let mut events = f.watch(&format!("{MAPS}?watch=true")).await;
    assert_eq!(events.brief().await, "ADDED x");
    f.config_map("y", json!({})).await;
    f.post("/api/v1/namespaces/b/configmaps", config_map("elsewhere", json!({})))
        .await;
    let changed = f
        .patch(&format!("{MAPS}/x"), "merge", json!({"data": {"k": "v"}}))
        .await;
    f.delete(&format!("{MAPS}/x")).await;
    assert_eq!(events.brief().await, "ADDED y");
    let modified = events.next().await.expect("an event");
    assert_eq!(
        (&modified["type"], &modified["object"]),
        (&json!("MODIFIED"), &changed.json())
    );
    let deleted = events.next().await.expect("an event");
    assert_eq!(
        (&deleted["type"], &deleted["object"]["data"]["k"]),
        (&json!("DELETED"), &json!("v"))
    );
    let at = |event: &Value| {
        event["object"]["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|v| v.parse::<u64>().ok())
    };
    assert!(at(&deleted) > at(&modified));
}

#[tokio::test]
async fn goes_on_from_a_revision() {
    let f = Fixture::new().await;
    let from = f.config_map("x", json!({})).await.revision();
    f.config_map("y", json!({})).await;
    let mut events = f.watch(&format!("{MAPS}?watch=1&resourceVersion={from}")).await;
    assert_eq!(events.brief().await, "ADDED y");
}

#[tokio::test]
async fn an_object_enters_and_leaves_a_selection() {
    let f = Fixture::new().await;
    let from = f.config_map("x", json!({})).await.revision();
    let mut events = f
        .watch(&format!("{MAPS}?watch=1&labelSelector=on%3Dyes&resourceVersion={from}"))
        .await;
    let target = format!("{MAPS}/x");
    let label = |value: Value| json!({"metadata": {"labels": {"on": value}}});
    f.patch(&target, "merge", label("yes".into())).await;
    f.patch(&target, "merge", json!({"data": {"k": "v"}})).await;
    let left = f.patch(&target, "merge", label(Value::Null)).await;
    f.patch(&target, "merge", json!({"data": {"k": "unseen"}})).await;
    f.patch(&target, "merge", label("yes".into())).await;
    f.delete(&target).await;
    assert_eq!(events.brief().await, "ADDED x");
    assert_eq!(events.brief().await, "MODIFIED x");
    let gone = events.next().await.expect("an event");
    assert_eq!(gone["type"], "DELETED");
    // As it was when it last belonged, at the revision at which it left.
    assert_eq!(gone["object"]["metadata"]["labels"]["on"], "yes");
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], left.revision());
    assert_eq!(events.brief().await, "ADDED x");
    assert_eq!(events.brief().await, "DELETED x");
}

#[tokio::test]
async fn one_object_can_be_watched_by_name() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    f.config_map("y", json!({})).await;
    let mut by_field = f
        .watch(&format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dy"))
        .await;
    assert_eq!(by_field.brief().await, "ADDED y");
    let mut by_path = f.watch("/api/v1/watch/namespaces/a/configmaps/y").await;
    assert_eq!(by_path.brief().await, "ADDED y");
}

#[tokio::test]
async fn a_watch_list_says_where_the_beginning_ends() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = f.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(events.brief().await, "ADDED x");
    let bookmark = events.next().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"],
        json!({"k8s.io/initial-events-end": "true"})
    );
    assert_eq!(
        (&bookmark["object"]["kind"], &bookmark["object"]["apiVersion"]),
        (&json!("ConfigMap"), &json!("v1"))
    );
    f.config_map("y", json!({})).await;
    assert_eq!(events.brief().await, "ADDED y");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_in_every_form() {
    let f = Fixture::new().await;
    f.config_map("x", json!({"k": "v"})).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let forms = [
        ("application/json", "ConfigMap", "/metadata"),
        (
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            "PartialObjectMetadata",
            "/metadata",
        ),
        (
            "application/json;as=Table;g=meta.k8s.io;v=v1",
            "Table",
            "/rows/0/object/metadata",
        ),
    ];
    for (accept, kind, metadata) in forms {
        let mut events = f.watch_with(&format!("{MAPS}?{query}"), accept).await;
        let added = events.next().await.expect("the object");
        let name = added["object"]
            .pointer(metadata)
            .map(|metadata| metadata["name"].clone());
        assert_eq!((&added["type"], name), (&json!("ADDED"), Some(json!("x"))), "{kind}");
        let bookmark = events.next().await.expect("a bookmark");
        assert_eq!(
            (&bookmark["type"], &bookmark["object"]["kind"]),
            (&json!("BOOKMARK"), &json!(kind))
        );
        let found = bookmark["object"].pointer(metadata).cloned().unwrap_or_default();
        assert_eq!(
            found["annotations"],
            json!({"k8s.io/initial-events-end": "true"}),
            "{kind}"
        );
        let revision = bookmark["object"]["metadata"]["resourceVersion"].as_str();
        assert!(
            revision.is_some_and(|revision| revision.parse::<u64>().is_ok()),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn parameters_that_contradict_are_refused() {
    let f = Fixture::new().await;
    let cases = [
        "watch=1&sendInitialEvents=true",
        "watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=1",
        "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=1",
    ];
    for query in cases {
        assert_eq!(
            f.get(&format!("{MAPS}?{query}")).await.code,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_revision_that_is_lost_is_an_error_event() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let now = f.backend.revision().await.expect("a revision");
    f.backend.compact(now).await.expect("compacts");
    // A server that starts now cannot know what came before.
    let later = Fixture::over(f.backend.clone()).await;
    let mut events = later.watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let error = events.next().await.expect("an event");
    assert_eq!(
        (&error["type"], &error["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    assert_eq!(error["object"]["reason"], "Expired");
    assert!(
        error["object"]["message"]
            .as_str()
            .is_some_and(|m| m.starts_with("too old resource version: 1 ("))
    );
    assert_eq!(events.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_about_once_a_minute_until_the_timeout() {
    let f = Fixture::new().await;
    f.config_map("x", json!({})).await;
    let begun = tokio::time::Instant::now();
    let mut events = f
        .watch(&format!("{MAPS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=130"))
        .await;
    assert_eq!(events.brief().await, "ADDED x");
    let bookmark = events.next().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert!((45..80).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    while let Some(event) = events.next().await {
        assert_eq!(event["type"], "BOOKMARK");
    }
    assert_eq!(begun.elapsed().as_secs(), 130);
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_bookmarks_ends_silently() {
    let f = Fixture::new().await;
    let mut events = f.watch(&format!("{MAPS}?watch=1&timeoutSeconds=5")).await;
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn watches_end_with_the_server() {
    let f = Fixture::new().await;
    let mut events = f.watch(&format!("{MAPS}?watch=1")).await;
    f.shutdown.cancel();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn watches_speak_the_other_forms_too() {
    let f = Fixture::new().await;
    f.config_map("x", json!({"k": "v"})).await;
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let mut metadata = f.watch_with(&format!("{MAPS}?watch=1"), accept).await;
    let event = metadata.next().await.expect("an event");
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(
        (&event["object"]["metadata"]["name"], event["object"].get("data")),
        (&json!("x"), None)
    );
    let mut table = f
        .watch_with(
            &format!("{MAPS}?watch=1"),
            "application/json;as=Table;g=meta.k8s.io;v=v1",
        )
        .await;
    let first = table.next().await.expect("an event");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "x");
    assert!(
        first["object"]["columnDefinitions"]
            .as_array()
            .is_some_and(|c| !c.is_empty())
    );
    f.config_map("y", json!({})).await;
    let second = table.next().await.expect("an event");
    assert_eq!(
        (
            &second["object"]["rows"][0]["cells"][0],
            &second["object"]["columnDefinitions"]
        ),
        (&json!("y"), &json!([]))
    );
}

#[tokio::test]
async fn events_come_in_frames_of_protobuf() {
    let f = Fixture::new().await;
    f.config_map("x", json!({"k": "v"})).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    for (parameters, kind) in [
        ("", "ConfigMap"),
        (";as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "PartialObjectMetadata"),
    ] {
        let accept = format!("application/vnd.kubernetes.protobuf;stream=watch{parameters}");
        let mut events = f.watch_frames(&format!("{MAPS}?{query}"), &accept).await;
        let (type_, added) = events.next_frame().await;
        assert_eq!((type_.as_str(), &added["kind"]), ("ADDED", &json!(kind)));
        assert_eq!(added["metadata"]["name"], "x");
        let (type_, bookmark) = events.next_frame().await;
        assert_eq!((type_.as_str(), &bookmark["kind"]), ("BOOKMARK", &json!(kind)));
        assert_eq!(
            bookmark["metadata"]["annotations"],
            json!({"k8s.io/initial-events-end": "true"})
        );
        let data = json!({"data": {"k": kind}});
        f.patch(&format!("{MAPS}/x"), "merge", data).await;
        let (type_, modified) = events.next_frame().await;
        assert_eq!(type_, "MODIFIED");
        let expected = if kind == "ConfigMap" {
            json!({"k": kind})
        } else {
            Value::Null
        };
        assert_eq!(modified.get("data").cloned().unwrap_or_default(), expected);
    }
}

#[tokio::test]
async fn who_leaves_a_selection_is_told_in_protobuf_too() {
    let f = Fixture::new().await;
    let labelled = |value: Value| json!({"metadata": {"labels": {"on": value}}});
    f.config_map("x", json!({})).await;
    f.patch(&format!("{MAPS}/x"), "merge", labelled("yes".into())).await;
    let accept = "application/vnd.kubernetes.protobuf;stream=watch";
    let mut events = f
        .watch_frames(&format!("{MAPS}?watch=1&labelSelector=on%3Dyes"), accept)
        .await;
    assert_eq!(events.next_frame().await.0, "ADDED");
    f.patch(&format!("{MAPS}/x"), "merge", labelled(Value::Null)).await;
    let (type_, left) = events.next_frame().await;
    assert_eq!(
        (type_.as_str(), &left["metadata"]["labels"]["on"]),
        ("DELETED", &json!("yes"))
    );
}

#[tokio::test]
async fn yaml_cannot_be_watched() {
    let f = Fixture::new().await;
    let refused = f
        .send_with(
            "GET",
            &format!("{MAPS}?watch=1"),
            &[("accept", "application/yaml")],
            Vec::new(),
        )
        .await;
    assert_eq!(refused.code, StatusCode::NOT_ACCEPTABLE);
    assert!(
        String::from_utf8_lossy(&refused.bytes)
            .contains("accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"),
        "{refused:?}"
    );
}
