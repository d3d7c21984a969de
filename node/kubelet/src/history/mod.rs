//! What the node, its namespaces, pods and containers have used in the last hour, for whoever asks without having kept it
//! himself: a sample every fifteen seconds, in memory alone. A new kubelet knows nothing of what was before it.
//!
//! A container costs about two bytes for each sample of a figure that changes, and next to nothing for the others: a
//! thousand idle Wasm pods take half a megabyte, a thousand busy ones six, a thousand of other containers two. A test
//! says so. What the API server makes of it is in `apiserver/src/history`.

mod columns;
mod ring;
mod run;
mod tell;

use std::collections::{BTreeMap, HashMap};

use self::{
    columns::{ALL, CPU, Kind, MEMORY, Values},
    ring::{KEPT, STEP, Series, Span, Tick},
};

pub(crate) use self::{run::run, tell::Scope};

/// Containers of which something is kept; of more than these only the sums are.
const MOST_CONTAINERS: usize = 20_000;
/// Namespaces, likewise.
const MOST_NAMESPACES: usize = 2_000;

/// One reading of everything.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Nanoseconds since the epoch.
    pub(crate) at: i64,
    /// Core-nanoseconds since the machine started.
    pub(crate) node_cpu: u64,
    pub(crate) node_memory: u64,
    pub(crate) containers: Vec<Reported>,
}

/// What a container of a pod has used.
#[derive(Debug)]
pub(crate) struct Reported {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) stats: cri::ContainerStats,
}

/// The last hour.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The tick of the first and the last reading.
    span: Option<Span>,
    node: Kept,
    node_cpu: Option<Counted>,
    namespaces: BTreeMap<String, Kept>,
    pods: BTreeMap<(String, String), Pod>,
}

#[derive(Debug, Default)]
struct Pod {
    uid: String,
    containers: Vec<(String, Container)>,
}

#[derive(Debug, Default)]
struct Container {
    kept: Kept,
    /// The container that was seen last, and its counters.
    id: String,
    counted: Box<[f64]>,
    at: i64,
}

/// A counter, at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counted(f64, i64);

/// The figures of something.
#[derive(Debug, Default)]
struct Kept {
    span: Option<Span>,
    /// By column; those that were never there are left out at the end.
    series: Vec<Series>,
}

impl Kept {
    fn push(&mut self, tick: Tick, values: &Values) {
        let span = self.span.unwrap_or(Span {
            first: tick,
            last: tick - 1,
        });
        let there = values.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        for column in self.series.len()..there {
            self.series.push(match columns::is_sparse(column) {
                true => Series::zero(),
                false => Series::missing(),
            });
        }
        for (series, value) in self.series.iter_mut().zip(values) {
            series.push(span, tick, *value);
        }
        self.span = Some(Span { last: tick, ..span });
    }

    /// Whether there is nothing of the last hour.
    fn is_over(&self, now: Tick) -> bool {
        self.span.is_none_or(|span| span.last + KEPT as Tick <= now)
    }
}

impl Container {
    /// Reads the figures of now: gauges as they are, and how fast counters have grown since `before`.
    fn read(&mut self, stats: &cri::ContainerStats, at: i64, before: Option<i64>) -> Values {
        let told = columns::read(stats);
        let fresh = self.id != stats.id.0;
        // A container that nobody had seen began after the reading before; of one that was there before all readings
        // it is not known how much of its counters is new.
        let since = if fresh { before } else { Some(self.at) };
        let values = std::array::from_fn(|column| match columns::kind(column) {
            Kind::Gauge => told.get(column).copied().flatten(),
            Kind::Counter => {
                let now = told.get(column).copied().flatten()?;
                let earlier = self.counted.get(column).copied().filter(|_| !fresh);
                growth(Counted(earlier.unwrap_or_default(), since?), Counted(now, at))
            }
        });
        let there = told.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.counted = told.iter().take(there).map(|value| value.unwrap_or_default()).collect();
        self.id = stats.id.0.clone();
        self.at = at;
        values
    }
}

