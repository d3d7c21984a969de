//! Guests that are broken or hostile: the pod says why in words a user can act on, and its neighbours do not notice.

use std::time::{Duration, Instant};

use e2e::{Cluster, Options, need_root, repository, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn workload(name: &str) -> std::path::PathBuf {
    repository().join("tests/workloads").join(name)
}

fn run_pod(cluster: &Cluster, name: &str, image: &str, more: &str) {
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [{{name: main, image: '{image}'{more}}}]}}\n"
    );
    cluster.apply(&manifest).ok();
}

/// The container's state once `wanted` finds in it what it looks for.
fn state(cluster: &Cluster, pod: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until("the container's state", SOON, || {
        let pod = cluster.get(&["pod", pod]);
        let state = pod["status"]["containerStatuses"][0]["state"].clone();
        if wanted(&state) {
            Ok(state)
        } else {
            Err(state.to_string())
        }
    })
}

#[test]
fn say_why_they_do_not_run() {
    need_root!();
    let cluster = Cluster::start(Options::default());

    let not_wasm = cluster.scratch().join("not.wasm");
    std::fs::write(&not_wasm, "#!/bin/sh\necho hello\n").expect("a scratch file");
    let said = cluster.load(&not_wasm, "not-wasm:1").err();
    assert!(said.contains("not a WebAssembly"), "{said}");

    let whole = std::fs::read(repository().join("examples/hello/hello.wasm")).expect("the example is committed");
    let truncated = cluster.scratch().join("truncated.wasm");
    std::fs::write(&truncated, &whole[..whole.len() / 2]).expect("a scratch file");
    let said = cluster.load(&truncated, "truncated:1").err();
    assert!(said.contains("truncated") || said.contains("unexpected end"), "{said}");

    run_pod(&cluster, "absent", "absent:1", "");
    let state_of = state(&cluster, "absent", |s| {
        s["waiting"]["reason"].as_str().is_some_and(|r| r.contains("Image"))
    });
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&state_of["waiting"]["reason"].as_str().unwrap_or_default()));
    let events = cluster
        .kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"])
        .ok();
    assert!(events.contains("absent:1"), "{events}");
}

#[test]
fn are_reported_when_they_fail_and_bounded_when_they_do_not() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    for guest in ["exit-code", "trap", "spin", "hoard"] {
        cluster
            .load(&workload(&format!("{guest}.wasm")), &format!("{guest}:1"))
            .ok();
    }
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();

    run_pod(&cluster, "exit-code", "exit-code:1", "");
    let ended = state(&cluster, "exit-code", |s| s["terminated"].is_object());
    assert_eq!(
        (&ended["terminated"]["exitCode"], &ended["terminated"]["reason"]),
        (&3.into(), &"Error".into())
    );

    run_pod(&cluster, "trap", "trap:1", "");
    let ended = state(&cluster, "trap", |s| s["terminated"].is_object());
    let message = ended["terminated"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("unreachable"), "{ended}");

    run_pod(&cluster, "hoard", "hoard:1", ", resources: {limits: {memory: 32Mi}}");
    let ended = state(&cluster, "hoard", |s| s["terminated"].is_object());
    assert_eq!(ended["terminated"]["reason"], "OOMKilled", "{ended}");

    run_pod(&cluster, "web", "hello:1", ", ports: [{containerPort: 8080}]");
    run_pod(&cluster, "spin", "spin:1", ", resources: {limits: {cpu: 200m}}");
    state(&cluster, "spin", |s| s["running"].is_object());
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
        .ok();
    let address = cluster.get(&["pod", "web"])["status"]["podIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    let start = Instant::now();
    for _ in 0..20 {
        cluster.curl(&format!("http://{address}:8080/")).ok();
    }
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "a guest that loops forever must not starve its neighbour"
    );
    cluster.kubectl(&["delete", "pod", "spin", "--timeout=30s"]).ok();
}

#[test]
fn name_the_import_that_is_missing() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    let said = cluster.load(&workload("missing-import.wasm"), "missing:1");
    let text = format!("{}{}", said.stdout, said.stderr);
    assert!(text.contains("wherry:absent/thing"), "{text}");
}
