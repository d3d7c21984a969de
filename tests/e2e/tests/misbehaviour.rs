//! Containers that misbehave: each is contained, its pod says what happened, and a neighbour notices nothing.

use std::{path::Path, time::Duration};

use e2e::{Cluster, Options, need_root, oci::Image, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);

/// A pod of one container that runs a script; `more` is what else its container has.
fn pod(name: &str, script: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  volumes: [{{name: small, emptyDir: {{sizeLimit: 1Mi}}}}]
  containers:
  - name: main
    image: tools:1
    imagePullPolicy: Never
    command: [sh, -c, '{script}']
    {more}
"#
    )
}

fn cluster() -> Cluster {
    let cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    cluster.load_image(&Image::web("undisturbed"), "web:1");
    let neighbour = r#"
apiVersion: v1
kind: Pod
metadata: {name: neighbour}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: web:1
    imagePullPolicy: Never
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
    livenessProbe: {httpGet: {port: 8080}, periodSeconds: 1, failureThreshold: 5}
"#;
    cluster.apply(neighbour).ok();
    ready(&cluster, "neighbour");
    cluster
}

fn ready(cluster: &Cluster, pod: &str) {
    let pod = format!("pod/{pod}");
    let waited = cluster.kubectl(&["wait", &pod, "--for=condition=Ready", "--timeout=60s"]);
    assert!(waited.success, "{}", cluster.kubectl(&["describe", &pod]).stdout);
}

fn undisturbed(cluster: &Cluster) {
    let pod = cluster.get(&["pod", "neighbour"]);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    let ip = pod["status"]["podIP"].as_str().expect("an address");
    assert_eq!(cluster.curl(&format!("http://{ip}:8080/")).ok(), "undisturbed");
}

/// Waits for an event about a pod; its message.
fn event(cluster: &Cluster, pod: &str, reason: &str) -> String {
    let selector = format!("involvedObject.name={pod},reason={reason}");
    until(&format!("{pod} has the event {reason}"), SOON, || {
        let events = cluster.get(&["events", "--field-selector", &selector]);
        match events["items"][0]["message"].as_str() {
            Some(message) => Ok(message.to_owned()),
            None => Err(cluster.kubectl(&["describe", "pod", pod]).stdout),
        }
    })
}

/// Waits until a pod has failed with a reason; its status.
fn failed(cluster: &Cluster, pod: &str, reason: &str) -> Value {
    until(&format!("{pod} is {reason}"), SOON, || {
        let status = cluster.get(&["pod", pod])["status"].clone();
        match status["phase"] == "Failed" && status["reason"] == reason {
            true => Ok(status),
            false => Err(status.to_string()),
        }
    })
}

#[test]
fn who_takes_more_memory_or_disk_than_it_may_is_ended_and_says_so() {
    need_root!();
    let cluster = cluster();
    let memory = "resources: {limits: {memory: 32Mi}}";
    let disk = "resources: {limits: {ephemeral-storage: 8Mi}}";
    let volume = "volumeMounts: [{name: small, mountPath: /small}]";
    let pods = [
        pod(
            "greedy",
            "dd if=/dev/zero of=/dev/null bs=256M count=1; echo survived; sleep 1000000",
            "",
        ),
        pod("memory", "exec dd if=/dev/zero of=/dev/null bs=256M", memory),
        pod(
            "disk",
            "dd if=/dev/zero of=/tmp/full bs=1M count=32; sleep 1000000",
            disk,
        ),
        pod(
            "volume",
            "dd if=/dev/zero of=/small/full bs=1M count=32; sleep 1000000",
            volume,
        ),
        pod(
            "log",
            "yes 0123456789012345678901234567890 | dd bs=1M count=12 iflag=fullblock 2>/dev/null; sleep 1000000",
            disk,
        ),
    ];
    cluster.apply(&pods.join("---")).ok();
    let ended = until("the memory is refused", SOON, || {
        let status = cluster.get(&["pod", "memory"])["status"]["containerStatuses"][0].clone();
        let ended = status["state"]["terminated"].clone();
        if ended.is_object() {
            Ok(ended)
        } else {
            Err(status.to_string())
        }
    });
    assert_eq!(
        (ended["reason"].as_str(), ended["exitCode"].as_i64()),
        (Some("OOMKilled"), Some(137)),
        "{ended}"
    );
    let message = |pod: &str| {
        failed(&cluster, pod, "Evicted")["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for pod in ["disk", "log"] {
        let told = message(pod);
        assert!(told.contains("exceed") && told.contains("8Mi"), "{pod}: {told}");
    }
    assert!(message("volume").contains("EmptyDir volume \"small\" exceeds the limit \"1Mi\""));
    event(&cluster, "disk", "Evicted");
    // Who has no limit is not held to one.
    let status = cluster.get(&["pod", "greedy"])["status"].clone();
    assert_eq!(status["phase"], "Running", "{status}");
    undisturbed(&cluster);
}

#[test]
fn who_forks_without_end_leaves_others_their_processes() {
    need_root!();
    let cluster = cluster();
    let bomb = "sh -c \"while :; do sleep 1000000 & done\" 2>/dev/null; echo contained; exec sleep 1000000";
    cluster
        .apply(&pod("forks", bomb, "resources: {limits: {cpu: \"1\"}}"))
        .ok();
    until("it gets no more", SOON, || {
        let said = cluster.kubectl(&["logs", "forks"]);
        match said.stdout.contains("contained") {
            true => Ok(()),
            false => Err(format!("{said:?}")),
        }
    });
    let told = event(&cluster, "forks", "PidLimitReached");
    assert!(told.contains("as many processes as it may"), "{told}");
    undisturbed(&cluster);
    cluster.apply(&pod("later", "echo there is room", "")).ok();
    cluster
        .kubectl(&[
            "wait",
            "pod/later",
            "--for=jsonpath={.status.phase}=Succeeded",
            "--timeout=60s",
        ])
        .ok();
    cluster.kubectl(&["delete", "pod", "forks", "--timeout=60s"]).ok();
}

/// Bytes of the files below a directory.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size(&entry.path()),
            _ => entry.metadata().map_or(0, |metadata| metadata.len()),
        })
        .sum()
}