/// What a counter has grown in a second.
fn growth(before: Counted, now: Counted) -> Option<f64> {
    let seconds = now.1.checked_sub(before.1).filter(|passed| *passed > 0)? as f64 / 1e9;
    // One that has fallen began anew.
    let grown = if now.0 < before.0 { now.0 } else { now.0 - before.0 };
    Some(grown / seconds)
}

impl History {
    /// Takes a reading. One of the same or an earlier tick than the last is passed over: a clock was set back.
    pub(crate) fn take(&mut self, reading: &Reading) {
        let seconds = u64::try_from(reading.at / 1_000_000_000).unwrap_or_default();
        let tick = seconds / STEP;
        if tick == 0 || self.span.is_some_and(|span| tick <= span.last) {
            return;
        }
        let before = self.node_cpu.map(|counted| counted.1);
        let mut all: Values = [None; ALL];
        let mut by_namespace: HashMap<&str, Values> = HashMap::new();
        let mut room = MOST_CONTAINERS.saturating_sub(self.pods.values().map(|pod| pod.containers.len()).sum());
        for reported in &reading.containers {
            let Some(values) = self.container(reported, tick, (reading.at, before), &mut room) else {
                continue;
            };
            add(&mut all, &values);
            add(by_namespace.entry(&reported.namespace).or_insert([None; ALL]), &values);
        }
        for (namespace, values) in by_namespace {
            let known = self.namespaces.contains_key(namespace);
            if known || self.namespaces.len() < MOST_NAMESPACES {
                self.namespaces
                    .entry(namespace.to_owned())
                    .or_default()
                    .push(tick, &values);
            }
        }
        let cpu = Counted(reading.node_cpu as f64 / 1e9, reading.at);
        let own = [
            (CPU, self.node_cpu.and_then(|before| growth(before, cpu))),
            (MEMORY, Some(reading.node_memory as f64)),
        ];
        for (column, value) in own {
            if let Some(place) = all.get_mut(column) {
                *place = value;
            }
        }
        self.node_cpu = Some(cpu);
        // With nothing to compare with there are no rates, and so no sample.
        if before.is_none() {
            return;
        }
        self.node.push(tick, &all);
        self.span = Some(Span {
            first: self.span.map_or(tick, |span| span.first),
            last: tick,
        });
        self.forget(tick);
    }

    /// The figures of a container, which are kept while there is room; at the first reading of all there are none.
    fn container(
        &mut self,
        reported: &Reported,
        tick: Tick,
        (at, before): (i64, Option<i64>),
        room: &mut usize,
    ) -> Option<Values> {
        let stats = &reported.stats;
        let key = (reported.namespace.clone(), reported.pod.clone());
        let is_new = |pod: &Pod| pod.uid != stats.pod_uid || pod.containers.iter().all(|(name, _)| *name != stats.name);
        if self.pods.get(&key).is_none_or(is_new) {
            // What is not kept has gauges all the same.
            if *room == 0 {
                return Some(Container::default().read(stats, at, None));
            }
            *room -= 1;
        }
        let pod = self.pods.entry(key).or_default();
        if pod.uid != stats.pod_uid {
            *pod = Pod {
                uid: stats.pod_uid.clone(),
                containers: Vec::new(),
            };
        }
        let place = pod.containers.iter().position(|(name, _)| *name == stats.name);
        let place = place.unwrap_or_else(|| {
            pod.containers.push((stats.name.clone(), Container::default()));
            pod.containers.len() - 1
        });
        let (_, container) = pod.containers.get_mut(place)?;
        if container.kept.span.is_some_and(|span| span.last >= tick) {
            return None;
        }
        let values = container.read(stats, at, before);
        before?;
        container.kept.push(tick, &values);
        Some(values)
    }

    /// Forgets what ended an hour ago.
    fn forget(&mut self, now: Tick) {
        for pod in self.pods.values_mut() {
            pod.containers.retain(|(_, container)| !container.kept.is_over(now));
        }
        self.pods.retain(|_, pod| !pod.containers.is_empty());
        self.namespaces.retain(|_, kept| !kept.is_over(now));
    }
}

fn add(sum: &mut Values, values: &Values) {
    for (sum, value) in sum.iter_mut().zip(values) {
        if let Some(value) = value {
            *sum = Some(sum.unwrap_or_default() + value);
        }
    }
}

#[cfg(test)]
mod tests;
