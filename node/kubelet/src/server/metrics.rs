//! What this node and its pods use: `/metrics` for Prometheus, `/stats/summary` for the metrics server.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::shared::Shared;

pub(super) async fn text(State(shared): State<Arc<Shared>>) -> Response {
    let pods = shared.observer.all();
    let sandboxes = pods
        .iter()
        .filter(|(_, pod)| pod.latest_sandbox().is_some_and(|s| s.ready))
        .count();
    let mut states = BTreeMap::<&str, usize>::new();
    for container in pods.iter().flat_map(|(_, pod)| &pod.containers) {
        let state = match container.state {
            cri::ContainerState::Created => "created",
            cri::ContainerState::Running => "running",
            cri::ContainerState::Exited => "exited",
            cri::ContainerState::Unknown => "unknown",
        };
        *states.entry(state).or_default() += 1;
    }
    let mut out = String::new();
    let _ = write_metrics(&mut out, sandboxes, &states, shared.recorder.dropped()); // a String takes all
    for part in &shared.metrics {
        out.push_str(&part.text().await);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], out).into_response()
}

fn write_metrics(out: &mut String, pods: usize, states: &BTreeMap<&str, usize>, dropped: u64) -> std::fmt::Result {
    writeln!(
        out,
        "# HELP kubelet_running_pods Number of pods that have a running pod sandbox"
    )?;
    writeln!(out, "# TYPE kubelet_running_pods gauge\nkubelet_running_pods {pods}")?;
    writeln!(out, "# HELP kubelet_running_containers Number of containers by state")?;
    writeln!(out, "# TYPE kubelet_running_containers gauge")?;
    for (state, count) in states {
        writeln!(out, "kubelet_running_containers{{container_state=\"{state}\"}} {count}")?;
    }
    writeln!(
        out,
        "# HELP kubelet_events_dropped_total Events that were not recorded because too many waited"
    )?;
    writeln!(
        out,
        "# TYPE kubelet_events_dropped_total counter\nkubelet_events_dropped_total {dropped}"
    )
}

pub(super) async fn summary(State(shared): State<Arc<Shared>>) -> Response {
    let stats = match shared.runtime.stats().await {
        Ok(stats) => stats,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.chain()).into_response(),
    };
    let mut by_pod = BTreeMap::<String, Vec<&cri::ContainerStats>>::new();
    for container in &stats {
        by_pod.entry(container.pod_uid.clone()).or_default().push(container);
    }
    let pods = shared.pods.snapshot();
    let items = pods.iter().filter_map(|(_, pod)| {
        let meta = &pod.metadata;
        let containers: Vec<Value> = by_pod.get(&*meta.uid)?.iter().map(|c| usage(c)).collect();
        Some(json!({
            "podRef": {"name": &*meta.name, "namespace": &*meta.namespace, "uid": &*meta.uid},
            "startTime": pod.status.start_time,
            "containers": containers,
        }))
    });
    Json(json!({"node": {"nodeName": shared.node_name}, "pods": items.collect::<Vec<_>>()})).into_response()
}

fn usage(stats: &cri::ContainerStats) -> Value {
    let time = Timestamp::from_nanosecond(i128::from(stats.timestamp))
        .map(api::time::micro)
        .unwrap_or_default();
    json!({
        "name": stats.name,
        "cpu": {"time": time, "usageCoreNanoSeconds": stats.cpu_usage_core_nanoseconds},
        "memory": {"time": time, "workingSetBytes": stats.memory_working_set_bytes},
    })
}
