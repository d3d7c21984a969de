//! Many Wasm pods from one `kubectl scale` to all of them Ready.

use crate::{
    figures::print,
    processes::{self, Usage},
    workload,
};

/// Starts a cluster, scales its Deployment from one pod by `count` more and prints the figures.
pub(crate) fn measure(count: usize) -> anyhow::Result<()> {
    let cluster = workload::deploy(&workload::component(), Some("/healthz"));
    let before = Usage::of(&cluster);
    let figures = workload::scale(&cluster, count + 1)?;
    let used = Usage::of(&cluster).since(&before);
    print(format!(
        "scale {figures} agent_cpu_ms={} hosts_cpu_ms={} load={}",
        used.agent.as_millis(),
        used.hosts.as_millis(),
        processes::load_average(),
    ));
    Ok(())
}
