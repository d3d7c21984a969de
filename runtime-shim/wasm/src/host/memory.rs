//! Memory: one limit per container over all its live instances.
//!
//! Counted are linear memories and tables at their full size, as guests see them; what the host itself holds for a
//! container is small and not counted. A growth beyond the limit fails in the guest's eyes (`memory.grow` answers -1).
//! Nearly every guest then gives up with a trap, which is told apart from other traps by [`Meter::refused`].
//!
//! A service has as many instances as it has requests, and must not be ended because many modest ones came at once. So a
//! request is admitted ([`Account::admit`]) when the most that an instance ever held still fits beside the others, and
//! only an instance that passes the limit all by itself is [`Refused::Alone`], which ends the container.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::Notify;
use wasmtime::ResourceLimiter;

/// After how many instances a large one is mostly forgotten, so that it does not hold back the others for good.
const FORGET: u64 = 64;
/// Bytes that one element of a table takes.
const TABLE_ELEMENT: u64 = 8;

/// What the live instances of one container hold together.
#[derive(Debug)]
pub(crate) struct Account {
    used: AtomicU64,
    /// Bytes; `u64::MAX`: none.
    limit: AtomicU64,
    /// The most that one instance held, less and less so as others hold less.
    peak: AtomicU64,
    /// What admitted instances are expected to hold.
    expected: AtomicU64,
    left: Notify,
}

/// Why an instance was refused memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It would have passed the limit by itself, or all that a Wasm memory can have.
    Alone,
    /// Others of its container hold the rest.
    Crowded,
}

impl Account {
    pub(crate) fn new(resources: &cri::Resources) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU64::new(0),
            limit: AtomicU64::new(limit(resources)),
            peak: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            left: Notify::new(),
        })
    }

    pub(crate) fn update(&self, resources: &cri::Resources) {
        self.limit.store(limit(resources), Relaxed);
    }

    /// Bytes held now.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// The limit in bytes, if there is one.
    pub(crate) fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Relaxed)).filter(|limit| *limit != u64::MAX)
    }

    /// Waits until one more instance is likely to fit beside the others. The first always does.
    pub(crate) async fn admit(self: &Arc<Self>) -> Admitted {
        loop {
            let left = self.left.notified();
            let (limit, peak) = (self.limit.load(Relaxed), self.peak.load(Relaxed));
            let fits = |expected: u64| expected.checked_add(peak).filter(|sum| expected == 0 || *sum <= limit);
            if self.expected.fetch_update(Relaxed, Relaxed, fits).is_ok() {
                return Admitted {
                    account: Arc::clone(self),
                    expected: peak,
                };
            }
            left.await;
        }
    }

    /// Takes bytes if the limit allows it.
    fn take(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Relaxed);
        self.used
            .fetch_update(Relaxed, Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= limit)
            })
            .is_ok()
    }

    /// An instance held this much at its end.
    fn remember(&self, held: u64) {
        let remembered = |peak: u64| Some(held.max(peak - peak.saturating_sub(held) / FORGET));
        self.peak.fetch_update(Relaxed, Relaxed, remembered).ok();
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

fn limit(resources: &cri::Resources) -> u64 {
    u64::try_from(resources.memory_limit)
        .ok()
        .filter(|limit| *limit > 0)
        .unwrap_or(u64::MAX)
}

/// An instance that may exist.
#[derive(Debug)]
pub(crate) struct Admitted {
    account: Arc<Account>,
    expected: u64,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.account.expected.fetch_sub(self.expected, Relaxed);
        self.account.left.notify_waiters();
    }
}

/// One instance's part in its container's account; gives back everything when dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    account: Arc<Account>,
    held: u64,
    /// Bytes of the growth that was allowed last.
    last: u64,
    refused: Option<Refused>,
}

impl Meter {
    pub(crate) fn new(account: Arc<Account>) -> Self {
        Self {
            account,
            held: 0,
            last: 0,
            refused: None,
        }
    }

