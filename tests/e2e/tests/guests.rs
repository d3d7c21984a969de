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

/// What the pod says of an image that cannot run: its container's waiting message and its events.
fn said_of(cluster: &Cluster, pod: &str, reasons: &[&str]) -> String {
    let waits = state(cluster, pod, |s| {
        reasons.contains(&s["waiting"]["reason"].as_str().unwrap_or_default())
    });
    let field = format!("involvedObject.name={pod}");
    let events = until("an event tells why", SOON, || {
        let events = cluster
            .kubectl(&[
                "get",
                "events",
                "--field-selector",
                &field,
                "-o",
                "jsonpath={.items[*].message}",
            ])
            .ok();
        if events.contains("Error") || events.contains("cannot") || events.contains("ailed") {
            Ok(events)
        } else {
            Err(events)
        }
    });
    format!("{} {events}", waits["waiting"]["message"].as_str().unwrap_or_default())
}

#[test]
fn say_why_they_do_not_run() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    let create_errors = ["CreateContainerError", "RunContainerError", "CrashLoopBackOff"];
    let cases = [
        ("not-wasm", "not a Wasm binary"),
        ("truncated", "truncated"),
        ("missing-import", "wasi:nn/tensor"),
        ("missing-import", "acme:billing/api"),
    ];
    for (guest, says) in cases {
        cluster
            .load(&workload(&format!("{guest}.wasm")), &format!("{guest}:1"))
            .ok();
        run_pod(&cluster, guest, &format!("{guest}:1"), "");
        let said = said_of(&cluster, guest, &create_errors);
        assert!(said.contains(says), "{guest}: expected {says:?} in: {said}");
    }
    run_pod(&cluster, "absent", "absent:1", "");
    let said = said_of(&cluster, "absent", &["ErrImagePull", "ImagePullBackOff"]);
    assert!(said.contains("absent:1"), "{said}");
}

#[test]
fn are_reported_when_they_fail_and_bounded_when_they_do_not() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    for guest in ["exit-3", "trap", "spin", "hog", "http-spin"] {
        cluster
            .load(&workload(&format!("{guest}.wasm")), &format!("{guest}:1"))
            .ok();
    }
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();

    run_pod(&cluster, "exit-3", "exit-3:1", "");
    let ended = state(&cluster, "exit-3", |s| s["terminated"].is_object());
    assert_eq!(
        (&ended["terminated"]["exitCode"], &ended["terminated"]["reason"]),
        (&3.into(), &"Error".into())
    );

    run_pod(&cluster, "trap", "trap:1", "");
    let ended = state(&cluster, "trap", |s| s["terminated"].is_object());
    let message = ended["terminated"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("unreachable"), "{ended}");

    run_pod(&cluster, "hog", "hog:1", ", resources: {limits: {memory: 32Mi}}");
    let ended = state(&cluster, "hog", |s| s["terminated"].is_object());
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

/// A tar of an OCI image layout that holds a component as an artifact, as registries and tools write it.
fn oci_layout(component: &std::path::Path, directory: &std::path::Path) -> std::path::PathBuf {
    let script = r#"
        set -eu
        cd "$2" && mkdir -p oci/blobs/sha256
        put() { d=$(sha256sum "$1" | cut -d' ' -f1); s=$(stat -c %s "$1"); cp "$1" "oci/blobs/sha256/$d"; }
        put "$1"; layer=$d; size=$s
        printf '{"created":"2026-01-01T00:00:00Z","architecture":"wasm","os":"wasip2","layerDigests":["sha256:%s"],"component":{"exports":[],"imports":[]}}' "$layer" > config.json
        put config.json
        printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.wasm.config.v0+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/wasm","digest":"sha256:%s","size":%s}]}' "$d" "$s" "$layer" "$size" > manifest.json
        put manifest.json
        printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s}]}' "$d" "$s" > oci/index.json
        printf '{"imageLayoutVersion":"1.0.0"}' > oci/oci-layout
        tar -C oci -cf hello.tar .
    "#;
    e2e::run(
        std::process::Command::new("bash")
            .args(["-c", script, "oci"])
            .arg(component)
            .arg(directory),
        "",
    )
    .ok();
    directory.join("hello.tar")
}

#[test]
fn run_from_a_tar_of_an_oci_layout() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    let tar = oci_layout(&repository().join("examples/hello/hello.wasm"), cluster.scratch());
    cluster.load(&tar, "from-tar:1").ok();
    run_pod(&cluster, "web", "from-tar:1", ", ports: [{containerPort: 8080}]");
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
        .ok();
    let pod = cluster.get(&["pod", "web"]);
    let address = pod["status"]["podIP"].as_str().expect("an address");
    cluster.curl(&format!("http://{address}:8080/")).ok();
}
