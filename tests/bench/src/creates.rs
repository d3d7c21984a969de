//! Durable ConfigMap creates by many clients: rate, latency, and CPU of the server for each.

use std::{path::Path, process::Command};

use anyhow::Context;
use bytes::Bytes;
use e2e::{Cluster, control_plane, run};
use serde_json::json;

use crate::{connection::Access, disk, fan, figures::print, processes};

/// Where the ConfigMaps are.
pub(crate) const COLLECTION: &str = "/api/v1/namespaces/load/configmaps";

/// Starts a cluster without a node, loads it and prints the figures.
pub(crate) fn measure(clients: usize, count: usize) -> anyhow::Result<()> {
    let cluster = Cluster::start(control_plane());
    cluster.kubectl(&["create", "namespace", "load"]).ok();
    disk::measure(&cluster.data())?;
    let before = processes::cpu(cluster.server_pid());
    let out = run(&mut load_command(&cluster, &["load-creates"], &[clients, count])?, "").ok();
    let used = processes::cpu(cluster.server_pid()).saturating_sub(before);
    let each = used.as_secs_f64() * 1e3 / count as f64;
    print(format!(
        "creates clients={clients} {} server_cpu_ms_each={each:.3}",
        out.trim()
    ));
    Ok(())
}

/// This program as a load inside the cluster's network namespace.
pub(crate) fn load_command(cluster: &Cluster, what: &[&str], numbers: &[usize]) -> anyhow::Result<Command> {
    let own = std::env::current_exe()?;
    let mut command = cluster.on_machine(own.to_str().context("a path in UTF-8")?);
    command
        .args(what)
        .arg(cluster.kubeconfig())
        .args(numbers.iter().map(usize::to_string));
    Ok(command)
}

/// Creates `count` ConfigMaps from `clients` connections.
pub(crate) async fn load(kubeconfig: &Path, clients: usize, count: usize) -> anyhow::Result<()> {
    let access = Access::from_kubeconfig(kubeconfig)?;
    let create = |index| {
        (
            "POST",
            COLLECTION.to_owned(),
            Bytes::from(config_map(index, "").to_string()),
        )
    };
    fan::send(&access, clients, count, create).await
}

/// About 256 bytes of data.
pub(crate) fn config_map(index: usize, other: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": format!("load-{index:06}"), "labels": {"load": "1"}},
        "data": {"value": "x".repeat(256), "other": other},
    })
}
