//! A control plane from an empty directory to its first objects, and again on the same directory.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test says that something is wrong"
)]

mod images;

use std::net::Ipv4Addr;

use api::names::NamespacedName;
use client::{Client, kinds};
use serde_json::{Value, json};
use server::{Config, Server, Store};
use tempfile::TempDir;

fn config(directory: &TempDir) -> Config {
    Config {
        images: images::none(),
        data_dir: directory.path().to_owned(),
        store: Store::Redb(directory.path().join("store.redb")),
        kms_endpoint: None,
        tls_san: Vec::new(),
        advertise: None,
        api_bind: (Ipv4Addr::LOCALHOST, 0).into(),
        kubeconfig: directory.path().join("kubeconfig"),
        node_name: "n1".into(),
        node_addresses: vec![Ipv4Addr::LOCALHOST.into()],
        // An address that nobody has can be listened on, without any privilege.
        gateway: Ipv4Addr::new(10, 128, 0, 1),
        cluster_range: "10.128.0.0/9".parse().unwrap(),
        service_range: "10.96.0.0/16".parse().unwrap(),
        node_ports: 30000..=32767,
        node_prefix: 17,
        audit: None,
        authentication: Default::default(),
        authorization: Default::default(),
        max_inflight: server::MaxInflight::default(),
    }
}

async fn start(directory: &TempDir) -> (Server, Client) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = Server::start(config(directory)).await.unwrap();
    let client = Client::from_kubeconfig(&directory.path().join("kubeconfig"))
        .await
        .unwrap();
    (server, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_its_objects_and_its_identity_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (server, admin) = start(&directory).await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"a": "b"}});
    let made = admin.create(&kinds::CONFIG_MAP, Some("default"), &map).await.unwrap();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"p": "hunter2!"}});
    admin.create(&kinds::SECRET, Some("default"), &secret).await.unwrap();
    let kubernetes: Value = admin
        .get(&kinds::SERVICE, &NamespacedName::new("default", "kubernetes"))
        .await
        .unwrap();
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    server.stop().await;

    let stored = std::fs::read(directory.path().join("store.redb")).unwrap();
    let plain = |needle: &[u8]| stored.windows(needle.len()).any(|window| window == needle);
    assert!(
        plain(b"kept") && !plain(b"hunter2!") && !plain(b"aHVudGVyMiE="),
        "Secrets rest encrypted"
    );

    let (server, admin) = start(&directory).await;
    let kept: Value = admin
        .get(&kinds::CONFIG_MAP, &NamespacedName::new("default", "kept"))
        .await
        .unwrap();
    assert_eq!(
        (kept["metadata"]["uid"].as_str(), kept["data"]["a"].as_str()),
        (Some(made.uid()), Some("b"))
    );
    let secret: Value = admin
        .get(&kinds::SECRET, &NamespacedName::new("default", "s"))
        .await
        .unwrap();
    assert_eq!(secret["data"]["p"], "aHVudGVyMiE=");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_store_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let (server, _) = start(&directory).await;
    let error = Server::start(config(&directory)).await.err().unwrap().to_string();
    assert!(!error.contains('\n') && error.contains("store.redb"), "{error}");
    server.stop().await;
}
