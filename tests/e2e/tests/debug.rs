//! `kubectl debug`, by two versions of kubectl: containers that join a pod, copies of pods, and nodes.

use std::time::Duration;

use e2e::{Cluster, Options, Tool, need_root, oci::Image, repository, until};

const TOOLS: [Tool; 2] = [Tool::Kubectl132, Tool::Kubectl136];
const MINUTE: Duration = Duration::from_secs(60);

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: oci}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: tools:1
    imagePullPolicy: Never
    command: [sleep, "1000001"]
  - name: other
    image: tools:1
    imagePullPolicy: Never
    command: [sleep, "1000002"]
---
apiVersion: v1
kind: Pod
metadata: {name: wasm}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "hello:1", imagePullPolicy: Never, ports: [{containerPort: 8080}]}]
"#;

fn cluster() -> Cluster {
    let cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    for (file, name) in [("http-hello", "hello:1"), ("print", "print:1")] {
        let file = repository().join("tests/workloads").join(format!("{file}.wasm"));
        cluster.load(&file, name).ok();
    }
    cluster.apply(PODS).ok();
    cluster
        .kubectl(&["wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    cluster
}

/// The status of an ephemeral container.
fn ephemeral(cluster: &Cluster, pod: &str, name: &str) -> serde_json::Value {
    let pod = cluster.get(&["pod", pod]);
    let statuses = pod["status"]["ephemeralContainerStatuses"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    statuses
        .into_iter()
        .find(|status| status["name"] == name)
        .unwrap_or_default()
}

/// Waits until it has ended; what it said.
fn said(cluster: &Cluster, pod: &str, name: &str) -> String {
    until(&format!("{name} has ended"), MINUTE, || {
        let status = ephemeral(cluster, pod, name);
        match status["state"]["terminated"].is_object() {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    });
    cluster.kubectl(&["logs", pod, "-c", name]).ok()
}

#[test]
fn a_container_joins_another_and_sees_its_processes() {
    need_root!();
    let cluster = cluster();
    for (nth, tool) in TOOLS.into_iter().enumerate() {
        let name = format!("look-{nth}");
        let debug = [
            "debug",
            "oci",
            "--image=tools:1",
            "--image-pull-policy=Never",
            "--target=main",
            "-c",
            &name,
        ];
        let list = "busybox ps -o args; busybox cat /proc/1/root/bin/busybox | busybox wc -c; exit 7";
        let command = ["--attach=false", "--", "sh", "-c", list];
        cluster.kubectl_with(tool, &[&debug[..], &command].concat(), "").ok();
        let seen = said(&cluster, "oci", &name);
        assert!(
            seen.contains("sleep 1000001") && !seen.contains("sleep 1000002"),
            "{tool:?}: {seen}"
        );
        assert_eq!(ephemeral(&cluster, "oci", &name)["state"]["terminated"]["exitCode"], 7);

        // With input: of a pod that is run for it, since a debugging container lets go when its input ends.
        let name = format!("shell-{nth}");
        let shell = [
            "run",
            &name,
            "-i",
            "--rm",
            "--restart=Never",
            "--image=tools:1",
            "--image-pull-policy=Never",
        ];
        let talk = cluster.kubectl_with(tool, &shell, "echo said-$((40 + 2))\n");
        assert!(talk.success && talk.stdout.contains("said-42"), "{tool:?}: {talk:?}");
    }
    let pod = cluster.get(&["pod", "oci"]);
    let restarts = pod["status"]["containerStatuses"].as_array().expect("statuses").iter();
    assert!(
        restarts
            .clone()
            .all(|status| status["restartCount"] == 0 && status["ready"] == true),
        "{pod}"
    );
    let missing = [
        "debug",
        "oci",
        "--image=tools:1",
        "--target=none",
        "-c",
        "lost",
        "--attach=false",
    ];
    cluster.kubectl(&missing).ok();
    until("a target that is not there is named", MINUTE, || {
        let waiting = ephemeral(&cluster, "oci", "lost")["state"]["waiting"].clone();
        match waiting["message"]
            .as_str()
            .unwrap_or_default()
            .contains("unable to find target container \"none\"")
        {
            true => Ok(()),
            false => Err(waiting.to_string()),
        }
    });
}

#[test]
fn profiles_give_what_they_say() {
    need_root!();
    let cluster = cluster();
    let look = "busybox grep -E 'CapEff|NoNewPrivs|Uid' /proc/self/status";
    for (nth, tool) in TOOLS.into_iter().enumerate() {
        let run = |profile: &str, command: &str| {
            let name = format!("{profile}-{nth}");
            let profile = format!("--profile={profile}");
            let debug = [
                "debug",
                "oci",
                "--image=tools:1",
                "--image-pull-policy=Never",
                &profile,
                "-c",
                &name,
            ];
            cluster
                .kubectl_with(
                    tool,
                    &[&debug[..], &["--attach=false", "--", "sh", "-c", command]].concat(),
                    "",
                )
                .ok();
            name
        };
        let capabilities = |text: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("CapEff:"))
                .unwrap_or_default();
            u64::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("{text}"))
        };
        let (ptrace, admin, net_admin) = (1 << 19, 1 << 21, 1 << 12);
        let general = said(&cluster, "oci", &run("general", look));
        assert!(
            capabilities(&general) & ptrace != 0 && capabilities(&general) & admin == 0,
            "{general}"
        );
        let baseline = said(&cluster, "oci", &run("baseline", look));
        assert!(
            capabilities(&baseline) & (ptrace | admin | net_admin) == 0,
            "{baseline}"
        );
        let netadmin = said(&cluster, "oci", &run("netadmin", look));
        assert!(
            capabilities(&netadmin) & net_admin != 0 && capabilities(&netadmin) & admin == 0,
            "{netadmin}"
        );
        // A sandbox that was made without privileges takes no privileged container, and the image runs as root, which the
        // last profile forbids: the pod is told why.
        for (profile, reason) in [
            ("sysadmin", "no privileged container allowed in sandbox"),
            ("restricted", "image will run as root"),
        ] {
            let name = run(profile, look);
            until("the reason is told", MINUTE, || {
                let waiting = ephemeral(&cluster, "oci", &name)["state"]["waiting"].clone();
                match waiting["message"].as_str().unwrap_or_default().contains(reason) {
                    true => Ok(()),
                    false => Err(waiting.to_string()),
                }
            });
        }
    }
}

#[test]
fn containers_of_either_kind_join_where_they_can() {
    need_root!();
    let cluster = cluster();
    for (nth, tool) in TOOLS.into_iter().enumerate() {
        // Wasm joins both.
        for pod in ["oci", "wasm"] {
            let name = format!("print-{nth}");
            let debug = [
                "debug",
                pod,
                "--image=print:1",
                "--image-pull-policy=Never",
                "-c",
                &name,
                "--attach=false",
            ];
            cluster.kubectl_with(tool, &debug, "").ok();
            let lines = said(&cluster, pod, &name);
            assert!(!lines.is_empty(), "{pod}");
        }
        // A pod of Wasm alone has no namespaces that an OCI container could join.
        let name = format!("shell-{nth}");
        let debug = [
            "debug",
            "wasm",
            "--image=tools:1",
            "--image-pull-policy=Never",
            "-c",
            &name,
            "--attach=false",
        ];
        cluster.kubectl_with(tool, &debug, "").ok();
        let reason = "image \"tools:1\" is an OCI container image, and this pod has only Wasm containers";
        until("the reason is told", MINUTE, || {
            let waiting = ephemeral(&cluster, "wasm", &name)["state"]["waiting"].clone();
            match waiting["message"].as_str().unwrap_or_default().contains(reason) {
                true => Ok(()),
                false => Err(waiting.to_string()),
            }
        });
    }
    let pod = cluster.get(&["pod", "wasm"]);
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["containerStatuses"][0]["ready"], true, "{pod}");
}

