//! Two clusters on one machine: neither takes what the other has, and the end of one leaves the other alone.

use e2e::{Cluster, Options, need_root, repository, run};

fn deploy(cluster: &Cluster) -> String {
    let example = repository().join("examples/hello");
    cluster.load(&example.join("hello.wasm"), "hello:1").ok();
    cluster
        .kubectl(&["apply", "-f", example.to_str().expect("a path in UTF-8")])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    let address = "jsonpath={.spec.clusterIP}";
    format!(
        "http://{}/",
        cluster.kubectl(&["get", "service", "hello", "-o", address]).ok()
    )
}

fn pods(cluster: &Cluster) -> String {
    let ids = "jsonpath={.items[*].status.containerStatuses[*].containerID}";
    cluster.kubectl(&["get", "pods", "-o", ids]).ok()
}

#[test]
fn two_clusters_share_a_machine() {
    need_root!();
    let one = Cluster::start(Options::default());
    let url = deploy(&one);
    let before = pods(&one);

    let ranges = ["--cluster-cidr", "10.32.0.0/13", "--service-cidr", "10.97.0.0/16"];
    for (arguments, flag) in [
        (&ranges[..0], "--cluster-cidr"),
        (&ranges[..2], "--service-cidr"),
        (&ranges[..], "--service-node-port-range"),
    ] {
        let refused = one.beside(Options::default());
        let mut up = refused.wherry("up");
        let said = run(up.args(["--api-bind", "127.0.0.1:6444"]).args(arguments), "").err();
        let complaint: Vec<&str> = said.lines().filter(|line| line.starts_with("wherry:")).collect();
        assert!(matches!(&*complaint, [line] if line.ends_with(flag)), "{said}");
    }

    let arguments = ranges.iter().chain(&["--service-node-port-range", "20000-20999"]);
    let mut two = one.beside(Options {
        arguments: arguments.map(|word| (*word).to_owned()).collect(),
        ..Options::default()
    });
    two.up();
    let other_url = deploy(&two);
    assert_ne!(url, other_url);
    for (cluster, url) in [(&one, &url), (&two, &other_url)] {
        assert!(cluster.curl(url).ok().contains("hello"), "{url}");
    }
    let users = |cluster: &Cluster| -> Vec<u32> {
        let user = |pid: u32| {
            std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}")).expect("it runs"))
        };
        cluster.processes("sandbox-host").into_iter().map(user).collect()
    };
    assert!(!users(&one).is_empty() && users(&one).iter().all(|user| !users(&two).contains(user)));

    run(&mut two.wherry("down"), "").ok();
    assert!(two.ended());
    assert!(two.processes("sandbox-host").is_empty());
    one.curl(&url).ok();
    assert!(!one.curl(&other_url).success, "nothing of the other cluster is left");
    assert_eq!(pods(&one), before);
}
