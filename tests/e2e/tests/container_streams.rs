//! Into an OCI container with real kubectl, of two versions and by both of the protocols they speak: exec with a terminal,
//! attach, cp, port-forward, logs, and a gigabyte through them in little memory.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use e2e::{Cluster, Going, Options, Output, Tool, WAYS, Way, kill, need_root, oci::Image, run, until};
use nix::sys::signal::Signal;

const MINUTE: Duration = Duration::from_secs(60);

/// A pod of two containers, one of which serves a directory on the pod's 127.0.0.1 alone.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: main, labels: {app: main}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: web
    image: tools:1
    imagePullPolicy: Never
    command: [sh, -c, "echo up > /data/index.html; exec httpd -f -p 127.0.0.1:8080 -h /data"]
    env: [{name: GREETING, value: ahoy}]
    volumeMounts: [{name: data, mountPath: /data}]
    readinessProbe: {exec: {command: [cat, /data/index.html]}, periodSeconds: 1}
  - name: reader
    image: tools:1
    imagePullPolicy: Never
    stdin: true
    command: [sh, -c, "while read line; do echo \"heard $line\"; done"]
"#;

struct World(Cluster);

impl World {
    fn start() -> Self {
        let cluster = Cluster::start(Options {
            containerd: true,
            ..Options::default()
        });
        cluster.load_image(&Image::default(), "tools:1");
        cluster.apply(POD).ok();
        let ready = cluster.kubectl(&["wait", "pod/main", "--for=condition=Ready", "--timeout=60s"]);
        assert!(
            ready.success,
            "{}",
            cluster.kubectl(&["describe", "pod", "main"]).stdout
        );
        Self(cluster)
    }

    fn command(&self, way: Way, arguments: &[&str]) -> Command {
        self.0.kubectl_by(way, arguments)
    }

    fn exec(&self, way: Way, stdin: &str, script: &str) -> Output {
        let interactive = format!("--stdin={}", !stdin.is_empty());
        let arguments = ["exec", &interactive, "main", "-c", "web", "--", "sh", "-c", script];
        run(&mut self.command(way, &arguments), stdin)
    }

    /// A line of shell in a terminal of its own, in which `$KUBECTL` stands for this way's kubectl.
    fn in_a_terminal(&self, way: Way, line: &str) -> Output {
        let kubectl = self.command(way, &[]);
        let words = std::iter::once(kubectl.get_program()).chain(kubectl.get_args());
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", line, "/dev/null"]);
        for (name, value) in kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            script.env(name, value);
        }
        run(script.env("KUBECTL", words.join(" ")).env("SHELL", "/bin/sh"), "")
    }
}

#[test]
fn commands_run_with_their_input_their_errors_and_their_exit_code() {
    need_root!();
    let world = World::start();
    for way in WAYS {
        assert_eq!(world.exec(way, "", "echo $GREETING").ok(), "ahoy\n", "{way:?}");
        assert_eq!(world.exec(way, "a\nb\n", "wc -l; echo end").ok(), "2\nend\n", "{way:?}");
        let failed = world.exec(way, "", "echo out; echo err >&2; exit 7");
        assert_eq!((failed.code, failed.stdout.as_str()), (Some(7), "out\n"), "{way:?}");
        assert!(failed.stderr.starts_with("err\n"), "{way:?}: {}", failed.stderr);
        let none = run(&mut world.command(way, &["exec", "main", "--", "none"]), "");
        assert!(!none.success, "{way:?}");
        assert!(
            none.stderr.contains("executable file not found"),
            "{way:?}: {}",
            none.stderr
        );
        let many = world.exec(way, "", "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done");
        assert!(many.ok().ends_with("\n19998\n19999\n"), "{way:?}");
    }
}

