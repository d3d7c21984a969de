//! The last two readings of every node, and the rates they make. Pure.

use std::collections::HashMap;
use std::time::Duration;

use api::NamespacedName;
use tokio::time::Instant;

use super::reading::{Point, Reading};

/// What has started since the last reading is measured from its start, once it has run so long: before, the figures of a
/// start would be taken for its usual ones.
const SETTLED: i64 = 10_000_000_000;
/// What has not been heard of for so long is not told any more.
const STALE: Duration = Duration::from_secs(90);

/// What somebody uses now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Nanoseconds since the epoch, and how long was measured until then.
    pub(super) at: i64,
    pub(super) window: u64,
    /// Billionths of a core.
    pub(super) cpu: u64,
    /// Bytes.
    pub(super) memory: u64,
}

/// A reading, and the one before it that it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    last: Point,
    before: Option<Point>,
}

impl Pair {
    /// What is known after one more reading.
    fn next(known: Option<&Pair>, last: Point) -> Pair {
        let ran_on = |before: i64| last.started.is_none_or(|started| started <= before);
        let known = known.filter(|known| ran_on(known.last.at));
        let from_start = || {
            let at = last.started?;
            (last.at.saturating_sub(at) >= SETTLED).then_some(Point { at, cpu: 0, ..last })
        };
        let before = match known {
            Some(known) if known.last.at < last.at => Some(known.last),
            // The same once more.
            Some(known) => known.before.filter(|before| before.at < last.at),
            None => from_start().filter(|start| last.at.saturating_sub(start.at) <= STALE.as_nanos() as i64),
        };
        Pair { last, before }
    }

    fn rate(&self) -> Option<Rate> {
        let (last, before) = (self.last, self.before?);
        let window = u64::try_from(last.at.checked_sub(before.at)?).ok()?;
        let used = last.cpu.checked_sub(before.cpu)?;
        let cpu = (u128::from(used) * 1_000_000_000).checked_div(window.into())?;
        Some(Rate {
            at: last.at,
            window,
            cpu: u64::try_from(cpu).unwrap_or(u64::MAX),
            memory: last.memory,
        })
    }
}

/// One node as it was last heard of.
struct OfNode {
    heard: Instant,
    node: Option<Pair>,
    pods: HashMap<NamespacedName, Vec<(Box<str>, Pair)>>,
}

/// All nodes.
#[derive(Default)]
pub(super) struct History(HashMap<String, OfNode>);

impl History {
    /// Adds what a node has told; what it no longer tells of is forgotten.
    pub(super) fn take(&mut self, node: &str, reading: Reading, now: Instant) {
        let known = self.0.remove(node);
        let (of_node, mut of_pods) = known.map_or_else(Default::default, |known| (known.node, known.pods));
        let pods = reading.pods.into_iter().map(|(name, containers)| {
            let before = of_pods.remove(&name).unwrap_or_default();
            let pair = |(container, point): (Box<str>, Point)| {
                let before = before.iter().find(|(name, _)| *name == container);
                let pair = Pair::next(before.map(|(_, pair)| pair), point);
                (container, pair)
            };
            (name, containers.into_iter().map(pair).collect())
        });
        let pods = pods.collect();
        let node_pair = reading.node.map(|point| Pair::next(of_node.as_ref(), point));
        let heard = OfNode {
            heard: now,
            node: node_pair,
            pods,
        };
        self.0.insert(node.to_owned(), heard);
    }

