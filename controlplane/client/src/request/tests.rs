use serde_json::json;

use super::*;
use crate::{fake::Fake, kinds, options::Propagation};

fn at(namespace: &str, name: &str) -> NamespacedName {
    NamespacedName {
        namespace: Some(namespace.into()),
        name: name.into(),
    }
}

#[test]
fn queries_are_encoded() {
    let options = ListOptions {
        labels: "app in (a,b)".into(),
        fields: "spec.nodeName=n1".into(),
        limit: 5,
        ..Default::default()
    };
    assert_eq!(
        list_query(&options, &[("watch", "true")]),
        "?labelSelector=app%20in%20%28a%2Cb%29&fieldSelector=spec.nodeName%3Dn1&limit=5&watch=true"
    );
    assert_eq!(list_query(&ListOptions::default(), &[]), "");
}

#[test]
fn delete_options_say_only_what_was_asked() {
    assert_eq!(
        DeleteOptions::default().body(),
        json!({"apiVersion": "v1", "kind": "DeleteOptions"})
    );
    let all = DeleteOptions {
        grace: Some(0),
        propagation: Some(Propagation::Foreground),
        precondition_uid: Some("u".into()),
        precondition_rv: Some("7".into()),
    };
    assert_eq!(
        all.body(),
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Foreground",
            "preconditions": {"uid": "u", "resourceVersion": "7"}})
    );
}

#[test]
fn an_answer_that_is_no_status_still_becomes_one() {
    let status = status_of(http::StatusCode::BAD_GATEWAY, b"<html>");
    assert_eq!((status.code, status.message.as_str()), (502, "<html>"));
    assert_eq!(status_of(http::StatusCode::NOT_FOUND, b"").reason, "NotFound");
}

#[tokio::test]
async fn errors_keep_their_status() {
    let fake = Fake::new();
    let client = fake.client();
    let missing = client.get::<Object>(&kinds::POD, &at("a", "p")).await.unwrap_err();
    assert!(missing.is_not_found() && !missing.is_conflict());
    assert!(
        client
            .get_opt::<Object>(&kinds::POD, &at("a", "p"))
            .await
            .unwrap()
            .is_none()
    );
    let pod = json!({"metadata": {"name": "p", "namespace": "a"}});
    client.create(&kinds::POD, Some("a"), &pod).await.unwrap();
    assert!(
        client
            .create(&kinds::POD, Some("a"), &pod)
            .await
            .unwrap_err()
            .is_already_exists()
    );
    let stale = Patch::Merge(json!({"metadata": {"resourceVersion": "99"}}));
    assert!(
        client
            .patch(&kinds::POD, &at("a", "p"), None, stale)
            .await
            .unwrap_err()
            .is_conflict()
    );
    fake.down.store(true, std::sync::atomic::Ordering::Relaxed);
    let down = client.get::<Object>(&kinds::POD, &at("a", "p")).await.unwrap_err();
    assert!(matches!(down, Error::Transport { .. }) && down.status().is_none());
}
