//! CPU that a cluster of pods which nobody calls takes, without probes and with one per pod every ten seconds.

use std::time::{Duration, Instant};

use crate::{
    figures::print,
    processes::{self, Usage},
    workload,
};

/// After the last pod is Ready, until what follows from that has been done (events, statuses, endpoints).
const SETTLE: Duration = Duration::from_secs(15);

/// Prints the share of one core over `seconds`, for pods with and without a readiness probe.
pub(crate) fn measure(count: usize, seconds: u64) -> anyhow::Result<()> {
    for (probes, readiness) in [("off", None), ("10s", Some("/healthz"))] {
        let cluster = workload::deploy(&workload::component(), readiness);
        workload::scale(&cluster, count)?;
        processes::leave(SETTLE);
        let (before, start) = (Usage::of(&cluster), Instant::now());
        processes::leave(Duration::from_secs(seconds));
        let used = Usage::of(&cluster).since(&before);
        let percent = |used: Duration| used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
        print(format!(
            "idle pods={count} probes={probes} seconds={seconds} core_percent={:.3} agent_percent={:.3} hosts_percent={:.3}",
            percent(used.agent + used.hosts),
            percent(used.agent),
            percent(used.hosts),
        ));
    }
    Ok(())
}
