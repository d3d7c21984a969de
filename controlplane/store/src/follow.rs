//! A [`Watch`] over a log that can be read: what backends in this process share.
//!
//! The follower keeps the place, answers requests for progress and ends at the first error; the [`Log`] says what
//! there is to read and when to look again.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream;
use tokio::sync::Notify;

use crate::{Change, Error, Revision, Signal, Watch};

/// The changes under one prefix, as one follower reads them.
pub trait Log: Send + 'static {
    /// Some of the changes after `from`, in order, and the revision up to which these are all: at least `from`, and
    /// where there are none, at least every revision acknowledged before the call.
    fn read(&mut self, from: Revision) -> impl Future<Output = Result<(Vec<Change>, Revision), Error>> + Send;

    /// Returns when there may be more than the last read has found. May be cancelled.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// A watch that tells what `log` has after `from`.
pub fn follow(log: impl Log, from: Revision) -> Watch {
    let asked = Arc::new(Asked::default());
    let follower = Follower {
        log,
        asked: asked.clone(),
        ready: VecDeque::new(),
        cursor: from,
        owes_progress: false,
        failed: false,
    };
    let signals = stream::unfold(follower, |mut follower| async {
        let signal = follower.next().await?;
        Some((signal, follower))
    });
    Watch::new(signals, move || asked.ask())
}

/// Requests for progress that have not been seen yet.
#[derive(Debug, Default)]
pub struct Asked {
    pending: AtomicBool,
    wake: Notify,
}

impl Asked {
    /// Asks; several requests become one until they are seen.
    pub fn ask(&self) {
        self.pending.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Sees what was asked for since the last time.
    pub fn take(&self) -> bool {
        self.pending.swap(false, Ordering::SeqCst)
    }

    /// Returns when somebody asks, or has asked since this last returned. May be cancelled.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

struct Follower<L> {
    log: L,
    asked: Arc<Asked>,
    /// Read, but not told yet.
    ready: VecDeque<Change>,
    /// Everything up to here has been read.
    cursor: Revision,
    owes_progress: bool,
    failed: bool,
}

impl<L: Log> Follower<L> {
    async fn next(&mut self) -> Option<Result<Signal, Error>> {
        while !self.failed {
            if let Some(change) = self.ready.pop_front() {
                return Some(Ok(Signal::Change(change)));
            }
            // Taken before the log is read, so that what is read includes what the asker knows of.
            self.owes_progress |= self.asked.take();
            let before = self.cursor;
            match self.log.read(before).await {
                Ok((changes, cursor)) => {
                    self.ready.extend(changes);
                    self.cursor = cursor;
                }
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
            if !self.ready.is_empty() || self.cursor > before {
                continue;
            }
            if std::mem::take(&mut self.owes_progress) {
                return Some(Ok(Signal::Progress(self.cursor)));
            }
            tokio::select! {
                () = self.log.changed() => {}
                () = self.asked.woken() => {}
            }
        }
        None
    }
}
