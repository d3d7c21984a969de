//! How many seats a level asks for, over time, and what each gets of them: levels lend what they do not need, and borrow
//! what others lend (Kubernetes' KEP-1040, "dispatching").

/// What is kept of an older demand at each adjustment.
const SMOOTHING: f64 = 0.977;
/// Nobody is without any target, or there would be nothing to divide by.
const LEAST_TARGET: f64 = 0.001;

/// A demand that changes, summed up since the last look.
#[derive(Debug)]
pub(super) struct Demand {
    value: u32,
    since: u64,
    began: u64,
    most: u32,
    sum: f64,
    squares: f64,
    smoothed: f64,
}

/// A demand as it was between two looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) most: u32,
    pub(super) average: f64,
    pub(super) deviation: f64,
    pub(super) smoothed: f64,
}

impl Demand {
    pub(super) fn new(real: u64) -> Self {
        Demand {
            value: 0,
            since: real,
            began: real,
            most: 0,
            sum: 0.0,
            squares: 0.0,
            smoothed: 0.0,
        }
    }

    pub(super) fn set(&mut self, value: u32, real: u64) {
        self.pass(real);
        self.value = value;
        self.most = self.most.max(value);
    }

    fn pass(&mut self, real: u64) {
        let passed = real.saturating_sub(self.since) as f64;
        self.since = self.since.max(real);
        let value = f64::from(self.value);
        self.sum += value * passed;
        self.squares += value * value * passed;
    }

    /// What has been seen; begins anew.
    pub(super) fn look(&mut self, real: u64) -> Seen {
        self.pass(real);
        let passed = real.saturating_sub(self.began) as f64;
        let (mut average, mut deviation) = (0.0, 0.0);
        if passed > 0.0 {
            average = self.sum / passed;
            deviation = (self.squares / passed - average * average).max(0.0).sqrt();
            let envelope = average + deviation;
            self.smoothed = envelope.max(SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope);
        }
        let seen = Seen {
            most: self.most,
            average,
            deviation,
            smoothed: self.smoothed,
        };
        (self.began, self.most, self.sum, self.squares) = (real, self.value, 0.0, 0.0);
        seen
    }
}

/// The seats of a level that are its own whatever happens, those by its shares, and the most it may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) least: u32,
    pub(super) nominal: u32,
    pub(super) most: u32,
}

impl Bounds {
    /// By its part of all shares of the server's seats.
    pub(super) fn new(server: u32, shares: u32, all: u32, lends: u32, borrows: Option<u32>) -> Self {
        let part = f64::from(server) * f64::from(shares) / f64::from(all.max(1));
        let nominal = part.ceil() as u32;
        let percent = |of: u32| (f64::from(nominal) * f64::from(of) / 100.0).round() as u32;
        Bounds {
            least: nominal - percent(lends.min(100)),
            nominal,
            most: nominal + borrows.map_or(server, percent),
        }
    }
}

/// What each level gets, from its bounds, its demand, and whether it is exempt.
pub(super) fn share_out(levels: &[(Bounds, Seen, bool)]) -> Vec<u32> {
    let total: u32 = levels.iter().map(|(bounds, ..)| bounds.nominal).sum();
    let floor = |(bounds, seen, exempt): &(Bounds, Seen, bool)| match exempt {
        true => bounds.least.max(seen.most),
        false => bounds.least.max(bounds.nominal.min(seen.most)),
    };
    let of = |exempt: bool| levels.iter().filter(move |level| level.2 == exempt);
    let taken: u32 = of(true).map(floor).sum();
    let left = i64::from(total) - i64::from(taken);
    let least: i64 = of(false).map(|(bounds, ..)| i64::from(bounds.least)).sum();
    let wanted: i64 = of(false).map(|level| i64::from(floor(level))).sum();
    let factor = scale(levels, &floor, left as f64);
    levels
        .iter()
        .map(|level| {
            let (bounds, seen, exempt) = level;
            let low = floor(level);
            match () {
                () if *exempt => low,
                () if left <= least => bounds.least,
                () if left <= wanted => {
                    let part = (left - least) as f64 / (wanted - least) as f64;
                    bounds.least + (f64::from(low - bounds.least) * part).round() as u32
                }
                () => allotted(low, bounds.most, seen.smoothed, factor).round() as u32,
            }
        })
        .collect()
}

