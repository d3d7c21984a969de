//! Which figures are kept of containers: one row each. All of them add up, so that pods, namespaces, nodes and the cluster
//! are sums of what containers have.

use cri::{ContainerStats, Latencies};

/// A figure.
pub(crate) struct Column {
    /// As it is told: letters, and for one place of the histogram of requests `latency:` and its bound in microseconds.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// `None` of a container that has no such figure.
    read: fn(&ContainerStats) -> Option<f64>,
}

/// How a figure moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is as it is told.
    Gauge,
    /// It only grows; what is kept is its growth in a second.
    Counter,
}

const fn gauge(name: &'static str, read: fn(&ContainerStats) -> Option<f64>) -> Column {
    let kind = Kind::Gauge;
    Column { name, kind, read }
}

const fn counter(name: &'static str, read: fn(&ContainerStats) -> Option<f64>) -> Column {
    let kind = Kind::Counter;
    Column { name, kind, read }
}

/// Of all containers first, then of Wasm containers.
pub(super) const COLUMNS: [Column; 7] = [
    // In cores.
    counter("cpu", |stats| Some(stats.cpu_usage_core_nanoseconds as f64 / 1e9)),
    gauge("memory", |stats| Some(stats.memory_working_set_bytes as f64)),
    gauge("instances", |stats| stats.wasm.as_ref().map(|_| stats.instances as f64)),
    counter("requests", |stats| stats.wasm.as_ref().map(|_| stats.requests as f64)),
    counter("coldStarts", |stats| Some(stats.wasm.as_ref()?.cold_starts as f64)),
    counter("traps", |stats| Some(stats.wasm.as_ref()?.traps as f64)),
    gauge("code", |stats| Some(stats.wasm.as_ref()?.code_bytes as f64)),
];
/// Where those are that the node tells of itself.
pub(super) const CPU: usize = 0;
pub(super) const MEMORY: usize = 1;

/// How many there are, with the places of the histogram behind them.
pub(super) const ALL: usize = COLUMNS.len() + Latencies::BOUNDS.len() + 1;

/// Values of all columns.
pub(super) type Values = [Option<f64>; ALL];

/// What a column is called.
pub(super) fn name(column: usize) -> String {
    match COLUMNS.get(column) {
        Some(column) => column.name.to_owned(),
        None => match Latencies::BOUNDS.get(column - COLUMNS.len()) {
            Some(bound) => format!("latency:{bound}"),
            None => "latency:inf".to_owned(),
        },
    }
}

/// Whether a column is left out where it is zero.
pub(super) fn is_sparse(column: usize) -> bool {
    column >= COLUMNS.len()
}

pub(super) fn kind(column: usize) -> Kind {
    COLUMNS.get(column).map_or(Kind::Counter, |column| column.kind)
}

/// Reads all of them.
pub(super) fn read(stats: &ContainerStats) -> Values {
    let mut values = [None; ALL];
    let latency = stats.wasm.iter().flat_map(|wasm| &wasm.latency.counts);
    let read = COLUMNS.iter().map(|column| (column.read)(stats));
    let read = read.chain(latency.map(|count| Some(*count as f64)));
    values.iter_mut().zip(read).for_each(|(value, read)| *value = read);
    values
}
