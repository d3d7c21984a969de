//! Ending pods that no object speaks of: all that is known of them is what the runtime kept.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{observed::Observed, shared::Shared, volumes};

/// Grace for containers whose pod left no word of it.
const GRACE: u64 = 30;

/// UIDs of pods that have directories.
pub(crate) fn directories(of: &Path) -> Vec<Arc<str>> {
    let entries = std::fs::read_dir(of.join("pods")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .map(Arc::from)
        .collect()
}

/// Stops and removes everything of a pod. What fails is tried again by the next sweep.
pub(crate) async fn end(shared: &Shared, uid: &str) {
    let observed = shared.observer.pod(uid);
    if let Err(error) = stop(shared, &observed).await {
        tracing::warn!(
            uid,
            error = &error as &dyn std::error::Error,
            "cannot end a pod that the API does not know"
        );
    }
    shared.observer.fresh().await;
    if !shared.observer.pod(uid).is_empty() {
        return;
    }
    if let Err(error) = shared.csi.unmount(uid).await {
        tracing::warn!(
            uid,
            error = &error as &dyn std::error::Error,
            "cannot unmount the volumes of a pod that the API does not know"
        );
        return;
    }
    let (data_dir, uid) = (shared.data_dir.clone(), uid.to_owned());
    let cgroups = shared.cgroups.clone();
    let logs: Vec<String> = observed.sandboxes.iter().map(|s| s.log_directory.clone()).collect();
    let cleaned = crate::blocking::run(move || {
        for directory in logs
            .iter()
            .filter(|d| Path::new(d).starts_with(data_dir.join("logs/pods")))
        {
            let _ = std::fs::remove_dir_all(directory); // may be gone; the next sweep does not depend on it
        }
        if let Some(Err(error)) = cgroups.map(|cgroups| cgroups.end(&uid)) {
            tracing::warn!(uid, %error, "cannot remove the cgroup of a pod that the API does not know");
        }
        volumes::remove(&data_dir, &uid)
    });
    if let Ok(Err(error)) = cleaned.await {
        tracing::warn!(%error, "cannot remove the directories of a pod");
    }
}

async fn stop(shared: &Shared, observed: &Observed) -> Result<(), cri::Error> {
    let grace = observed.latest_sandbox().and_then(|s| s.grace).unwrap_or(GRACE);
    let running = observed.containers.iter().filter(|c| c.is_running());
    let stops = running.map(|c| shared.runtime.stop_container(&c.id, Duration::from_secs(grace)));
    futures::future::join_all(stops)
        .await
        .into_iter()
        .collect::<Result<Vec<()>, _>>()?;
    for sandbox in &observed.sandboxes {
        shared.runtime.stop_sandbox(&sandbox.id).await?;
        shared.runtime.remove_sandbox(&sandbox.id).await?;
    }
    Ok(())
}
