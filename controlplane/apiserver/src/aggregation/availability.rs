//! Whether aggregated servers are there: their Service, its endpoints, and an answer to discovery. The outcome is the
//! `Available` condition of the APIService, which decides whether requests are passed on.
//!
//! Level-triggered: all are looked at whenever an APIService, Service or EndpointSlice changes, and twice a minute, and
//! sooner while one is away. One is asked over the network only when what is known of it has changed or its time has come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::names::GroupResource;
use api::time::rfc3339;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::remote::Remote;
use super::{offers, proxy};
use crate::authn::{MASTERS, UserInfo};
use crate::own;
use crate::server::Shared;

/// How often one that is there is asked again.
const AGAIN: Duration = Duration::from_secs(30);
/// How soon one that is not, at first; then twice as late each time.
const SOON: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a discovery document.
const LIMIT: usize = 8 << 20;

/// Why a server is not there, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    fn passed() -> Self {
        Verdict {
            status: "True",
            reason: "Passed",
            message: "all checks passed".to_owned(),
        }
    }

    fn failed(reason: &'static str, message: String) -> Self {
        Verdict {
            status: "False",
            reason,
            message,
        }
    }
}

/// What can be said without asking the server: what is wrong with its Service, or nothing.
pub(super) fn judge(
    (namespace, name, port): (&str, &str, u16),
    service: Option<&Object>,
    slices: &[Arc<Object>],
) -> Option<Verdict> {
    let Some(service) = service else {
        return Some(Verdict::failed(
            "ServiceNotFound",
            format!("service/{name} in {namespace:?} is not present"),
        ));
    };
    if service.str_at("spec.type").unwrap_or("ClusterIP") != "ClusterIP" {
        return None;
    }
    let mut ports = service.list_at("spec.ports").iter();
    let Some(found) = ports.find(|p| p.get("port").and_then(Value::as_u64) == Some(u64::from(port))) else {
        return Some(Verdict::failed(
            "ServicePortError",
            format!("service/{name} in {namespace:?} is not listening on port {port}"),
        ));
    };
    let port_name = found.get("name").and_then(Value::as_str).unwrap_or_default();
    let own: Vec<&Arc<Object>> = slices
        .iter()
        .filter(|slice| slice.label("kubernetes.io/service-name") == Some(name))
        .collect();
    if own.is_empty() {
        return Some(Verdict::failed(
            "EndpointsNotFound",
            format!("cannot find endpointslices for service/{name} in {namespace:?}"),
        ));
    }
    let missing = || {
        Verdict::failed(
            "MissingEndpoints",
            format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            ),
        )
    };
    (!own.iter().any(|slice| has_endpoint(slice, port_name))).then(missing)
}

fn has_endpoint(slice: &Object, port_name: &str) -> bool {
    let is_ready = |endpoint: &Value| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false));
    let is_named = |port: &Value| port.get("name").and_then(Value::as_str).unwrap_or_default() == port_name;
    slice.list_at("endpoints").iter().any(is_ready)
        && slice
            .list_at("ports")
            .iter()
            .any(|port| is_named(port) && port.get("port").is_some())
}

/// What is remembered of a remote between two looks.
struct Look {
    uid: String,
    judged: Option<Verdict>,
    passed: bool,
    failures: u32,
    next: Instant,
}

