//! Rotation by size: a log that has grown too long is renamed and a new one begun; the oldest are removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cri::ContainerId;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::files;
use crate::shared::Shared;

/// Kubernetes' `containerLogMaxSize` and `containerLogMaxFiles`.
pub(crate) const MAX_SIZE: u64 = 10 << 20;
pub(crate) const MAX_FILES: usize = 5;
const PERIOD: Duration = Duration::from_secs(10);

/// Looks after the logs of all running containers until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        for (_, pod) in shared.observer.all() {
            for container in pod
                .containers
                .iter()
                .filter(|c| c.is_running() && !c.log_path.is_empty())
            {
                let path = PathBuf::from(&container.log_path);
                let long = fs::metadata(&path).is_ok_and(|m| m.len() > MAX_SIZE);
                if long && let Err(error) = rotate(&shared, &container.id, path).await {
                    tracing::warn!(container = %container.id, error, "cannot rotate a container's log");
                }
            }
        }
    }
}

/// Renames one log and has the runtime open a new one; if it cannot, the log gets its name back.
async fn rotate(shared: &Shared, id: &ContainerId, path: PathBuf) -> Result<(), String> {
    let renamed = rotated(&path, shared.clock.now());
    let (from, to) = (path.clone(), renamed.clone());
    let moved = crate::blocking::run(move || {
        make_room(&from)?;
        fs::rename(from, to)
    });
    moved.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    if let Err(error) = shared.runtime.reopen_container_log(id).await {
        fs::rename(renamed, path).map_err(|e| e.to_string())?;
        return Err(error.chain());
    }
    Ok(())
}

/// `0.log` becomes `0.log.20261120-112641.123456789`, so that names sort by age.
fn rotated(path: &Path, now: Timestamp) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(
        ".{}.{:09}",
        now.strftime("%Y%m%d-%H%M%S"),
        now.subsec_nanosecond()
    ));
    PathBuf::from(name)
}

/// Removes the oldest rotated logs, so that one more keeps to the limit. Blocking.
fn make_room(path: &Path) -> io::Result<()> {
    let attempt = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .and_then(|stem| stem.parse().ok());
    let (Some(directory), Some(attempt)) = (path.parent(), attempt) else {
        return Ok(());
    };
    let all = files(directory, attempt);
    // The one being written becomes a rotated one, and a new one is begun.
    let surplus = (all.len() + 1).saturating_sub(MAX_FILES);
    all.iter()
        .take(surplus.min(all.len() - 1))
        .try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_five_files_and_drops_the_oldest() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("0.log");
        for second in 0..8 {
            fs::write(&path, second.to_string()).expect("writes");
            make_room(&path).expect("makes room");
            fs::rename(&path, rotated(&path, Timestamp::from_second(second).expect("time"))).expect("renames");
        }
        fs::write(&path, "8").expect("writes");
        let kept: Vec<String> = files(dir.path(), 0)
            .iter()
            .map(|f| fs::read_to_string(f).expect("reads"))
            .collect();
        assert_eq!(kept, ["4", "5", "6", "7", "8"]);
    }
}
