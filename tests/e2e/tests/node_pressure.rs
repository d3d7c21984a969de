//! A node that runs short: what it says of itself, whom it ends and in which order, and that it recovers.

use std::{fs::File, io::Read, path::Path, process::Command, time::Duration};

use e2e::{Cluster, Options, binary, need_root, oci::Image, repository, run, until};
use nix::sys::statvfs::statvfs;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);

/// A pod that writes so many MiB into an `emptyDir` and waits; `spec` are further fields of its spec.
fn filling(name: &str, mebibytes: u32, requests: &str, spec: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {spec}
  volumes: [{{name: data, emptyDir: {{}}}}]
  containers:
  - name: main
    image: tools:1
    imagePullPolicy: Never
    command: [sh, -c, "dd if=/dev/zero of=/data/file bs=1M count={mebibytes} && touch /data/done; exec sleep 1000000"]
    readinessProbe: {{exec: {{command: [ls, /data/done]}}, periodSeconds: 1}}
    volumeMounts: [{{name: data, mountPath: /data}}]
    resources: {{requests: {{{requests}}}}}
"#
    )
}

fn node(cluster: &Cluster) -> Value {
    cluster.get(&["nodes"])["items"][0].clone()
}

fn condition(object: &Value, kind: &str) -> Value {
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|condition| condition["type"] == kind);
    found.unwrap_or_default()
}

/// Waits until the node has or has not this condition, and the taint that follows from it.
fn until_node(cluster: &Cluster, kind: &str, taint: &str, is_short: bool) -> Value {
    let word = if is_short { "True" } else { "False" };
    let key = format!("node.kubernetes.io/{taint}");
    until(&format!("{kind} is {word}"), SOON, || {
        let node = node(cluster);
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let tainted = taints
            .iter()
            .any(|taint| taint["key"] == *key && taint["effect"] == "NoSchedule");
        match condition(&node, kind)["status"] == word && tainted == is_short {
            true => Ok(node),
            false => Err(format!("{} {taints:?}", condition(&node, kind))),
        }
    })
}

/// Waits until the node has ended the pod for its own sake.
fn until_evicted(cluster: &Cluster, name: &str) -> Value {
    until(&format!("{name} is evicted"), SOON, || {
        let pod = cluster.get(&["pod", name]);
        match pod["status"]["phase"] == "Failed" {
            true => Ok(pod),
            false => Err(cluster.kubectl(&["get", "pods", "-o", "wide"]).stdout),
        }
    })
}

fn until_running(cluster: &Cluster, namespace: &str, names: &[&str]) {
    for name in names {
        let at = format!("pod/{name}");
        let waited = cluster.kubectl(&["wait", "-n", namespace, &at, "--for=condition=Ready", "--timeout=120s"]);
        let told = || cluster.kubectl(&["describe", "-n", namespace, &at]).stdout;
        assert!(waited.success, "{}{}", waited.stderr, told());
    }
}

fn apply(cluster: &Cluster, namespace: &str, manifest: &str) {
    until("the namespace takes pods", SOON, || {
        let made = cluster.kubectl_with(e2e::Tool::Kubectl136, &["apply", "-n", namespace, "-f", "-"], manifest);
        if made.success { Ok(()) } else { Err(made.stderr) }
    });
}

/// Takes all but so many bytes of a disk; the file to be removed.
fn leave(bytes: u64, disk: &Path) -> std::path::PathBuf {
    let stat = statvfs(disk).expect("a mounted disk");
    let free = stat.fragment_size() * stat.blocks_available();
    let path = disk.join("filler");
    let mut file = File::create(&path).expect("a file");
    std::io::copy(&mut std::io::repeat(b'x').take(free.saturating_sub(bytes)), &mut file).expect("it fits");
    path
}

