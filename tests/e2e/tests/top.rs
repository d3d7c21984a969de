//! `kubectl top` and whoever else reads `metrics.k8s.io`: OCI and Wasm containers alike, by two versions of kubectl.

use std::time::Duration;

use e2e::{Cluster, Options, Tool, need_root, oci::Image, repository, until};

const TOOLS: [Tool; 2] = [Tool::Kubectl132, Tool::Kubectl136];
/// Two readings of everything, the first of which may come late on a busy machine.
const MEASURED: Duration = Duration::from_secs(90);

/// A pod with a busy OCI container, one with a busy Wasm container; each may take a fifth of a core.
const BUSY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: oci, labels: {kind: oci}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: busy
    image: tools:1
    imagePullPolicy: Never
    command: [sh, -c, "while :; do :; done"]
    resources: {limits: {cpu: 200m, memory: 32Mi}}
  - name: idle
    image: tools:1
    imagePullPolicy: Never
    command: [sleep, "1000000"]
---
apiVersion: v1
kind: Pod
metadata: {name: wasm, labels: {kind: wasm}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: busy
    image: spin:1
    imagePullPolicy: Never
    resources: {limits: {cpu: 200m, memory: 32Mi}}
"#;

fn top(cluster: &Cluster, tool: Tool, arguments: &[&str]) -> Vec<Vec<String>> {
    let text = cluster.kubectl_with(tool, &[&["top"], arguments].concat(), "").ok();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    text.lines().map(words).collect()
}

/// Thousandths of a core.
fn milli(word: &str) -> u64 {
    word.trim_end_matches('m')
        .parse()
        .unwrap_or_else(|_| panic!("{word} is no amount"))
}

#[test]
fn top_tells_of_containers_of_both_kinds() {
    need_root!();
    let cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    cluster
        .load(&repository().join("tests/workloads/spin.wasm"), "spin:1")
        .ok();
    let early = cluster.kubectl(&["top", "node"]);
    assert!(
        early.success || early.stderr.contains("ServiceUnavailable"),
        "{early:?}"
    );
    cluster.apply(BUSY).ok();
    cluster
        .kubectl(&["wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    until("all are measured", MEASURED, || {
        let told = cluster.kubectl(&["top", "pod", "--no-headers"]);
        match told.success && told.stdout.lines().count() == 2 {
            true => Ok(()),
            false => Err(format!("{told:?}")),
        }
    });
    for tool in TOOLS {
        let pods = top(&cluster, tool, &["pod", "--containers", "--sort-by=cpu"]);
        assert_eq!(pods[0], ["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"], "{tool:?}");
        let busy = |pod: &str| {
            pods.iter()
                .find(|row| row[0] == pod && row[1] == "busy")
                .expect("a row")
                .clone()
        };
        for pod in ["oci", "wasm"] {
            let used = milli(&busy(pod)[2]);
            assert!((50..=260).contains(&used), "{tool:?} {pod}: {used}m of a limit of 200m");
        }
        let idle = pods.iter().find(|row| row[1] == "idle").expect("a row");
        assert!(milli(&idle[2]) < 20, "{idle:?}");
        let nodes = top(&cluster, tool, &["node"]);
        assert_eq!(nodes.len(), 2, "{nodes:?}");
        assert!(
            milli(&nodes[1][1]) > 100 && nodes[1][2].ends_with('%') && nodes[1][3].ends_with("Mi"),
            "{nodes:?}"
        );
        let everywhere = top(&cluster, tool, &["pod", "-A", "--sum", "--sort-by=memory"]);
        assert_eq!(everywhere[0][0], "NAMESPACE", "{everywhere:?}");
        assert!(
            everywhere.iter().filter(|row| row[0] == "default").count() == 2,
            "{everywhere:?}"
        );
        let chosen = top(&cluster, tool, &["pod", "-l", "kind=wasm", "--no-headers"]);
        assert!(chosen.len() == 1 && chosen[0][0] == "wasm", "{chosen:?}");
        let one = top(&cluster, tool, &["pod", "oci", "--no-headers"]);
        assert_eq!(one.len(), 1, "{one:?}");
    }
    let none = cluster.kubectl(&["top", "pod", "none"]).err();
    assert!(none.contains("pods \"none\" not found"), "{none}");
    let table = cluster.kubectl(&["get", "pods.metrics.k8s.io"]).ok();
    let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(head, ["NAME", "CPU", "MEMORY", "WINDOW"], "{table}");
    let known = cluster
        .kubectl(&["api-resources", "--api-group=metrics.k8s.io", "-o", "name"])
        .ok();
    assert_eq!(
        known.lines().collect::<Vec<_>>(),
        ["nodes.metrics.k8s.io", "pods.metrics.k8s.io"]
    );
    let explained = cluster.kubectl(&[
        "explain",
        "podmetrics.containers",
        "--api-version=metrics.k8s.io/v1beta1",
    ]);
    assert!(explained.success && explained.stdout.contains("usage"), "{explained:?}");
    let may = |role: &str| {
        cluster
            .kubectl(&[
                "create",
                "clusterrolebinding",
                role,
                "--clusterrole",
                role,
                "--user",
                role,
            ])
            .ok();
        cluster
            .kubectl(&["auth", "can-i", "list", "pods.metrics.k8s.io", "--as", role])
            .stdout
    };
    until("who may view may see", MEASURED, || match may("view").trim() {
        "yes" => Ok(()),
        other => Err(other.to_owned()),
    });
    // What runs on the node tells it by the names that collectors know.
    let node = cluster.get(&["nodes"])["items"][0]["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let raw = |path: &str| {
        cluster
            .kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/{path}")])
            .ok()
    };
    let told = raw("metrics/cadvisor");
    for name in [
        "container_cpu_usage_seconds_total{cpu=\"total\",container=\"busy\"",
        "container_memory_working_set_bytes{container=\"busy\"",
        "container_cpu_cfs_throttled_periods_total{container=\"busy\"",
        "container_network_receive_bytes_total{interface=\"eth0\"",
        "container_network_transmit_packets_total{interface=\"eth0\"",
        "container_fs_usage_bytes{device=\"\",container=\"busy\"",
        "container_fs_limit_bytes{device=\"\",container=\"busy\"",
        "machine_memory_bytes ",
    ] {
        assert!(told.contains(name), "{name} is missing in\n{told}");
    }
    let throttled = told
        .lines()
        .find(|line| line.starts_with("container_cpu_cfs_throttled_periods_total{container=\"busy\""));
    let throttled = throttled.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(
        throttled.is_some_and(|count| count > 0.0),
        "a busy container with a limit is throttled"
    );
}
