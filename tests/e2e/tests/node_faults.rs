//! A node of containers whose parts are killed, stopped and left without power.

use std::{path::Path, time::Duration};

use e2e::{Cluster, Options, kill, need_root, oci::Image, repository, until};
use nix::sys::signal::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(90);
/// For everything to be as the API says after many faults on a busy machine.
const CONVERGED: Duration = Duration::from_secs(180);

/// Numbers that look random and are the same for the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    /// From `WHERRY_SEED`, which a failure names.
    fn new() -> Self {
        let seed = std::env::var("WHERRY_SEED").ok().and_then(|text| text.parse().ok());
        let seed: u64 = seed.unwrap_or(20_261_130);
        eprintln!("WHERRY_SEED={seed}");
        Self(seed.max(1))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % limit
    }
}

/// A Deployment whose containers hold a port of their pod as long as they live, so that one that runs twice is found out.
fn deployment(name: &str, replicas: usize, shared: &Path) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes:
      - {{name: shared, hostPath: {{path: {}, type: Directory}}}}
      - {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
      - {{name: config, configMap: {{name: settings}}}}
      containers:
      - name: main
        image: tools:1
        imagePullPolicy: Never
        env: [{{name: ME, valueFrom: {{fieldRef: {{fieldPath: metadata.uid}}}}}}]
        command: [sh, -c, 'httpd -f -p 8080 -h /tmp 2>/tmp/said; grep -q bind /tmp/said && echo $ME >> /shared/twice; exit 1']
        volumeMounts:
        - {{name: shared, mountPath: /shared}}
        - {{name: memory, mountPath: /memory}}
        - {{name: config, mountPath: /config}}
"#,
        shared.display()
    )
}

fn pods(cluster: &Cluster) -> Vec<Value> {
    let listed = cluster.get(&["pods"]);
    listed["items"].as_array().cloned().unwrap_or_default()
}

/// What is mounted below a directory.
fn mounts_below(directory: &Path) -> Vec<String> {
    let below = directory.display().to_string();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let paths = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    paths
        .filter(|path| path.starts_with(&below))
        .map(str::to_owned)
        .collect()
}

/// Cgroups of pods with these UIDs that are left, in whichever hierarchy.
fn cgroups_of(uids: &[String]) -> Vec<String> {
    let listed = e2e::run(
        std::process::Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", "pod*"]),
        "",
    );
    let left = listed
        .stdout
        .lines()
        .filter(|path| uids.iter().any(|uid| path.contains(uid.as_str())));
    left.map(str::to_owned).collect()
}

/// Pids of the programs that pods of [`deployment`] are for, in the cgroup of this pod.
fn mains_of(uid: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let read = |pid: u32, name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    pids.filter(|pid| read(*pid, "cmdline").starts_with("httpd") && read(*pid, "cgroup").contains(uid))
        .collect()
}

/// Waits until the containers are those of the API's pods: each once, and no others.
fn converged(cluster: &mut Cluster, replicas: usize) -> Vec<Value> {
    until("the node has come to what the API says", CONVERGED, || {
        let now = pods(cluster);
        let settled = now.len() == replicas
            && now.iter().all(|pod| {
                let status = &pod["status"]["containerStatuses"][0];
                pod["metadata"]["deletionTimestamp"].is_null() && status["ready"] == true
            });
        let told: Vec<&Value> = now.iter().map(|pod| &pod["status"]).collect();
        if !settled {
            return Err(format!("{} of {replicas} pods: {told:?}", now.len()));
        }
        let containerd = cluster.containerd();
        let running = containerd.running();
        // A sandbox and a container each.
        if running.len() != 2 * now.len() {
            return Err(format!("{} tasks run for {} pods", running.len(), now.len()));
        }
        for pod in &now {
            let uid = pod["metadata"]["uid"].as_str().expect("a UID");
            let mains = mains_of(uid);
            if mains.len() != 1 {
                return Err(format!("the pod {uid} is run by {mains:?}"));
            }
        }
        let all = containerd.containers(None).len();
        let label = "io.kubernetes.pod.uid";
        let uid = |pod: &Value| pod["metadata"]["uid"].as_str().expect("a UID").to_owned();
        let known: usize = now
            .iter()
            .map(|pod| containerd.containers(Some((label, &uid(pod)))).len())
            .sum();
        match all == known {
            true => Ok(now),
            false => Err(format!("{all} containers, {known} of them of pods")),
        }
    })
}

