//! What happens when processes die and power is lost.

use std::time::Duration;

use e2e::{Cluster, Options, kill, need_root, repository, run, until};
use nix::sys::signal::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn manifest(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: {namespace}}}\nspec: {{containers: [{{name: hello, \
         image: 'hello:1', ports: [{{containerPort: 8080}}], readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}}}}}]}}\n"
    )
}

fn ready(cluster: &Cluster, namespace: &str) -> Value {
    cluster
        .kubectl(&[
            "wait",
            "-n",
            namespace,
            "--for=condition=Ready",
            "pod/web",
            "--timeout=60s",
        ])
        .ok();
    cluster.get(&["pod", "web", "-n", namespace])
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_i64()
        .expect("a count")
}

fn url(pod: &Value) -> String {
    format!("http://{}:8080/", pod["status"]["podIP"].as_str().expect("an address"))
}

fn two_tenants(options: Options) -> Cluster {
    let cluster = Cluster::start(options);
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    for namespace in ["one", "two"] {
        cluster.kubectl(&["create", "namespace", namespace]).ok();
        until("the namespace has its service account", SOON, || {
            let made = cluster.kubectl(&["get", "serviceaccount", "default", "-n", namespace]);
            if made.success { Ok(()) } else { Err(made.stderr) }
        });
        cluster.apply(&manifest(namespace)).ok();
        ready(&cluster, namespace);
    }
    cluster
}

#[test]
fn a_dead_sandbox_host_takes_only_its_own_pods_with_it() {
    need_root!();
    let cluster = two_tenants(Options::default());
    let other = ready(&cluster, "two");
    let hosts = cluster.processes("sandbox-host");
    assert_eq!(hosts.len(), 2, "one host for each tenant");
    let namespace_of = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let victim = *hosts
        .iter()
        .find(|pid| namespace_of(**pid).contains("one"))
        .expect("the host names its tenant");
    kill(victim, Signal::SIGKILL);
    let pod = until("the pod runs again", SOON, || {
        let pod = cluster.get(&["pod", "web", "-n", "one"]);
        let again = restarts(&pod) == 1 && pod["status"]["containerStatuses"][0]["ready"] == true;
        if again { Ok(pod) } else { Err(pod["status"].to_string()) }
    });
    cluster.curl(&url(&pod)).ok();
    let untouched = cluster.get(&["pod", "web", "-n", "two"]);
    assert_eq!(restarts(&untouched), 0);
    assert_eq!(untouched["status"]["podIP"], other["status"]["podIP"]);
    cluster.curl(&url(&untouched)).ok();
}

#[test]
fn a_reboot_brings_the_pods_back_and_adopts_nothing_stale() {
    need_root!();
    let mut cluster = two_tenants(Options {
        machine: true,
        ..Options::default()
    });
    let before = ready(&cluster, "one");
    cluster.lose_power();
    assert!(
        cluster.processes("sandbox-host").is_empty(),
        "power loss ends every process"
    );
    cluster.up();
    let after = until("the pod runs again", SOON, || {
        let pod = cluster.get(&["pod", "web", "-n", "one"]);
        let status = &pod["status"]["containerStatuses"][0];
        let again =
            status["ready"] == true && status["containerID"] != before["status"]["containerStatuses"][0]["containerID"];
        if again { Ok(pod) } else { Err(pod["status"].to_string()) }
    });
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(restarts(&after), 1);
    cluster.curl(&url(&after)).ok();
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed_under_load() {
    need_root!();
    let mut cluster = Cluster::start(e2e::control_plane());
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let script = format!(
            "i=0; while :; do i=$((i+1)); \"$0\" --kubeconfig \"$1\" create configmap load-{round}-$i || exit 0; done"
        );
        let mut load = cluster.on_machine("sh");
        load.args(["-c", &script, &e2e::Tool::Kubectl136.path()])
            .arg(cluster.kubeconfig());
        let pid = cluster.server_pid();
        let writer = std::thread::spawn(move || run(&mut load, ""));
        until("some writes are acknowledged", SOON, || {
            let made = cluster.kubectl(&["get", "configmaps", "-o", "name"]).ok();
            if made.matches(&format!("load-{round}-")).count() >= 5 {
                Ok(())
            } else {
                Err(made)
            }
        });
        kill(pid, Signal::SIGKILL);
        cluster.crash();
        let written = writer.join().expect("the writer ends").stdout;
        acknowledged.extend(
            written
                .lines()
                .filter_map(|l| l.strip_suffix(" created").map(str::to_owned)),
        );
        cluster.up();
        let stored = cluster.kubectl(&["get", "configmaps", "-o", "name"]).ok();
        for name in &acknowledged {
            assert!(
                stored.lines().any(|line| line == name),
                "{name} was acknowledged and is gone"
            );
        }
    }
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    need_root!();
    let mut cluster = Cluster::start(Options {
        disk: Some(32),
        ..e2e::control_plane()
    });
    let create = |cluster: &Cluster, name: &str| {
        // Random, so that nothing along the way makes it smaller.
        let script = format!(
            "head -c 300000 /dev/urandom | base64 -w0 >\"$2\" && \"$0\" --kubeconfig \"$1\" create configmap {name} --from-file=data=\"$2\""
        );
        let mut command = cluster.on_machine("sh");
        command
            .args(["-c", &script, &e2e::Tool::Kubectl136.path()])
            .arg(cluster.kubeconfig());
        run(command.arg(cluster.scratch().join("filler")), "")
    };
    let mut made = Vec::new();
    let refused = (0..200).find_map(|index| {
        let name = format!("fill-{index}");
        let output = create(&cluster, &name);
        if output.success {
            made.push(name);
            return None;
        }
        Some(output.stderr)
    });
    let said = refused.expect("a disk of 32 MiB does not hold 200 objects of 400 kB");
    assert!(said.contains("disk is full") || said.contains("no space"), "{said}");
    assert_eq!(cluster.kubectl(&["get", "--raw", "/livez"]).ok(), "ok");
    let freed = made.pop().expect("some were made");
    cluster.kubectl(&["get", "configmap", &freed, "-o", "name"]).ok();
    cluster.crash();
    cluster.up();
    let stored = cluster.kubectl(&["get", "configmaps", "-o", "name"]).ok();
    for name in &made {
        assert!(
            stored.contains(&format!("configmap/{name}\n")),
            "{name} was acknowledged and is gone"
        );
    }
}
