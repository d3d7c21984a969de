//! Takes a reading at every step.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Reading, Reported, ring::STEP};
use crate::{server::usage, shared::Shared};

/// Until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let sampling = async {
        loop {
            let now = shared.clock.now().as_nanosecond();
            tokio::time::sleep(until_next(now)).await;
            match read(&shared).await {
                Ok(reading) => shared.history.lock().take(&reading),
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the runtime does not tell its usage"
                ),
            }
        }
    };
    shutdown.run_until_cancelled(sampling).await;
}

/// How long it is to the next step; all nodes take their samples at the same times.
fn until_next(now: i128) -> Duration {
    let step = i128::from(STEP) * 1_000_000_000;
    let passed = now.rem_euclid(step);
    Duration::from_nanos(u64::try_from(step - passed).unwrap_or_default())
}

async fn read(shared: &Shared) -> Result<Reading, cri::Error> {
    let stats = shared.runtime.stats().await?;
    let mut of: HashMap<String, (String, String)> = HashMap::new();
    for (key, pod) in shared.pods.snapshot().iter() {
        let running = shared.running_for(pod);
        let namespace = key.namespace.as_deref().unwrap_or_default();
        of.insert(
            running.metadata.uid.to_string(),
            (namespace.to_owned(), key.name.to_string()),
        );
    }
    let containers = stats.into_iter().filter_map(|stats| {
        let (namespace, pod) = of.get(&stats.pod_uid)?.clone();
        Some(Reported { namespace, pod, stats })
    });
    let containers = containers.collect();
    let node = usage::machine(shared.clock.now());
    Ok(Reading {
        at: node.timestamp,
        node_cpu: node.cpu,
        node_memory: node.memory_used,
        containers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_at_the_same_times_everywhere() {
        let second = 1_000_000_000;
        assert_eq!(until_next(30 * second), Duration::from_secs(15));
        assert_eq!(until_next(44 * second), Duration::from_secs(1));
        assert_eq!(until_next(45 * second - 1), Duration::from_nanos(1));
    }
}
