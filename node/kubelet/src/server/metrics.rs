//! What this node and its pods use, as Prometheus reads it: `/metrics` and `/metrics/resource`.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{
    usage::{self, ContainerUsage, PodUsage, Usage},
    wasm,
};
use crate::shared::Shared;

fn answer(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

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
    let _ = family(
        &mut out,
        "kubelet_node_name",
        "gauge",
        "The node's name. The count is always 1.",
    );
    let _ = writeln!(out, "kubelet_node_name{{node=\"{}\"}} 1", shared.node_name);
    match usage::read(&shared).await {
        // a String takes all
        Ok(usage) => drop(wasm::write(&mut out, &usage)),
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the runtime does not tell its usage"
        ),
    }
    for part in &shared.metrics {
        out.push_str(&part.text().await);
    }
    answer(out)
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

/// For metrics-server.
pub(super) async fn resource(State(shared): State<Arc<Shared>>) -> Response {
    let mut out = String::new();
    let error = match usage::read(&shared).await {
        Ok(usage) => {
            let _ = write_resources(&mut out, &usage); // a String takes all
            0
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the runtime does not tell its usage"
            );
            1
        }
    };
    let _ = family(
        &mut out,
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    let _ = writeln!(out, "resource_scrape_error {error}");
    answer(out)
}

pub(super) fn family(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// Core-nanoseconds as seconds.
pub(super) fn seconds(nanoseconds: u64) -> f64 {
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64()
}

fn milliseconds(nanoseconds: i64) -> i64 {
    nanoseconds / 1_000_000
}

fn write_resources(out: &mut String, usage: &Usage) -> std::fmt::Result {
    let containers =
        |usage: &Usage, out: &mut String, name: &str, value: fn(&ContainerUsage) -> Option<(f64, bool)>| {
            for pod in &usage.pods {
                for container in &pod.containers {
                    let Some((value, timed)) = value(container) else {
                        continue;
                    };
                    write!(
                        out,
                        "{name}{{container=\"{}\",{}}} {value}",
                        container.stats.name,
                        labels(pod)
                    )?;
                    match timed {
                        true => writeln!(out, " {}", milliseconds(container.stats.timestamp))?,
                        false => writeln!(out)?,
                    }
                }
            }
            Ok::<(), std::fmt::Error>(())
        };
    let name = "container_cpu_usage_seconds_total";
    family(
        out,
        name,
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    )?;
    containers(usage, out, name, |c| {
        Some((seconds(c.stats.cpu_usage_core_nanoseconds), true))
    })?;
    let name = "container_memory_working_set_bytes";
    family(out, name, "gauge", "Current working set of the container in bytes")?;
    containers(usage, out, name, |c| {
        Some((c.stats.memory_working_set_bytes as f64, true))
    })?;
    let name = "container_start_time_seconds";
    family(
        out,
        name,
        "gauge",
        "Start time of the container since unix epoch in seconds",
    )?;
    containers(usage, out, name, |c| {
        Some((c.started?.as_millisecond() as f64 / 1000.0, false))
    })?;
    let (node, at) = (&usage.node, milliseconds(usage.node.timestamp));
    let name = "node_cpu_usage_seconds_total";
    family(
        out,
        name,
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
    )?;
    writeln!(out, "{name} {} {at}", seconds(node.cpu))?;
    let name = "node_memory_working_set_bytes";
    family(out, name, "gauge", "Current working set of the node in bytes")?;
    writeln!(out, "{name} {} {at}", node.memory_used)?;
    let name = "pod_cpu_usage_seconds_total";
    family(
        out,
        name,
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
    )?;
    for pod in &usage.pods {
        writeln!(out, "{name}{{{}}} {} {at}", labels(pod), seconds(pod.total().0))?;
    }
    let name = "pod_memory_working_set_bytes";
    family(out, name, "gauge", "Current working set of the pod in bytes")?;
    for pod in &usage.pods {
        writeln!(out, "{name}{{{}}} {} {at}", labels(pod), pod.total().1)?;
    }
    Ok(())
}

pub(super) fn labels(pod: &PodUsage) -> String {
    let metadata = &pod.pod.metadata;
    format!("namespace=\"{}\",pod=\"{}\"", metadata.namespace, metadata.name)
}