#[test]
fn a_terminal_has_its_size_and_hears_of_a_new_one() {
    need_root!();
    let world = World::start();
    for (nth, way) in WAYS.into_iter().enumerate() {
        let inside = format!(
            "until [ \\\"\\$(stty size)\\\" = \\\"37 111\\\" ]; do :; done; echo first; touch /tmp/seen{nth}; \
             until [ \\\"\\$(stty size)\\\" = \\\"40 120\\\" ]; do :; done; echo then; exit 9"
        );
        let line = format!(
            "stty rows 37 cols 111; (until $KUBECTL exec main -c web -- ls /tmp/seen{nth} </dev/null >/dev/null 2>&1; do :; \
             done; stty rows 40 cols 120 </dev/tty) & $KUBECTL exec -it main -c web -- sh -c \"{inside}\""
        );
        let shown = world.in_a_terminal(way, &line);
        assert_eq!(shown.code, Some(9), "{way:?}: {shown:?}");
        // `script` has an input that ends, which it tells by a character; when that comes to be echoed is open.
        let said = shown.stdout.replace("^@", "");
        assert!(said.contains("first\r\nthen\r\n"), "{way:?}: {said}");
    }
}

#[test]
fn attached_input_reaches_the_container_and_its_words_come_back() {
    need_root!();
    let world = World::start();
    for (nth, way) in WAYS.into_iter().enumerate() {
        let mut attach = world.command(way, &["attach", "-i", "main", "-c", "reader"]);
        let mut child = attach
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl");
        let mut stdin = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut stdin, format!("words {nth}\n").as_bytes()).expect("it is taken");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let heard = lines
            .by_ref()
            .map(|line| line.expect("text"))
            .find(|line| line.contains("heard"));
        assert_eq!(heard.as_deref(), Some(format!("heard words {nth}").as_str()), "{way:?}");
        kill(child.id(), Signal::SIGKILL);
        let _ = child.wait();
    }
    // A container that is made for one command and goes with it.
    for (nth, way) in WAYS.into_iter().enumerate() {
        let name = format!("once{nth}");
        let image = "--image=tools:1";
        let arguments = [
            "run",
            &name,
            image,
            "--image-pull-policy=Never",
            "--rm",
            "-i",
            "--restart=Never",
            "--quiet",
            "--",
            "-c",
            "read line; echo \"got $line\"",
        ];
        let said = run(&mut world.command(way, &arguments), "this\n").ok();
        assert!(said.contains("got this"), "{way:?}: {said}");
        world.0.kubectl(&["get", "pod", &name]).err();
    }
}

#[test]
fn files_are_copied_both_ways_and_none_leaves_where_it_was_sent() {
    need_root!();
    let world = World::start();
    let there = world.0.scratch().join("there");
    std::fs::create_dir_all(there.join("below")).expect("a directory");
    let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(there.join("below/numbers"), &content).expect("a file");
    for (nth, way) in WAYS.into_iter().enumerate() {
        let inside = format!("main:/tmp/copy{nth}");
        let from = there.display().to_string();
        run(&mut world.command(way, &["cp", "-c", "web", &from, &inside]), "").ok();
        let back = world.0.scratch().join(format!("back{nth}"));
        let to = back.display().to_string();
        run(&mut world.command(way, &["cp", "-c", "web", &inside, &to]), "").ok();
        let copied = std::fs::read(back.join("below/numbers")).expect("a copy");
        assert!(copied == content, "{way:?}: {} bytes", copied.len());
    }
    // A container may send what it likes: of links and paths that lead out, nothing is made here.
    let script = "mkdir -p /evil && ln -s /etc/hostname /evil/link && echo x > /evil/file && ln -s /tmp /evil/dir";
    world.exec(WAYS[0], "", script).ok();
    let to = world.0.scratch().join("evil").display().to_string();
    run(&mut world.command(WAYS[0], &["cp", "-c", "web", "main:/evil", &to]), "").ok();
    let mut made: Vec<String> = std::fs::read_dir(&to)
        .expect("a copy")
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    made.sort();
    assert_eq!(made, ["file"]);
    // What is sent the other way stays in the container, whatever the names in it say.
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let name = b"../../../../../../tmp/wherry-e2e-escaped";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_size(2);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, &b"x\n"[..]).expect("in memory");
    let archive = world.0.scratch().join("evil.tar");
    std::fs::write(&archive, tar.into_inner().expect("in memory")).expect("a file");
    let mut extract = world.command(
        WAYS[0],
        &[
            "exec", "-i", "main", "-c", "web", "--", "tar", "-xf", "-", "-C", "/data",
        ],
    );
    let given = std::fs::File::open(&archive).expect("a file");
    let status = extract
        .stdin(given)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("kubectl runs");
    assert!(!std::path::Path::new("/tmp/wherry-e2e-escaped").exists());
}

