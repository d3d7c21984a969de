//! Requests per second of a component through its Service, beside `wasmtime serve` of the same component.

use std::{
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::Context;
use e2e::{Cluster, run, until};

use crate::{figures::print, processes, workload};

/// Where `wasmtime serve` listens inside the cluster's network namespace.
const OTHER: &str = "127.0.0.1:8099";

/// Serves the component (the example's, if none is given) from three pods, loads their Service's address and, where
/// asked for, `wasmtime serve` of the same component after it; two rounds.
pub(crate) fn measure(
    clients: usize,
    seconds: u64,
    component: Option<&Path>,
    wasmtime: Option<&Path>,
) -> anyhow::Result<()> {
    let component = component.map_or_else(workload::component, Path::to_owned);
    let cluster = workload::deploy(&component, None);
    cluster.kubectl(&["scale", "deployment/load", "--replicas=3"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/load"]).ok();
    let service = cluster.get(&["service", "load"]);
    let address = service["spec"]["clusterIP"].as_str();
    let address = format!("{}:80", address.context("the Service has an address")?);
    for round in 1..=2 {
        let hosts = || cluster.processes("sandbox-host");
        one("wherry", round, &cluster, &address, clients, seconds, hosts)?;
        if let Some(wasmtime) = wasmtime {
            let mut child = serve(&cluster, wasmtime, &component)?;
            let pid = child.id();
            let result = one("wasmtime-serve", round, &cluster, OTHER, clients, seconds, || vec![pid]);
            child.kill()?;
            child.wait()?;
            result?;
        }
    }
    Ok(())
}

fn serve(cluster: &Cluster, wasmtime: &Path, component: &Path) -> anyhow::Result<Child> {
    let mut command = cluster.on_machine(wasmtime.to_str().context("a path in UTF-8")?);
    command
        .args(["serve", "-Scli", "--addr", OTHER])
        .arg(component)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn()?;
    until("wasmtime serve answers", Duration::from_secs(60), || {
        let answer = cluster.curl(&format!("http://{OTHER}/"));
        if answer.success { Ok(()) } else { Err(answer.stderr) }
    });
    Ok(child)
}

fn one(
    name: &str,
    round: usize,
    cluster: &Cluster,
    address: &str,
    clients: usize,
    seconds: u64,
    pids: impl Fn() -> Vec<u32>,
) -> anyhow::Result<()> {
    let own = std::env::current_exe()?;
    let mut load = cluster.on_machine(own.to_str().context("a path in UTF-8")?);
    load.args(["load-requests", address, &clients.to_string(), &seconds.to_string()]);
    let used = || pids().into_iter().map(processes::cpu).sum::<Duration>();
    let before = used();
    let out = run(&mut load, "").ok();
    let used = used().saturating_sub(before);
    let count = out
        .split_whitespace()
        .find_map(|w| w.strip_prefix("count="))
        .context("the load prints its count")?;
    let each = used.as_secs_f64() * 1e6 / count.parse::<f64>()?;
    print(format!(
        "requests server={name} round={round} clients={clients} {} server_cpu_us_each={each:.1}",
        out.trim()
    ));
    Ok(())
}
