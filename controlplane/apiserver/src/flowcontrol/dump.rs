//! Flow control as it is, for people (`/debug/api_priority_and_fairness/`, Kubernetes' three tables) and for Prometheus.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::FlowControl;
use super::level::Level;
use super::queues::Work;

const LEVELS: &str = "PriorityLevelName ActiveQueues IsIdle IsQuiescing WaitingRequests ExecutingRequests \
    DispatchedRequests RejectedRequests TimedoutRequests CancelledRequests";
const QUEUES: &str = "PriorityLevelName Index PendingRequests ExecutingRequests SeatsInUse NextDispatchR \
    InitialSeatsSum MaxSeatsSum TotalWorkSum";
const REQUESTS: &str = "PriorityLevelName FlowSchemaName QueueIndex RequestIndexInQueue FlowDistingsher ArriveTime \
    InitialSeats FinalSeats AdditionalLatency StartTime";
/// Of a column, as Kubernetes sets them.
const NARROWEST: usize = 8;

/// The text of one of the tables; `None` for any other name.
pub(crate) fn dump(flow: &FlowControl, name: &str, now: Timestamp) -> Option<String> {
    let config = flow.config.load();
    let mut levels = config.levels.clone();
    levels.sort_by(|a, b| a.name.cmp(&b.name));
    let (head, rows): (&str, Vec<Vec<String>>) = match name {
        "dump_priority_levels" => (LEVELS, levels.iter().map(|level| of_level(level)).collect()),
        "dump_queues" => (QUEUES, levels.iter().flat_map(of_queues).collect()),
        "dump_requests" => (
            REQUESTS,
            levels.iter().flat_map(|level| of_requests(level, now)).collect(),
        ),
        _ => return None,
    };
    let head = head.split_whitespace().map(str::to_owned).collect();
    Some(table(std::iter::once(head).chain(rows).collect()))
}

fn of_level(level: &Level) -> Vec<String> {
    let queues = level.queues.lock();
    let [waiting, executing, ..] = queues.load();
    let active = queues.views().filter(|queue| !queue.waiting.is_empty()).count();
    let counts = queues.counts;
    vec![
        level.name.to_string(),
        active.to_string(),
        queues.is_idle().to_string(),
        level.quiescing.load(Ordering::Relaxed).to_string(),
        waiting.to_string(),
        executing.to_string(),
        counts.dispatched.to_string(),
        counts.rejected.to_string(),
        counts.timed_out.to_string(),
        counts.cancelled.to_string(),
    ]
}

fn of_queues(level: &Arc<Level>) -> Vec<Vec<String>> {
    let queues = level.queues.lock();
    let row = |(nth, queue): (usize, super::queues::View<'_, _>)| {
        let sum = |of: fn(&Work) -> u32| queue.waiting.iter().map(|(_, work)| of(work)).sum::<u32>();
        vec![
            level.name.to_string(),
            nth.to_string(),
            queue.waiting.len().to_string(),
            queue.executing.to_string(),
            queue.seats.to_string(),
            seat_seconds(queue.start),
            sum(|work| work.seats).to_string(),
            sum(Work::most).to_string(),
            seat_seconds(queue.work),
        ]
    };
    queues.views().enumerate().map(row).collect()
}

/// Those who wait; of those who are served only their number is known.
fn of_requests(level: &Arc<Level>, now: Timestamp) -> Vec<Vec<String>> {
    let queues = level.queues.lock();
    let mut rows = Vec::new();
    for (nth, queue) in queues.views().enumerate() {
        for (place, (waiter, work)) in queue.waiting.iter().enumerate() {
            let arrived =
                now.saturating_sub(jiff::SignedDuration::try_from(waiter.since.elapsed()).unwrap_or_default());
            rows.push(vec![
                level.name.to_string(),
                waiter.schema.to_string(),
                nth.to_string(),
                place.to_string(),
                waiter.flow.to_string(),
                arrived.map(|at| at.to_string()).unwrap_or_default(),
                work.seats.to_string(),
                work.final_seats.to_string(),
                format!("{}ms", work.lingers / 1_000_000),
                "0001-01-01T00:00:00Z".to_owned(),
            ]);
        }
    }
    rows
}

