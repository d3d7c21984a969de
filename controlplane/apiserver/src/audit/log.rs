//! Where events are written: JSON lines on stdout or in a file that is rotated by size, its predecessors named after the
//! time at which they were closed.
//!
//! Requests hand their events over and go on; a thread writes. What waits is bounded in number and bytes. What does not
//! fit, or cannot be written, is lost, counted and complained of.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::Clock;

/// Events that may wait, and their bytes.
const EVENTS: usize = 10_000;
const BYTES: usize = 64 << 20;
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// In the names of predecessors: sorted as text they are sorted by time.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S.%3f";

/// Where the log is and how much of it is kept; as the flags of kube-apiserver.
#[derive(Clone, Debug)]
pub struct Output {
    /// `None`: stdout.
    pub path: Option<PathBuf>,
    /// Megabytes after which a file is rotated.
    pub max_size: u64,
    /// Predecessors that are kept; 0 keeps all.
    pub max_backups: usize,
    /// Days for which they are kept; 0 for ever.
    pub max_age: i64,
}

/// Takes events.
pub(crate) struct Log {
    lines: mpsc::Sender<Option<Vec<u8>>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    waiting: AtomicUsize,
    written: Counter,
    lost: Counter,
}

impl Log {
    /// Opens the log; what writes it belongs to `tasks` and ends with `shutdown`, when all that waits is written.
    pub(crate) fn open(
        output: Output,
        clock: Clock,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let mut sink = Sink::open(output, clock)?;
        let (lines, mut waiting) = mpsc::channel::<Option<Vec<u8>>>(EVENTS);
        let state = Arc::new(State::default());
        let (counts, end) = (state.clone(), lines.clone());
        tasks.spawn(async move {
            shutdown.cancelled().await;
            let _ = end.send(None).await;
        });
        tasks.spawn_blocking(move || {
            let mut complaint = Complaint::default();
            while let Some(Some(line)) = waiting.blocking_recv() {
                counts.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                match sink.write(&line) {
                    Ok(()) => counts.written.inc(),
                    Err(error) => {
                        complaint.unwritten = Some(error);
                        counts.lost.inc()
                    }
                };
                complaint.make(counts.lost.get());
            }
        });
        Ok(Self { lines, state })
    }

    /// Hands over an event, a line of JSON. Never waits.
    pub(crate) fn send(&self, line: Vec<u8>) {
        let length = line.len();
        let fits = self.state.waiting.fetch_add(length, Ordering::Relaxed) + length <= BYTES;
        if !fits || self.lines.try_send(Some(line)).is_err() {
            self.state.waiting.fetch_sub(length, Ordering::Relaxed);
            self.state.lost.inc();
        }
    }

    /// Counts of events written and lost.
    pub(crate) fn counters(&self) -> [Counter; 2] {
        [self.state.written.clone(), self.state.lost.clone()]
    }
}

/// Says what was lost, now and then.
#[derive(Default)]
struct Complaint {
    told: u64,
    at: Option<std::time::Instant>,
    unwritten: Option<io::Error>,
}

impl Complaint {
    fn make(&mut self, lost: u64) {
        if lost == self.told || self.at.is_some_and(|at| at.elapsed() < COMPLAIN_EVERY) {
            return;
        }
        match self.unwritten.take() {
            Some(error) => {
                tracing::error!(lost = lost - self.told, %error, "audit events cannot be written and are lost")
            }
            None => tracing::error!(
                lost = lost - self.told,
                "audit events came faster than they can be written; some are lost"
            ),
        }
        (self.told, self.at) = (lost, Some(std::time::Instant::now()));
    }
}

/// What is written to.
struct Sink {
    output: Output,
    clock: Clock,
    file: Option<File>,
    size: u64,
}

impl Sink {
    fn open(output: Output, clock: Clock) -> io::Result<Self> {
        let mut sink = Self {
            output,
            clock,
            file: None,
            size: 0,
        };
        sink.reopen()?;
        Ok(sink)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let Some(path) = &self.output.path else {
            return Ok(());
        };
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(path) = self.output.path.clone() else {
            let mut out = io::stdout().lock();
            return out.write_all(line).and_then(|()| out.flush());
        };
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.output.max_size << 20 {
            self.rotate(&path)?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(line)?;
            self.size += length;
        }
        Ok(())
    }

    /// Puts the file aside and removes what is too old. Where that fails, what is there goes on: an event counts more than
    /// the size of a file.
    fn rotate(&mut self, path: &Path) -> io::Result<()> {
        self.file = None;
        let now = (self.clock)();
        if let Err(error) = std::fs::rename(path, predecessor(path, now)) {
            tracing::warn!(path = %path.display(), %error, "the audit log cannot be put aside");
        }
        let removed = predecessors(path).and_then(|all| {
            let mut gone = surplus(all, &self.output, now).into_iter();
            gone.try_for_each(std::fs::remove_file)
        });
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "old audit logs cannot be removed");
        }
        self.reopen()?;
        // Also of a file that stays: it is tried again when as much has been written once more.
        self.size = 0;
        Ok(())
    }
}

