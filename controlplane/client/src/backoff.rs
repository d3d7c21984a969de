//! Exponential back-off with jitter, so that many clients of a server that comes back do not arrive at once.

use std::time::Duration;

/// Doubles from `first` to `max`; each delay is then shortened by up to a half.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            failures: 0,
        }
    }

    /// The delay after one more failure. `random` is uniform in [0, 1).
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let delay = exponential(self.first, self.max, self.failures, random);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `first * 2^failures`, at most `max`, less up to a half by `random` in [0, 1).
pub(crate) fn exponential(first: Duration, max: Duration, failures: u32, random: f64) -> Duration {
    let full = first.saturating_mul(2u32.saturating_pow(failures)).min(max);
    full.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(30));
        let delays: Vec<u128> = (0..5).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(5));
        assert_eq!(
            exponential(Duration::from_secs(1), Duration::from_secs(9), 400, 1.0),
            Duration::from_millis(4500)
        );
    }
}
