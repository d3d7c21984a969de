//! Rotation by size: a log that has grown too long is renamed and a new one begun; the oldest are removed.
//!
//! How much a container keeps is bounded by bytes as well as by files, and looked at every second, so that one that floods
//! its log fills no disk: what it wrote since the last look, once more as much, and nothing beside that. It is told by an
//! event, since lines are lost that somebody may look for.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cri::ContainerId;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::files;
use crate::{events::PodEvents, observed, shared::Shared};

/// Kubernetes' `containerLogMaxSize` and `containerLogMaxFiles`.
pub(crate) const MAX_SIZE: u64 = 10 << 20;
pub(crate) const MAX_FILES: usize = 5;
/// Bytes of a container's logs that are kept, the one being written aside.
const KEPT: u64 = MAX_SIZE * MAX_FILES as u64;
const PERIOD: Duration = Duration::from_secs(1);
/// How often somebody is told of the same container.
const SILENCE: SignedDuration = SignedDuration::from_mins(1);

/// When it was told that a container floods its log.
type Told = HashMap<ContainerId, Timestamp>;

/// Looks after the logs of all running containers until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = Told::new();
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let now = shared.clock.now();
        told.retain(|_, at| now.duration_since(*at) < SILENCE);
        for (uid, pod) in shared.observer.all() {
            for container in pod
                .containers
                .iter()
                .filter(|c| c.is_running() && !c.log_path.is_empty())
            {
                let path = PathBuf::from(&container.log_path);
                let length = fs::metadata(&path).map_or(0, |m| m.len());
                if length <= MAX_SIZE {
                    continue;
                }
                if let Err(error) = rotate(&shared, &container.id, path).await {
                    tracing::warn!(container = %container.id, error, "cannot rotate a container's log");
                }
                if is_flood(length) && told.insert(container.id.clone(), now).is_none() {
                    tell(&shared, &uid, container, length);
                }
            }
        }
    }
}

/// Whether a log that was short a second ago is far too long: what is lost of it is then more than what is kept. Pure.
fn is_flood(length: u64) -> bool {
    length > 2 * MAX_SIZE
}

fn tell(shared: &Shared, uid: &str, container: &observed::Container, length: u64) {
    let pods = shared.pods.list();
    let Some((_, pod)) = pods.iter().find(|(_, pod)| &*pod.metadata.uid == uid) else {
        return;
    };
    let note = format!(
        "Container {} floods its log: {}Mi at once; only its newest lines are kept",
        container.name,
        length >> 20
    );
    let recorder = &shared.recorder;
    PodEvents { recorder, pod }.warning(Some(&container.name), "LogFlood", note);
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
    let lengths = all.iter().map(|file| fs::metadata(file).map_or(0, |m| m.len()));
    all.iter()
        .take(surplus(&lengths.collect::<Vec<_>>()))
        .try_for_each(fs::remove_file)
}

/// How many of these logs, oldest first, are too many or too much once a new one is begun; never the last, which has the
/// newest lines. Pure.
fn surplus(lengths: &[u64]) -> usize {
    let older = lengths.len().saturating_sub(1);
    let mut room = KEPT.saturating_sub(lengths.last().copied().unwrap_or_default());
    let kept = lengths
        .iter()
        .take(older)
        .rev()
        .take(MAX_FILES - 2)
        .take_while(|length| {
            let fits = **length <= room;
            room = room.saturating_sub(**length);
            fits
        });
    older - kept.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_the_newest_lines_and_no_more_than_is_kept() {
        let mi = |numbers: &[u64]| numbers.iter().map(|number| number << 20).collect::<Vec<_>>();
        let cases: [(&[u64], usize); 7] = [
            (&[], 0),
            (&[11], 0),
            (&[10, 10, 10, 10], 0),
            (&[10, 10, 10, 10, 10], 1),
            (&[10, 10, 10, 400], 3),
            (&[400, 10], 1),
            (&[30, 30, 10], 1),
        ];
        for (lengths, gone) in cases {
            assert_eq!(surplus(&mi(lengths)), gone, "{lengths:?}");
        }
        assert!(is_flood(21 << 20) && !is_flood(11 << 20));
    }

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
