//! Into a pod with real kubectl, of two versions and by both of the protocols they speak: exec, cp, attach, port-forward.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use e2e::{Cluster, Going, Options, Tool, WAYS, Way, need_root, repository, run, until};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      volumes: [{name: data, emptyDir: {}}]
      containers:
      - name: hello
        image: hello:1
        env: [{name: GREETING, value: ahoy}]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}}
        volumeMounts: [{name: data, mountPath: /data}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

struct World {
    cluster: Cluster,
    pod: String,
}

impl World {
    fn start() -> Self {
        let cluster = Cluster::start(Options::default());
        let hello = repository().join("examples/hello/hello.wasm");
        cluster.load(&hello, "hello:1").ok();
        cluster.apply(WEB).ok();
        let rollout = ["rollout", "status", "deployment/web", "--timeout=60s"];
        cluster.kubectl(&rollout).ok();
        let pod = cluster.kubectl(&["get", "pods", "-o", "name"]).ok();
        let pod = pod.trim().trim_start_matches("pod/").to_owned();
        Self { cluster, pod }
    }

    fn command(&self, way: Way, arguments: &[&str]) -> Command {
        self.cluster.kubectl_by(way, arguments)
    }

    /// Runs a command in the pod.
    fn exec(&self, way: Way, stdin: &str, command: &[&str]) -> e2e::Output {
        let interactive = if stdin.is_empty() {
            "--stdin=false"
        } else {
            "--stdin=true"
        };
        let arguments = [&["exec", interactive, &self.pod, "--"], command].concat();
        run(&mut self.command(way, &arguments), stdin)
    }
}

#[test]
fn commands_run_in_a_pod() {
    need_root!();
    let world = World::start();
    for way in WAYS {
        assert_eq!(
            world.exec(way, "", &["echo", "a b", "c&d=é"]).ok(),
            "a b c&d=é\n",
            "{way:?}"
        );
        assert!(
            world.exec(way, "", &["env"]).ok().contains("GREETING=ahoy\n"),
            "{way:?}"
        );
        assert_eq!(world.exec(way, "said\n", &["cat"]).ok(), "said\n", "{way:?}");
        let failed = world.exec(way, "", &["ls", "/data/none"]);
        assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""), "{way:?}");
        assert!(
            failed.stderr.contains("ls: /data/none: No such file or directory\n"),
            "{way:?}: {}",
            failed.stderr
        );
        let shell = world.exec(way, "", &["sh"]);
        assert_eq!(shell.code, Some(127), "{way:?}");
        assert!(
            shell.stderr.contains("sh: not found: a Wasm container has no shell"),
            "{way:?}: {}",
            shell.stderr
        );
        let wrong = run(
            &mut world.command(way, &["exec", &world.pod, "-c", "none", "--", "ls"]),
            "",
        )
        .err();
        assert!(
            wrong.contains(&format!("container none is not valid for pod {}", world.pod)),
            "{way:?}: {wrong}"
        );
    }
}

#[test]
fn a_terminal_is_a_terminal() {
    need_root!();
    let world = World::start();
    for way in WAYS {
        let kubectl = world.command(way, &["exec", "-it", &world.pod, "--", "ls", "/data", "/etc/none"]);
        let words = kubectl.get_args().map(|word| word.to_string_lossy().into_owned());
        let program = kubectl.get_program().to_string_lossy().into_owned();
        let line: Vec<String> = std::iter::once(program)
            .chain(words)
            .map(|word| format!("'{word}'"))
            .collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
        for (name, value) in kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            script.env(name, value);
        }
        let shown = run(&mut script, "");
        assert_eq!(shown.code, Some(1), "{way:?}: {shown:?}");
        // Its lines are whole, and what is said on stderr is shown as well.
        assert!(
            shown.stdout.contains("ls: /etc/none: No such file or directory\r\n"),
            "{way:?}: {}",
            shown.stdout
        );
    }
}