#[test]
fn a_copy_is_debugged_in_the_pods_stead() {
    need_root!();
    let cluster = cluster();
    for (nth, tool) in TOOLS.into_iter().enumerate() {
        let copy = format!("copy-{nth}");
        let to = format!("--copy-to={copy}");
        let debug = [
            "debug",
            "oci",
            &to,
            "--share-processes",
            "--image=tools:1",
            "--image-pull-policy=Never",
            "-c",
            "look",
            "--attach=false",
            "--",
            "sh",
            "-c",
            "busybox ps -o args > /tmp/seen; sleep 1000003",
        ];
        cluster.kubectl_with(tool, &debug, "").ok();
        cluster
            .kubectl(&["wait", &format!("pod/{copy}"), "--for=condition=Ready", "--timeout=60s"])
            .ok();
        let pod = cluster.get(&["pod", &copy]);
        assert_eq!(pod["spec"]["shareProcessNamespace"], true);
        until("all processes of the pod are seen", MINUTE, || {
            let seen = cluster.kubectl(&["exec", &copy, "-c", "look", "--", "busybox", "ps", "-o", "args"]);
            match seen.stdout.contains("sleep 1000001") && seen.stdout.contains("sleep 1000002") {
                true => Ok(()),
                false => Err(format!("{seen:?}")),
            }
        });
        // A copy of a pod of Wasm alone takes a shell from the start.
        let mixed = format!("mixed-{nth}");
        let to = format!("--copy-to={mixed}");
        let debug = [
            "debug",
            "wasm",
            &to,
            "--image=tools:1",
            "--image-pull-policy=Never",
            "-c",
            "look",
            "--attach=false",
        ];
        let command = ["--", "sleep", "1000004"];
        cluster.kubectl_with(tool, &[&debug[..], &command].concat(), "").ok();
        until("the Wasm container answers beside the shell", MINUTE, || {
            let ask = r"printf 'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n' | nc -w 5 127.0.0.1 8080";
            let answer = cluster.kubectl(&["exec", &mixed, "-c", "look", "--", "sh", "-c", ask]);
            match answer.stdout.contains("200 OK") {
                true => Ok(()),
                false => Err(format!("{answer:?}")),
            }
        });
        // With another program in place of the container's own.
        let changed = format!("changed-{nth}");
        let to = format!("--copy-to={changed}");
        let debug = ["debug", "wasm", &to, "--set-image=main=print:1", "--attach=false"];
        cluster.kubectl_with(tool, &debug, "").ok();
        until("the copy runs the other program", MINUTE, || {
            let logs = cluster.kubectl(&["logs", &changed]);
            match logs.success && !logs.stdout.is_empty() {
                true => Ok(()),
                false => Err(format!("{logs:?}")),
            }
        });
    }
}