#[test]
fn whatever_is_killed_the_node_comes_to_what_the_api_says() {
    need_root!();
    let mut dice = Dice::new();
    let mut cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    let shared = cluster.scratch().join("shared");
    std::fs::create_dir(&shared).expect("a directory");
    cluster
        .kubectl(&["create", "configmap", "settings", "--from-literal=a=b"])
        .ok();
    cluster.apply(&deployment("churn", 3, &shared)).ok();
    let mut uids: Vec<String> = Vec::new();
    let mut replicas = 3;
    for pod in converged(&mut cluster, replicas) {
        uids.push(pod["metadata"]["uid"].as_str().expect("a UID").to_owned());
    }
    for round in 0..8 {
        // Something is under way when the fault comes.
        replicas = 2 + dice.below(4);
        let scale = format!("--replicas={replicas}");
        cluster.kubectl(&["scale", "deployment", "churn", &scale]).ok();
        let present = pods(&cluster);
        if !present.is_empty() {
            let chosen = present[dice.below(present.len())]["metadata"]["name"].clone();
            let chosen = chosen.as_str().expect("a name");
            cluster.kubectl(&["delete", "pod", chosen, "--wait=false"]);
        }
        let fault = dice.below(4);
        eprintln!("round {round}: {replicas} replicas, fault {fault}");
        let shims = cluster.containerd().shims();
        match fault {
            0 => {
                cluster.crash();
                cluster.up();
            }
            1 => {
                cluster.containerd().crash();
                cluster.containerd().up();
            }
            2 if !shims.is_empty() => kill(shims[dice.below(shims.len())], Signal::SIGKILL),
            // All at once.
            _ => {
                if !shims.is_empty() {
                    kill(shims[dice.below(shims.len())], Signal::SIGKILL);
                }
                cluster.containerd().crash();
                cluster.crash();
                cluster.containerd().up();
                cluster.up();
            }
        }
        for pod in pods(&cluster) {
            uids.push(pod["metadata"]["uid"].as_str().expect("a UID").to_owned());
        }
    }
    for pod in converged(&mut cluster, replicas) {
        uids.push(pod["metadata"]["uid"].as_str().expect("a UID").to_owned());
    }
    let twice = std::fs::read_to_string(shared.join("twice")).unwrap_or_default();
    assert_eq!(twice, "", "a container was started while it ran");

    cluster
        .kubectl(&["delete", "deployment", "churn", "--timeout=60s"])
        .ok();
    let pod_directories = cluster.data().join("pods");
    until("nothing is left of any of them", CONVERGED, || {
        let pods = pods(&cluster).len();
        let containers = cluster.containerd().containers(None).len();
        let mounts = mounts_below(&pod_directories);
        let directories: Vec<_> = std::fs::read_dir(&pod_directories)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        // Also none of a sandbox that was starting when containerd died, of which it knows nothing any more.
        let cgroups = cgroups_of(&uids);
        let links = e2e::run(
            cluster.on_machine("ip").args(["-br", "link", "show", "type", "veth"]),
            "",
        )
        .stdout;
        // The one pair that leads to the Wasm pods stays.
        let links: Vec<&str> = links.lines().filter(|line| line.starts_with("veth")).collect();
        let left = format!(
            "{pods} pods, {containers} containers, mounts {mounts:?}, directories {directories:?}, \
             cgroups {cgroups:?}, links {links:?}"
        );
        let nothing = pods == 0
            && containers == 0
            && mounts.is_empty()
            && directories.is_empty()
            && cgroups.is_empty()
            && links.is_empty();
        match nothing {
            true => Ok(()),
            false => Err(left),
        }
    });
}

