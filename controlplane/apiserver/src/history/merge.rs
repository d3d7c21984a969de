//! What several nodes tell of the same thing, added up; and what people read of columns: figures as they are, the histogram
//! of requests as quantiles. Pure.
//!
//! A figure that this server has never heard of is passed on like the others.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// What a kubelet tells.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Told {
    /// Seconds between samples, which are taken at multiples of it.
    pub(super) step: u64,
    /// When the last sample was taken, and the first one that there is; seconds since the epoch.
    pub(super) end: u64,
    pub(super) since: u64,
    pub(super) series: Vec<Named>,
}

/// Of a container, or (without a name) of everything that was asked for.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) columns: Columns,
}

/// Samples by figure, the last one last.
pub(super) type Columns = BTreeMap<String, Vec<Option<f64>>>;

/// Places of the histogram: how many requests in a second took up to so many microseconds, and more than the place before.
const PLACE: &str = "latency:";
/// What is told of the histogram.
const QUANTILES: [(&str, f64); 2] = [("latencyP50", 0.5), ("latencyP99", 0.99)];
/// Steps by which the newest samples of nodes may differ, since one was asked a moment before the other.
const LATE: u64 = 2;

/// Samples of one figure, whatever a node claims.
const MOST: usize = 3600;

/// The sum of what nodes tell. One whose clock is ahead of `now`, in seconds since the epoch, is passed over: it would make
/// the others look as if they had stopped.
pub(super) fn sum(mut told: Vec<Told>, now: u64) -> Option<Told> {
    let like = |step: u64| told.iter().filter(|one| one.step == step).count();
    let step = told.iter().map(|one| one.step).max_by_key(|step| like(*step))?.max(1);
    let ahead = now.saturating_add(step.saturating_mul(LATE));
    told.retain(|one| one.step == step && one.end <= ahead);
    if told.len() == 1 {
        return told.pop();
    }
    // A sample that some have not yet taken would look like a fall.
    let newest = told.iter().map(|one| one.end).max()?;
    let current = told
        .iter()
        .map(|one| one.end)
        .filter(|end| end.saturating_add(step.saturating_mul(LATE)) >= newest);
    let end = current.min()?;
    let since = told.iter().map(|one| one.since).min()?;
    let names: BTreeSet<&str> = told
        .iter()
        .flat_map(|one| &one.series)
        .map(|named| &*named.name)
        .collect();
    let series = names.iter().map(|name| Named {
        name: (*name).to_owned(),
        columns: columns_of(&told, name, end, step),
    });
    Some(Told {
        step,
        end,
        since,
        series: series.collect(),
    })
}

fn columns_of(told: &[Told], name: &str, end: u64, step: u64) -> Columns {
    let mut columns: BTreeMap<&str, Vec<Option<f64>>> = BTreeMap::new();
    for one in told {
        // Counted from the end, which is another for each.
        let surplus = usize::try_from(one.end.saturating_sub(end) / step).unwrap_or_default();
        let lacking = usize::try_from(end.saturating_sub(one.end) / step).unwrap_or_default();
        for (column, samples) in one
            .series
            .iter()
            .filter(|named| named.name == name)
            .flat_map(|named| &named.columns)
        {
            let sum = columns.entry(column).or_default();
            for (place, sample) in samples.iter().rev().skip(surplus).enumerate() {
                let place = place.saturating_add(lacking);
                if place >= MOST {
                    break;
                }
                if sum.len() <= place {
                    sum.resize(place + 1, None);
                }
                if let (Some(sum), Some(sample)) = (sum.get_mut(place), sample) {
                    *sum = Some(sum.unwrap_or_default() + sample);
                }
            }
        }
    }
    let turned = columns.into_iter().map(|(column, mut samples)| {
        samples.reverse();
        (column.to_owned(), samples)
    });
    turned.collect()
}

/// What is read of columns.
pub(super) fn metrics(columns: &Columns) -> Columns {
    let (places, plain): (Columns, Columns) = columns
        .clone()
        .into_iter()
        .partition(|(name, _)| name.starts_with(PLACE));
    let mut metrics = plain;
    if places.is_empty() {
        return metrics;
    }
    let bound = |name: &str| name.strip_prefix(PLACE)?.parse::<f64>().ok();
    let mut histogram: Vec<(f64, Vec<Option<f64>>)> = places
        .into_iter()
        .filter_map(|(name, samples)| Some((bound(&name)?, samples)))
        .collect();
    histogram.sort_by(|a, b| a.0.total_cmp(&b.0));
    let longest = histogram
        .iter()
        .map(|(_, samples)| samples.len())
        .max()
        .unwrap_or_default();
    for (name, share) in QUANTILES {
        let samples = (0..longest).map(|at| {
            let counts = histogram.iter().map(|(bound, samples)| {
                let from_end = longest - at;
                let place = samples.len().checked_sub(from_end);
                let count = place.and_then(|place| samples.get(place).copied().flatten());
                (*bound, count.unwrap_or_default())
            });
            quantile(&counts.collect::<Vec<_>>(), share)
        });
        metrics.insert(name.to_owned(), samples.collect());
    }
    metrics
}

/// Within which time, in seconds, a share of the requests was answered, as Prometheus' `histogram_quantile` has it; `None`:
/// there were none.
fn quantile(histogram: &[(f64, f64)], share: f64) -> Option<f64> {
    let all: f64 = histogram.iter().map(|(_, count)| count).sum();
    if all <= 0.0 {
        return None;
    }
    let (mut below, mut sum) = (0.0, 0.0);
    for (bound, count) in histogram {
        if sum + count >= share * all && *count > 0.0 {
            // Of those above all bounds nothing more is known.
            let within = if bound.is_finite() { bound - below } else { 0.0 };
            let microseconds = below + within * ((share * all - sum) / count).clamp(0.0, 1.0);
            return Some((microseconds * 10.0).round() / 1e7);
        }
        sum += count;
        below = if bound.is_finite() { *bound } else { below };
    }
    Some(below / 1e6)
}
