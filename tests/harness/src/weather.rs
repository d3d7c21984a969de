//! What goes wrong, and how often: the faults that requests, watches and the store meet.

use std::time::Duration;

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How likely each fault is, in [0, 1], at each occasion.
#[derive(Clone, Copy, Debug, Default)]
pub struct Climate {
    /// A request does not arrive.
    pub refuse: f64,
    /// A request arrives, its answer does not: the sender cannot know whether it was carried out.
    pub lose: f64,
    /// A write is answered 409 Conflict and not carried out.
    pub conflict: f64,
    /// A request is answered 429, 500 or 503 and not carried out.
    pub unavailable: f64,
    /// A watch is answered 410 Expired, at once or later.
    pub expire: f64,
    /// A watch breaks, in the middle of an event or between two.
    pub cut: f64,
    /// A watch goes silent: what it would have told is lost, and it breaks a while later.
    pub stall: f64,
    /// The store fails, before or after it has committed.
    pub store: f64,
    /// Requests, answers, events and commits take up to this long.
    pub delay: Duration,
}

impl Climate {
    /// Nothing fails; everything takes a little time.
    pub const FAIR: Climate = Climate {
        refuse: 0.0,
        lose: 0.0,
        conflict: 0.0,
        unavailable: 0.0,
        expire: 0.0,
        cut: 0.0,
        stall: 0.0,
        store: 0.0,
        delay: Duration::from_millis(2),
    };
    /// Now and then something fails.
    pub const SHOWERS: Climate = Climate {
        refuse: 0.02,
        lose: 0.02,
        conflict: 0.02,
        unavailable: 0.02,
        expire: 0.01,
        cut: 0.02,
        stall: 0.002,
        store: 0.005,
        delay: Duration::from_millis(50),
    };
    /// Much fails, and what works is slow.
    pub const STORM: Climate = Climate {
        refuse: 0.1,
        lose: 0.1,
        conflict: 0.1,
        unavailable: 0.1,
        expire: 0.05,
        cut: 0.1,
        stall: 0.02,
        store: 0.03,
        delay: Duration::from_millis(800),
    };
}

/// Decides what fails, from one generator. Shared by everything that can fail.
#[derive(Debug)]
pub struct Weather {
    climate: Mutex<Climate>,
    random: Mutex<StdRng>,
}

impl Weather {
    /// Fair weather, with a generator of its own.
    pub fn new(seed: u64) -> Self {
        Self {
            climate: Mutex::new(Climate::FAIR),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    /// Changes what is likely from now on.
    pub fn set(&self, climate: Climate) {
        *self.climate.lock() = climate;
    }

    /// Whether the fault that `of` picks strikes now.
    pub fn strikes(&self, of: impl Fn(&Climate) -> f64) -> bool {
        let likely = of(&self.climate.lock());
        likely > 0.0 && self.random.lock().random_bool(likely)
    }

    /// A number in `0..below`.
    pub fn pick(&self, below: usize) -> usize {
        self.random.lock().random_range(0..below.max(1))
    }

    /// Lets as much time pass as something takes in this weather.
    pub async fn delay(&self) {
        let most = self.climate.lock().delay;
        let share: f64 = self.random.lock().random();
        tokio::time::sleep(most.mul_f64(share * share)).await;
    }
}
