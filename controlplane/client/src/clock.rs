//! The wall clock that components write into objects, passed in so that nobody below a binary reads one.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use tokio::time::Instant;

/// Gives the current time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock: for binaries.
    pub fn system() -> Self {
        Self::new(Timestamp::now)
    }

    /// A clock that `read` reads.
    pub fn new(read: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// A clock that starts at `start` and moves with [`tokio::time`], hence stands still when that is paused: for tests.
    pub fn anchored(start: Timestamp) -> Self {
        let origin = Instant::now();
        Self::new(move || {
            start
                .checked_add(jiff::SignedDuration::try_from(origin.elapsed()).unwrap_or(jiff::SignedDuration::MAX))
                .unwrap_or(Timestamp::MAX)
        })
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
