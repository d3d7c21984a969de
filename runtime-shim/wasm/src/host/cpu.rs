//! CPU time: measured per container, limited by a token bucket, shared by turns.
//!
//! A guest's future is wrapped in [`Metered`], which charges each poll's thread CPU time to the container's [`Account`].
//! A guest that computes for long meets the epoch: every [`TICK`] its callback charges what it has used and either lets it
//! go on, or makes it yield to the others, or, when the account is in debt, makes it wait until the debt is paid.
//! Requests shorter than a tick never meet the callback, so [`Account::admit`] holds them back before they begin.
//!
//! Yielding goes by `YieldCustom` with tokio's own `yield_now`, never by wasmtime's yield: that wakes itself at once, and
//! timers and sockets of everybody else starve.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
    },
    task::{Context, Poll},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use wasmtime::{Engine, UpdateDeadline};

/// How often a computing guest is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// Ticks without a running guest after which the ticker sleeps until there is one.
const IDLE_TICKS: u32 = 20;
/// What may be used at once after a pause, of one second's quota: as a CFS period of 100 ms allows.
const BURST: Duration = Duration::from_millis(100);
/// CPU time of a turn for a container that requests one core.
const TURN_PER_CORE: u64 = 10_000_000;
/// Shares of one core, as CRI counts.
const SHARES_PER_CORE: u64 = 1024;
/// No turn is shorter, so that a tick that falls into a short request does not tear it in two.
const SHORTEST_TURN: u64 = 1_000_000;
/// No turn is longer, so that nobody waits longer for a turn of somebody else.
const LONGEST_TURN: u64 = 20_000_000;

/// What one container has used and may use.
#[derive(Debug)]
pub(crate) struct Account {
    used: AtomicU64,
    turn: AtomicU64,
    /// Thousandths of a core; 0: unlimited.
    milli: AtomicU64,
    tokens: Mutex<Tokens>,
}

#[derive(Debug)]
struct Tokens {
    /// Nanoseconds of CPU time; below zero: in debt.
    balance: i64,
    filled: Instant,
}

/// Thousandths of a core that a quota allows; 0: unlimited.
fn milli(resources: &cri::Resources) -> u64 {
    let (Ok(quota), Ok(period)) = (u64::try_from(resources.cpu_quota), u64::try_from(resources.cpu_period)) else {
        return 0;
    };
    let period = if period == 0 { 100_000 } else { period };
    if quota == 0 { 0 } else { (quota * 1000 / period).max(1) }
}

/// CPU nanoseconds of a turn for the shares that a container has.
fn turn(resources: &cri::Resources) -> u64 {
    (resources.cpu_shares * TURN_PER_CORE / SHARES_PER_CORE).clamp(SHORTEST_TURN, LONGEST_TURN)
}

fn burst(milli: u64) -> i64 {
    let nanoseconds = u64::try_from(BURST.as_nanos())
        .unwrap_or(u64::MAX)
        .saturating_mul(milli)
        / 1000;
    i64::try_from(nanoseconds).unwrap_or(i64::MAX)
}

impl Account {
    pub(crate) fn new(resources: &cri::Resources, now: Instant) -> Self {
        let milli = milli(resources);
        Self {
            used: AtomicU64::new(0),
            turn: AtomicU64::new(turn(resources)),
            milli: AtomicU64::new(milli),
            tokens: Mutex::new(Tokens {
                balance: burst(milli),
                filled: now,
            }),
        }
    }

    /// Changes the limits; debts stay.
    pub(crate) fn update(&self, resources: &cri::Resources) {
        self.turn.store(turn(resources), Relaxed);
        self.milli.store(milli(resources), Relaxed);
    }

    /// Core-nanoseconds used so far.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Adds what was used.
    pub(crate) fn charge(&self, nanoseconds: u64) {
        self.used.fetch_add(nanoseconds, Relaxed);
        if self.milli.load(Relaxed) != 0 {
            let mut tokens = self.tokens.lock();
            tokens.balance = tokens
                .balance
                .saturating_sub(i64::try_from(nanoseconds).unwrap_or(i64::MAX));
        }
    }