/// A kubectl that forwards a port, and the port of this side.
fn forward(world: &World, way: Way, what: &str, port: &str) -> (Going, String) {
    let mut going = Going::start(&mut world.command(way, &["port-forward", what, port]));
    let local = going.forwarded_port();
    (going, local)
}

#[test]
fn ports_of_the_pods_own_loopback_are_forwarded_two_hundred_at_once() {
    need_root!();
    let world = World::start();
    for way in WAYS {
        let (_going, local) = forward(&world, way, "pod/main", ":8080");
        let body = world.0.curl(&format!("http://127.0.0.1:{local}/")).ok();
        assert_eq!(body, "up\n", "{way:?}");
        let mut curl = world.0.on_machine("curl");
        curl.args(["--silent", "--fail", "--parallel", "--parallel-immediate"]);
        curl.args([
            "--parallel-max",
            "200",
            "--write-out",
            "%{http_code}\n",
            "--output",
            "/dev/null",
        ]);
        curl.arg(format!("http://127.0.0.1:{local}/?[1-200]"));
        let codes = run(&mut curl, "").ok();
        let good = codes.lines().filter(|code| *code == "200").count();
        assert_eq!(good, 200, "{way:?}");
    }
}

/// Kilobytes of memory that a process holds.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default()
}

/// Looks at a process's memory again and again, for its largest.
struct Watched {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    before: u64,
}

impl Watched {
    fn start(pid: u32) -> Self {
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let before = resident(pid);
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&most));
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(resident(pid), Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        Self { stop, most, before }
    }

    /// Kilobytes that it grew by at most.
    fn grown(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.most.load(Ordering::Relaxed).saturating_sub(self.before)
    }
}

#[test]
fn a_gigabyte_is_copied_in_and_forwarded_out_in_little_memory() {
    need_root!();
    let world = World::start();
    const GIGABYTE: u64 = 1 << 30;
    let large = world.0.scratch().join("large");
    // Of holes: what travels is a gigabyte, what is on the disk is nothing.
    std::fs::File::create(&large)
        .and_then(|file| file.set_len(GIGABYTE))
        .expect("a file");
    let from = large.display().to_string();
    for way in [(Tool::Kubectl136, false), (Tool::Kubectl136, true)] {
        let watched = Watched::start(world.0.server_pid());
        run(
            &mut world.command(way, &["cp", "-c", "web", &from, "main:/data/large"]),
            "",
        )
        .ok();
        let size = world.exec(way, "", "stat -c %s /data/large").ok();
        assert_eq!(size.trim(), GIGABYTE.to_string(), "{way:?}");
        let (_going, local) = forward(&world, way, "pod/main", ":8080");
        let mut curl = world.0.on_machine("curl");
        curl.args([
            "--silent",
            "--fail",
            "--output",
            "/dev/null",
            "--write-out",
            "%{size_download}",
        ]);
        curl.arg(format!("http://127.0.0.1:{local}/large"));
        assert_eq!(run(&mut curl, "").ok(), GIGABYTE.to_string(), "{way:?}");
        let grown = watched.grown();
        assert!(grown < 48 << 10, "{way:?}: {grown} kB more");
    }
}

