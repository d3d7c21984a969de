//! Pods that misbehave beside one that does not: it goes on answering. How much slower is `bench neighbours`' to say.

use std::time::Duration;

use e2e::{Cluster, Options, need_root, repository, until};

const SOON: Duration = Duration::from_secs(60);
/// Answers that the quiet pod owes while its neighbour makes noise.
const ANSWERS: usize = 30;

fn pod(namespace: &str, name: &str, arguments: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: \
         {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{name}:1', {arguments}resources: {{limits: \
         {{memory: 64Mi}}}}}}]}}\n"
    )
}

fn quiet(cluster: &Cluster) -> String {
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "quiet:1")
        .ok();
    cluster.apply(&pod("default", "quiet", "")).ok();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/quiet", "--timeout=60s"])
        .ok();
    let pod = cluster.get(&["pod", "quiet"]);
    format!("http://{}:8080/", pod["status"]["podIP"].as_str().expect("an address"))
}

#[test]
fn a_quiet_pod_answers_beside_noisy_ones() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    let url = quiet(&cluster);
    cluster.kubectl(&["create", "namespace", "noisy"]).ok();
    let noises = [
        ("spin", "spin.wasm", ""),
        ("hog", "hog.wasm", ""),
        ("sockets", "probe.wasm", "args: [hoard, '10.96.0.1:443'], "),
    ];
    for (name, guest, arguments) in noises {
        cluster
            .load(&repository().join("tests/workloads").join(guest), &format!("{name}:1"))
            .ok();
        cluster.apply(&pod("noisy", name, arguments)).ok();
        until("the noise has begun", SOON, || {
            let pod = cluster.get(&["pod", name, "-n", "noisy"]);
            let status = &pod["status"]["containerStatuses"][0];
            let begun = !status["state"]["running"].is_null() || status["restartCount"].as_i64() > Some(0);
            if begun { Ok(()) } else { Err(pod["status"].to_string()) }
        });
        for _ in 0..ANSWERS {
            cluster.curl(&url).ok();
        }
        cluster
            .kubectl(&["delete", "pod", name, "-n", "noisy", "--timeout=60s"])
            .ok();
    }
    let quiet = cluster.get(&["pod", "quiet"]);
    assert_eq!(quiet["status"]["containerStatuses"][0]["restartCount"], 0);
}
