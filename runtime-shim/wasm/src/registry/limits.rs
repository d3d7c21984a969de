//! How long a registry may take, how slow it may be, and when it is asked again. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Bounds of one conversation with a registry.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Until a connection stands, TLS included.
    pub(crate) connect: Duration,
    /// Until an answer begins.
    pub(crate) answer: Duration,
    /// In each such time a body must bring `least` bytes.
    pub(crate) window: Duration,
    pub(crate) least: u64,
    /// Requests that fail in passing are sent so often in a row without any progress.
    pub(crate) attempts: u32,
    /// The pause after the first failure; each one more doubles it.
    pub(crate) pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(30),
            window: Duration::from_secs(30),
            least: 30 * 1024,
            attempts: 4,
            pause: Duration::from_millis(500),
        }
    }
}

/// The longest pause that a registry's `Retry-After` is heeded for; the kubelet's own back-off does the rest.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

impl Limits {
    /// How long to pause after `failures` in a row; `None`: give up.
    pub(super) fn pause_after(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts || asked.is_some_and(|asked| asked > LONGEST_PAUSE) {
            return None;
        }
        let doubled = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(16));
        Some(asked.unwrap_or(doubled).min(LONGEST_PAUSE))
    }
}

/// Watches how fast a body comes.
#[derive(Debug)]
pub(super) struct Pace {
    window: Duration,
    least: u64,
    until: Instant,
    received: u64,
}

impl Pace {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            window: limits.window,
            least: limits.least,
            until: now + limits.window,
            received: 0,
        }
    }

    /// When to ask [`Self::too_slow`], whether or not anything came.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn count(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
    }

    /// The bytes of a window that is over, if they are too few; else the next one begins.
    pub(super) fn too_slow(&mut self, now: Instant) -> Option<u64> {
        if now < self.until {
            return None;
        }
        let received = std::mem::take(&mut self.received);
        self.until = now + self.window;
        (received < self.least).then_some(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let limits = Limits::default();
        let pauses: Vec<_> = (1..6)
            .map_while(|failures| limits.pause_after(failures, None))
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(pauses, [500, 1000, 2000]);
        assert_eq!(
            limits.pause_after(1, Some(Duration::from_secs(3))),
            Some(Duration::from_secs(3))
        );
        assert_eq!(limits.pause_after(1, Some(Duration::from_secs(3600))), None);
    }

    #[test]
    fn a_trickle_is_too_slow_and_a_burst_pays_only_for_its_own_window() {
        let limits = Limits::default();
        let start = Instant::now();
        let mut pace = Pace::new(&limits, start);
        pace.count(1 << 20);
        assert_eq!(pace.too_slow(start + Duration::from_secs(29)), None);
        assert_eq!(pace.too_slow(start + Duration::from_secs(30)), None);
        pace.count(1000);
        assert_eq!(pace.too_slow(start + Duration::from_secs(60)), Some(1000));
    }
}
