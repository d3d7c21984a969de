//! The main job: a microservice deployed by stock kubectl, answering through its Service, changed, broken and removed. As
//! root, and as a user of the machine who has no privilege at all.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use e2e::{Cluster, Options, Tool, kill, repository, until, with_and_without_root};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(30);

with_and_without_root! {
    answers_by_cluster_ip_and_node_port,
    spreads_requests_over_all_replicas,
    both_kubectl_versions_show_what_users_expect,
    scales_updates_and_rolls_back,
    replaces_a_deleted_pod_and_removes_everything_with_the_manifests,
    follows_logs,
    keeps_serving_while_the_agent_is_dead,
}

fn deployed(options: Options) -> Cluster {
    let cluster = Cluster::start(options);
    let hello = repository().join("examples/hello/hello.wasm");
    cluster.load(&hello, "hello:1").ok();
    cluster.load(&hello, "hello:2").ok();
    cluster.kubectl(&["apply", "-f", &manifests()]).ok();
    rolled_out(&cluster);
    cluster
}

fn manifests() -> String {
    repository().join("examples/hello").display().to_string()
}

fn rolled_out(cluster: &Cluster) {
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
}

fn service_address(cluster: &Cluster) -> String {
    let service = cluster.get(&["service", "hello"]);
    format!(
        "http://{}/",
        service["spec"]["clusterIP"].as_str().expect("a Service has an address")
    )
}

fn jsonpath(cluster: &Cluster, what: &[&str], path: &str) -> String {
    cluster
        .kubectl(&[&["get"], what, &["-o", &format!("jsonpath={path}")]].concat())
        .ok()
}

fn answers_by_cluster_ip_and_node_port(options: Options) {
    let cluster = deployed(options);
    cluster.curl(&service_address(&cluster)).ok();
    let port = jsonpath(&cluster, &["service", "hello"], "{.spec.ports[0].nodePort}");
    cluster.curl(&format!("http://127.0.0.1:{port}/")).ok();
}

fn spreads_requests_over_all_replicas(options: Options) {
    let cluster = deployed(options);
    let address = service_address(&cluster);
    for _ in 0..60 {
        cluster.curl(&address).ok();
    }
    let pods = jsonpath(&cluster, &["pods", "-l", "app=hello"], "{.items[*].metadata.name}");
    let pods: Vec<&str> = pods.split_whitespace().collect();
    assert_eq!(pods.len(), 3);
    for pod in pods {
        until("every replica has served", SOON, || {
            let logs = cluster.kubectl(&["logs", pod]).ok();
            if logs.contains("GET / ") {
                Ok(())
            } else {
                Err(format!("{pod}: {logs}"))
            }
        });
    }
}

fn both_kubectl_versions_show_what_users_expect(options: Options) {
    let cluster = deployed(options);
    for tool in [Tool::Kubectl132, Tool::Kubectl136] {
        let kubectl = |arguments: &[&str]| cluster.kubectl_with(tool, arguments, "").ok();
        let wide = kubectl(&["get", "pods", "-o", "wide"]);
        let head = wide.lines().next().unwrap_or_default();
        let columns: Vec<&str> = head.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        let expected = [
            "NAME",
            "READY",
            "STATUS",
            "RESTARTS",
            "AGE",
            "IP",
            "NODE",
            "NOMINATED NODE",
            "READINESS GATES",
        ];
        assert_eq!(columns, expected);
        assert_eq!(wide.matches("1/1     Running").count(), 3, "{wide}");
        let name = kubectl(&["get", "pods", "-o", "name"])
            .lines()
            .next()
            .expect("a pod")
            .to_owned();
        let described = kubectl(&["describe", &name]);
        for part in [
            "Successfully assigned",
            "Created",
            "Started",
            "Image:",
            "hello:1",
            "Ready ",
            "kube-api-access-",
        ] {
            assert!(described.contains(part), "{part} is missing:\n{described}");
        }
        assert!(kubectl(&["get", "events"]).contains("SuccessfulCreate"));
        assert!(kubectl(&["get", "deploy,rs,svc,cm,secret,sa,ns,nodes,endpointslices,lease", "-A"]).contains("hello"));
        assert!(kubectl(&["explain", "deployment.spec.strategy"]).contains("rollingUpdate"));
        assert!(kubectl(&["api-resources"]).contains("deploy"));
        assert!(kubectl(&["version"]).contains("+wherry"));
        // A Secret written with stringData is always sent again; the server changes nothing.
        let again = kubectl(&["apply", "-f", &manifests()]);
        assert_eq!(again.matches("unchanged").count(), 3, "{again}");
    }
}

