//! `/stats/summary`: what the node, its pods and their containers use, as Kubernetes' stats API has it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::usage::{self, ContainerUsage, NodeUsage, PodUsage};
use crate::shared::Shared;

/// What a collector asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// As in Kubernetes: nothing of networks and file systems.
    only_cpu_and_memory: bool,
}

pub(super) async fn summary(State(shared): State<Arc<Shared>>, Query(asked): Query<Asked>) -> Response {
    match usage::read(&shared).await {
        Ok(usage) => {
            let pods: Vec<Value> = usage
                .pods
                .iter()
                .map(|usage| pod(usage, !asked.only_cpu_and_memory))
                .collect();
            Json(json!({"node": node(&shared.node_name, &usage.node), "pods": pods})).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.chain()).into_response(),
    }
}

fn time(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map(api::time::micro)
        .unwrap_or_default()
}

fn node(name: &str, usage: &NodeUsage) -> Value {
    let time = time(usage.timestamp);
    json!({
        "nodeName": name,
        "cpu": {"time": time, "usageCoreNanoSeconds": usage.cpu},
        "memory": {"time": time, "availableBytes": usage.memory_available, "workingSetBytes": usage.memory_used},
    })
}

fn pod(usage: &PodUsage, all: bool) -> Value {
    let metadata = &usage.pod.metadata;
    let (cpu, memory) = usage.total();
    let at = usage.sandbox.as_ref().map(|sandbox| sandbox.timestamp);
    let at = at
        .or(usage.containers.first().map(|c| c.stats.timestamp))
        .unwrap_or_default();
    let time = time(at);
    let mut told = json!({
        "podRef": {"name": &*metadata.name, "namespace": &*metadata.namespace, "uid": &*metadata.uid},
        "startTime": usage.pod.status.start_time,
        "containers": usage.containers.iter().map(|usage| container(usage, all)).collect::<Vec<_>>(),
        "cpu": {"time": time, "usageCoreNanoSeconds": cpu},
        "memory": {"time": time, "workingSetBytes": memory},
    });
    if !all {
        return told;
    }
    let interfaces = usage.sandbox.iter().flat_map(|sandbox| &sandbox.interfaces).map(|i| {
        json!({"name": i.name, "rxBytes": i.rx_bytes, "rxErrors": i.rx_errors, "txBytes": i.tx_bytes, "txErrors": i.tx_errors})
    });
    let interfaces: Vec<Value> = interfaces.collect();
    if let (Some(Value::Object(own)), Some(told)) = (interfaces.first().cloned(), told.as_object_mut()) {
        let mut network = own;
        network.insert("time".to_owned(), time.into());
        network.insert("interfaces".to_owned(), interfaces.into());
        told.insert("network".to_owned(), network.into());
    }
    if let (Some(sandbox), Some(told)) = (&usage.sandbox, told.as_object_mut()) {
        told.insert("process_stats".to_owned(), json!({"process_count": sandbox.processes}));
    }
    told
}

fn container(usage: &ContainerUsage, all: bool) -> Value {
    let ContainerUsage { stats, started } = usage;
    let time = time(stats.timestamp);
    let mut memory = json!({"time": time, "workingSetBytes": stats.memory_working_set_bytes});
    let mut told = json!({
        "name": stats.name,
        "startTime": started,
        "cpu": {"time": time, "usageCoreNanoSeconds": stats.cpu_usage_core_nanoseconds},
    });
    if let (Some(linux), Some(memory)) = (&stats.linux, memory.as_object_mut()) {
        let figures = [
            ("usageBytes", linux.memory_usage_bytes),
            ("rssBytes", linux.memory_rss_bytes),
            ("pageFaults", linux.page_faults),
            ("majorPageFaults", linux.major_page_faults),
        ];
        memory.extend(figures.map(|(name, value)| (name.to_owned(), value.into())));
        if linux.memory_available_bytes > 0 {
            memory.insert("availableBytes".to_owned(), linux.memory_available_bytes.into());
        }
    }
    if let Some(told) = told.as_object_mut() {
        told.insert("memory".to_owned(), memory);
        if let Some(wasm) = wasm(stats) {
            told.insert("wasm".to_owned(), wasm);
        }
        if let Some(linux) = stats.linux.as_ref().filter(|_| all) {
            let layer = &linux.writable_layer;
            let rootfs = json!({"time": time, "usedBytes": layer.used_bytes, "inodesUsed": layer.inodes_used});
            told.insert("rootfs".to_owned(), rootfs);
        }
    }
    told
}

/// What Kubernetes' stats API has no field for: the counts of a Wasm container.
fn wasm(stats: &cri::ContainerStats) -> Option<Value> {
    let mut told = serde_json::to_value(stats.wasm.as_ref()?).ok()?;
    let fields = told.as_object_mut()?;
    fields.insert("requests".to_owned(), stats.requests.into());
    fields.insert("instances".to_owned(), stats.instances.into());
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_a_wasm_container_are_told_together() {
        let mut stats = cri::ContainerStats {
            id: cri::ContainerId("wasm-1".to_owned()),
            sandbox: cri::SandboxId("s".to_owned()),
            name: "hello".to_owned(),
            pod_uid: "u".to_owned(),
            timestamp: 0,
            cpu_usage_core_nanoseconds: 5,
            memory_working_set_bytes: 6,
            requests: 7,
            instances: 1,
            wasm: None,
            linux: None,
        };
        assert_eq!(wasm(&stats), None);
        stats.wasm = Some(Box::new(cri::WasmStats {
            cold_starts: 8,
            traps: 2,
            code_bytes: 4096,
            latency: cri::Latencies::default(),
        }));
        let expected = json!({
            "requests": 7, "instances": 1, "coldStarts": 8, "traps": 2, "codeBytes": 4096,
            "latency": {"counts": [], "sumNanoseconds": 0},
        });
        let usage = ContainerUsage { stats, started: None };
        assert_eq!(container(&usage, false).get("wasm"), Some(&expected));
    }
}