#[test]
fn a_disk_that_runs_short_costs_pods_in_kubernetes_order() {
    need_root!();
    let files = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(Options {
        containerd: true,
        disk: Some(512),
        arguments: vec![
            format!("--pod-manifest-path={}", files.path().display()),
            "--eviction-hard=nodefs.available<100Mi,nodefs.inodesFree<1%".into(),
            "--eviction-pressure-transition-period=40s".into(),
        ],
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    std::fs::write(files.path().join("fixed.yaml"), filling("fixed", 5, "", "")).expect("written");
    let class = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: important}\nvalue: 1000\n";
    cluster.apply(class).ok();
    apply(&cluster, "default", &filling("greedy", 30, "", ""));
    apply(&cluster, "default", &filling("greediest", 45, "", ""));
    apply(
        &cluster,
        "default",
        &filling("important", 60, "", "priorityClassName: important"),
    );
    apply(
        &cluster,
        "default",
        &filling("modest", 50, "ephemeral-storage: 100Mi", ""),
    );
    let critical = "priorityClassName: system-node-critical";
    apply(&cluster, "kube-system", &filling("critical", 70, "", critical));
    until_running(&cluster, "default", &["greedy", "greediest", "important", "modest"]);
    until_running(&cluster, "kube-system", &["critical"]);
    let fixed = format!("fixed-{}", node(&cluster)["metadata"]["name"].as_str().expect("named"));
    until("the static pod is shown", SOON, || {
        let pod = cluster.kubectl(&["get", "pod", &fixed]);
        if pod.success { Ok(()) } else { Err(pod.stderr) }
    });
    until_running(&cluster, "default", &[&fixed]);

    let healthy = until_node(&cluster, "DiskPressure", "disk-pressure", false);
    let kilobytes = |amount: &Value| {
        let text = amount.as_str().unwrap_or_default().to_owned();
        let number: i64 = text
            .trim_end_matches(['K', 'M', 'i'])
            .parse()
            .unwrap_or_else(|_| panic!("{text}"));
        if text.ends_with("Mi") { number << 10 } else { number }
    };
    let of = |which: &str| kilobytes(&healthy["status"][which]["ephemeral-storage"]);
    assert_eq!(of("capacity") - of("allocatable"), 100 << 10, "{}", healthy["status"]);
    let name = healthy["metadata"]["name"].as_str().expect("named");
    let configz = cluster
        .kubectl(&["get", "--raw", &format!("/api/v1/nodes/{name}/proxy/configz")])
        .ok();
    let configz: Value = serde_json::from_str(&configz).expect("JSON");
    let config = &configz["kubeletconfig"];
    assert_eq!(
        config["evictionHard"],
        serde_json::json!({"nodefs.available": "100Mi", "nodefs.inodesFree": "1%"})
    );
    assert_eq!(config["evictionPressureTransitionPeriod"], "40s");
    assert_eq!(config["imageGCHighThresholdPercent"], 100);

    // What the two that use most beyond what they asked for have, and are not important, is what is missing.
    let filler = leave(40 << 20, &cluster.data());
    let first = until_evicted(&cluster, "greediest");
    assert_eq!(first["status"]["reason"], "Evicted", "{}", first["status"]);
    let message = first["status"]["message"].as_str().unwrap_or_default();
    let low = "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: ";
    let blamed = ", request is 0, has larger consumption of ephemeral-storage. ";
    assert!(
        message.starts_with(low) && message.contains(" Container main was using ") && message.ends_with(blamed),
        "{message}"
    );
    let short = until_node(&cluster, "DiskPressure", "disk-pressure", true);
    assert_eq!(condition(&short, "DiskPressure")["reason"], "KubeletHasDiskPressure");
    // Meanwhile the node takes nobody, also of those who would come all the same.
    apply(&cluster, "default", &filling("late", 1, "", ""));
    apply(
        &cluster,
        "default",
        &filling("stubborn", 1, "", "tolerations: [{operator: Exists}]"),
    );
    let refused = until_evicted(&cluster, "stubborn");
    assert_eq!(
        (&refused["status"]["reason"], &refused["status"]["message"]),
        (
            &"Evicted".into(),
            &"Pod was rejected: The node had condition: [DiskPressure]. ".into()
        )
    );
    until("it waits", SOON, || {
        let waiting = condition(&cluster.get(&["pod", "late"]), "PodScheduled");
        match waiting["reason"] == "Unschedulable" {
            true => Ok(()),
            false => Err(waiting.to_string()),
        }
    });

    let second = until_evicted(&cluster, "greedy");
    let ended = |pod: &Value| condition(pod, "DisruptionTarget")["lastTransitionTime"].to_string();
    assert!(ended(&first) < ended(&second), "{} {}", ended(&first), ended(&second));
    until("both are told of", SOON, || {
        let told = cluster
            .kubectl(&["get", "events", "--field-selector=reason=Evicted"])
            .stdout;
        match told.contains("pod/greediest") && told.contains("pod/greedy") {
            true => Ok(()),
            false => Err(told),
        }
    });

    // There is enough again, and nobody else had to go.
    until_node(&cluster, "DiskPressure", "disk-pressure", false);
    until_running(&cluster, "default", &["late", "important", "modest", &fixed]);
    until_running(&cluster, "kube-system", &["critical"]);
    std::fs::remove_file(filler).expect("the file is there");
}

/// A module of so many MiB that does nothing.
fn large_module(mebibytes: usize, path: &Path) {
    let mut wasm = b"\0asm\x01\0\0\0\0".to_vec();
    let section = 2 + (mebibytes << 20);
    // LEB128, in five bytes.
    wasm.extend((0..5).map(|n| ((section >> (7 * n)) & 0x7f) as u8 | if n < 4 { 0x80 } else { 0 }));
    wasm.extend(b"\x01x");
    wasm.resize(wasm.len() + (mebibytes << 20), 0);
    std::fs::write(path, wasm).expect("a file");
}

#[test]
fn images_that_nothing_uses_go_before_pods_do() {
    need_root!();
    let mut cluster = Cluster::start(Options {
        disk: Some(512),
        arguments: vec![
            "--eviction-hard=nodefs.available<100Mi".into(),
            "--eviction-pressure-transition-period=1s".into(),
        ],
        ..Options::default()
    });
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    let scratch = tempfile::tempdir().expect("a directory");
    let large = scratch.path().join("large.wasm");
    large_module(60, &large);
    cluster.load(&large, "large:1").ok();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: main, image: 'hello:1', ports: \
               [{containerPort: 8080}]}]}\n";
    apply(&cluster, "default", pod);
    until_running(&cluster, "default", &["web"]);
    // To an agent that has just started all images are old.
    cluster.crash();
    cluster.up();
    until_node(&cluster, "DiskPressure", "disk-pressure", false);

    let filler = leave(80 << 20, &cluster.data());
    let images = || run(&mut cluster.wherry("image ls"), "").ok();
    until("the image has gone", SOON, || match images() {
        listed if listed.contains("library/large") => Err(listed),
        _ => Ok(()),
    });
    assert!(images().contains("library/hello"), "it is in use: {}", images());
    until_node(&cluster, "DiskPressure", "disk-pressure", false);
    let events = cluster.kubectl(&["get", "events", "-A"]).ok();
    assert!(events.contains("Attempting to reclaim ephemeral-storage"), "{events}");
    assert!(!events.contains("Evicted"), "{events}");
    assert_eq!(cluster.get(&["pod", "web"])["status"]["phase"], "Running");
    std::fs::remove_file(filler).expect("the file is there");
}