    /// Forgets nodes that are not among these, and those that have been silent for too long.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool, now: Instant) {
        self.0
            .retain(|name, node| is_there(name) && now.saturating_duration_since(node.heard) < STALE);
    }

    /// Whether there are two readings of any node.
    pub(super) fn can_tell(&self) -> bool {
        self.0
            .values()
            .any(|node| node.node.is_some_and(|pair| pair.before.is_some()))
    }

    /// Whether there are two readings of all that have answered, and any have.
    pub(super) fn is_complete(&self) -> bool {
        let told_twice = |node: &OfNode| node.node.is_some_and(|pair| pair.before.is_some());
        !self.0.is_empty() && self.0.values().all(told_twice)
    }

    pub(super) fn node(&self, name: &str) -> Option<Rate> {
        self.0.get(name)?.node?.rate()
    }

    /// Of each container of a pod; none unless all are known, or else half a pod would be taken for all of it.
    pub(super) fn pod<'a>(&'a self, node: &str, name: &NamespacedName) -> Vec<(&'a str, Rate)> {
        let containers = self.0.get(node).and_then(|node| node.pods.get(name));
        let rate = |(name, pair): &'a (Box<str>, Pair)| Some((&**name, pair.rate()?));
        let rates = containers.map(|containers| containers.iter().map(rate).collect::<Option<Vec<_>>>());
        rates.flatten().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn point(at: i64, started: Option<i64>, cpu: u64) -> Point {
        Point {
            at: at * S,
            started: started.map(|started| started * S),
            cpu: cpu * 1_000_000,
            memory: 7,
        }
    }

    fn rate(pair: &Pair) -> Option<(u64, u64)> {
        pair.rate()
            .map(|rate| (rate.cpu / 1_000_000, rate.window / 1_000_000_000))
    }

    #[test]
    fn two_readings_make_a_rate() {
        let first = Pair::next(None, point(100, Some(1), 5000));
        assert_eq!(rate(&first), None, "an average since the start is not what is used now");
        let second = Pair::next(Some(&first), point(115, Some(1), 5300));
        assert_eq!(rate(&second), Some((20, 15)));
        let same = Pair::next(Some(&second), point(115, Some(1), 5300));
        assert_eq!(rate(&same), Some((20, 15)));
        let third = Pair::next(Some(&same), point(125, Some(1), 5300));
        assert_eq!(rate(&third), Some((0, 10)));
    }

    #[test]
    fn what_started_between_two_readings_is_measured_from_its_start() {
        let young = Pair::next(None, point(100, Some(95), 10));
        assert_eq!(rate(&young), None);
        let settled = Pair::next(None, point(100, Some(80), 1000));
        assert_eq!(rate(&settled), Some((50, 20)));
        let restarted = Pair::next(Some(&settled), point(115, Some(105), 100));
        assert_eq!(rate(&restarted), Some((10, 10)));
        let just_restarted = Pair::next(Some(&settled), point(115, Some(110), 100));
        assert_eq!(rate(&just_restarted), None);
    }

    #[test]
    fn a_counter_that_falls_tells_nothing() {
        let first = Pair::next(None, point(100, None, 5000));
        let second = Pair::next(Some(&first), point(115, None, 4000));
        assert_eq!(rate(&second), None);
        let third = Pair::next(Some(&second), point(125, None, 4100));
        assert_eq!(rate(&third), Some((10, 10)));
    }

    fn reading(at: i64, containers: &[&str]) -> Reading {
        let name = NamespacedName::new("a", "p");
        let containers = containers.iter().map(|name| ((*name).into(), point(at, Some(1), 10)));
        Reading {
            node: Some(point(at, None, 10)),
            pods: [(name, containers.collect())].into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_pod_is_none_and_what_is_gone_is_forgotten() {
        let (mut history, name) = (History::default(), NamespacedName::new("a", "p"));
        let now = Instant::now();
        history.take("n", reading(100, &["x"]), now);
        assert!(!history.can_tell() && history.pod("n", &name).is_empty());
        history.take("n", reading(115, &["x"]), now);
        assert!(history.can_tell() && history.is_complete());
        assert_eq!(history.pod("n", &name).len(), 1);
        assert!(history.pod("m", &name).is_empty(), "another node says nothing of it");
        history.take("n", reading(130, &["x", "y"]), now);
        assert!(history.pod("n", &name).is_empty());
        history.take("n", Reading::default(), now);
        assert!(!history.can_tell());
        history.take("n", reading(145, &["x"]), now);
        assert!(history.pod("n", &name).is_empty(), "it has been forgotten");
        history.take("m", reading(145, &["x"]), now);
        assert!(!history.is_complete());
        history.keep(|_| true, now + STALE);
        assert!(history.0.is_empty() && !history.is_complete());
    }
}