fn seat_seconds(nanoseconds: u128) -> String {
    let parts = nanoseconds / 10;
    format!("{}.{:08}ss", parts / 100_000_000, parts % 100_000_000)
}

/// Columns side by side, each as wide as its widest cell.
fn table(rows: Vec<Vec<String>>) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |nth: usize| {
        let cells = rows.iter().filter_map(|row| row.get(nth));
        cells
            .map(|cell| cell.len() + 2)
            .max()
            .unwrap_or_default()
            .max(NARROWEST)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (nth, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match nth + 1 == columns {
                true => out.push_str(cell),
                false => {
                    let _ = write!(out, "{:<width$}", format!("{cell},"));
                }
            }
        }
        out.push('\n');
    }
    out
}

/// Metrics in Prometheus' text format, named as Kubernetes names them.
pub(crate) fn metrics(flow: &FlowControl) -> String {
    let config = flow.config.load();
    let mut out = String::new();
    let head = |out: &mut String, name: &str, kind: &str, help: &str| {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    };
    type Of = fn(&Level) -> u64;
    let gauges: [(&str, &str, Of); 8] = [
        ("current_inqueue_requests", "Requests that wait", |l| {
            u64::from(load(l, 0))
        }),
        ("current_executing_requests", "Requests that are served", |l| {
            u64::from(load(l, 1))
        }),
        ("current_executing_seats", "Seats that are taken", |l| {
            u64::from(load(l, 3))
        }),
        ("nominal_limit_seats", "Seats by a level's shares", |l| {
            u64::from(l.setting.lock().bounds.nominal)
        }),
        ("lower_limit_seats", "Seats that a level does not lend", |l| {
            u64::from(l.setting.lock().bounds.least)
        }),
        ("upper_limit_seats", "Seats that a level may come to have", |l| {
            u64::from(l.setting.lock().bounds.most)
        }),
        ("current_limit_seats", "Seats that a level has now", |l| {
            u64::from(l.queues.lock().limit())
        }),
        ("demand_seats_high_watermark", "The most seats asked for lately", |l| {
            l.setting.lock().seen.map_or(0, |seen| u64::from(seen.most))
        }),
    ];
    for (name, help, of) in gauges {
        let name = format!("apiserver_flowcontrol_{name}");
        head(&mut out, &name, "gauge", help);
        for level in &config.levels {
            let _ = writeln!(out, "{name}{{priority_level=\"{}\"}} {}", level.name, of(level));
        }
    }
    type Seen = fn(&super::demand::Seen) -> f64;
    let demands: [(&str, &str, Seen); 3] = [
        ("demand_seats_average", "Seats asked for on average lately", |seen| {
            seen.average
        }),
        ("demand_seats_stdev", "How much that varied", |seen| seen.deviation),
        ("demand_seats_smoothed", "Seats asked for, smoothed", |seen| {
            seen.smoothed
        }),
    ];
    for (name, help, of) in demands {
        let name = format!("apiserver_flowcontrol_{name}");
        head(&mut out, &name, "gauge", help);
        for level in &config.levels {
            let value = level.setting.lock().seen.as_ref().map_or(0.0, of);
            let _ = writeln!(out, "{name}{{priority_level=\"{}\"}} {value}", level.name);
        }
    }
    for (name, help) in [
        ("dispatched_requests_total", "Requests that were let through"),
        ("rejected_requests_total", "Requests that were refused"),
    ] {
        let full = format!("apiserver_flowcontrol_{name}");
        head(&mut out, &full, "counter", help);
        for schema in &config.schemas {
            let counter = if name.starts_with('d') {
                &schema.dispatched
            } else {
                &schema.rejected
            };
            let count = counter.load(Ordering::Relaxed);
            let (schema, level) = (&schema.name, &schema.level.name);
            let _ = writeln!(
                out,
                "{full}{{flow_schema=\"{schema}\",priority_level=\"{level}\"}} {count}"
            );
        }
    }
    out
}

fn load(level: &Level, nth: usize) -> u32 {
    level.queues.lock().load().get(nth).copied().unwrap_or_default()
}
