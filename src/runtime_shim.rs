//! `wherry runtime-shim`: the container runtime alone, as CRI v1 on a unix socket, until SIGTERM.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use async_trait::async_trait;
use cri::{CgroupDriver, RuntimeConfig, SharedRuntime};
use ipnet::Ipv4Net;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    claim::{Claim, Ranges},
    cli::{self, flag_for},
    containers::{self, Choice},
    datadir::DataDir,
    footprint, machine,
    notify::{Manager, State},
    rootless, up,
};

/// Serves the runtime of a data directory.
pub(crate) async fn run(options: cli::RuntimeShim) -> anyhow::Result<()> {
    let manager = Manager::from_environment();
    let (pods, services) = (options.ranges.cluster_cidr, options.ranges.service_cidr);
    rootless::check_ranges(pods, services)?;
    let directory = DataDir::hold(&options.data.path()?)?;
    let path = directory.path();
    let claim = Claim::make(
        path,
        Ranges {
            cluster_range: pods,
            service_range: services,
            node_ports: None,
        },
    )?;
    let users = machine::changes_users().then(|| claim.first_user());
    let addresses = rootless::addresses(path, pods, services);
    let _held = addresses.as_ref().map(agent::Claim::hold).transpose()?;

    let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
    let settings = machine::runtime(path, users, Some(services))?;
    let wasm = wasm::Runtime::start(settings, tasks.clone(), quit.clone()).await?;
    let choice = containers::choose(path, options.containerd.as_deref()).await?;
    if let Choice::Without {
        reason,
        limitation: Some(_),
    } = &choice
    {
        tracing::warn!(%reason, "pods of OCI images cannot run");
    }
    let (others, _) = containers::start(path, choice, &tasks, &quit).await?;
    let runtime: SharedRuntime = Arc::new(shim::Dispatch::new(wasm, others));
    let network: Arc<dyn shim::PodNetwork> = Arc::new(Network {
        made: machine::network(path, pods, services),
        pods,
    });
    if let Some(range) = options.pod_cidr {
        take(&*network, &runtime, range).await?;
    }
    let config = shim::Config {
        socket: options.listen.unwrap_or_else(|| path.join("cri.sock")),
        network: Some(network),
        cgroup_driver: cgroup_driver(),
    };
    let small = tasks.spawn(footprint::stay_small());
    shim::serve(config, runtime, &tasks, quit.clone())?;
    cli::say("ready");
    manager.tell(State::Serving);
    let stopped = up::stopped(&manager).await;
    quit.cancel();
    small.abort();
    tasks.close();
    tasks.wait().await;
    stopped?;
    cli::complain(&format!(
        "workloads keep running; end them with: wherry down {}",
        flag_for(path)
    ));
    Ok(())
}

/// Gives the runtime its pod range, as a kubelet would.
async fn take(network: &dyn shim::PodNetwork, runtime: &SharedRuntime, range: Ipv4Net) -> anyhow::Result<()> {
    let pod_cidr = range.to_string();
    let made = network.ensure(&pod_cidr).await;
    made.map_err(anyhow::Error::from_boxed)
        .with_context(|| format!("cannot use {pod_cidr} for pods"))?;
    Ok(runtime.update_config(RuntimeConfig { pod_cidr }).await?)
}

/// Where the machine runs systemd, that keeps its cgroups.
fn cgroup_driver() -> CgroupDriver {
    match Path::new("/run/systemd/system").exists() {
        true => CgroupDriver::Systemd,
        false => CgroupDriver::Cgroupfs,
    }
}

/// The network of the node's pods.
struct Network {
    /// `None` without root: nothing needs to be made then.
    made: Option<agent::PodNetwork>,
    /// All nodes' pods.
    pods: Ipv4Net,
}

impl Network {
    /// The node's range, which must be one of the cluster's: the rules for what leaves it say so.
    fn range(&self, text: &str) -> anyhow::Result<Ipv4Net> {
        let range: Ipv4Net = text
            .parse()
            .with_context(|| format!("\"{text}\" is not an IPv4 range"))?;
        if !self.pods.contains(&range) {
            bail!(
                "the node's pod range {range} is not a part of the cluster's, {}; name that with --cluster-cidr",
                self.pods
            );
        }
        Ok(range)
    }
}

#[async_trait]
impl shim::PodNetwork for Network {
    async fn ensure(&self, pod_range: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let range = self.range(pod_range)?;
        if let Some(network) = &self.made {
            agent::ensure_network(network, range).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_range_is_a_part_of_the_clusters() {
        let network = Network {
            made: None,
            pods: "10.128.0.0/9".parse().unwrap(),
        };
        assert_eq!(
            network.range("10.129.0.0/17").unwrap(),
            "10.129.0.0/17".parse().unwrap()
        );
        for (range, said) in [
            ("10.1.0.0/24", "--cluster-cidr"),
            ("10.0.0.0/8", "--cluster-cidr"),
            ("fd00::/64", "IPv4"),
        ] {
            let error = network.range(range).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
