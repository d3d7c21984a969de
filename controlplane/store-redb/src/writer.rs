//! The thread that writes: takes whatever is queued, commits it as one transaction, publishes it, answers.
//!
//! Where several write at once, the thread gives those whom it has just answered a moment to come again, at most half as
//! long as a commit takes: a transaction costs about the same whether it holds one write or a hundred. Who writes alone
//! never waits.
//!
//! A caller waits for a place in the queue, so the queue is bounded. After a failure the database is opened anew and
//! says whether the transaction was kept; only where it cannot be opened stays that unknown, and then the callers are
//! told so. The thread tries again with the next write, or after a second.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

use parking_lot::Mutex;
use redb::WriteTransaction;
use store::{Error, Outcome, Revision, Write};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::Options;
use crate::batch::{Batch, Done};
use crate::engine::Engine;
use crate::error::failed;
use crate::format::Head;

/// How many values one transaction lets expire.
const EXPIRE_AT_ONCE: usize = 512;
/// The longest sleep before looking at the clock again, which may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The longest wait for others to write as well.
const LONGEST_GATHERING: Duration = Duration::from_micros(500);
/// How long to wait before trying to open a failed database again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// What the thread is sent.
enum Message {
    Command(Command),
    /// End, and say so.
    Close(oneshot::Sender<()>),
}

struct Command {
    request: Request,
    /// Where the verdict goes; nobody may be waiting for it any more, which is their business.
    reply: oneshot::Sender<Verdict>,
    _place: OwnedSemaphorePermit,
}

enum Request {
    Write(Write),
    Compact(Revision),
}

type Verdict = Result<Outcome, Error>;

/// The handle to the thread; dropping it ends the thread after what is queued.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Message>>,
    places: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(crate) fn start(engine: Arc<Engine>, options: &Options) -> io::Result<Self> {
        let (sender, queue) = mpsc::channel();
        // The first turn finds out when the next value expires.
        let options = options.clone();
        let places = Arc::new(Semaphore::new(options.batch.max(1) * 4));
        let mut thread = Thread {
            engine,
            options,
            queue,
            next_deadline: Some(0),
            closing: Vec::new(),
            latest: Latest::default(),
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || thread.run())?;
        Ok(Writer {
            queue: Some(sender),
            places,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) async fn write(&self, write: Write) -> Result<Outcome, Error> {
        self.ask(Request::Write(write)).await
    }

    pub(crate) async fn compact(&self, to: Revision) -> Result<(), Error> {
        self.ask(Request::Compact(to)).await.map(drop)
    }

    pub(crate) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.send(Message::Close(reply)).is_ok() {
            // An error means that the thread has ended, which is what was asked for.
            let _ = closed.await;
        }
    }

    async fn ask(&self, request: Request) -> Verdict {
        let place = self.places.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let (reply, verdict) = oneshot::channel();
        self.send(Message::Command(Command {
            request,
            reply,
            _place: place,
        }))?;
        verdict.await.map_err(|_| Error::Closed)?
    }

    fn send(&self, message: Message) -> Result<(), Error> {
        let queue = self.queue.as_ref().ok_or(Error::Closed)?;
        queue.send(message).map_err(|_| Error::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(Err(_)) = self.thread.lock().take().map(JoinHandle::join) {
            tracing::error!("the store's writer panicked");
        }
    }
}

struct Thread {
    engine: Arc<Engine>,
    options: Options,
    queue: mpsc::Receiver<Message>,
    /// When the next value expires, in milliseconds since 1970.
    next_deadline: Option<u64>,
    /// Who waits for the end.
    closing: Vec<oneshot::Sender<()>>,
    latest: Latest,
}

/// The latest transaction.
#[derive(Clone, Copy, Debug, Default)]
struct Latest {
    /// How many writes it held.
    writes: usize,
    /// How long it took.
    took: Duration,
}

impl Latest {
    /// How long to wait for further writes when there are `here` already, of which `queued` came while the transaction ran:
    /// those that were answered with it are likely to come again.
    fn gathering(self, here: usize, queued: usize) -> Duration {
        match self.writes + queued {
            0 | 1 => Duration::ZERO,
            expected if expected <= here => Duration::ZERO,
            _ => (self.took / 2).min(LONGEST_GATHERING),
        }
    }
}

/// A transaction that was not committed as it should have been.
struct Failure {
    error: redb::Error,
    /// If the commit itself failed: what holds if it was kept nevertheless.
    attempted: Option<Box<Attempted>>,
}

struct Attempted {
    head: Head,
    verdicts: Vec<Verdict>,
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure {
            error: error.into(),
            attempted: None,
        }
    }
}

impl Thread {
    fn run(&mut self) {
        while self.closing.is_empty() {
            let Some(commands) = self.collect() else { break };
            let due = self.next_deadline.is_some_and(|deadline| deadline <= self.now());
            if !commands.is_empty() || due || !self.engine.is_open() {
                self.process(commands);
            }
        }
        self.engine.close();
        for reply in self.closing.drain(..) {
            // Nobody may be waiting any more.
            let _ = reply.send(());
        }
    }

