//! How often which probe gave what, for `/metrics/probes`.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use parking_lot::Mutex;

use super::{Kind, Outcome};
use crate::pod::Pod;

/// A probe of a container and a result of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    namespace: Arc<str>,
    pod: Arc<str>,
    uid: Arc<str>,
    container: String,
    kind: &'static str,
    result: &'static str,
}

/// The counts of this kubelet's pods.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<Key, u64>>);

impl Tally {
    /// Counts one run.
    pub(crate) fn add(&self, pod: &Pod, container: &str, kind: Kind, outcome: &Outcome) {
        let metadata = &pod.metadata;
        let key = Key {
            namespace: metadata.namespace.clone(),
            pod: metadata.name.clone(),
            uid: metadata.uid.clone(),
            container: container.to_owned(),
            kind: kind.title(),
            result: match outcome {
                Outcome::Success => "successful",
                Outcome::Failure(_) => "failed",
                Outcome::Error(_) => "unknown",
            },
        };
        let mut counts = self.0.lock();
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    /// Forgets the pods that are gone.
    pub(crate) fn keep(&self, is_known: impl Fn(&str) -> bool) {
        self.0.lock().retain(|key, _| is_known(&key.uid));
    }

    /// In Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut out =
            "# HELP prober_probe_total Cumulative number of a liveness, readiness or startup probe for a container \
                       by result.\n# TYPE prober_probe_total counter\n"
                .to_owned();
        for (key, count) in &*self.0.lock() {
            // A String takes all.
            let _ = writeln!(
                out,
                "prober_probe_total{{container=\"{}\",namespace=\"{}\",pod=\"{}\",pod_uid=\"{}\",probe_type=\"{}\",\
                 result=\"{}\"}} {count}",
                key.container, key.namespace, key.pod, key.uid, key.kind, key.result
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_by_result_and_forgets_what_is_gone() {
        let pod = json!({"metadata": {"name": "p", "namespace": "a", "uid": "u"}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let tally = Tally::default();
        tally.add(&pod, "c", Kind::Readiness, &Outcome::Failure("no".to_owned()));
        tally.add(&pod, "c", Kind::Readiness, &Outcome::Success);
        tally.add(&pod, "c", Kind::Readiness, &Outcome::Success);
        let own = "container=\"c\",namespace=\"a\",pod=\"p\",pod_uid=\"u\",probe_type=\"Readiness\"";
        let text = tally.text();
        assert!(
            text.contains(&format!("prober_probe_total{{{own},result=\"failed\"}} 1\n")),
            "{text}"
        );
        assert!(
            text.contains(&format!("prober_probe_total{{{own},result=\"successful\"}} 2\n")),
            "{text}"
        );
        tally.keep(|uid| uid != "u");
        assert_eq!(tally.text().lines().count(), 2);
    }
}