    /// How long the container must wait before it may run again; `None`: not at all.
    pub(crate) fn debt(&self, now: Instant) -> Option<Duration> {
        let milli = self.milli.load(Relaxed);
        if milli == 0 {
            return None;
        }
        let mut tokens = self.tokens.lock();
        let elapsed = now.saturating_duration_since(tokens.filled).as_nanos();
        let earned = i64::try_from(elapsed.saturating_mul(u128::from(milli)) / 1000).unwrap_or(i64::MAX);
        tokens.balance = tokens.balance.saturating_add(earned).min(burst(milli));
        tokens.filled = now;
        let debt = u64::try_from(-tokens.balance).ok().filter(|debt| *debt > 0)?;
        Some(Duration::from_nanos(debt.saturating_mul(1000) / milli))
    }

    /// Waits until the container may begin something new.
    pub(crate) async fn admit(&self) {
        while let Some(wait) = self.debt(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// The epoch callback's decision for a guest of this container that is computing on this thread.
    pub(crate) fn tick(self: &Arc<Self>) -> UpdateDeadline {
        let slice = charge_running(self);
        if let Some(wait) = self.debt(Instant::now()) {
            return UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(wait)));
        }
        if slice < self.turn.load(Relaxed) {
            return UpdateDeadline::Continue(1);
        }
        UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
    }
}

thread_local! {
    /// Thread CPU time when the poll of the running guest began, and up to when it was charged.
    static RUNNING: std::cell::Cell<Slice> = const { std::cell::Cell::new(Slice { began: 0, charged: 0 }) };
}

#[derive(Clone, Copy)]
struct Slice {
    began: u64,
    charged: u64,
}

/// Charges what the running guest used since it was last charged; answers what its poll has used in all.
fn charge_running(account: &Account) -> u64 {
    let (slice, now) = (RUNNING.get(), thread_time());
    account.charge(now.saturating_sub(slice.charged));
    RUNNING.set(Slice { charged: now, ..slice });
    now.saturating_sub(slice.began)
}

/// CPU time of this thread in nanoseconds.
fn thread_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// A guest's future; its polls are charged to its container, and the ticker runs during them.
pub(crate) struct Metered<F> {
    guest: Pin<Box<F>>,
    account: Arc<Account>,
    ticker: Arc<Ticker>,
}

impl<F> Metered<F> {
    pub(crate) fn new(guest: F, account: Arc<Account>, ticker: Arc<Ticker>) -> Self {
        Self {
            guest: Box::pin(guest),
            account,
            ticker,
        }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { guest, account, ticker } = &mut *self;
        let _running = ticker.enter();
        let began = thread_time();
        RUNNING.set(Slice { began, charged: began });
        let polled = guest.as_mut().poll(context);
        charge_running(account);
        polled
    }
}

/// Advances an engine's epoch while guests run.
#[derive(Debug)]
pub(crate) struct Ticker {
    running: AtomicUsize,
    /// The ticking thread, once it has started.
    thread: OnceLock<Thread>,
    /// 1 while the thread sleeps for want of a running guest.
    parked: AtomicUsize,
}

/// A guest is being polled as long as this lives.
pub(crate) struct Entered<'a>(&'a Ticker);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Ticker {
    /// Starts the ticking thread. It ends when the engine has gone.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            running: AtomicUsize::new(0),
            thread: OnceLock::new(),
            parked: AtomicUsize::new(0),
        });
        let (engine, ticking) = (engine.weak(), Arc::downgrade(&ticker));
        let handle = thread::Builder::new()
            .name("epoch".to_owned())
            .stack_size(64 << 10)
            .spawn(move || {
                let mut idle = 0;
                loop {
                    thread::park_timeout(TICK);
                    let (Some(engine), Some(ticker)) = (engine.upgrade(), ticking.upgrade()) else {
                        return;
                    };
                    engine.increment_epoch();
                    idle = if ticker.running.load(SeqCst) == 0 { idle + 1 } else { 0 };
                    if idle > IDLE_TICKS {
                        drop(engine);
                        ticker.sleep_until_needed();
                        idle = 0;
                    }
                }
            })?;
        ticker.thread.set(handle.thread().clone()).ok();
        Ok(ticker)
    }

    /// A guest begins to run on this thread.
    fn enter(&self) -> Entered<'_> {
        self.running.fetch_add(1, SeqCst);
        if self.parked.load(SeqCst) == 1
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Entered(self)
    }

    fn sleep_until_needed(&self) {
        self.parked.store(1, SeqCst);
        // Whoever enters after the store sees it and wakes us; whoever entered before is seen here.
        while self.running.load(SeqCst) == 0 && self.thread.get().is_some() {
            thread::park();
        }
        self.parked.store(0, SeqCst);
    }
}

#[cfg(test)]
mod tests;