#[test]
fn who_floods_its_log_fills_no_disk_and_can_still_be_read() {
    need_root!();
    let cluster = cluster();
    // A quarter of a gigabyte in CRI's format at the least, as fast as it goes, then a last word.
    let line = "0123456789".repeat(20);
    let flood =
        format!("yes {line} | dd bs=1M count=256 iflag=fullblock 2>/dev/null; echo; echo the end; sleep 1000000");
    cluster.apply(&pod("floods", &flood, "")).ok();
    let logs = cluster.data().join("logs");
    let mut most = 0;
    until("it has said its last word", SOON, || {
        most = most.max(size(&logs));
        let said = cluster.kubectl(&["logs", "floods", "--tail=1"]);
        match said.stdout.contains("the end") {
            true => Ok(()),
            false => Err(format!("{said:?}")),
        }
    });
    let told = event(&cluster, "floods", "LogFlood");
    assert!(told.contains("floods its log"), "{told}");
    until(
        "no more is kept than five files of 10 MiB, and what came in a second",
        SOON,
        || match size(&logs) >> 20 {
            kept if kept < 200 => Ok(()),
            kept => Err(format!("{kept} MiB, {} at most", most >> 20)),
        },
    );
    undisturbed(&cluster);
}

#[test]
fn who_ignores_sigterm_is_killed_when_its_grace_is_over() {
    need_root!();
    let mut cluster = cluster();
    let deaf = "trap \"echo heard\" TERM; echo up; while :; do sleep 1; done";
    cluster.apply(&pod("deaf", deaf, "")).ok();
    ready(&cluster, "deaf");
    let start = std::time::Instant::now();
    cluster.kubectl(&["delete", "pod", "deaf", "--timeout=60s"]).ok();
    assert!(start.elapsed() > Duration::from_millis(900), "it had its second");
    until("its containers are gone", SOON, || {
        // The neighbour's two are left.
        let running = cluster.containerd().running();
        match running.len() {
            2 => Ok(()),
            _ => Err(format!("{running:?}")),
        }
    });
    undisturbed(&cluster);
}

/// A path that a pod makes for itself may lead anywhere: as a volume's subPath it leads nowhere but into that volume.
#[test]
fn links_and_paths_of_a_pods_own_making_lead_nowhere_else() {
    need_root!();
    let cluster = cluster();
    let shared = cluster.scratch().join("shared");
    let secret = cluster.scratch().join("secret");
    for directory in [&shared, &secret] {
        std::fs::create_dir(directory).expect("a directory");
    }
    std::fs::write(secret.join("key"), "secret\n").expect("a file");
    std::os::unix::fs::symlink(&secret, shared.join("absolute")).expect("a link");
    std::os::unix::fs::symlink("../secret", shared.join("relative")).expect("a link");
    std::os::unix::fs::symlink("/", shared.join("root")).expect("a link");
    let with = |name: &str, sub_path: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {{path: "../secret", io.kubernetes.cri-o.Devices: /dev/kmsg, io.kubernetes.pod.uid: "0"}}}}
spec:
  restartPolicy: Never
  volumes: [{{name: shared, hostPath: {{path: {}, type: Directory}}}}]
  containers:
  - name: main
    image: tools:1
    imagePullPolicy: Never
    command: [sh, -c, "ls /at; cat /at/key /at/etc/hostname; ls /dev/kmsg; true"]
    env: [{{name: WHERE, valueFrom: {{fieldRef: {{fieldPath: "metadata.annotations['path']"}}}}}}]
    volumeMounts: [{{name: shared, mountPath: /at, {sub_path}}}]
"#,
            shared.display()
        )
    };
    for (name, sub_path) in [
        ("absolute", "subPath: absolute"),
        ("relative", "subPath: relative"),
        ("root", "subPath: root"),
        ("deep", "subPath: root/etc"),
        ("expanded", "subPathExpr: $(WHERE)"),
    ] {
        cluster.apply(&with(name, sub_path)).ok();
        let end = until(&format!("{name} has run or was refused"), SOON, || {
            let pod = cluster.get(&["pod", name]);
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            match (pod["status"]["phase"].as_str(), waiting["reason"].as_str()) {
                (Some("Succeeded"), _) => Ok("ran"),
                (_, Some("CreateContainerConfigError" | "CreateContainerError")) => Ok("was refused"),
                _ => Err(pod["status"].to_string()),
            }
        });
        let said = cluster.kubectl(&["logs", name]).stdout;
        assert!(!said.contains("secret"), "{name} {end}: {said}");
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        assert!(host.is_empty() || !said.contains(host.trim()), "{name} {end}: {said}");
        assert!(!said.lines().any(|line| line == "/dev/kmsg"), "{name} {end}: {said}");
        if name == "expanded" {
            assert_eq!(end, "was refused");
        }
    }
    let plain = cluster.apply(&with("dots", "subPath: ../secret")).err();
    assert!(plain.contains("must not contain '..'"), "{plain}");
    // What it looks like to be is what the runtime says it is, not what its annotations say.
    let running = cluster.kubectl(&["get", "pods", "-o", "name"]).ok();
    assert!(running.contains("pod/neighbour"), "{running}");
    undisturbed(&cluster);
}
