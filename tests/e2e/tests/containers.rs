//! Pods of OCI images, run by a containerd of the test's own.

use std::time::Duration;

use e2e::{Cluster, Options, kill, need_root, oci::Image, until};
use nix::sys::signal::Signal;

const MINUTE: Duration = Duration::from_secs(60);

fn cluster() -> Cluster {
    Cluster::start(Options {
        containerd: true,
        ..Options::default()
    })
}

/// A Deployment of a web server with a Service.
fn web(name: &str, image: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {image}
        imagePullPolicy: Never
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 80, targetPort: 8080}}]
"#
    )
}

fn rolled_out(cluster: &Cluster, name: &str) {
    let deployment = format!("deployment/{name}");
    cluster
        .kubectl(&["rollout", "status", &deployment, "--timeout=90s"])
        .ok();
}

fn service_ip(cluster: &Cluster, name: &str) -> String {
    let service = cluster.get(&["service", name]);
    service["spec"]["clusterIP"].as_str().expect("an address").to_owned()
}

fn answers(cluster: &Cluster, url: &str, text: &str) {
    until(&format!("{url} answers {text:?}"), MINUTE, || {
        let answer = cluster.curl(url);
        match answer.stdout.contains(text) {
            true => Ok(()),
            false => Err(format!("{answer:?}")),
        }
    });
}

#[test]
fn a_deployment_of_containers_serves_logs_survives_and_goes() {
    need_root!();
    let mut cluster = cluster();
    cluster.load_image(&Image::web("hello from a container"), "web:1");
    cluster.apply(&web("web", "web:1")).ok();
    rolled_out(&cluster, "web");
    let url = format!("http://{}/", service_ip(&cluster, "web"));
    answers(&cluster, &url, "hello from a container");

    let logs = || cluster.kubectl(&["logs", "deployment/web"]).ok();
    until("the request is in the log", MINUTE, || match logs().contains("url:/") {
        true => Ok(()),
        false => Err(logs()),
    });
    let pod = |cluster: &Cluster| cluster.get(&["pods", "-l", "app=web"])["items"][0].clone();
    let before = pod(&cluster);
    let id = before["status"]["containerStatuses"][0]["containerID"].clone();
    let known = id
        .as_str()
        .and_then(|id| id.strip_prefix("containerd://"))
        .unwrap_or_default();
    let containers = cluster.containerd().containers(None);
    assert!(
        containers.iter().any(|container| container == known),
        "{id} is none of {containers:?}"
    );
    let ip: std::net::Ipv4Addr = before["status"]["podIP"]
        .as_str()
        .expect("an IP")
        .parse()
        .expect("an IP");
    assert!(
        ip.octets()[2] >= 64,
        "containers have the upper half of the range: {ip}"
    );

    // A new agent finds what the one before left.
    assert!(cluster.stop());
    answers(&cluster, &format!("http://{ip}:8080/"), "hello");
    cluster.up();
    rolled_out(&cluster, "web");
    assert_eq!(pod(&cluster)["status"]["containerStatuses"][0]["containerID"], id);
    answers(&cluster, &url, "hello from a container");

    // containerd goes and comes back.
    cluster.containerd().crash();
    answers(&cluster, &url, "hello from a container");
    until("the node says so", MINUTE, || {
        let said = cluster.kubectl(&["describe", "nodes"]).stdout;
        match said.contains("containerd at") {
            true => Ok(()),
            false => Err(said),
        }
    });
    cluster.containerd().up();
    cluster
        .kubectl(&["wait", "node", "--all", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    assert_eq!(pod(&cluster)["status"]["containerStatuses"][0]["containerID"], id);

    // A container that dies is started again.
    let pid = container_pid(&mut cluster, "httpd");
    kill(pid, Signal::SIGKILL);
    until("it is restarted", MINUTE, || {
        let status = pod(&cluster)["status"]["containerStatuses"][0].clone();
        match status["restartCount"] == 1 && status["ready"] == true {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    });

    cluster.kubectl(&["delete", "deployment", "web", "--timeout=60s"]).ok();
    until("nothing runs", MINUTE, || {
        let running = cluster.containerd().running();
        match running.is_empty() {
            true => Ok(()),
            false => Err(format!("{running:?}")),
        }
    });
}

/// The pid of a container's program, as the machine sees it.
fn container_pid(cluster: &mut Cluster, program: &str) -> u32 {
    let running = e2e::run(cluster.containerd().ctr().args(["tasks", "ls"]), "").ok();
    let pids = running
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok());
    let found = pids.into_iter().find(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains(program)
    });
    found.unwrap_or_else(|| panic!("no {program} among\n{running}"))
}

#[test]
fn containers_and_wasm_pods_reach_each_other_through_services() {
    need_root!();
    let cluster = cluster();
    cluster.load_image(&Image::web("from a container"), "web:1");
    let wasm = e2e::repository().join("tests/workloads/http-hello.wasm");
    cluster.load(&wasm, "hello:1").ok();
    cluster.apply(&web("web", "web:1")).ok();
    cluster
        .apply(&web("wasm", "hello:1").replace("terminationGracePeriodSeconds: 1", "runtimeClassName: wasm"))
        .ok();
    for name in ["web", "wasm"] {
        rolled_out(&cluster, name);
    }
    let ask = |name: &str, to: &str| {
        let pod = format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers:
  - name: ask
    image: "web:1"
    imagePullPolicy: Never
    command: [sh, -c, "printf 'GET / HTTP/1.0\\r\\nHost: {to}\\r\\n\\r\\n' | nc -w 5 {to} 80"]
"#
        );
        cluster.apply(&pod).ok();
        let wait = [
            "wait",
            "pod",
            name,
            "--for=jsonpath={.status.phase}=Succeeded",
            "--timeout=60s",
        ];
        let waited = cluster.kubectl(&wait);
        let said = cluster.kubectl(&["logs", name]);
        assert!(
            waited.success,
            "{waited:?} {said:?} {}",
            cluster.kubectl(&["describe", "pod", name]).stdout
        );
        said.stdout
    };
    let to_wasm = ask("to-wasm", &service_ip(&cluster, "wasm"));
    assert!(to_wasm.contains("200 OK"), "{to_wasm}");
    let to_container = ask("to-container", &service_ip(&cluster, "web"));
    assert!(to_container.contains("from a container"), "{to_container}");
}

