//! How fast a cluster starts on an existing data directory, and what it weighs when idle.

use std::time::{Duration, Instant};

use e2e::{Cluster, Options, repository, until};

use crate::{
    figures::{Durations, print},
    processes,
};

/// After the example is available, until the cluster is idle and has given back what only starting needs.
const SETTLE: Duration = Duration::from_secs(60);

/// Starts one data directory `runs` times and prints the figures; then the memory of the idle cluster with the example.
pub(crate) fn measure(runs: usize) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Options::default());
    let (mut readyz, mut ready) = (Durations::default(), Durations::default());
    for _ in 0..runs {
        cluster.stop();
        let start = Instant::now();
        cluster.launch();
        until("/readyz answers", Duration::from_secs(30), || {
            let answer = cluster.curl_insecure("https://127.0.0.1:6443/readyz");
            if answer.success { Ok(()) } else { Err(answer.stderr) }
        });
        readyz.push(start.elapsed());
        cluster.wait_ready();
        ready.push(start.elapsed());
    }
    print(format!("start readyz runs={runs} {}", readyz.summary()));
    print(format!("start node_ready runs={runs} {}", ready.summary()));
    idle(&cluster);
    Ok(())
}

fn idle(cluster: &Cluster) {
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    let manifests = repository().join("examples/hello");
    cluster
        .kubectl(&["apply", "-f", manifests.to_str().expect("a path in UTF-8")])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    processes::leave(SETTLE);
    let (mut rss, mut pss) = (0, 0);
    for process in processes::of_binary(&e2e::binary()) {
        let held = processes::memory(process.pid);
        rss += held.rss;
        pss += held.pss;
        print(format!(
            "idle process pid={} rss_kb={} pss_kb={} anonymous_kb={} command={:?}",
            process.pid, held.rss, held.pss, held.anonymous, process.command
        ));
    }
    print(format!("idle total rss_kb={rss} pss_kb={pss}"));
}