#[test]
fn files_are_copied_both_ways() {
    need_root!();
    let world = World::start();
    let there = world.cluster.scratch().join("there");
    std::fs::create_dir_all(there.join("below")).expect("a directory");
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    std::fs::write(there.join("below/numbers"), &content).expect("a file");
    let there = there.to_str().expect("in UTF-8");
    for (index, way) in WAYS.into_iter().enumerate() {
        let inside = format!("{}:/data/copy{index}", world.pod);
        run(&mut world.command(way, &["cp", there, &inside]), "").ok();
        let back = world.cluster.scratch().join(format!("back{index}"));
        run(
            &mut world.command(way, &["cp", &inside, back.to_str().expect("in UTF-8")]),
            "",
        )
        .ok();
        let copied = std::fs::read(back.join("below/numbers")).expect("a copy");
        assert!(
            copied == content,
            "{way:?}: {} bytes of {}",
            copied.len(),
            content.len()
        );
    }
}

/// A forward to something; the port of this side.
fn forward(world: &World, way: Way, what: &str, port: &str) -> (Going, String) {
    let mut going = Going::start(&mut world.command(way, &["port-forward", what, port]));
    let local = going.forwarded_port();
    (going, local)
}

#[test]
fn ports_are_forwarded() {
    need_root!();
    let world = World::start();
    let pod = format!("pod/{}", world.pod);
    for way in WAYS {
        for (what, port) in [
            (pod.as_str(), ":8080"),
            ("service/web", ":80"),
            ("deployment/web", ":8080"),
        ] {
            let (_going, local) = forward(&world, way, what, port);
            let body = world.cluster.curl(&format!("http://127.0.0.1:{local}/")).ok();
            assert!(body.contains("ahoy"), "{way:?} {what}: {body}");
        }
    }
}

#[test]
fn two_hundred_connections_at_once() {
    need_root!();
    let world = World::start();
    for way in [(Tool::Kubectl136, false), (Tool::Kubectl136, true)] {
        let (_going, local) = forward(&world, way, "deployment/web", ":8080");
        let mut curl = world.cluster.on_machine("curl");
        curl.args([
            "--silent",
            "--fail",
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
            "200",
        ]);
        curl.args(["--write-out", "%{http_code}\n", "--output", "/dev/null"]);
        curl.arg(format!("http://127.0.0.1:{local}/?[1-200]"));
        let codes = run(&mut curl, "").ok();
        assert_eq!(
            codes.lines().filter(|code| *code == "200").count(),
            200,
            "{way:?}: {codes}"
        );
    }
}

#[test]
fn attaching_shows_what_is_said() {
    need_root!();
    let world = World::start();
    let address = world.cluster.get(&["pod", &world.pod])["status"]["podIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    for way in WAYS {
        let mut attached = Going::start(&mut world.command(way, &["attach", &world.pod]));
        // What was said before is not repeated, so that somebody goes on asking until it is heard.
        let (heard, hears) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            let line = attached.line("GET /");
            let _ = heard.send(());
            line
        });
        until("a request is heard of", Duration::from_secs(30), || {
            world.cluster.curl(&format!("http://{address}:8080/")).ok();
            hears.try_recv().map_err(|error| error.to_string())
        });
        reading.join().expect("a line");
    }
}

/// Kilobytes of memory that a process holds.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_gigabyte_passes_in_little_memory() {
    need_root!();
    let world = World::start();
    const GIGABYTE: u64 = 1 << 30;
    for way in [(Tool::Kubectl136, false), (Tool::Kubectl136, true)] {
        let before = resident(world.cluster.server_pid());
        let mut counting = world.command(way, &["exec", "-i", &world.pod, "--", "wc", "-c"]);
        let mut child = counting
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl");
        let mut stdin = child.stdin.take().expect("a pipe");
        let mut most = 0;
        let zeros = vec![0; 1 << 20];
        for _ in 0..GIGABYTE >> 20 {
            std::io::Write::write_all(&mut stdin, &zeros).expect("it is read");
            most = most.max(resident(world.cluster.server_pid()));
        }
        drop(stdin);
        let output = child.wait_with_output().expect("an end");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            GIGABYTE.to_string(),
            "{way:?}"
        );
        let grown = most.saturating_sub(before);
        assert!(grown < 48 << 10, "{way:?}: {grown} kB more");
    }
}