#[test]
fn without_memory_only_what_the_node_needs_stays() {
    need_root!();
    let files = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(Options {
        arguments: vec![
            format!("--pod-manifest-path={}", files.path().display()),
            "--eviction-hard=memory.available<99.9%".into(),
        ],
        ..Options::default()
    });
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    let pod = |name: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{{spec} containers: [{{name: main, image: \
             'hello:1', ports: [{{containerPort: 8080}}]}}]}}\n"
        )
    };
    std::fs::write(files.path().join("fixed.yaml"), pod("fixed", "")).expect("written");
    let short = until_node(&cluster, "MemoryPressure", "memory-pressure", true);
    assert_eq!(
        condition(&short, "MemoryPressure")["reason"],
        "KubeletHasInsufficientMemory"
    );
    assert_eq!(condition(&short, "DiskPressure")["status"], "False");
    let fixed = format!("fixed-{}", short["metadata"]["name"].as_str().expect("named"));
    until("the static pod is shown", SOON, || {
        let pod = cluster.kubectl(&["get", "pod", &fixed]);
        if pod.success { Ok(()) } else { Err(pod.stderr) }
    });
    until_running(&cluster, "default", &[&fixed]);
    // It tolerates the taint, as Kubernetes' rules ask of one that asks for nothing, and so it is taken, and the first to go.
    apply(
        &cluster,
        "default",
        &pod(
            "tolerant",
            "tolerations: [{key: node.kubernetes.io/memory-pressure, operator: Exists}],",
        ),
    );
    let ended = until_evicted(&cluster, "tolerant");
    let message = ended["status"]["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("The node was low on resource: memory. Threshold quantity: "),
        "{message}"
    );
    let stays = cluster.get(&["pod", &fixed]);
    assert_eq!(
        (
            &stays["status"]["phase"],
            &stays["status"]["containerStatuses"][0]["restartCount"]
        ),
        (&"Running".into(), &0.into())
    );
}

#[test]
fn thresholds_that_are_none_are_refused_before_anything_starts() {
    let scratch = tempfile::tempdir().expect("a directory");
    let refused = |flags: &[&str]| {
        let mut up = Command::new(binary());
        up.args(["up", "--data-dir"])
            .arg(scratch.path().join("data"))
            .args(flags);
        run(&mut up, "").err()
    };
    for (flag, why) in [
        ("memory.available>1Gi", "malformed pair \"memory.available>1Gi\""),
        ("disk.free<1Gi", "unsupported eviction signal disk.free"),
        (
            "memory.available<-1Gi",
            "eviction threshold memory.available must be positive: -1Gi",
        ),
        (
            "nodefs.available<101%",
            "eviction percentage threshold nodefs.available must be <= 100%: 101%",
        ),
    ] {
        let said = refused(&["--eviction-hard", flag]);
        assert!(said.contains(why), "{flag}: {said}");
    }
    let said = refused(&["--image-gc-high-threshold", "101"]);
    assert!(said.contains("101 is not in 0..=100"), "{said}");
    let said = refused(&["--image-gc-high-threshold", "60", "--image-gc-low-threshold", "70"]);
    let why = "imageGCLowThresholdPercent (--image-gc-low-threshold) 70 must be less than imageGCHighThresholdPercent \
               (--image-gc-high-threshold) 60";
    assert!(said.contains(why), "{said}");
    assert!(!scratch.path().join("data").exists());
}
