//! What a kubelet does for the containers of a pod: who they run as, what they mount, how they are asked and how they end.

use std::time::Duration;

use e2e::{Cluster, Options, need_root, oci::Image, repository, until};

const MINUTE: Duration = Duration::from_secs(60);

fn cluster() -> Cluster {
    let cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    cluster
}

/// Waits until a pod has ended well; what its container wrote.
fn said(cluster: &Cluster, pod: &str) -> String {
    let done = cluster.kubectl(&[
        "wait",
        &format!("pod/{pod}"),
        "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=60s",
    ]);
    let logs = cluster.kubectl(&["logs", pod]);
    assert!(
        done.success,
        "{done:?} {logs:?} {}",
        cluster.kubectl(&["describe", "pod", pod]).stdout
    );
    logs.stdout
}

#[test]
fn a_container_is_who_its_pod_says_and_leaves_its_last_words() {
    need_root!();
    let cluster = cluster();
    cluster
        .apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: who}
spec:
  restartPolicy: Never
  hostAliases: [{ip: 192.0.2.7, hostnames: [alias]}]
  securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000]}
  containers:
  - name: main
    image: tools:1
    imagePullPolicy: Never
    securityContext: {capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true}
    volumeMounts: [{name: work, mountPath: /work}, {name: memory, mountPath: /memory}]
    command:
    - sh
    - -c
    - |
      id
      busybox grep alias /etc/hosts
      busybox grep -E 'CapEff|NoNewPrivs' /proc/self/status
      touch /work/mine && ls -n /work
      touch /etc/x || echo read-only
      busybox grep ' /memory ' /proc/mounts
      printf bye > /dev/termination-log
  volumes: [{name: work, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
"#,
        )
        .ok();
    let text = said(&cluster, "who");
    for part in [
        "uid=1000 gid=3000",
        "2000",
        "4000",
        "192.0.2.7\talias",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "1000     2000",
        "read-only",
        "tmpfs /memory tmpfs",
        "size=1024k",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let ended = cluster.get(&["pod", "who"])["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    assert_eq!(
        (ended["message"].as_str(), ended["reason"].as_str()),
        (Some("bye"), Some("Completed"))
    );
}

#[test]
fn commands_probe_and_begin_a_container_and_root_is_refused() {
    need_root!();
    let cluster = cluster();
    cluster
        .apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: tools:1
    imagePullPolicy: Never
    command: [sleep, "1000"]
    lifecycle: {postStart: {exec: {command: [touch, /tmp/ready]}}}
    readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1}
    livenessProbe: {exec: {command: [sh, -c, "! cat /tmp/sick"]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: root}
spec:
  securityContext: {runAsNonRoot: true}
  containers: [{name: main, image: "tools:1", imagePullPolicy: Never, command: [sleep, "1000"]}]
"#,
        )
        .ok();
    cluster
        .kubectl(&["wait", "pod/probed", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    until("root is refused", MINUTE, || {
        let pod = cluster.get(&["pod", "root"]);
        let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        let message = waiting["message"].as_str().unwrap_or_default();
        match message.starts_with("container has runAsNonRoot and image will run as root") {
            true => Ok(()),
            false => Err(waiting.to_string()),
        }
    });
}

#[test]
fn a_claim_keeps_its_data_from_pod_to_pod_and_goes_with_it() {
    need_root!();
    let cluster = cluster();
    let pod = |name: &str, command: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  securityContext: {{runAsUser: 1000, fsGroup: 2000}}
  containers:
  - name: main
    image: tools:1
    imagePullPolicy: Never
    command: [sh, -c, "{command}"]
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
"#
        )
    };
    cluster
        .apply(
            r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
",
        )
        .ok();
    cluster.apply(&pod("writer", "echo kept > /data/file")).ok();
    said(&cluster, "writer");
    cluster.apply(&pod("reader", "cat /data/file")).ok();
    assert_eq!(said(&cluster, "reader"), "kept\n");
    let claim = cluster.get(&["pvc", "data"]);
    assert_eq!(claim["status"]["phase"], "Bound");
    let volume = claim["spec"]["volumeName"].as_str().expect("bound").to_owned();
    let directory = cluster.data().join("storage").join(&volume);
    assert!(directory.join("file").exists(), "{}", directory.display());
    cluster
        .kubectl(&["delete", "pod", "writer", "reader", "--timeout=60s"])
        .ok();
    cluster.kubectl(&["delete", "pvc", "data", "--timeout=60s"]).ok();
    cluster
        .kubectl(&["wait", &format!("pv/{volume}"), "--for=delete", "--timeout=60s"])
        .ok();
    until("the data is gone", Duration::from_secs(150), || {
        match directory.exists() {
            false => Ok(()),
            true => Err(directory.display().to_string()),
        }
    });
}

#[test]
fn a_pod_of_a_file_runs_and_comes_back_as_a_mirror() {
    need_root!();
    let files = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::start(Options {
        arguments: vec![format!("--pod-manifest-path={}", files.path().display())],
        ..Options::default()
    });
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    let text = r"
apiVersion: v1
kind: Pod
metadata: {name: fixed}
spec:
  containers: [{name: hello, image: 'hello:1', ports: [{containerPort: 8080}]}]
";
    std::fs::write(files.path().join("fixed.yaml"), text).expect("written");
    let mirror = |cluster: &Cluster| {
        let pods = cluster.get(&["pods"]);
        let items = pods["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().find(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            name.starts_with("fixed-") && pod["status"]["phase"] == "Running"
        })
    };
    let running = |cluster: &Cluster| {
        until("the API shows it", MINUTE, || {
            mirror(cluster).ok_or_else(|| cluster.kubectl(&["get", "pods", "-o", "yaml"]).stdout)
        })
    };
    let first = running(&cluster);
    let name = first["metadata"]["name"].as_str().expect("named").to_owned();
    let started = first["status"]["containerStatuses"][0]["containerID"].clone();
    cluster.kubectl(&["delete", "pod", &name, "--timeout=60s"]).ok();
    let again = running(&cluster);
    assert_ne!(again["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(
        again["status"]["containerStatuses"][0]["containerID"], started,
        "it ran on"
    );
    std::fs::remove_file(files.path().join("fixed.yaml")).expect("removed");
    until("it is gone", MINUTE, || match mirror(&cluster) {
        None => Ok(()),
        Some(pod) => Err(pod.to_string()),
    });
    assert!(cluster.stop());
}
