//! What the node is short of, as whoever looks has found it; kept for a while, lest pods come and go.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{status::Pressure, thresholds::Shortage};

/// What is short, and was not long ago.
pub(crate) struct Strain {
    /// When last.
    seen: Mutex<Vec<(Pressure, Timestamp)>>,
    grown: Notify,
    transition: SignedDuration,
}

impl Strain {
    /// Of a node that has enough; what it is once short of it remains so for `transition`.
    pub(crate) fn new(transition: Duration) -> Self {
        Self {
            seen: Mutex::default(),
            grown: Notify::new(),
            transition: SignedDuration::try_from(transition).unwrap_or(SignedDuration::MAX),
        }
    }

    /// Takes in what is short now.
    pub(crate) fn note(&self, short: &[Shortage], now: Timestamp) {
        let mut seen = self.seen.lock();
        seen.retain(|(_, at)| now.duration_since(*at) < self.transition);
        let before = seen.len();
        for short in short {
            let pressure = short.signal.pressure();
            match seen.iter_mut().find(|(known, _)| *known == pressure) {
                Some((_, at)) => *at = now,
                None => seen.push((pressure, now)),
            }
        }
        if seen.len() > before {
            self.grown.notify_one();
        }
    }

    /// What the node says it is short of; as last noted, however short the time is for which that stands.
    pub(crate) fn pressures(&self, now: Timestamp) -> Vec<Pressure> {
        let seen = self.seen.lock();
        let stands = |at: Timestamp| at == now || now.duration_since(at) < self.transition;
        let standing = seen.iter().filter(|(_, at)| stands(*at));
        standing.map(|(pressure, _)| *pressure).collect()
    }

    /// Waits until something is short that was not.
    pub(crate) async fn grown(&self) {
        self.grown.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Signal;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    fn short(signal: Signal) -> Shortage {
        Shortage {
            signal,
            threshold: 2,
            available: 1,
        }
    }

    #[tokio::test]
    async fn what_was_short_is_so_for_a_while() {
        let strain = Strain::new(Duration::from_secs(60));
        strain.note(&[], at(0));
        assert_eq!(strain.pressures(at(0)), []);
        strain.note(&[short(Signal::Nodefs), short(Signal::NodefsInodes)], at(10));
        assert_eq!(strain.pressures(at(10)), [Pressure::Disk]);
        strain.grown().await;
        strain.note(&[short(Signal::Memory), short(Signal::Imagefs)], at(40));
        strain.grown().await;
        assert_eq!(strain.pressures(at(99)), [Pressure::Disk, Pressure::Memory]);
        assert_eq!(strain.pressures(at(100)), []);
        strain.note(&[short(Signal::Pids)], at(100));
        assert_eq!(strain.pressures(at(100)), [Pressure::Pids]);
    }

    #[test]
    fn without_a_time_it_stands_as_long_as_it_is_so() {
        let strain = Strain::new(Duration::ZERO);
        strain.note(&[short(Signal::Memory)], at(10));
        assert_eq!(strain.pressures(at(10)), [Pressure::Memory]);
        strain.note(&[], at(20));
        assert_eq!(strain.pressures(at(20)), []);
    }
}