const LOGS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talk, labels: {talks: "yes"}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: go, emptyDir: {}}]
  initContainers:
  - {name: first, image: "tools:1", imagePullPolicy: Never, command: [echo, from the init container]}
  containers:
  - name: one
    image: tools:1
    imagePullPolicy: Never
    volumeMounts: [{name: go, mountPath: /go}]
    command:
    - sh
    - -c
    - |
      if mkdir /go/began 2>/dev/null; then echo first life; exit 3; fi
      echo second life
      i=1; while [ $i -le 10 ]; do echo line $i; i=$((i+1)); done
      until [ -e /go/on ]; do sleep 1; done
      echo the last line
      sleep 1000000
  - name: two
    image: tools:1
    imagePullPolicy: Never
    command: [sh, -c, "echo of the other; sleep 1000000"]
"#;

#[test]
fn logs_are_told_as_they_are_asked_for() {
    need_root!();
    let cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    cluster.apply(LOGS).ok();
    let logs = |arguments: &[&str]| cluster.kubectl(&[&["logs"], arguments].concat());
    until("the second life has spoken", MINUTE, || {
        let said = logs(&["talk", "-c", "one"]);
        match said.stdout.ends_with("line 10\n") {
            true => Ok(()),
            false => Err(format!("{said:?}")),
        }
    });
    let ten: String = (1..=10).map(|n| format!("line {n}\n")).collect();
    assert_eq!(logs(&["talk", "-c", "one"]).ok(), format!("second life\n{ten}"));
    assert_eq!(logs(&["talk", "-c", "one", "--previous"]).ok(), "first life\n");
    assert_eq!(logs(&["talk", "-c", "one", "--tail=2"]).ok(), "line 9\nline 10\n");
    assert_eq!(logs(&["talk", "-c", "one", "--limit-bytes=6"]).ok(), "second");
    assert_eq!(
        logs(&["talk", "-c", "one", "--since-time=2999-01-01T00:00:00Z"]).ok(),
        ""
    );
    assert_eq!(logs(&["talk", "-c", "one", "--since=1h", "--tail=1"]).ok(), "line 10\n");
    let stamped = logs(&["talk", "-c", "one", "--timestamps", "--tail=1"]).ok();
    let (stamp, rest) = stamped.split_once(' ').expect("a time and a line");
    assert!(
        stamp.contains('T') && stamp.ends_with('Z') && rest == "line 10\n",
        "{stamped}"
    );
    let all = logs(&["talk", "--all-containers", "--prefix"]).ok();
    for line in [
        "[pod/talk/first] from the init container\n",
        "[pod/talk/one] line 10\n",
        "[pod/talk/two] of the other\n",
    ] {
        assert!(all.contains(line), "{line:?} is missing in\n{all}");
    }
    let chosen = logs(&["-l", "talks=yes", "-c", "two"]).ok();
    assert_eq!(chosen, "of the other\n");
    assert!(
        logs(&["talk", "-c", "none"])
            .err()
            .contains("container none is not valid")
    );

    // A follower hears of what is said while it listens.
    let mut follower = cluster
        .kubectl_command(&["logs", "-f", "talk", "-c", "one"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let mut heard = |what: &str| lines.by_ref().map_while(Result::ok).any(|line| line == what);
    assert!(heard("line 10"));
    cluster
        .kubectl(&["exec", "talk", "-c", "one", "--", "touch", "/go/on"])
        .ok();
    assert!(heard("the last line"));
    // It ends when the container does.
    cluster.kubectl(&["delete", "pod", "talk", "--wait=false"]).ok();
    let ended = std::thread::spawn(move || follower.wait());
    until("the follower has ended", MINUTE, || match ended.is_finished() {
        true => Ok(()),
        false => Err("it goes on".to_owned()),
    });
}