/// A level's target times the common factor, within its bounds.
fn allotted(low: u32, high: u32, smoothed: f64, factor: f64) -> f64 {
    let (low, high) = (f64::from(low), f64::from(high.max(low)));
    let target = smoothed.max(low).max(LEAST_TARGET);
    (target * factor).clamp(low, high)
}

/// The factor by which all targets are multiplied so that they sum up to what there is. The sum rises with it, so that
/// halving finds it.
fn scale(levels: &[(Bounds, Seen, bool)], floor: &impl Fn(&(Bounds, Seen, bool)) -> u32, wanted: f64) -> f64 {
    let sum = |factor: f64| -> f64 {
        let limited = levels.iter().filter(|level| !level.2);
        limited
            .map(|level| allotted(floor(level), level.0.most, level.1.smoothed, factor))
            .sum()
    };
    let (mut low, mut high) = (0.0, 1.0);
    while sum(high) < wanted && high < 1e9 {
        high *= 2.0;
    }
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        match sum(middle) < wanted {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(most: u32, smoothed: f64) -> Seen {
        Seen {
            most,
            average: 0.0,
            deviation: 0.0,
            smoothed,
        }
    }

    #[test]
    fn demand_is_averaged_over_time() {
        let mut demand = Demand::new(0);
        demand.set(4, 0);
        demand.set(0, 50);
        let seen = demand.look(100);
        assert_eq!(
            (seen.most, seen.average, seen.deviation, seen.smoothed),
            (4, 2.0, 2.0, 4.0)
        );
        assert_eq!(demand.look(200).most, 0);
    }

    #[test]
    fn shares_become_seats() {
        // As Kubernetes' documentation of the suggested level `node-high` has it: 40 of 245 shares, a quarter lent.
        let bounds = Bounds::new(600, 40, 245, 25, None);
        assert_eq!(
            bounds,
            Bounds {
                least: 73,
                nominal: 98,
                most: 698
            }
        );
        assert_eq!(Bounds::new(600, 40, 245, 0, Some(50)).most, 147);
    }

    #[test]
    fn who_asks_for_more_gets_what_others_lend() {
        let half = Bounds {
            least: 10,
            nominal: 50,
            most: 650,
        };
        let exempt = (Bounds::default(), seen(0, 0.0), true);
        let busy = (half, seen(200, 200.0), false);
        let idle = (half, seen(0, 0.0), false);
        assert_eq!(share_out(&[exempt, busy, idle]), [0, 90, 10]);
        assert_eq!(share_out(&[exempt, busy, busy]), [0, 50, 50]);
        // What exempt ones take is not there for others, but for what cannot be lent.
        let greedy = (Bounds::default(), seen(95, 0.0), true);
        assert_eq!(share_out(&[greedy, busy, idle]), [95, 10, 10]);
    }

    proptest! {
        #[test]
        fn nobody_gets_less_than_what_is_its_own(
            levels in proptest::collection::vec((0u32..100, 0u32..100, 0u32..300, 0.0f64..300.0), 1..10)
        ) {
            let levels: Vec<_> = levels
                .into_iter()
                .map(|(nominal, lent, most, smoothed)| {
                    let least = nominal - lent.min(nominal);
                    (Bounds { least, nominal, most: nominal + 600 }, seen(most, smoothed), false)
                })
                .collect();
            let total: u32 = levels.iter().map(|(bounds, ..)| bounds.nominal).sum();
            let got = share_out(&levels);
            for ((bounds, ..), seats) in levels.iter().zip(&got) {
                prop_assert!((bounds.least..=bounds.most).contains(seats));
            }
            let sum: u32 = got.iter().sum();
            prop_assert!(sum.abs_diff(total) <= levels.len() as u32, "{} of {}", sum, total);
        }
    }
}
