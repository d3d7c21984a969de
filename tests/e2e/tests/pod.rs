//! One Wasm pod with real walls: applied, answering at its address, logging, deleted, surviving a crash of the agent.

use std::time::Duration;

use e2e::{Cluster, Options, need_root, repository, until};
use serde_json::Value;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - name: hello
    image: hello:1
    env: [{name: GREETING, value: ahoy}]
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}}
"#;

fn with_hello() -> Cluster {
    with_hello_as(Options::default())
}

fn with_hello_as(options: Options) -> Cluster {
    let cluster = Cluster::start(options);
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    cluster
}

fn ready_pod(cluster: &Cluster) -> Value {
    cluster.apply(POD).ok();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
        .ok();
    cluster.get(&["pod", "web"])
}

fn address(pod: &Value) -> String {
    format!(
        "http://{}:8080/",
        pod["status"]["podIP"].as_str().expect("a Ready pod has an address")
    )
}

#[test]
fn answers_at_its_own_address_and_logs() {
    need_root!();
    let cluster = with_hello();
    let pod = ready_pod(&cluster);
    let body = cluster.curl(&address(&pod)).ok();
    assert!(body.contains("ahoy"), "{body}");
    let logs = until("the request is logged", Duration::from_secs(10), || {
        let logs = cluster.kubectl(&["logs", "web"]).ok();
        if logs.contains("GET /") { Ok(logs) } else { Err(logs) }
    });
    assert!(!logs.is_empty());
    cluster.kubectl(&["delete", "pod", "web", "--timeout=60s"]).ok();
    assert!(!cluster.curl(&address(&pod)).success, "a deleted pod must not answer");
}

#[test]
fn survives_a_crash_of_the_agent_and_is_adopted() {
    need_root!();
    let mut cluster = with_hello();
    let before = ready_pod(&cluster);
    cluster.crash();
    cluster.curl(&address(&before)).ok();
    cluster.up();
    cluster.curl(&address(&before)).ok();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
        .ok();
    let after = cluster.get(&["pod", "web"]);
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    let container = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
    assert_eq!(container(&after)["restartCount"], 0);
    assert_eq!(container(&before)["containerID"], container(&after)["containerID"]);
}

#[test]
fn is_left_running_by_sigterm_which_says_so() {
    need_root!();
    let mut cluster = with_hello();
    let pod = ready_pod(&cluster);
    assert!(cluster.stop(), "SIGTERM is a good end");
    assert!(
        cluster.log_text().contains("workloads keep running"),
        "{}",
        cluster.log_text()
    );
    cluster.curl(&address(&pod)).ok();
    e2e::run(&mut cluster.wherry("down"), "").ok();
    assert!(
        !cluster.curl(&address(&pod)).success,
        "after `wherry down` nothing answers"
    );
}

const READERS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {key: whispered}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {config.yaml: "colour: blue", other: unseen}
---
apiVersion: v1
kind: Pod
metadata: {name: readers}
spec:
  restartPolicy: Never
  volumes:
  - {name: hidden, secret: {secretName: hidden, defaultMode: 0400}}
  - {name: settings, configMap: {name: settings}}
  containers:
  - name: secret
    image: probe:1
    args: [read, /hidden/..data/key]
    volumeMounts: [{name: hidden, mountPath: /hidden}]
  - name: file
    image: probe:1
    args: [read, /etc/app/config.yaml]
    volumeMounts: [{name: settings, mountPath: /etc/app/config.yaml, subPath: config.yaml}]
  - name: neighbour
    image: probe:1
    args: [read, /etc/app/other]
    volumeMounts: [{name: settings, mountPath: /etc/app/config.yaml, subPath: config.yaml}]
"#;

#[test]
fn guests_read_secrets_that_deny_others_and_single_files() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    cluster
        .load(&repository().join("tests/workloads/probe.wasm"), "probe:1")
        .ok();
    cluster.apply(READERS).ok();
    cluster
        .kubectl(&[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            "pod/readers",
            "--timeout=60s",
        ])
        .ok();
    let said = |container: &str| cluster.kubectl(&["logs", "readers", "-c", container]).ok();
    assert_eq!(said("secret"), "ok whispered\n");
    assert_eq!(said("file"), "ok colour: blue\n");
    assert_eq!(said("neighbour"), "failed no-entry\n");
}

const WITH_HOST_PORTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: hello
    image: hello:1
    ports:
    - {name: everywhere, containerPort: 8080, hostPort: 18080}
    - {name: loopback, containerPort: 8080, hostPort: 18081, hostIP: 127.0.0.1}
    readinessProbe: {httpGet: {path: /healthz, port: 8080}}
---
apiVersion: v1
kind: Pod
metadata: {name: second}
spec: {containers: [{name: hello, image: hello:1, ports: [{containerPort: 8080, hostPort: 18080}]}]}
"#;

/// What answers at the ports of [`WITH_HOST_PORTS`], on the node's address and on 127.0.0.1.
fn asked(cluster: &Cluster) -> [bool; 4] {
    let node = cluster.get(&["nodes"])["items"][0]["status"]["addresses"][0]["address"].clone();
    let node = node.as_str().expect("the node has an address");
    [(node, 18080), ("127.0.0.1", 18080), (node, 18081), ("127.0.0.1", 18081)]
        .map(|(at, port)| cluster.curl(&format!("http://{at}:{port}/")).success)
}

#[test]
fn has_ports_of_the_node_with_root_and_without() {
    need_root!();
    for options in [Options::default(), Options::as_a_user()] {
        let mut cluster = with_hello_as(options);
        cluster.apply(WITH_HOST_PORTS).ok();
        cluster
            .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
            .ok();
        let expected = [true, true, false, true];
        let within = Duration::from_secs(30);
        let answers = |cluster: &Cluster, wanted: [bool; 4]| {
            until("the ports lead where they should", within, || match asked(cluster) {
                now if now == wanted => Ok(()),
                now => Err(format!("{now:?}")),
            });
        };
        answers(&cluster, expected);
        let second = cluster.kubectl(&["describe", "pod", "second"]).ok();
        assert!(second.contains("didn't have free ports"), "{second}");

        cluster.crash();
        for port in [18080, 18081] {
            cluster.curl(&format!("http://127.0.0.1:{port}/")).ok();
        }
        cluster.up();
        answers(&cluster, expected);
        cluster.kubectl(&["delete", "pod", "web", "--timeout=60s"]).ok();
        cluster
            .kubectl(&["wait", "--for=condition=Ready", "pod/second", "--timeout=60s"])
            .ok();
        answers(&cluster, [true, true, false, false]);
    }
}