#[test]
fn a_node_is_debugged_by_a_pod_on_it() {
    need_root!();
    let cluster = cluster();
    let name = cluster.get(&["nodes"])["items"][0]["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let mark = cluster.scratch().join("mark");
    std::fs::write(&mark, "found on the node").expect("a file");
    for (tool, profile) in TOOLS
        .into_iter()
        .flat_map(|tool| ["general", "sysadmin"].map(|profile| (tool, profile)))
    {
        let look = format!("busybox ps -o args; cat /host{}; hostname", mark.display());
        let (node, profile) = (format!("node/{name}"), format!("--profile={profile}"));
        let debug = [
            "debug",
            &node,
            &profile,
            "--image=tools:1",
            "--image-pull-policy=Never",
            "--attach=false",
        ];
        let made = cluster.kubectl_with(tool, &[&debug[..], &["--", "sh", "-c", &look]].concat(), "");
        assert!(made.success, "{made:?}");
        let told = format!("{} {}", made.stdout, made.stderr);
        let pod = told
            .split_whitespace()
            .find(|word| word.starts_with("node-debugger-"))
            .expect("a pod")
            .to_owned();
        let done = cluster.kubectl(&[
            "wait",
            &format!("pod/{pod}"),
            "--for=jsonpath={.status.phase}=Succeeded",
            "--timeout=60s",
        ]);
        let seen = cluster.kubectl(&["logs", &pod]).stdout;
        assert!(
            done.success,
            "{done:?} {}",
            cluster.kubectl(&["describe", "pod", &pod]).stdout
        );
        assert!(
            seen.contains("found on the node") && seen.contains("containerd"),
            "{tool:?} {profile}: {seen}"
        );
        cluster.kubectl(&["delete", "pod", &pod, "--timeout=60s"]).ok();
    }
}
