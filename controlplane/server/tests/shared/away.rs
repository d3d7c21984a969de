//! An etcd that goes away under a control plane and comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use api::Object;
use client::{Client, ListOptions, kinds};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    PATIENCE, Plane,
    members::{Cluster, Version, need_etcd},
    until,
};

/// Longer than a leader may go without renewing its lease.
const AWAY: Duration = Duration::from_secs(14);

/// Status and `Retry-After` of the answer, as they come.
async fn ask(client: &kube::Client, method: &str, path: &str, body: Value) -> (StatusCode, Option<String>) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(kube::client::Body::from(body.to_string().into_bytes()))
        .unwrap();
    let answer = tokio::time::timeout(PATIENCE, client.send(request))
        .await
        .expect("it answers")
        .unwrap();
    let retry = answer.headers().get(header::RETRY_AFTER);
    (
        answer.status(),
        retry.map(|seconds| seconds.to_str().unwrap().to_owned()),
    )
}

async fn list(admin: &Client) -> Option<Vec<Object>> {
    let listed = admin
        .list::<Object>(&kinds::POD, Some("default"), &ListOptions::default())
        .await;
    listed.ok().map(|list| list.items)
}

async fn uids(admin: &Client) -> Option<BTreeSet<String>> {
    let pods = list(admin).await?;
    let uids: BTreeSet<String> = pods.iter().map(|pod| pod.uid().to_owned()).collect();
    (uids.len() == 3).then_some(uids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_writes_say_when_to_try_again_and_nothing_is_deleted() {
    let program = need_etcd!(Version::V3_5);
    let mut cluster = Cluster::start(&program, 1, "http", &["--unsafe-no-fsync".to_owned()]);
    let plane = Plane::start(&cluster, 1).await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": 3, "selector": {"matchLabels": {"a": "d"}},
        "template": {"metadata": {"labels": {"a": "d"}}, "spec": {"containers": [{"name": "c", "image": "none"}]}}}});
    plane
        .admin
        .create(&kinds::DEPLOYMENT, Some("default"), &deployment)
        .await
        .unwrap();
    let before = until("three pods", async || uids(&plane.admin).await).await;

    cluster.members[0].kill();
    let client = plane.admin.kube().clone();
    let pods = "/api/v1/namespaces/default/pods";
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    let (code, _) = ask(&client, "GET", &format!("{pods}?resourceVersion=0"), Value::Null).await;
    assert_eq!(code, StatusCode::OK, "what is cached may be served");
    let mut codes = Vec::new();
    while codes.len() < 5 {
        codes.push(ask(&client, "POST", maps, map.clone()).await);
        codes.push(ask(&client, "GET", pods, Value::Null).await);
    }
    for (code, retry) in codes {
        assert_eq!((code, retry.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
    }
    tokio::time::sleep(AWAY).await;
    let (code, _) = ask(&client, "GET", &format!("{pods}?resourceVersion=0"), Value::Null).await;
    assert_eq!(code, StatusCode::OK);

    cluster.members[0].start();
    until("writes go on", async || {
        let (code, _) = ask(&client, "POST", maps, map.clone()).await;
        (code == StatusCode::CREATED || code == StatusCode::CONFLICT).then_some(())
    })
    .await;
    assert_eq!(
        uids(&plane.admin).await.as_ref(),
        Some(&before),
        "the same pods as before"
    );
    // Whoever leads now leads on: a new pod takes the place of one that is deleted.
    let victim = list(&plane.admin).await.unwrap();
    let path = format!("{pods}/{}", victim[0].name());
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    let (code, _) = ask(&client, "DELETE", &path, options).await;
    assert_eq!(code, StatusCode::OK);
    until("controllers go on", async || {
        uids(&plane.admin).await.filter(|after| *after != before)
    })
    .await;
    plane.server.stop().await;
}
