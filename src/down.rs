//! `wherry down`: ends the process of a data directory, its workloads, and what it made on this machine.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cli,
    datadir::{self, DataDir, require_cluster},
    machine,
};

/// How long a running `wherry up` may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes the cluster down.
pub(crate) async fn run(options: cli::Down) -> anyhow::Result<()> {
    let path = options.data.path()?;
    require_cluster(&path)?;
    if let Some(pid) = datadir::holder(&path)? {
        end(pid, &path).await?;
    }
    let directory = DataDir::hold(&path)?;
    // Made by the first node that runs here: without it there is nothing but data.
    if directory.path().join("sandbox-hosts").exists() {
        end_node(&directory).await?;
    }
    cli::say(&format!(
        "the cluster of {} is down; its data stays",
        directory.path().display()
    ));
    Ok(())
}

/// Ends the pods of the directory's node and removes its network.
async fn end_node(directory: &DataDir) -> anyhow::Result<()> {
    let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
    // Adopts what still runs.
    let wasm = wasm::Runtime::start(machine::runtime(directory.path())?, tasks.clone(), quit.clone()).await?;
    let ended = agent::down(agent::Leftovers {
        data_dir: directory.path().to_owned(),
        cluster_id: machine::is_root().then(|| machine::cluster_id(directory.path())),
        runtime: Arc::new(shim::Dispatch::new(wasm.clone())),
    })
    .await;
    wasm.down().await?;
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
