//! Taking a node down: its pods end, and what the cluster made on this machine is removed.

use std::path::PathBuf;

use futures::{StreamExt, stream};

use crate::Error;

/// Pods that are ended at a time.
const AT_ONCE: usize = 32;

/// What a node leaves behind when its agent has ended.
pub struct Leftovers {
    pub data_dir: PathBuf,
    /// Where volumes of storage drivers are.
    pub drivers_dir: PathBuf,
    /// Names the pod network; `None` without root, where there is none.
    pub cluster_id: Option<String>,
    /// The directory of the processes that listen for Services.
    pub service_proxies: PathBuf,
    /// The directory of the processes that answer for the cluster's names.
    pub cluster_dns: PathBuf,
    /// Has adopted the pods that still run; nobody else uses it.
    pub runtime: cri::SharedRuntime,
}

/// Ends all pods of a node, which no kubelet may be running any more, and removes their directories, the rules of
/// Services with the processes that listen for them, cluster DNS, and the pod network. What is absent is no error.
///
/// # Errors
/// Something could not be ended or removed; trying again goes on where it stopped.
pub async fn down(left: Leftovers) -> Result<(), Error> {
    end_pods(&left.runtime).await.map_err(Error::EndPods)?;
    kubelet::remove_pod_directories(&left.data_dir, &left.drivers_dir);
    proxy::end_processes(&left.service_proxies)
        .await
        .map_err(Error::RemoveServices)?;
    dns::end_processes(&left.cluster_dns)
        .await
        .map_err(Error::EndClusterDns)?;
    let Some(cluster_id) = left.cluster_id else {
        return Ok(());
    };
    let netns = network::netns_path(&cluster_id);
    let netns = Some(&*netns).filter(|path| path.exists());
    proxy::remove(&cluster_id, netns).await.map_err(Error::RemoveServices)?;
    network::remove(&cluster_id).await.map_err(Error::RemoveNetwork)
}

/// Removes the cgroups of a cluster's pods, when all pods have ended and the runtimes have ended what they keep beside them.
pub fn remove_cgroups(cluster_id: &str) {
    kubelet::remove_cgroups(&crate::cgroup_prefix(cluster_id));
}

/// Every pod is tried, whatever becomes of the others; the first failure is told.
async fn end_pods(runtime: &cri::SharedRuntime) -> Result<(), cri::Error> {
    let sandboxes = runtime.list_sandboxes().await?;
    let removals = stream::iter(sandboxes).map(async |sandbox| runtime.remove_sandbox(&sandbox.id).await);
    let results: Vec<Result<(), cri::Error>> = removals.buffer_unordered(AT_ONCE).collect().await;
    results.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cri::{Runtime, SandboxConfig};
    use kubelet::testing::FakeRuntime;

    use super::*;

    #[tokio::test]
    async fn ends_every_pod_and_can_be_repeated() {
        let dir = tempfile::tempdir().expect("dir");
        let runtime = FakeRuntime::new(client::Clock::system(), &[]);
        for uid in ["a", "b", "c"] {
            let config = SandboxConfig {
                uid: uid.into(),
                ..SandboxConfig::default()
            };
            runtime.run_sandbox(config, "").await.expect("runs");
            std::fs::create_dir_all(dir.path().join("pods").join(uid)).expect("dir");
        }
        for _ in 0..2 {
            let runtime: cri::SharedRuntime = Arc::new(runtime.clone());
            let left = Leftovers {
                data_dir: dir.path().to_owned(),
                drivers_dir: dir.path().to_owned(),
                cluster_id: None,
                service_proxies: dir.path().join("service-proxy"),
                cluster_dns: dir.path().join("cluster-dns"),
                runtime,
            };
            down(left).await.expect("ends");
        }
        assert!(runtime.list_sandboxes().await.expect("lists").is_empty());
        assert_eq!(std::fs::read_dir(dir.path().join("pods")).expect("dir").count(), 0);
    }
}
