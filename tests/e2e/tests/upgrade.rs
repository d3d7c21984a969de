//! Another build takes over: workloads go on as they were, new pods get the new build, and an earlier build refuses what a
//! later one has written.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use e2e::{Cluster, Options, binary, need_root, repository, run, until};

const SOON: Duration = Duration::from_secs(60);
/// The head of a GNU build id in an ELF program: lengths of name and content, type, name.
const NOTE: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";

/// Puts the program at `path` as a build of its own: the same code with another build id.
fn install(path: &Path, build: u8) {
    let mut program = fs::read(binary()).expect("the program");
    let note = program
        .windows(NOTE.len())
        .position(|bytes| bytes == NOTE)
        .expect("the program has a build id");
    program[note + NOTE.len()..][..20].fill(build);
    let temporary = path.with_extension("new");
    fs::write(&temporary, program).expect("a file");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::rename(&temporary, path).expect("the program is replaced");
}

fn build(program: &Path) -> String {
    run(Command::new(program).arg("version"), "").ok()
}

fn pods(cluster: &Cluster) -> Vec<String> {
    let facts = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID} \
                 {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let listed = cluster.kubectl(&["get", "pods", "-l", "app=hello", "-o", facts]).ok();
    listed.lines().map(str::to_owned).collect()
}

/// Asks one address again and again until a file says that it is enough.
struct Requests {
    enough: PathBuf,
    asking: std::thread::JoinHandle<e2e::Output>,
}

impl Requests {
    fn start(cluster: &Cluster, url: &str) -> Self {
        let enough = cluster.scratch().join("enough");
        let script = "while [ ! -e \"$0\" ]; do curl -sS --fail --max-time 5 -o /dev/null \"$1\" && echo answered || echo failed; done";
        let mut command = cluster.on_machine("bash");
        command.args(["-c", script]).arg(&enough).arg(url);
        let asking = std::thread::spawn(move || run(&mut command, ""));
        Self { enough, asking }
    }

    fn stop(self) -> e2e::Output {
        fs::write(&self.enough, "").expect("a file");
        self.asking.join().expect("the requests end")
    }
}

#[test]
fn an_upgrade_in_place_disturbs_no_workload() {
    need_root!();
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let program = directory.path().join("wherry");
    install(&program, 1);
    let first = build(&program);
    let mut cluster = Cluster::start(Options {
        program: Some(program.clone()),
        ..Options::default()
    });
    let example = repository().join("examples/hello");
    cluster.load(&example.join("hello.wasm"), "hello:1").ok();
    cluster
        .kubectl(&["apply", "-f", example.to_str().expect("a path in UTF-8")])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    let address = cluster
        .kubectl(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])
        .ok();
    let before = pods(&cluster);
    let requests = Requests::start(&cluster, &format!("http://{address}/"));

    install(&program, 2);
    assert_ne!(build(&program), first);
    assert!(cluster.stop(), "SIGTERM is a good end");
    cluster.up();
    assert_eq!(pods(&cluster), before, "the same pods run in the same containers");
    let old_hosts = cluster.processes("sandbox-host");
    assert_eq!(old_hosts.len(), 1, "the host of the first build lives on, alone");

    cluster.kubectl(&["scale", "deployment/hello", "--replicas=4"]).ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    assert_eq!(
        cluster.processes("sandbox-host").len(),
        2,
        "the new pod is in a host of the second build"
    );
    let requests = requests.stop();
    let count = |word: &str| requests.stdout.lines().filter(|line| *line == word).count();
    assert!(count("answered") > 50, "{} answers", count("answered"));
    assert_eq!(count("failed"), 0, "{}", requests.stderr);

    cluster.kubectl(&["rollout", "restart", "deployment/hello"]).ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    let after = until("the old pods are gone", SOON, || {
        let after = pods(&cluster);
        match after.iter().any(|pod| before.contains(pod)) || after.len() != 4 {
            true => Err(after.join(", ")),
            false => Ok(after),
        }
    });
    assert!(after.iter().all(|pod| pod.ends_with(" 0")), "{after:?}");
}

#[test]
fn an_earlier_build_refuses_what_a_later_one_has_written() {
    need_root!();
    let mut cluster = Cluster::start(Options::default());
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    assert!(cluster.stop(), "SIGTERM is a good end");
    let index = cluster.data().join("images/index.json");
    let written = fs::read(&index).expect("the image index");
    let mut later: serde_json::Value = serde_json::from_slice(&written).expect("JSON");
    later["format"] = (later["format"].as_u64().expect("a format") + 1).into();
    fs::write(&index, later.to_string()).expect("the image index");
    cluster.launch();
    assert!(!cluster.ended(), "it does not start");
    let log = cluster.log_text();
    let said = log
        .lines()
        .filter(|line| line.starts_with("wherry:"))
        .collect::<Vec<_>>();
    assert!(matches!(&*said, [line] if line.contains("newer")), "{said:?}");
    fs::write(&index, written).expect("the image index");
    cluster.up();
}
