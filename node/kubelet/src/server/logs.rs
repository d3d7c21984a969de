//! `GET /containerLogs/{namespace}/{pod}/{container}`: `kubectl logs`.

use std::sync::Arc;

use api::NamespacedName;
use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::{
    logs::{self, Options, Stream},
    make,
    observed::Observed,
    pod::Pod,
    shared::Shared,
};

/// `PodLogOptions`, as the API server passes them on.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Asked {
    follow: bool,
    previous: bool,
    timestamps: bool,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
    tail_lines: Option<u64>,
    limit_bytes: Option<u64>,
    stream: Option<String>,
}

impl Asked {
    fn options(&self, now: Timestamp) -> Options {
        let ago = |seconds| {
            now.saturating_sub(SignedDuration::from_secs(seconds))
                .unwrap_or(Timestamp::MIN)
        };
        Options {
            follow: self.follow && !self.previous,
            tail: self.tail_lines,
            since: self.since_time.or(self.since_seconds.map(ago)),
            timestamps: self.timestamps,
            limit: self.limit_bytes,
            stream: match self.stream.as_deref() {
                Some("Stdout") => Stream::Stdout,
                Some("Stderr") => Stream::Stderr,
                _ => Stream::All,
            },
        }
    }
}

type Refusal = (StatusCode, String);

pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(asked): Query<Asked>,
) -> Response {
    let Some(pod) = shared.pods.get(&NamespacedName::new(&namespace, &name)) else {
        return (StatusCode::NOT_FOUND, format!("pod \"{name}\" not found")).into_response();
    };
    let running = shared.running_for(&pod);
    let observed = shared.observer.pod(&running.metadata.uid);
    let attempt = match attempt(&pod, &observed, &container, asked.previous) {
        Ok(attempt) => attempt,
        Err(refusal) => return refusal.into_response(),
    };
    let directory = make::log_directory(&shared.data_dir, &running).join(&container);
    let options = asked.options(shared.clock.now());
    let (observer, uid) = (shared.observer.clone(), running.metadata.uid.clone());
    let runs = move || {
        let pod = observer.pod(&uid);
        pod.containers
            .iter()
            .any(|c| c.name == container && c.attempt == attempt && !c.has_ended())
    };
    let body = Body::from_stream(logs::stream(directory, attempt, options, runs));
    ([(header::CONTENT_TYPE, "text/plain")], body).into_response()
}

/// Which attempt's log is meant.
///
/// # Errors
/// Why there is none, in the kubelet's words.
fn attempt(pod: &Pod, observed: &Observed, container: &str, previous: bool) -> Result<u32, Refusal> {
    let name = &pod.metadata.name;
    if pod.container(container).is_none() {
        return Err((
            StatusCode::NOT_FOUND,
            format!("container {container} not found in pod {name}"),
        ));
    }
    if previous {
        let ended = observed.containers.iter().rev().filter(|c| c.name == container);
        let last = match observed.latest(container) {
            Some(latest) if latest.has_ended() && is_waiting(pod, container) => ended.map(|c| c.attempt).next(),
            _ => ended.map(|c| c.attempt).nth(1),
        };
        let none = format!("previous terminated container \"{container}\" in pod \"{name}\" not found");
        return last.ok_or((StatusCode::BAD_REQUEST, none));
    }
    if let Some(latest) = observed
        .latest(container)
        .filter(|c| c.started_at.is_some() || c.has_ended())
    {
        return Ok(latest.attempt);
    }
    let waiting = pod
        .status
        .container(container)
        .and_then(|c| c.state.waiting.as_ref())
        .map(|w| w.reason.as_str());
    let reason = waiting.filter(|r| !r.is_empty()).unwrap_or("ContainerCreating");
    let message = format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}");
    Err((StatusCode::BAD_REQUEST, message))
}

/// The container waits for its next start, so that the one that ended is the previous one.
fn is_waiting(pod: &Pod, container: &str) -> bool {
    pod.status
        .container(container)
        .is_some_and(|c| c.state.waiting.is_some())
}
