//! What is told of the last hour, as JSON between this and the API server: columns that add up, sample by sample.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    History, Kept, Pod, columns,
    ring::{KEPT, STEP, Span, Tick},
};

/// Of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Node,
    Namespace(String),
    /// Namespace and name.
    Pod(String, String),
}

/// The answer.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    /// Seconds between samples.
    step: u64,
    /// When the last sample was taken, in seconds since the epoch; samples are taken at multiples of the step.
    end: u64,
    /// When the first one was that there may be here.
    since: u64,
    series: Vec<Named>,
}

/// The figures of a node, a namespace, or one container of a pod.
#[derive(Debug, PartialEq, Serialize)]
struct Named {
    /// Empty but for containers.
    name: String,
    /// The samples of each figure that there was, the last one last.
    columns: BTreeMap<String, Vec<Option<f64>>>,
}

impl History {
    /// Tells of a scope, so many seconds back; `None`: there is nothing.
    pub(crate) fn tell(&self, scope: &Scope, seconds: u64) -> Option<Told> {
        let span = self.span?;
        let samples = (seconds.div_ceil(STEP)).clamp(1, KEPT as u64);
        let from = (span.last + 1).saturating_sub(samples).max(span.first);
        let named = |name: &str, kept: &Kept| Named {
            name: name.to_owned(),
            columns: columns_of(kept, from, span.last),
        };
        let series = match scope {
            Scope::Node => vec![named("", &self.node)],
            Scope::Namespace(namespace) => vec![named("", self.namespaces.get(namespace)?)],
            Scope::Pod(namespace, pod) => {
                let Pod { containers, .. } = self.pods.get(&(namespace.clone(), pod.clone()))?;
                let of = containers.iter().map(|(name, container)| named(name, &container.kept));
                of.collect()
            }
        };
        Some(Told {
            step: STEP,
            end: span.last * STEP,
            since: first(span) * STEP,
            series,
        })
    }
}

/// The earliest tick that may still be held.
fn first(span: Span) -> Tick {
    span.first.max((span.last + 1).saturating_sub(KEPT as Tick))
}

fn columns_of(kept: &Kept, from: Tick, last: Tick) -> BTreeMap<String, Vec<Option<f64>>> {
    let Some(span) = kept.span else { return BTreeMap::new() };
    let told = kept.series.iter().enumerate().map(|(column, series)| {
        let samples = (from..=last).map(|tick| series.at(span, tick).map(short));
        (columns::name(column), samples.collect::<Vec<_>>())
    });
    told.filter(|(_, samples)| samples.iter().any(Option::is_some))
        .collect()
}

/// Four digits, which are more than is known.
fn short(value: f32) -> f64 {
    let value = f64::from(value);
    if value == 0.0 {
        return 0.0;
    }
    let scale = 10_f64.powi(3 - value.log10().floor() as i32);
    match scale > 1.0 {
        true => (value * scale).round() / scale,
        false => value.round(),
    }
}