/// `audit-2026-01-01T00-00-00.000.log` of `audit.log`.
fn predecessor(path: &Path, at: Timestamp) -> PathBuf {
    let (stem, extension) = parts(path);
    path.with_file_name(format!("{stem}-{}{extension}", at.strftime(STAMP)))
}

fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
    let extension = text(path.extension()).map_or(String::new(), |extension| format!(".{extension}"));
    (text(path.file_stem()).unwrap_or_default(), extension)
}

/// The predecessors of a log and when they were closed.
fn predecessors(path: &Path) -> io::Result<Vec<(Timestamp, PathBuf)>> {
    let (stem, extension) = parts(path);
    let directory = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let stamp = name
            .strip_prefix(&stem)
            .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(&extension));
        let at = stamp.and_then(|stamp| DateTime::strptime("%Y-%m-%dT%H-%M-%S%.f", stamp).ok());
        if let Some(at) = at.and_then(|at| at.to_zoned(TimeZone::UTC).ok()) {
            found.push((at.timestamp(), entry.path()));
        }
    }
    Ok(found)
}

/// Which predecessors go.
fn surplus(mut all: Vec<(Timestamp, PathBuf)>, output: &Output, now: Timestamp) -> Vec<PathBuf> {
    all.sort_by(|a, b| b.cmp(a));
    let age = SignedDuration::from_hours(24 * output.max_age);
    let many = |index: usize| output.max_backups > 0 && index >= output.max_backups;
    let old = |at: Timestamp| output.max_age > 0 && now.duration_since(at) > age;
    let goes = |(index, (at, path)): (usize, (Timestamp, PathBuf))| (many(index) || old(at)).then_some(path);
    all.into_iter().enumerate().filter_map(goes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn output(path: Option<PathBuf>, max_backups: usize, max_age: i64) -> Output {
        Output {
            path,
            max_size: 1,
            max_backups,
            max_age,
        }
    }

    #[test]
    fn a_file_that_somebody_took_away_is_made_anew() {
        let path = std::env::temp_dir().join(format!("wherry-audit-{}.log", crate::random_uuid()));
        let mut sink = Sink::open(output(Some(path.clone()), 0, 0), Arc::new(Timestamp::now)).unwrap();
        let line = vec![b'a'; 700 << 10];
        sink.write(&line).unwrap();
        std::fs::remove_file(&path).unwrap();
        sink.write(&line).unwrap();
        sink.write(b"b").unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), line.len() + 1);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn predecessors_go_by_number_and_age() {
        let all = || -> Vec<_> {
            let days = ["2026-01-01", "2026-01-02", "2026-01-03"].iter();
            days.map(|day| (at(&format!("{day}T00:00:00Z")), PathBuf::from(*day)))
                .collect()
        };
        let now = at("2026-01-03T12:00:00Z");
        assert_eq!(surplus(all(), &output(None, 0, 0), now), Vec::<PathBuf>::new());
        assert_eq!(surplus(all(), &output(None, 2, 0), now), [PathBuf::from("2026-01-01")]);
        assert_eq!(surplus(all(), &output(None, 0, 1), now).len(), 2);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_makes_nobody_wait() {
        let (lines, mut waiting) = mpsc::channel(2);
        let log = Log {
            lines,
            state: Arc::default(),
        };
        let lost = || log.counters()[1].get();
        log.send(vec![b'a'; 10]);
        log.send(vec![b'b'; BYTES]);
        assert_eq!(lost(), 1, "too many bytes wait");
        log.send(vec![b'c'; 10]);
        log.send(vec![b'd'; 10]);
        assert_eq!(lost(), 2, "too many events wait");
        assert_eq!(
            log.state.waiting.load(Ordering::Relaxed),
            20,
            "what is lost waits no more"
        );
        let kept: Vec<u8> = std::iter::from_fn(|| waiting.try_recv().ok().flatten())
            .filter_map(|line: Vec<u8>| line.first().copied())
            .collect();
        assert_eq!(kept, b"ac");
        log.send(vec![b'e'; 10]);
        assert_eq!(lost(), 2, "there is room again");
    }

    #[tokio::test]
    async fn a_file_is_rotated_and_nothing_is_lost() {
        let directory = std::env::temp_dir().join(format!("wherry-audit-{}", crate::random_uuid()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("audit.log");
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let clock: Clock = Arc::new(|| "2026-01-01T00:00:00Z".parse().unwrap());
        let log = Log::open(output(Some(path.clone()), 1, 1), clock, &tasks, shutdown.clone()).unwrap();
        for letter in [b'a', b'b'] {
            log.send([vec![letter; 700 << 10], vec![b'\n']].concat());
        }
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        assert_eq!(log.counters().map(|counter| counter.get()), [2, 0]);
        let first = std::fs::read(directory.join("audit-2026-01-01T00-00-00.000.log")).unwrap();
        assert_eq!((first.len(), first[0]), ((700 << 10) + 1, b'a'));
        assert_eq!(std::fs::read(&path).unwrap()[0], b'b');
        assert_eq!(predecessors(&path).unwrap().len(), 1);
        log.send(b"late\n".to_vec());
        assert_eq!(
            log.counters().map(|counter| counter.get()),
            [2, 1],
            "what comes after the end is counted as lost"
        );
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