fn scales_updates_and_rolls_back(options: Options) {
    let cluster = deployed(options);
    cluster.kubectl(&["scale", "deployment/hello", "--replicas=5"]).ok();
    rolled_out(&cluster);
    assert_eq!(
        jsonpath(&cluster, &["deployment", "hello"], "{.status.readyReplicas}"),
        "5"
    );
    cluster.kubectl(&["scale", "deployment/hello", "--replicas=2"]).ok();
    rolled_out(&cluster);
    cluster
        .kubectl(&["set", "image", "deployment/hello", "hello=hello:2"])
        .ok();
    rolled_out(&cluster);
    let images = |cluster: &Cluster| jsonpath(cluster, &["deployment", "hello"], "{..containers[*].image}");
    assert_eq!(images(&cluster), "hello:2");
    cluster.kubectl(&["rollout", "undo", "deployment/hello"]).ok();
    rolled_out(&cluster);
    assert_eq!(images(&cluster), "hello:1");
    cluster.curl(&service_address(&cluster)).ok();
}

fn replaces_a_deleted_pod_and_removes_everything_with_the_manifests(options: Options) {
    let cluster = deployed(options);
    let names = || jsonpath(&cluster, &["pods", "-l", "app=hello"], "{.items[*].metadata.name}");
    let first = names().split_whitespace().next().expect("a pod").to_owned();
    cluster.kubectl(&["delete", "pod", &first, "--timeout=60s"]).ok();
    rolled_out(&cluster);
    assert!(!names().contains(&first));
    let address = service_address(&cluster);
    cluster.kubectl(&["delete", "-f", &manifests(), "--timeout=60s"]).ok();
    until("the pods are gone", SOON, || {
        let left = cluster.kubectl(&["get", "pods", "-o", "name"]).ok();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert!(
        !cluster.curl(&address).success,
        "the Service's address must not answer any more"
    );
}

fn follows_logs(options: Options) {
    let cluster = deployed(options);
    let mut follower = cluster
        .kubectl_command(&["logs", "-f", "deployment/hello", "--all-pods=true"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("stdout is piped"))
        .lines()
        .map_while(Result::ok);
    cluster.curl(&service_address(&cluster)).ok();
    let seen = lines.any(|line| line.contains("GET / "));
    kill(follower.id(), Signal::SIGTERM);
    let _ = follower.wait();
    assert!(seen, "the request's line arrives while following");
}

fn keeps_serving_while_the_agent_is_dead(options: Options) {
    let mut cluster = deployed(options);
    let address = service_address(&cluster);
    let uids = |cluster: &Cluster| jsonpath(cluster, &["pods", "-l", "app=hello"], "{.items[*].metadata.uid}");
    let before = uids(&cluster);
    let port = jsonpath(&cluster, &["service", "hello"], "{.spec.ports[0].nodePort}");
    let by_node_port = format!("http://127.0.0.1:{port}/");
    cluster.crash();
    for _ in 0..20 {
        cluster.curl(&address).ok();
        cluster.curl(&by_node_port).ok();
    }
    cluster.up();
    rolled_out(&cluster);
    assert_eq!(before, uids(&cluster));
    let restarts = jsonpath(
        &cluster,
        &["pods"],
        "{.items[*].status.containerStatuses[*].restartCount}",
    );
    assert_eq!(restarts, "0 0 0");
    cluster.curl(&address).ok();
}
