//! Tells of pods that have as many processes as they may: the kernel refuses them more, which the pods may not say.
//!
//! Every pod of containers has a limit ([`cgroups::pod_pids`](crate::cgroups::pod_pids)), so that one that forks without end
//! leaves the node and the others their processes. The kernel counts what it refused; a count that grew is told by an event.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{events::PodEvents, pod::Pod, shared::Shared};

const PERIOD: Duration = Duration::from_secs(10);

/// What was counted last, by the pod's UID.
type Counts = HashMap<Arc<str>, u64>;

/// Looks until `shutdown`; where pods have no cgroups there is nothing to look at.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let Some(cgroups) = shared.cgroups.clone() else {
        return;
    };
    let mut known = Counts::new();
    while shutdown.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        let pods = shared.pods.list().into_iter().map(|(_, pod)| pod);
        let active: Vec<Arc<Pod>> = pods.filter(|pod| !pod.status.phase.is_terminal()).collect();
        let (counters, asked) = (cgroups.clone(), active.clone());
        let counting = crate::blocking::run(move || {
            let counts = asked
                .iter()
                .map(|pod| (pod.metadata.uid.clone(), counters.refused_processes(pod)));
            counts.collect::<Counts>()
        });
        let Ok(counts) = counting.await else { continue };
        for pod in active
            .iter()
            .filter(|pod| has_grown(&known, &counts, &pod.metadata.uid))
        {
            let most = cgroups.pod_pids;
            let (recorder, pod) = (&shared.recorder, &**pod);
            let note = format!("The pod has as many processes as it may ({most}); more are refused");
            PodEvents { recorder, pod }.warning(None, "PidLimitReached", note);
        }
        known = counts;
    }
}

/// Whether more was refused than when it was looked last. Pure.
fn has_grown(known: &Counts, now: &Counts, uid: &str) -> bool {
    now.get(uid).copied().unwrap_or_default() > known.get(uid).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grew_is_told() {
        let counts = |count| Counts::from([(Arc::from("u"), count)]);
        let cases = [(0, 3, true), (3, 3, false), (3, 4, true), (4, 0, false)];
        for (known, now, told) in cases {
            assert_eq!(has_grown(&counts(known), &counts(now), "u"), told, "{known} to {now}");
        }
        assert!(has_grown(&Counts::new(), &counts(1), "u") && !has_grown(&counts(1), &Counts::new(), "u"));
    }
}
