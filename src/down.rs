//! `wherry down`: ends the process of a data directory, its workloads, and what it made on this machine.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    claim::Claim,
    cli, containers,
    datadir::{self, DataDir, require_cluster},
    machine,
    service::{self, Places, Scope},
};

/// How long a running `wherry up` may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes the cluster down.
pub(crate) async fn run(options: cli::Down) -> anyhow::Result<()> {
    let path = options.data.path()?;
    if options.uninstall {
        return uninstall(&path, options.install_root.as_deref()).await;
    }
    require_cluster(&path)?;
    end_cluster(&path).await
}

/// Ends the service first, so that nothing starts the cluster again.
async fn uninstall(path: &Path, root: Option<&Path>) -> anyhow::Result<()> {
    let places = Places::of(Scope::ours(), path, root);
    service::stop(&places)?;
    if root.is_none() && require_cluster(path).is_ok() {
        end_cluster(path).await?;
    }
    service::uninstall(&places)
}

async fn end_cluster(path: &Path) -> anyhow::Result<()> {
    if let Some(pid) = datadir::holder(path)? {
        end(pid, path).await?;
    }
    let directory = DataDir::hold(path)?;
    // Made by the first node that runs here: without it there is nothing but data.
    if directory.path().join("sandbox-hosts").exists() {
        end_node(&directory).await?;
    }
    Claim::drop_of(directory.path()).context("cannot give up what the cluster claimed of this machine")?;
    cli::say(&format!(
        "the cluster of {} is down; its data stays",
        directory.path().display()
    ));
    Ok(())
}

/// Ends the pods of the directory's node and removes its network.
async fn end_node(directory: &DataDir) -> anyhow::Result<()> {
    let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
    let wasm = wasm::Runtime::start_to_end(
        machine::runtime(directory.path(), None, None)?,
        tasks.clone(),
        quit.clone(),
    )
    .await?;
    let (others, used) = containers::start_to_end(directory.path(), &tasks, &quit).await?;
    let ended = agent::down(agent::Leftovers {
        data_dir: directory.path().to_owned(),
        drivers_dir: machine::drivers_dir(directory.path(), None)?,
        service_proxies: machine::service_proxies(directory.path()),
        cluster_dns: machine::cluster_dns(directory.path()),
        cluster_id: machine::makes_networks().then(|| machine::cluster_id(directory.path())),
        runtime: Arc::new(shim::Dispatch::new(wasm.clone(), others)),
    })
    .await;
    wasm.down().await?;
    // Sandbox hosts have theirs below the same parent.
    if let Some(cluster_id) = machine::makes_networks().then(|| machine::cluster_id(directory.path())) {
        agent::remove_cgroups(&cluster_id);
    }
    if let (Ok(()), Some(used)) = (&ended, used) {
        used.ended().await?;
    }
    quit.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(ended?)
}

/// Asks the process that holds the directory to end, and waits until it has.
async fn end(pid: i32, path: &Path) -> anyhow::Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("cannot end wherry (pid {pid})"))?;
    match tokio::time::timeout(PATIENCE, datadir::wait_free(path)).await {
        Ok(freed) => freed,
        Err(_) => bail!(
            "wherry (pid {pid}) did not end within {} s; end it by hand",
            PATIENCE.as_secs()
        ),
    }
}
