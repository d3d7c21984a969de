//! How Services reach containers.

use super::*;

/// Where the networks of containers that run this can be entered.
fn networks_of(cluster: &mut Cluster, program: &str) -> Vec<PathBuf> {
    let listed = e2e::run(cluster.containerd().ctr().args(["tasks", "ls"]), "").ok();
    let pids = listed.lines().filter_map(|line| line.split_whitespace().nth(1));
    let running = pids.filter(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains(program)
    });
    running
        .map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net")))
        .collect()
}

/// Does something in a thread that is in another network.
fn inside<T: Send + 'static>(
    network: &std::path::Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::thread::JoinHandle<std::io::Result<T>> {
    let network = std::fs::File::open(network).expect("a network");
    std::thread::spawn(move || {
        nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// Sends back what comes to the port that the Service leads to.
fn answer_datagrams(network: &std::path::Path) {
    let _goes_on = inside(network, || -> std::io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:5353")?;
        let mut datagram = [0; 64];
        loop {
            let (length, from) = socket.recv_from(&mut datagram)?;
            socket.send_to(&datagram[..length], from)?;
        }
    });
}

#[test]
fn services_reach_containers_by_every_way() {
    need_root!();
    let mut cluster = cluster();
    let serve = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www";
    let ports = "    ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]\n    readinessProbe: {tcpSocket: {port: 8080}, \
                 periodSeconds: 1}";
    let backends: String = ["one", "two", "three"]
        .iter()
        .map(|name| {
            let made = pod(name, &format!("  containers:\n{}", container("main", serve, ports)));
            made.replace(&format!("app: {name}"), "app: web")
        })
        .collect();
    let services = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: echo, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  internalTrafficPolicy: Local
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: alone}
spec: {selector: {alone: 'yes'}, ports: [{port: 80, targetPort: 8080}]}
---
";
    let client = pod(
        "client",
        &format!("  containers:\n{}", container("main", "sleep 1234321", "")),
    );
    cluster.apply(&[services, &backends, &client].concat()).ok();
    for name in ["one", "two", "three", "client"] {
        ready(&cluster, name);
    }
    cluster.kubectl(&["label", "pod", "one", "alone=yes"]).ok();
    let exec = |pod: &str, script: &str| cluster.kubectl(&["exec", pod, "--", "sh", "-c", script]);
    let ip = |name: &str| {
        cluster.get(&["service", name])["spec"]["clusterIP"]
            .as_str()
            .expect("an address")
            .to_owned()
    };
    let get = |to: &str| format!(r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 {to} 80 | busybox tail -n 1");
    let (web, sticky, alone) = (ip("web"), ip("sticky"), ip("alone"));
    // All of them.
    let mut seen = std::collections::BTreeSet::new();
    until("each backend has answered", SOON, || {
        let said = exec("client", &get(&web));
        seen.insert(said.stdout.clone());
        seen.retain(|name| !name.is_empty());
        match seen.len() {
            3 => Ok(()),
            _ => Err(format!("{seen:?} {said:?}")),
        }
    });
    // Always the same one.
    let ten = exec(
        "client",
        &format!("for i in 0 1 2 3 4 5 6 7 8 9; do {}; done", get(&sticky)),
    )
    .ok();
    let mut answers: Vec<&str> = ten.lines().collect();
    assert_eq!(answers.len(), 10, "{ten}");
    answers.dedup();
    assert_eq!(answers.len(), 1, "{ten}");
    // A pod that is its own Service's only endpoint.
    until("it reaches itself", SOON, || {
        let said = exec("one", &get(&alone));
        match said.stdout == "one\n" {
            true => Ok(()),
            false => Err(format!("{said:?}")),
        }
    });
    // Datagrams, from the machine and from a pod. busybox has nothing that answers them: somebody does in the pods' networks.
    let networks = networks_of(&mut cluster, "httpd");
    assert_eq!(networks.len(), 3);
    for network in networks {
        answer_datagrams(&network);
    }
    let mut clients = networks_of(&mut cluster, "1234321");
    clients.push(cluster.network());
    assert_eq!(clients.len(), 2);
    for network in clients {
        until("datagrams come back", SOON, || {
            let web = format!("{web}:53");
            let said = inside(&network, move || {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.set_read_timeout(Some(Duration::from_secs(2)))?;
                socket.send_to(b"over udp", web)?;
                let mut answer = [0; 64];
                let (length, _) = socket.recv_from(&mut answer)?;
                Ok(answer[..length].to_vec())
            });
            match said.join().expect("no panic") {
                Ok(answer) if answer == b"over udp" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    // By the node's ports.
    let node = cluster.get(&["nodes"])["items"][0]["status"]["addresses"][0]["address"].clone();
    let node = node.as_str().expect("an address");
    for name in ["web", "local"] {
        let port = cluster.get(&["service", name])["spec"]["ports"][0]["nodePort"].clone();
        until(&format!("{name} answers at the node"), SOON, || {
            let answer = cluster.curl(&format!("http://{node}:{port}/"));
            match answer.success {
                true => Ok(()),
                false => Err(format!("{answer:?}")),
            }
        });
    }
}