#[test]
fn a_wasm_container_shares_its_pods_address_with_an_oci_one() {
    need_root!();
    let mut cluster = cluster();
    cluster.load_image(&Image::default(), "tools:1");
    let wasm = e2e::repository().join("examples/hello/hello.wasm");
    cluster.load(&wasm, "hello:1").ok();
    let request = r"printf 'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n' | nc -w 5 127.0.0.1 8080";
    let pod = format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: mixed}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: hello
    image: hello:1
    imagePullPolicy: Never
    env: [{{name: GREETING, value: ahoy}}]
    ports: [{{containerPort: 8080}}]
  - name: ask
    image: tools:1
    imagePullPolicy: Never
    command:
    - sh
    - -c
    - |
      while :; do
        {request} && break
        sleep 1
      done
      echo asked
      sleep 1000
"#
    );
    cluster.apply(&pod).ok();
    cluster
        .kubectl(&["wait", "pod/mixed", "--for=condition=Ready", "--timeout=90s"])
        .ok();
    until("it was reached on localhost", MINUTE, || {
        let said = cluster.kubectl(&["logs", "mixed", "-c", "ask"]).stdout;
        match said.contains("asked") && said.contains("ahoy") {
            true => Ok(()),
            false => Err(said),
        }
    });
    let found = cluster.get(&["pod", "mixed"]);
    let ip = found["status"]["podIP"].as_str().expect("an address").to_owned();
    answers(&cluster, &format!("http://{ip}:8080/"), "ahoy");
    let ids = |pod: &serde_json::Value| {
        let statuses = pod["status"]["containerStatuses"].as_array().expect("statuses").clone();
        statuses
            .iter()
            .map(|status| status["containerID"].to_string())
            .collect::<Vec<_>>()
    };

    let mut schemes: Vec<String> = ids(&found).iter().map(|id| id.trim_matches('"').to_owned()).collect();
    schemes.sort();
    assert!(
        matches!(&*schemes, [linux, wasm] if linux.starts_with("containerd://") && wasm.contains("://wasm-")),
        "{schemes:?}"
    );

    // Both halves are found again.
    cluster.crash();
    cluster.up();
    cluster
        .kubectl(&["wait", "pod/mixed", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    assert_eq!(ids(&cluster.get(&["pod", "mixed"])), ids(&found));
    answers(&cluster, &format!("http://{ip}:8080/"), "ahoy");

    cluster.kubectl(&["delete", "pod", "mixed", "--timeout=60s"]).ok();
    until("nothing is left of it", MINUTE, || {
        let left = (cluster.processes("sandbox-host"), cluster.containerd().running());
        match left.0.is_empty() && left.1.is_empty() {
            true => Ok(()),
            false => Err(format!("{left:?}")),
        }
    });
}

#[test]
fn without_a_containerd_the_node_says_so_and_refuses_containers_with_the_reason() {
    need_root!();
    let cluster = Cluster::start(Options {
        arguments: vec!["--containerd".into(), "none".into()],
        ..Options::default()
    });
    let image = Image::default().write(cluster.scratch(), "tools");
    let refused = cluster.load(&image, "tools:1").err();
    assert!(
        refused.contains("containers are off on this node (--containerd none)"),
        "{refused}"
    );
}
