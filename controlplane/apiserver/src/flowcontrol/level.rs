//! A priority level at work: its queues behind a lock that is held for a moment, those who wait, and the seats of those who
//! are served. Who goes away while waiting leaves the queue, and who goes away while being served frees the seat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use api::Object;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::demand::{Bounds, Seen};
use super::patience::Patience;
use super::queues::{Queues, Queuing, Start, Ticket, Work};

/// How long a request may wait: a quarter of the time it may take.
const WAIT: Duration = Duration::from_secs(15);
/// The most seats of a level that one request may take.
const WIDEST: f64 = 0.15;

/// What a PriorityLevelConfiguration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) queuing: Queuing,
    pub(super) shares: u32,
    pub(super) lends: u32,
    pub(super) borrows: Option<u32>,
}

impl Spec {
    pub(super) fn read(level: &Object) -> Self {
        let number = |path: &str| level.i64_at(path).and_then(|number| u32::try_from(number).ok());
        if level.str_at("spec.type") == Some("Exempt") {
            return Spec {
                queuing: Queuing::Exempt,
                shares: number("spec.exempt.nominalConcurrencyShares").unwrap_or(0),
                lends: number("spec.exempt.lendablePercent").unwrap_or(0),
                borrows: None,
            };
        }
        let of_queuing = |field: &str| number(&format!("spec.limited.limitResponse.queuing.{field}"));
        let queuing = match level.str_at("spec.limited.limitResponse.type") {
            Some("Queue") => Queuing::Queue {
                queues: of_queuing("queues").unwrap_or(64).max(1),
                hand: of_queuing("handSize").unwrap_or(8).max(1),
                length: of_queuing("queueLengthLimit").unwrap_or(50).max(1),
            },
            _ => Queuing::Reject,
        };
        Spec {
            queuing,
            shares: number("spec.limited.nominalConcurrencyShares").unwrap_or(30),
            lends: number("spec.limited.lendablePercent").unwrap_or(0),
            borrows: number("spec.limited.borrowingLimitPercent"),
        }
    }
}

/// Who waits, and since when.
pub(super) struct Waiter {
    turn: oneshot::Sender<Ticket>,
    pub(super) schema: Arc<str>,
    pub(super) flow: Box<str>,
    pub(super) since: Instant,
}

/// What a level is set to now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Setting {
    pub(super) spec: Spec,
    pub(super) bounds: Bounds,
    pub(super) seen: Option<Seen>,
}

pub(super) struct Level {
    pub(super) name: Arc<str>,
    exempt: bool,
    widest: AtomicU32,
    pub(super) quiescing: AtomicBool,
    pub(super) setting: Mutex<Setting>,
    pub(super) queues: Mutex<Queues<Waiter>>,
    patience: Mutex<Patience>,
    began: Instant,
    tasks: TaskTracker,
}

impl Level {
    pub(super) fn new(name: &str, spec: Spec, tasks: TaskTracker) -> Self {
        let bounds = Bounds::default();
        Level {
            name: name.into(),
            exempt: spec.queuing == Queuing::Exempt,
            widest: AtomicU32::new(1),
            quiescing: AtomicBool::new(false),
            setting: Mutex::new(Setting {
                spec,
                bounds,
                seen: None,
            }),
            queues: Mutex::new(Queues::new(spec.queuing, 0, 0)),
            patience: Mutex::default(),
            began: Instant::now(),
            tasks,
        }
    }

    pub(super) fn is_exempt(&self) -> bool {
        self.exempt
    }

    /// The most seats that one request may take.
    pub(super) fn widest(&self) -> u32 {
        self.widest.load(Ordering::Relaxed)
    }

    /// Whether flows have queues of their own.
    pub(super) fn tells_flows_apart(&self) -> bool {
        matches!(self.setting.lock().spec.queuing, Queuing::Queue { queues, .. } if queues > 1)
    }

    /// Nanoseconds since it was made.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes a new spec and its bounds; what it gets is set by [`Level::limit`].
    pub(super) fn set(&self, spec: Spec, bounds: Bounds) {
        let nominal = f64::from(bounds.nominal);
        let widest = match spec.queuing {
            Queuing::Queue { hand, .. } => {
                (nominal * WIDEST).ceil().min(f64::from(bounds.nominal / hand)).max(1.0) as u32
            }
            Queuing::Exempt | Queuing::Reject => u32::MAX,
        };
        self.widest.store(widest, Ordering::Relaxed);
        let mut setting = self.setting.lock();
        (setting.spec, setting.bounds) = (spec, bounds);
    }