#[test]
fn what_the_runtime_has_forgotten_is_ended() {
    need_root!();
    let cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    cluster.load_image(&Image::web("kept"), "web:1");
    cluster
        .kubectl(&["run", "kept", "--image=web:1", "--image-pull-policy=Never"])
        .ok();
    cluster
        .kubectl(&["wait", "pod/kept", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    let kept = cluster.get(&["pod", "kept"]);
    let uid = kept["metadata"]["uid"].as_str().expect("a UID").to_owned();
    let forgotten = "3b0f2a54-0000-4000-8000-000000000000".to_owned();
    let mut process = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("a process");
    let beside: Vec<String> = cgroups_of(std::slice::from_ref(&uid));
    assert!(!beside.is_empty());
    for cgroup in beside
        .iter()
        .map(|path| Path::new(path).with_file_name(format!("pod{forgotten}")))
    {
        let container = cgroup.join("container");
        std::fs::create_dir_all(&container).expect("a cgroup");
        if container.components().any(|part| part.as_os_str() == "cpuset") {
            for of in [&cgroup, &container] {
                inherit(of);
            }
        }
        std::fs::write(container.join("cgroup.procs"), process.id().to_string()).expect("the process moves");
    }
    until("nothing is left", SOON, || {
        let left = cgroups_of(std::slice::from_ref(&forgotten));
        let ended = process.try_wait().expect("a child");
        match left.is_empty() && ended.is_some() {
            true => Ok(()),
            false => Err(format!("{left:?}, {ended:?}")),
        }
    });
    assert_eq!(
        cgroups_of(std::slice::from_ref(&uid)),
        beside,
        "the pod that is known keeps its own"
    );
    assert_eq!(
        cluster.get(&["pod", "kept"])["status"]["containerStatuses"][0]["restartCount"],
        0
    );
}

/// Gives a cgroup of the first version the processors and the memory that the one above has: processes are not let in before.
fn inherit(cgroup: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let above = cgroup.parent().expect("one above").join(file);
        let given = std::fs::read_to_string(above).expect("a file of the kernel's");
        std::fs::write(cgroup.join(file), given).expect("the cgroup takes it");
    }
}

const KEPT: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: oci}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: disk, emptyDir: {}}
  - {name: claim, persistentVolumeClaim: {claimName: claim}}
  containers:
  - name: main
    image: tools:1
    imagePullPolicy: Never
    command:
    - sh
    - -c
    - |
      grep ' /memory ' /proc/mounts
      for at in memory disk claim; do echo "$at: $(ls /$at)"; touch /$at/lived; done
      echo ready; exec httpd -f -p 8080 -h /disk
    readinessProbe: {httpGet: {port: 8080, path: /lived}, periodSeconds: 1}
    volumeMounts: [{name: memory, mountPath: /memory}, {name: disk, mountPath: /disk}, {name: claim, mountPath: /claim}]
---
apiVersion: v1
kind: Pod
metadata: {name: wasm}
spec:
  containers:
  - name: main
    image: hello:1
    imagePullPolicy: Never
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
"#;

