//! Two control planes that share a store.

use api::names::NamespacedName;
use client::kinds;
use serde_json::{Value, json};
use server::{Server, Store, Token, backup};
use store::{Backend, Page};

use crate::{
    Plane, config,
    members::{Cluster, Version, need_etcd},
    until,
};

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"p": "hunter2!"}})
}

fn at(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_control_planes_are_one() {
    let program = need_etcd!(Version::V3_5);
    let cluster = Cluster::start(&program, 1, "http", &["--unsafe-no-fsync".to_owned()]);
    let first = Plane::start(&cluster, 1).await;
    let second = Plane::start(&cluster, 2).await;
    let (one, other) = (&first.admin, &second.admin);
    for n in 0..50 {
        let name = format!("map-{n}");
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": n.to_string()}});
        one.create(&kinds::CONFIG_MAP, Some("default"), &map).await.unwrap();
        let read: Value = other.get(&kinds::CONFIG_MAP, &at(&name)).await.unwrap();
        assert_eq!(
            read["data"]["n"],
            n.to_string(),
            "what one acknowledged the other shows"
        );
    }

    let endpoints: Value = one.get(&kinds::ENDPOINTS, &at("kubernetes")).await.unwrap();
    // Each has a port of its own here, and endpoints have one: those that agree with the lowest address are shown.
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.0.2.1");
    for lease in ["kube-scheduler", "kube-controller-manager"] {
        let holder = until("somebody leads", async || {
            let lease: Value = one
                .get(&kinds::LEASE, &NamespacedName::new("kube-system", lease))
                .await
                .ok()?;
            lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
        });
        assert!(holder.await.starts_with('n'));
    }

    one.create(&kinds::SECRET, Some("default"), &secret("a")).await.unwrap();
    let raw = cluster.connect().await;
    let sealed = async |by: &str| {
        let secrets = raw.range("core/secrets/", Page::all(), None).await.unwrap().items;
        let mark = format!("sealed:v1:{by}:");
        (
            secrets.len(),
            secrets
                .iter()
                .filter(|kv| kv.value.starts_with(mark.as_bytes()))
                .count(),
        )
    };
    assert_eq!(sealed("key1").await, (1, 1));
    let directory = first.directory.path().to_owned();
    let said = tokio::task::spawn_blocking(move || backup::ask(&directory, "rotate-encryption-key"))
        .await
        .unwrap();
    assert_eq!(said.unwrap(), "key \"key2\" seals now; 1 Secrets were sealed anew");
    let read: Value = other.get(&kinds::SECRET, &at("a")).await.unwrap();
    assert_eq!(read["data"]["p"], "aHVudGVyMiE=");
    other
        .create(&kinds::SECRET, Some("default"), &secret("b"))
        .await
        .unwrap();
    assert_eq!(sealed("key2").await, (2, 2), "the other seals with the new key as well");
    let directory = second.directory.path().to_owned();
    let file = directory.join("backup");
    let refused = tokio::task::spawn_blocking(move || backup::take_running(&directory, &file))
        .await
        .unwrap();
    assert!(refused.unwrap_err().to_string().contains("etcdctl snapshot"));

    let stranger = tempfile::tempdir().unwrap();
    let mut wrong = config(&cluster, stranger.path(), 3);
    wrong.store = Store::Etcd {
        options: cluster.options(),
        token: Token::new("not the token that this cluster was made with").unwrap(),
    };
    let error = Server::start(wrong).await.err().unwrap().to_string();
    assert!(error.contains("--token") && !error.contains('\n'), "{error}");

    second.server.stop().await;
    let third = Plane::start(&cluster, 3).await;
    let read: Value = third.admin.get(&kinds::SECRET, &at("b")).await.unwrap();
    assert_eq!(read["data"]["p"], "aHVudGVyMiE=");
    first.server.stop().await;
    until("the next leads at once, since the lease was given back", async || {
        let lease: Value = third
            .admin
            .get(&kinds::LEASE, &NamespacedName::new("kube-system", "kube-scheduler"))
            .await
            .ok()?;
        lease["spec"]["holderIdentity"]
            .as_str()?
            .starts_with("n3")
            .then_some(())
    })
    .await;
    third.server.stop().await;
}
