//! What the Wasm runtime knows of containers, as Prometheus reads it on `/metrics`: a table, to which a further metric is one
//! row, and the histogram of how long requests took.

use std::fmt::Write;

use cri::{ContainerStats, Latencies, WasmStats};

use super::{
    metrics::{family, labels, seconds},
    usage::{ContainerUsage, Usage},
};

/// A metric: its name, how it moves, what it is, and where it is read.
struct Row {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&ContainerStats, &WasmStats) -> u64,
}

const ROWS: [Row; 6] = [
    Row {
        name: "wherry_wasm_instances",
        kind: "gauge",
        help: "Instances alive now",
        value: |stats, _| stats.instances,
    },
    Row {
        name: "wherry_wasm_memory_bytes",
        kind: "gauge",
        help: "Linear memory and tables of the live instances in bytes",
        value: |stats, _| stats.memory_working_set_bytes,
    },
    Row {
        name: "wherry_wasm_code_bytes",
        kind: "gauge",
        help: "Compiled code in bytes, which containers of the same program share",
        value: |_, wasm| wasm.code_bytes,
    },
    Row {
        name: "wherry_wasm_requests_total",
        kind: "counter",
        help: "Cumulative count of HTTP requests that have come",
        value: |stats, _| stats.requests,
    },
    Row {
        name: "wherry_wasm_cold_starts_total",
        kind: "counter",
        help: "Cumulative count of instances made",
        value: |_, wasm| wasm.cold_starts,
    },
    Row {
        name: "wherry_wasm_traps_total",
        kind: "counter",
        help: "Cumulative count of requests that ended in a trap",
        value: |_, wasm| wasm.traps,
    },
];

const LATENCY: &str = "wherry_wasm_request_duration_seconds";

/// Writes all of it; nothing where no Wasm runs.
pub(super) fn write(out: &mut String, usage: &Usage) -> std::fmt::Result {
    let containers: Vec<(String, &ContainerUsage, &WasmStats)> = usage
        .pods
        .iter()
        .flat_map(|pod| {
            pod.containers.iter().filter_map(move |container| {
                let wasm = container.stats.wasm.as_deref()?;
                let labels = format!("container=\"{}\",{}", container.stats.name, labels(pod));
                Some((labels, container, wasm))
            })
        })
        .collect();
    if containers.is_empty() {
        return Ok(());
    }
    for row in &ROWS {
        family(out, row.name, row.kind, row.help)?;
        for (labels, container, wasm) in &containers {
            writeln!(out, "{}{{{labels}}} {}", row.name, (row.value)(&container.stats, wasm))?;
        }
    }
    family(
        out,
        LATENCY,
        "histogram",
        "From a request's arrival to the beginning of its answer in seconds",
    )?;
    for (labels, _, wasm) in &containers {
        histogram(out, labels, &wasm.latency)?;
    }
    Ok(())
}

fn histogram(out: &mut String, labels: &str, latency: &Latencies) -> std::fmt::Result {
    let mut sum = 0;
    let mut counts = latency.counts.iter();
    for bound in Latencies::BOUNDS {
        sum += counts.next().copied().unwrap_or_default();
        writeln!(
            out,
            "{LATENCY}_bucket{{{labels},le=\"{}\"}} {sum}",
            seconds(bound * 1_000)
        )?;
    }
    sum += counts.next().copied().unwrap_or_default();
    writeln!(out, "{LATENCY}_bucket{{{labels},le=\"+Inf\"}} {sum}")?;
    writeln!(out, "{LATENCY}_sum{{{labels}}} {}", seconds(latency.sum_nanoseconds))?;
    writeln!(out, "{LATENCY}_count{{{labels}}} {sum}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative() {
        let mut latency = Latencies {
            counts: vec![0; Latencies::BOUNDS.len() + 1],
            sum_nanoseconds: 61_000_090_000,
        };
        latency.counts[1] = 2;
        latency.counts[Latencies::BOUNDS.len()] = 1;
        let mut out = String::new();
        histogram(&mut out, "pod=\"a\"", &latency).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], format!("{LATENCY}_bucket{{pod=\"a\",le=\"0.00005\"}} 0"));
        assert_eq!(lines[1], format!("{LATENCY}_bucket{{pod=\"a\",le=\"0.0001\"}} 2"));
        assert_eq!(lines[17], format!("{LATENCY}_bucket{{pod=\"a\",le=\"60\"}} 2"));
        assert_eq!(lines[18], format!("{LATENCY}_bucket{{pod=\"a\",le=\"+Inf\"}} 3"));
        assert_eq!(lines[19], format!("{LATENCY}_sum{{pod=\"a\"}} 61.00009"));
        assert_eq!(lines[20], format!("{LATENCY}_count{{pod=\"a\"}} 3"));
    }

    #[test]
    fn what_was_never_asked_has_a_histogram_of_nothing() {
        let mut out = String::new();
        histogram(&mut out, "", &Latencies::default()).unwrap();
        assert!(out.lines().all(|line| line.ends_with(" 0")), "{out}");
    }
}