#[test]
fn a_machine_without_power_brings_its_containers_back() {
    need_root!();
    let mut cluster = Cluster::start(Options {
        containerd: true,
        machine: true,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    cluster
        .load(&repository().join("tests/workloads/http-hello.wasm"), "hello:1")
        .ok();
    cluster.apply(KEPT).ok();
    let ready = |cluster: &Cluster| {
        let waited = cluster.kubectl(&["wait", "pod", "--all", "--for=condition=Ready", "--timeout=90s"]);
        assert!(waited.success, "{}", cluster.kubectl(&["describe", "pods"]).stdout);
    };
    ready(&cluster);
    let said = |cluster: &Cluster| cluster.kubectl(&["logs", "oci"]).ok();
    let first = said(&cluster);
    assert!(first.contains("tmpfs /memory tmpfs"), "{first}");
    assert!(first.contains("memory: \ndisk: \nclaim: \nready"), "{first}");
    let before = cluster.get(&["pod", "oci"]);

    cluster.lose_power();
    cluster.up();
    let after = until("it runs again", SOON, || {
        let pod = cluster.get(&["pod", "oci"]);
        let status = &pod["status"]["containerStatuses"][0];
        let again = status["containerID"] != before["status"]["containerStatuses"][0]["containerID"];
        match again && status["ready"] == true {
            true => Ok(pod),
            false => Err(pod["status"].to_string()),
        }
    });
    ready(&cluster);
    assert_eq!(
        before["metadata"]["uid"], after["metadata"]["uid"],
        "it is the same pod"
    );
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 1, "{after}");
    // What was in memory is gone and in memory again; what was on the disk is there.
    let then = said(&cluster);
    assert!(then.contains("tmpfs /memory tmpfs"), "{then}");
    assert!(then.contains("memory: \ndisk: lived\nclaim: lived\nready"), "{then}");
    let ip = after["status"]["podIP"].as_str().expect("an address");
    cluster.curl(&format!("http://{ip}:8080/lived")).ok();
    let running = cluster.containerd().running();
    assert_eq!(running.len(), 2, "a sandbox and a container: {running:?}");
    let before = cluster.kubectl(&["logs", "oci", "--previous"]).ok();
    assert_eq!(before, first, "what it said before is kept");

    cluster.kubectl(&["delete", "pod", "--all", "--timeout=60s"]).ok();
    cluster.containerd().wait_empty(SOON);
}

#[test]
fn while_containerd_hangs_the_node_says_so_and_nothing_is_deleted() {
    need_root!();
    let mut cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    cluster.load_image(&Image::web("from a container"), "web:1");
    cluster
        .load(&repository().join("tests/workloads/http-hello.wasm"), "hello:1")
        .ok();
    let pod = |name: &str, image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{terminationGracePeriodSeconds: 1, tolerations: \
             [{{operator: Exists}}], containers: [{{name: main, image: '{image}', imagePullPolicy: Never, ports: \
             [{{containerPort: 8080}}], readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}}}]}}\n"
        )
    };
    cluster.apply(&pod("oci", "web:1")).ok();
    cluster.apply(&pod("wasm", "hello:1")).ok();
    let ready = cluster.kubectl(&["wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s"]);
    assert!(ready.success, "{}", cluster.kubectl(&["describe", "pods"]).stdout);
    let before = cluster.get(&["pod", "oci"]);
    let address = |pod: &Value| format!("http://{}:8080/", pod["status"]["podIP"].as_str().expect("an address"));

    cluster.containerd().signal(Signal::SIGSTOP);
    until("the node is not ready and says why", SOON, || {
        let nodes = cluster.get(&["nodes"]);
        let conditions = nodes["items"][0]["status"]["conditions"].as_array().cloned();
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "Ready")
            .unwrap_or_default();
        let message = ready["message"].as_str().unwrap_or_default();
        match ready["status"] == "False" && message.contains("containerd") {
            true => Ok(()),
            false => Err(ready.to_string()),
        }
    });
    // What runs is not touched, and does not need containerd for being asked; Wasm pods do not need it at all.
    assert_eq!(cluster.curl(&address(&before)).ok(), "from a container");
    cluster.curl(&address(&cluster.get(&["pod", "wasm"]))).ok();
    // They are looked after as ever.
    let host = cluster.processes("sandbox-host");
    kill(*host.first().expect("a sandbox host"), Signal::SIGKILL);
    until("the Wasm pod runs again", SOON, || {
        let status = cluster.get(&["pod", "wasm"])["status"]["containerStatuses"][0].clone();
        match status["restartCount"] == 1 && status["ready"] == true {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    });
    cluster.apply(&pod("late", "web:1")).ok();
    let said = until("a pod that waits for it says so", SOON, || {
        let pod = cluster.kubectl(&["describe", "pod", "late"]).stdout;
        let told =
            pod.contains("containerd") && (pod.contains("FailedCreatePodSandBox") || pod.contains("does not answer"));
        if told { Ok(pod) } else { Err(pod) }
    });
    assert!(said.contains("Pending"), "{said}");
    cluster.kubectl(&["delete", "pod", "oci", "--wait=false"]).ok();
    let deleted = cluster.get(&["pod", "oci"]);
    assert!(deleted["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(cluster.get(&["pods"])["items"].as_array().map(Vec::len), Some(3));

    cluster.containerd().signal(Signal::SIGCONT);
    cluster
        .kubectl(&["wait", "node", "--all", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    cluster
        .kubectl(&["wait", "pod/oci", "--for=delete", "--timeout=60s"])
        .ok();
    cluster
        .kubectl(&["wait", "pod/late", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    until("one pod's containers are left", SOON, || {
        let running = cluster.containerd().running();
        match running.len() {
            2 => Ok(()),
            _ => Err(format!("{running:?}")),
        }
    });
}

/// Takes every inotify instance that a user may have, as that user, and gives them back when dropped.
struct Exhausted(Vec<std::os::fd::OwnedFd>);

impl Exhausted {
    fn of(user: u32) -> Self {
        let taken = std::thread::spawn(move || {
            // SAFETY: a plain system call; made directly it changes this thread alone, which ends here.
            let changed = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, -1_i64, i64::from(user), -1_i64) };
            assert_eq!(changed, 0, "root becomes whom it likes");
            let mut taken = Vec::new();
            loop {
                // SAFETY: a plain system call.
                let raw = unsafe { nix::libc::inotify_init1(nix::libc::IN_CLOEXEC) };
                if raw < 0 {
                    return taken;
                }
                // SAFETY: the descriptor was just made, and nobody else knows of it.
                taken.push(unsafe { std::os::fd::FromRawFd::from_raw_fd(raw) });
            }
        });
        Self(taken.join().expect("it ends"))
    }
}

#[test]
fn a_node_without_any_inotify_works_as_ever() {
    need_root!();
    let options = Options::as_a_user();
    let exhausted = Exhausted::of(options.user.expect("a user").id);
    assert!(!exhausted.0.is_empty());
    let mut cluster = Cluster::start(options);
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    cluster
        .kubectl(&["create", "configmap", "settings", "--from-literal=a=before"])
        .ok();
    let pod = r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  volumes: [{name: config, configMap: {name: settings}}]
  containers:
  - name: hello
    image: hello:1
    imagePullPolicy: Never
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
    volumeMounts: [{name: config, mountPath: /config}]
"#;
    cluster.apply(pod).ok();
    cluster
        .kubectl(&["wait", "pod/web", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    let ip = cluster.get(&["pod", "web"])["status"]["podIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    cluster.curl(&format!("http://{ip}:8080/")).ok();
    until("the log tells of it", SOON, || {
        let logs = cluster.kubectl(&["logs", "web"]);
        match logs.stdout.contains("GET /") {
            true => Ok(()),
            false => Err(format!("{logs:?}")),
        }
    });
    cluster
        .kubectl(&["patch", "configmap", "settings", "-p", r#"{"data": {"a": "after"}}"#])
        .ok();
    until("the volume follows", SOON, || {
        let content = cluster.kubectl(&["exec", "web", "--", "cat", "/config/a"]);
        match content.stdout == "after" {
            true => Ok(()),
            false => Err(format!("{content:?}")),
        }
    });
    assert!(cluster.stop());
    cluster.up();
}