    /// Whether the instance was refused memory for the container's limit.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    fn grow(&mut self, bytes: u64) -> bool {
        if self.account.take(bytes) {
            self.held += bytes;
            self.last = bytes;
            return true;
        }
        let alone = self.held.saturating_add(bytes) > self.account.limit.load(Relaxed);
        self.refused = Some(if alone { Refused::Alone } else { Refused::Crowded });
        false
    }

    /// A growth that was allowed did not come about.
    fn take_back(&mut self) {
        let bytes = std::mem::take(&mut self.last);
        self.held -= bytes;
        self.account.give_back(bytes);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.account.give_back(self.held);
        self.account.remember(self.held);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > crate::engine::MAX_MEMORY {
            self.refused = Some(Refused::Alone);
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow((desired.saturating_sub(current)) as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow((desired.saturating_sub(current)) as u64 * TABLE_ELEMENT))
    }

    fn instances(&self) -> usize {
        usize::MAX
    }

    fn tables(&self) -> usize {
        usize::MAX
    }

    fn memories(&self) -> usize {
        usize::MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn account(limit: i64) -> Arc<Account> {
        Account::new(&cri::Resources {
            memory_limit: limit,
            ..Default::default()
        })
    }

    #[test]
    fn growth_beyond_the_limit_fails_and_is_remembered() {
        let mut meter = Meter::new(account(100));
        assert!(meter.memory_growing(0, 60, None).expect("grows"));
        assert_eq!(meter.refused(), None);
        assert!(!meter.memory_growing(60, 120, None).expect("refused"));
        assert_eq!(meter.refused(), Some(Refused::Alone));
        assert_eq!(meter.account.used(), 60);
    }

    #[test]
    fn instances_of_a_container_share_its_limit() {
        let account = account(100);
        let mut first = Meter::new(Arc::clone(&account));
        let mut second = Meter::new(Arc::clone(&account));
        assert!(first.memory_growing(0, 70, None).expect("grows"));
        assert!(!second.memory_growing(0, 70, None).expect("refused"));
        assert_eq!(second.refused(), Some(Refused::Crowded));
        drop(first);
        assert!(second.memory_growing(0, 70, None).expect("grows"));
    }

    #[test]
    fn what_no_memory_can_have_is_refused_without_a_limit_too() {
        let mut meter = Meter::new(account(0));
        assert!(meter.memory_growing(0, 1 << 32, None).expect("grows"));
        assert!(
            !meter
                .memory_growing(1 << 32, (1 << 32) + 65536, Some(1 << 32))
                .expect("refused")
        );
        assert_eq!(meter.refused(), Some(Refused::Alone));
    }

    #[test]
    fn a_guests_own_maximum_is_not_the_limits_fault() {
        let mut meter = Meter::new(account(100));
        assert!(!meter.memory_growing(0, 60, Some(50)).expect("refused"));
        assert_eq!(meter.refused(), None);
    }

    #[tokio::test]
    async fn an_instance_is_admitted_when_the_largest_so_far_would_fit() {
        let account = account(100);
        let mut meter = Meter::new(Arc::clone(&account));
        assert!(meter.memory_growing(0, 60, None).expect("grows"));
        drop(meter);
        let first = account.admit().await;
        let mut second = Box::pin(account.admit());
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(futures::poll!(&mut second).is_ready());
    }

    #[test]
    fn a_large_instance_is_forgotten_in_time() {
        let account = account(1000);
        account.remember(1000);
        for _ in 0..10 * FORGET {
            account.remember(100);
        }
        assert!(account.peak.load(Relaxed) < 200);
        account.remember(300);
        assert_eq!(account.peak.load(Relaxed), 300);
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_everything_is_given_back(limit in 1_i64..1000, steps in prop::collection::vec(0_usize..300, 0..20)) {
            let account = account(limit);
            let mut meters: Vec<_> = (0..3).map(|_| Meter::new(Arc::clone(&account))).collect();
            for (index, step) in steps.iter().enumerate() {
                let meter = &mut meters[index % 3];
                let held = meter.held as usize;
                meter.memory_growing(held, held + step, None).expect("decided");
                prop_assert!(account.used() <= limit as u64);
            }
            drop(meters);
            prop_assert_eq!(account.used(), 0);
        }
    }
}
