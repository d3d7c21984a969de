//! `/livez`, `/readyz` and `/healthz`: named checks, each also to be asked alone, worded as Kubernetes words them.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};

use super::body::Body;
use super::query::Query;
use super::respond;
use crate::server::Shared;

/// How long the store may take to answer a check.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// A check that somebody else answers, e.g. that the first objects have been made.
#[derive(Clone)]
pub struct Check {
    /// As shown, e.g. `poststarthook/rbac/bootstrap-roles`.
    pub name: &'static str,
    pub passes: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Whether it is part of `/livez` and `/healthz`, and not of `/readyz` alone.
    pub live: bool,
}

/// The store goes by the name that it has in Kubernetes, whatever it is.
const STORE: &str = "etcd";
const BUILT_IN: [&str; 4] = ["ping", STORE, "informer-sync", "shutdown"];
const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

/// Answers one of the three endpoints.
pub(super) async fn answer(server: &Shared, path: &str, query: &Query<'_>) -> Response<Body> {
    let endpoint = path.trim_matches('/');
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut report = String::new();
    let mut failed = false;
    let mut unknown: Vec<&str> = excluded.clone();
    for name in names(&server.checks, endpoint) {
        if excluded.contains(&name) {
            unknown.retain(|other| *other != name);
            let _ = writeln!(report, "[+]{name} excluded: ok");
            continue;
        }
        match passes(server, name).await {
            true => {
                let _ = writeln!(report, "[+]{name} ok");
            }
            false => {
                failed = true;
                let _ = writeln!(report, "[-]{name} failed: reason withheld");
            }
        }
    }
    if !unknown.is_empty() {
        let quoted: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let _ = writeln!(
            report,
            "warn: some health checks cannot be excluded: no matches for {}",
            quoted.join(", ")
        );
    }
    match (failed, query.present("verbose")) {
        (true, _) => {
            let _ = writeln!(report, "{endpoint} check failed");
            respond::text(StatusCode::INTERNAL_SERVER_ERROR, report)
        }
        (false, true) => {
            let _ = writeln!(report, "{endpoint} check passed");
            respond::text(StatusCode::OK, report)
        }
        (false, false) => respond::text(StatusCode::OK, "ok"),
    }
}

/// The check that a path like `/readyz/store` asks for: endpoint and name.
pub(super) fn single(path: &str) -> Option<(&str, &str)> {
    let (endpoint, name) = path.strip_prefix('/')?.split_once('/')?;
    ENDPOINTS.contains(&endpoint).then_some((endpoint, name))
}

/// Answers one check alone; `None` when there is none of that name.
pub(super) async fn one(server: &Shared, (endpoint, name): (&str, &str)) -> Option<Response<Body>> {
    let known = names(&server.checks, endpoint).find(|known| *known == name)?;
    Some(match passes(server, known).await {
        true => respond::text(StatusCode::OK, "ok"),
        false => respond::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("internal server error: {known} failed: reason withheld\n"),
        ),
    })
}

/// All paths there are.
pub(crate) fn paths(checks: &[Check]) -> Vec<String> {
    let of = |endpoint: &'static str| {
        let each = names(checks, endpoint).map(move |name| format!("/{endpoint}/{name}"));
        std::iter::once(format!("/{endpoint}")).chain(each)
    };
    ENDPOINTS.into_iter().flat_map(of).collect()
}

/// The checks of an endpoint. A server that fills its caches or shuts down is alive but not ready.
fn names<'s>(checks: &'s [Check], endpoint: &str) -> impl Iterator<Item = &'s str> + use<'s> {
    let ready = endpoint == "readyz";
    let built_in = BUILT_IN
        .into_iter()
        .filter(move |name| ready || !matches!(*name, "informer-sync" | "shutdown"));
    let others = checks.iter().filter(move |check| ready || check.live);
    built_in.chain(others.map(|check| check.name))
}

async fn passes(server: &Shared, name: &str) -> bool {
    match name {
        "ping" => true,
        "shutdown" => !server.ending.is_cancelled(),
        "informer-sync" => server.registry.is_ready(),
        STORE => {
            let revision = tokio::time::timeout(STORE_PATIENCE, server.backend.revision()).await;
            matches!(revision, Ok(Ok(_)))
        }
        other => server
            .checks
            .iter()
            .filter(|check| check.name == other)
            .all(|check| (check.passes)()),
    }
}