    /// Waits for a message or until there is something to do without one, then takes what else is queued; `None` when
    /// nobody can send any more.
    fn collect(&mut self) -> Option<Vec<Command>> {
        let mut commands = Vec::new();
        self.take_queued(&mut commands);
        let queued = commands.len();
        if commands.is_empty() && self.closing.is_empty() {
            match self.queue.recv_timeout(self.patience()) {
                Ok(message) => self.take(message, &mut commands),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
            self.take_queued(&mut commands);
        }
        let gathering = self.latest.gathering(commands.len(), queued);
        if !commands.is_empty() && self.closing.is_empty() && !gathering.is_zero() {
            // Asleep rather than waiting at the queue, where each that comes would wake the thread.
            #[allow(
                clippy::disallowed_methods,
                reason = "this thread is the writer's alone, and the condition is that time passes"
            )]
            std::thread::sleep(gathering);
            self.take_queued(&mut commands);
        }
        Some(commands)
    }

    /// Takes what is queued, up to as much as one transaction takes in.
    fn take_queued(&mut self, commands: &mut Vec<Command>) {
        while commands.len() < self.options.batch && self.closing.is_empty() {
            let Ok(message) = self.queue.try_recv() else { return };
            self.take(message, commands);
        }
    }

    fn take(&mut self, message: Message, commands: &mut Vec<Command>) {
        match message {
            Message::Command(command) => commands.push(command),
            Message::Close(reply) => self.closing.push(reply),
        }
    }

    fn patience(&self) -> Duration {
        if !self.engine.is_open() {
            return REOPEN_AFTER;
        }
        let Some(deadline) = self.next_deadline else {
            return LONGEST_SLEEP;
        };
        Duration::from_millis(deadline.saturating_sub(self.now())).min(LONGEST_SLEEP)
    }

    fn process(&mut self, commands: Vec<Command>) {
        let began = Instant::now();
        let verdicts = match self.make_open().map(|()| self.attempt(&commands)) {
            Ok(Ok(verdicts)) => verdicts,
            Ok(Err(failure)) => self.recover(failure, commands.len()),
            Err(error) => vec![Err(error); commands.len()],
        };
        self.latest = Latest {
            writes: commands.len(),
            took: began.elapsed(),
        };
        for (command, verdict) in commands.into_iter().zip(verdicts) {
            drop(command.reply.send(verdict));
        }
    }

    fn make_open(&self) -> Result<(), Error> {
        match self.engine.is_open() {
            true => Ok(()),
            false => self
                .engine
                .reopen()
                .map(|_| tracing::info!(store = %self.engine.path().display(), "store is back")),
        }
    }

    /// One transaction: a verdict for each command, in order.
    fn attempt(&mut self, commands: &[Command]) -> Result<Vec<Verdict>, Failure> {
        let mut transaction = self.engine.begin_write()?;
        transaction.set_two_phase_commit(false);
        transaction.set_quick_repair(false);
        let (verdicts, done) = self.judge(&transaction, commands)?;
        if done.dirty {
            if let Err(error) = transaction.commit() {
                let attempted = Attempted {
                    head: done.head,
                    verdicts,
                };
                return Err(Failure {
                    error: error.into(),
                    attempted: Some(Box::new(attempted)),
                });
            }
            self.engine.tail().publish(done.changes, done.head);
        }
        self.next_deadline = done.next_deadline;
        Ok(verdicts)
    }

    fn judge(&self, transaction: &WriteTransaction, commands: &[Command]) -> Result<(Vec<Verdict>, Done), redb::Error> {
        let now = self.now();
        let mut batch = Batch::new(transaction)?;
        batch.expire(now, EXPIRE_AT_ONCE)?;
        let mut verdicts = Vec::with_capacity(commands.len());
        for command in commands {
            verdicts.push(match &command.request {
                Request::Write(write) => Ok(batch.write(write, now)?),
                Request::Compact(to) => batch.compact(*to)?.map(|()| Outcome::Unchanged(*to)),
            });
        }
        batch.prune(self.options.history_revisions, self.options.history_bytes)?;
        Ok((verdicts, batch.finish()?))
    }

    /// After a failure: opens the database anew, which shows whether the transaction was kept.
    fn recover(&mut self, failure: Failure, commands: usize) -> Vec<Verdict> {
        let Failure { error, attempted } = failure;
        let place = self.engine.path();
        tracing::error!(store = %place.display(), error = &error as &dyn StdError, "writing to the store failed");
        match (self.engine.reopen(), attempted) {
            (Ok(head), Some(attempted)) if head == attempted.head => {
                // What it did to deadlines is looked up with the next transaction.
                self.next_deadline = Some(0);
                attempted.verdicts
            }
            (Ok(_), _) => vec![Err(failed("writing", place, error)); commands],
            (Err(reopening), attempted) => {
                tracing::error!(store = %place.display(), error = &reopening as &dyn StdError, "store stays closed");
                let error = match attempted {
                    Some(_) => Error::undecided("committing", error),
                    None => Error::unavailable("writing", error),
                };
                vec![Err(error); commands]
            }
        }
    }

    fn now(&self) -> u64 {
        let since = (self.options.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_those_who_are_likely_to_come_again() {
        let half = Duration::from_micros(200);
        let longest = LONGEST_GATHERING;
        // Writes of the latest transaction and microseconds it took; writes that are here, and how many came meanwhile.
        for (writes, took, here, queued, expected) in [
            (0, 400, 1, 0, Duration::ZERO),
            (1, 400, 1, 0, Duration::ZERO),
            (1, 400, 1, 1, half),
            (8, 400, 8, 8, half),
            (8, 400, 1, 0, half),
            (8, 400, 8, 0, Duration::ZERO),
            (8, 400, 16, 8, Duration::ZERO),
            (8, 90_000, 8, 8, longest),
        ] {
            let latest = Latest {
                writes,
                took: Duration::from_micros(took),
            };
            assert_eq!(latest.gathering(here, queued), expected, "{latest:?} {here} {queued}");
        }
    }
}
