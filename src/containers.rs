//! What runs OCI containers on this machine: a containerd that was named, one that was used before, or the machine's.
//!
//! Nothing is installed and nobody else's network is touched: where the machine's containerd cannot be used the Node says so,
//! and pods of OCI images are refused with that reason. One that was named, or that has run pods of this cluster, is used
//! whether it answers now or not: the node is not ready while it is away, and finds its pods when it is back.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::machine;

/// Where the packages of every distribution have it.
const USUAL: &str = "/run/containerd/containerd.sock";
/// The file of a data directory that remembers the containerd in use.
const REMEMBERED: &str = "containerd";
/// The word that turns containers off.
pub(crate) const OFF: &str = "none";

/// What was chosen.
pub(crate) enum Choice {
    Use(containerd::Config),
    /// Why there is none, and what the Node says of it; nothing, where that is what the user wants.
    Without {
        reason: String,
        limitation: Option<agent::Limitation>,
    },
}

/// Chooses for a data directory; `given` is what the command line says.
pub(crate) async fn choose(data_dir: &Path, given: Option<&Path>) -> anyhow::Result<Choice> {
    let without = |reason: String, limitation| Ok(Choice::Without { reason, limitation });
    if given.is_some_and(|given| given == Path::new(OFF)) {
        return without(format!("containers are off on this node (--containerd {OFF})"), None);
    }
    if !machine::makes_networks() {
        if given.is_some() {
            bail!("containers need root, and so does --containerd; leave it out, or run wherry as root");
        }
        return without("containers need wherry to run as root".to_owned(), None);
    }
    if let Some(socket) = given.map(Path::to_owned).or(remembered(data_dir)?) {
        return Ok(Choice::Use(config(data_dir, &socket)));
    }
    let reason = match Path::new(USUAL).exists() {
        true => {
            let config = config(data_dir, Path::new(USUAL));
            match containerd::Runtime::check(&config).await {
                Ok(()) => return Ok(Choice::Use(config)),
                Err(unusable) => unusable.to_string(),
            }
        }
        false => format!("there is no containerd at {USUAL}; install one and start wherry again"),
    };
    let limitation = agent::Limitation {
        condition: agent::CONTAINERS_UNAVAILABLE,
        reason: "NoContainerd",
        message: format!("pods of OCI images cannot run on this node: {reason}"),
    };
    without(reason, Some(limitation))
}

fn config(data_dir: &Path, socket: &Path) -> containerd::Config {
    let id = machine::cluster_id(data_dir);
    let (owner, network_name) = (format!("wherry-{id}"), agent::container_network_name(&id));
    let make = move |pod_range: &str| -> Result<containerd::Conflist, String> {
        let parsed = pod_range.parse();
        let pod_range = parsed.map_err(|_| format!("pod range \"{pod_range}\" is not an IPv4 range"))?;
        let made = agent::conflist(&id, pod_range).map_err(|error| error.to_string())?;
        Ok(containerd::Conflist {
            name: made.name,
            text: made.text,
        })
    };
    containerd::Config {
        socket: socket.to_owned(),
        owner,
        network_name,
        network: Some(Arc::new(make)),
    }
}

/// A containerd that is used.
pub(crate) struct Used {
    data_dir: PathBuf,
    runtime: Arc<containerd::Runtime>,
}

/// Starts using what was chosen; answers what the node's runtimes are put together with, too.
pub(crate) async fn start(
    data_dir: &Path,
    choice: Choice,
    tasks: &TaskTracker,
    quit: &CancellationToken,
) -> anyhow::Result<(shim::Containers, Option<Used>)> {
    let config = match choice {
        Choice::Use(config) => config,
        Choice::Without { reason, .. } => return Ok((shim::Containers::None { reason }, None)),
    };
    remember(data_dir, &config.socket).context("cannot remember the containerd in use")?;
    let runtime = containerd::Runtime::start(config, tasks, quit.clone()).await;
    let used = Used {
        data_dir: data_dir.to_owned(),
        runtime: runtime.clone(),
    };
    Ok((shim::Containers::Runtime(runtime), Some(used)))
}

/// Starts using the containerd that runs pods of a cluster, to end them.
///
/// # Errors
/// It does not answer: its pods would go on.
pub(crate) async fn start_to_end(
    data_dir: &Path,
    tasks: &TaskTracker,
    quit: &CancellationToken,
) -> anyhow::Result<(shim::Containers, Option<Used>)> {
    let Some(socket) = remembered(data_dir)? else {
        let reason = "no containerd was used".to_owned();
        return Ok((shim::Containers::None { reason }, None));
    };
    let config = config(data_dir, &socket);
    if let Err(unusable) = containerd::Runtime::check(&config).await {
        bail!(
            "the cluster's containers cannot be ended: {unusable}; start it, or remove {} if it is gone for good",
            data_dir.join(REMEMBERED).display()
        );
    }
    start(data_dir, Choice::Use(config), tasks, quit).await
}

impl Used {
    /// Removes what was made for containers, when all have ended.
    pub(crate) async fn ended(&self) -> anyhow::Result<()> {
        self.runtime.remove_network().await;
        match std::fs::remove_file(self.data_dir.join(REMEMBERED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn remembered(data_dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    match std::fs::read_to_string(data_dir.join(REMEMBERED)) {
        Ok(socket) => Ok(Some(socket.trim_end().into()).filter(|path: &PathBuf| !path.as_os_str().is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot read which containerd was used"),
    }
}

fn remember(data_dir: &Path, socket: &Path) -> io::Result<()> {
    std::fs::write(data_dir.join(REMEMBERED), format!("{}\n", socket.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn containers_can_be_off() {
        let directory = tempfile::tempdir().unwrap();
        let chosen = choose(directory.path(), Some(Path::new(OFF))).await.unwrap();
        let Choice::Without { reason, limitation } = chosen else {
            panic!("they are off")
        };
        assert!(reason.contains("--containerd none") && limitation.is_none());
    }

    #[test]
    fn what_was_used_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(remembered(directory.path()).unwrap(), None);
        remember(directory.path(), Path::new("/run/c.sock")).unwrap();
        assert_eq!(remembered(directory.path()).unwrap(), Some("/run/c.sock".into()));
    }
}
