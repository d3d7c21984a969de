//! What a create and a get of a small ConfigMap cost: the whole request path in this process, less sockets and TLS, over
//! the store in memory, as a user whom RBAC has to find a rule for.
//!
//! `cargo run --release -p apiserver --example creates -- [how many]`; prints microseconds of CPU
//! time per request. Everything runs on one thread, so that the thread's time is that of the server and its caches.

#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;

use apiserver::{ApiServer, Config, bootstrap, tokens};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use store::memory::Memory;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Failure = Box<dyn Error>;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(5000), |n| n.parse())?;
    let shutdown = CancellationToken::new();
    let server = ApiServer::start(config()?, TaskTracker::new(), shutdown.clone()).await?;
    server.wait_ready().await;
    let admin = server.as_user("admin", &["system:masters"]);
    bootstrap::reconcile(&admin, &cluster()?).await?;
    send(&admin, Method::POST, BINDINGS, Bytes::from(binding().to_string())).await?;
    let user = server.as_user("jane", &["developers"]);
    send(&user, Method::GET, MAPS, Bytes::new()).await?;

    measure("create", count, async |n| {
        send(&user, Method::POST, MAPS, Bytes::from(config_map(n).to_string())).await
    })
    .await?;
    measure("get", count, async |n| {
        send(&user, Method::GET, &format!("{MAPS}/map-{n}"), Bytes::new()).await
    })
    .await?;
    shutdown.cancel();
    Ok(())
}

async fn measure(what: &str, count: u32, mut each: impl AsyncFnMut(u32) -> Result<(), Failure>) -> Result<(), Failure> {
    let before = cpu_nanoseconds()?;
    for n in 0..count {
        each(n).await?;
    }
    let each = (cpu_nanoseconds()? - before) / 1000 / u64::from(count.max(1));
    println!("{what}: {each} us of CPU each, {count} of them");
    Ok(())
}

/// How long this process' first thread has run.
fn cpu_nanoseconds() -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

async fn send(client: &kube::Client, method: Method, path: &str, body: Bytes) -> Result<(), Failure> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .body(Body::from(body.to_vec()))?;
    let response = client.send(request).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    match status {
        StatusCode::OK | StatusCode::CREATED => Ok(()),
        _ => Err(String::from_utf8_lossy(&answer).into()),
    }
}

const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

fn binding() -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "developers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "developers"}]})
}

fn config_map(n: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("map-{n}"), "labels": {"app": "web", "tier": "front"}},
        "data": {"address": "0.0.0.0:8080", "level": "info", "greeting": "Hello from a ConfigMap of ordinary size"}})
}

fn cluster() -> Result<bootstrap::Cluster, Failure> {
    Ok(bootstrap::Cluster {
        advertise: vec![Ipv4Addr::new(10, 128, 0, 1).into()],
        advertise_port: 6443,
        service_range: "10.96.0.0/16".parse()?,
        kubernetes_address: SERVICE_ADDRESS,
        client_ca: String::new(),
        front_proxy_ca: String::new(),
    })
}

fn config() -> Result<Config, Failure> {
    Ok(Config {
        backend: Arc::new(Memory::new()),
        version: "v1.36.2".to_owned(),
        clock: Arc::new(jiff::Timestamp::now),
        client_ca: Vec::new(),
        proxy_client: None,
        max_inflight: apiserver::MaxInflight::default(),
        service_accounts: tokens::Config {
            key: signing_key()?,
            issuer: "https://kubernetes.default.svc".to_owned(),
            audiences: vec!["https://kubernetes.default.svc".to_owned()],
            jwks_uri: String::new(),
        },
        service_range: "10.96.0.0/16".parse()?,
        kubernetes_address: SERVICE_ADDRESS,
        node_ports: 30000..=32767,
        admission: Vec::new(),
        virtuals: Box::new(|_| Vec::new()),
        checks: Vec::new(),
        audit: None,
        authentication: apiserver::authn::Config::fixed(Default::default()),
        authorization: apiserver::authz::Config::fixed(Default::default()),
        sign_in: None,
        pages: None,
    })
}

fn signing_key() -> Result<String, Failure> {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())?;
    let text = STANDARD.encode(key.as_ref());
    Ok(format!(
        "-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"
    ))
}