/// Looks after all remotes until it is dropped.
pub(super) async fn follow(shared: &Arc<Shared>) {
    let mut table = shared.aggregator.version.subscribe();
    let mut looks: HashMap<String, Look> = HashMap::new();
    loop {
        table.mark_unchanged();
        if shared.aggregator.remotes().is_empty() {
            looks.clear();
            if table.changed().await.is_err() {
                return;
            }
            continue;
        }
        // Followed only while there is somebody to look after.
        let mut services = shared.reader.changes(&GroupResource::new("", "services"));
        let mut slices = shared
            .reader
            .changes(&GroupResource::new("discovery.k8s.io", "endpointslices"));
        while !shared.aggregator.remotes().is_empty() {
            let next = round(shared, &mut looks).await;
            tokio::select! {
                changed = table.changed() => if changed.is_err() { return },
                () = either(&mut services, &mut slices) => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }
}

async fn either(a: &mut watch::Receiver<u64>, b: &mut watch::Receiver<u64>) {
    // An error means that the kind's cache has ended, and the server with it.
    let (a, b) = (a.changed(), b.changed());
    tokio::select! {
        changed = a => if changed.is_err() { std::future::pending::<()>().await },
        changed = b => if changed.is_err() { std::future::pending::<()>().await },
    }
}

/// One look at all of them; tells when the next is due.
async fn round(shared: &Arc<Shared>, looks: &mut HashMap<String, Look>) -> Instant {
    let remotes = shared.aggregator.remotes();
    looks.retain(|name, _| remotes.iter().any(|remote| remote.name == *name));
    let checked = remotes
        .iter()
        .map(|remote| check(shared, remote, looks.get(&remote.name)));
    let checked = futures::future::join_all(checked).await;
    for (remote, look) in remotes.iter().zip(checked) {
        if let Some(look) = look {
            looks.insert(remote.name.clone(), look);
        }
    }
    let next = looks.values().map(|look| look.next).min();
    next.unwrap_or_else(|| Instant::now() + AGAIN)
}

/// Looks at one remote, unless nothing has changed since the last time.
async fn check(shared: &Arc<Shared>, remote: &Remote, last: Option<&Look>) -> Option<Look> {
    let place = (remote.namespace.as_str(), remote.service.as_str(), remote.port);
    let service = shared
        .reader
        .get(&GroupResource::new("", "services"), Some(place.0), place.1);
    let slices = GroupResource::new("discovery.k8s.io", "endpointslices");
    let slices = shared.reader.list(&slices, Some(place.0));
    let judged = judge(place, service.as_deref(), &slices);
    let now = Instant::now();
    let known = last.filter(|last| last.uid == remote.uid && last.judged == judged);
    if known.is_some_and(|last| now < last.next) {
        return None;
    }
    let (verdict, offer) = match judged.clone() {
        Some(verdict) => (verdict, offers::Offer::default()),
        None => match tokio::time::timeout(PATIENCE, probe(remote)).await {
            Ok(Ok(())) => (Verdict::passed(), offer(remote).await),
            Ok(Err(why)) => (Verdict::failed("FailedDiscoveryCheck", why), offers::Offer::default()),
            Err(_) => {
                let why = format!(
                    "failing or missing response from {url}: Get \"{url}\": context deadline exceeded",
                    url = url(remote)
                );
                (Verdict::failed("FailedDiscoveryCheck", why), offers::Offer::default())
            }
        },
    };
    let passed = verdict.status == "True";
    if shared.aggregator.offered(remote, offer) {
        shared.registry.touch();
    }
    write(shared, remote, &verdict).await;
    let failures = if passed {
        0
    } else {
        last.map_or(0, |last| last.failures) + 1
    };
    let wait = match judged {
        // It waits for a change.
        _ if passed => AGAIN,
        Some(_) => AGAIN,
        None => SOON.saturating_mul(1 << (failures - 1).min(5)).min(AGAIN),
    };
    Some(Look {
        uid: remote.uid.clone(),
        judged,
        passed,
        failures,
        next: now + wait,
    })
    .inspect(|look| {
        tracing::debug!(
            name = remote.name,
            passed = look.passed,
            "an aggregated server was checked"
        )
    })
}

async fn offer(remote: &Remote) -> offers::Offer {
    let user = aggregator();
    let asked = tokio::time::timeout(PATIENCE, offers::fetch(remote, &user));
    asked.await.unwrap_or_default()
}

/// Whether it answers discovery.
async fn probe(remote: &Remote) -> Result<(), String> {
    let path = remote.discovery_path();
    match proxy::ask(remote, &path, "application/json", &aggregator(), LIMIT).await {
        Ok((code, ..)) if code.is_success() || code.is_redirection() => Ok(()),
        Ok((code, ..)) => {
            let url = url(remote);
            Err(format!(
                "failing or missing response from {url}: bad status from {url}: {}",
                code.as_u16()
            ))
        }
        Err(why) => {
            let url = url(remote);
            Err(format!("failing or missing response from {url}: Get \"{url}\": {why}"))
        }
    }
}

fn url(remote: &Remote) -> String {
    format!("https://{}:{}{}", remote.host(), remote.port, remote.discovery_path())
}

/// Who the aggregator is to the servers behind it.
fn aggregator() -> UserInfo {
    UserInfo {
        username: "system:kube-aggregator".to_owned(),
        groups: vec![MASTERS.to_owned()],
        ..UserInfo::default()
    }
}

/// Writes the condition where it says something else.
async fn write(shared: &Arc<Shared>, remote: &Remote, verdict: &Verdict) {
    let before = remote.condition.as_ref();
    let text = |field: &str| {
        before
            .and_then(|c| c.get(field))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if text("status") == verdict.status && text("reason") == verdict.reason && text("message") == verdict.message {
        return;
    }
    let since = match text("status") == verdict.status {
        true => text("lastTransitionTime").to_owned(),
        false => rfc3339(shared.now()),
    };
    let condition = json!({"type": "Available", "status": verdict.status, "reason": verdict.reason,
        "message": verdict.message, "lastTransitionTime": since});
    let patch = json!({"metadata": {"uid": remote.uid}, "status": {"conditions": [condition]}});
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}/status", remote.name);
    own::send(shared, Method::PATCH, &path, &patch).await;
}
