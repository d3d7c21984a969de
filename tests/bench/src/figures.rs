//! Figures: percentiles of durations, and the line a run prints.

use std::{fmt::Display, io::Write, time::Duration};

/// Durations of one operation each.
#[derive(Default)]
pub(crate) struct Durations(Vec<Duration>);

impl Durations {
    pub(crate) fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    pub(crate) fn extend(&mut self, other: Durations) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// `p50_ms=… p90_ms=… p99_ms=… max_ms=…`
    pub(crate) fn summary(mut self) -> String {
        self.0.sort_unstable();
        let at = |percent: usize| {
            let index = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
            self.0.get(index).map_or(0.0, |d| d.as_secs_f64() * 1e3)
        };
        format!(
            "p50_ms={:.2} p90_ms={:.2} p99_ms={:.2} max_ms={:.2}",
            at(50),
            at(90),
            at(99),
            at(100)
        )
    }
}

/// Prints a line of figures.
pub(crate) fn print(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