    /// What it was asked for since the last time.
    pub(super) fn look(&self) -> Seen {
        let seen = self.queues.lock().demand.look(self.now());
        self.setting.lock().seen = Some(seen);
        seen
    }

    pub(super) fn limit(&self, seats: u32) {
        let queuing = self.setting.lock().spec.queuing;
        let mut queues = self.queues.lock();
        let served = queues.configure(queuing, seats, self.now());
        self.tell(&mut queues, served);
    }

    /// Tells those whose turn has come; the lock is held, so that nobody leaves meanwhile.
    fn tell(&self, queues: &mut Queues<Waiter>, served: Vec<(Waiter, Ticket)>) {
        let mut served = served;
        while let Some((waiter, ticket)) = served.pop() {
            if let Err(ticket) = waiter.turn.send(ticket) {
                served.extend(queues.finish(&ticket, self.now()));
            }
        }
    }

    /// Returns when a request may be served, or why it may not.
    pub(super) async fn enter(
        self: &Arc<Self>,
        work: Work,
        flow: u64,
        who: impl FnOnce() -> (Arc<str>, Box<str>),
    ) -> Result<Seat, &'static str> {
        let mut told = None;
        let waiter = || {
            let (turn, receiver) = oneshot::channel();
            told = Some(receiver);
            let (schema, flow) = who();
            Waiter {
                turn,
                schema,
                flow,
                since: Instant::now(),
            }
        };
        let start = self.queues.lock().start(work, flow, self.now(), waiter);
        match (start, told) {
            (Start::Serve(ticket), _) => Ok(Seat::new(self, ticket)),
            (Start::Wait(number), Some(told)) => {
                let mut place = Place {
                    level: self,
                    number: Some(number),
                    told,
                    late: false,
                };
                let turn = tokio::time::timeout(WAIT, &mut place.told).await;
                match turn {
                    Ok(Ok(ticket)) => {
                        place.number = None;
                        Ok(Seat::new(self, ticket))
                    }
                    Ok(Err(_)) => Err("cancelled"),
                    Err(_) => {
                        place.late = true;
                        Err("time-out")
                    }
                }
            }
            (Start::Refuse(why), _) => Err(why),
            (Start::Wait(_), None) => Err("cancelled"),
        }
    }

    /// Counts a refusal; tells after how many seconds to come back.
    pub(super) fn refused(&self) -> u64 {
        self.patience.lock().refused(self.began.elapsed().as_secs())
    }

    fn finish(self: &Arc<Self>, ticket: Ticket) {
        {
            let mut queues = self.queues.lock();
            let served = queues.finish(&ticket, self.now());
            self.tell(&mut queues, served);
        }
        if ticket.work.lingers > 0 {
            let (level, lingers) = (self.clone(), Duration::from_nanos(ticket.work.lingers));
            self.tasks.spawn(async move {
                tokio::time::sleep(lingers).await;
                let mut queues = level.queues.lock();
                let served = queues.release(&ticket, level.now());
                level.tell(&mut queues, served);
            });
        }
    }
}

/// A place in a queue, left when it is dropped.
struct Place<'a> {
    level: &'a Arc<Level>,
    /// `None` when its turn has come.
    number: Option<u64>,
    told: oneshot::Receiver<Ticket>,
    late: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let waited = self.level.queues.lock().leave(number, self.late, self.level.now());
        // Its turn may have come at the very moment.
        if !waited && let Ok(ticket) = self.told.try_recv() {
            self.level.finish(ticket);
        }
    }
}

/// Leave to be served, given back when it is dropped.
pub(crate) struct Seat {
    level: Arc<Level>,
    ticket: Option<Ticket>,
}

impl Seat {
    fn new(level: &Arc<Level>, ticket: Ticket) -> Self {
        Seat {
            level: level.clone(),
            ticket: Some(ticket),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.level.finish(ticket);
        }
    }
}
