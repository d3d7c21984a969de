//! A cluster of one test.

use std::{
    io::{BufRead, BufReader},
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::Signal,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    containerd::{Containerd, PAUSE, Release},
    oci::Image,
    process::{Output, Tool, kill, run, until},
};

/// How a cluster starts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Further arguments of `wherry up`. Images stay when the disk fills unless `--image-gc-high-threshold` is among them.
    pub arguments: Vec<String>,
    /// Processes, mounts and `/run` are the cluster's own too, as on a machine of its own that can lose its power.
    pub machine: bool,
    /// Mebibytes of a disk of its own that the data directory lies on.
    pub disk: Option<u32>,
    /// Variables that `wherry up` finds in its environment.
    pub environment: Vec<(String, String)>,
    /// The program, in place of [`binary`]; a test may replace its file.
    pub program: Option<PathBuf>,
    /// The user that it runs as, without any capability; `None`: root.
    pub user: Option<User>,
    /// The cluster's machine has a containerd, with the image that holds pods' namespaces.
    pub containerd: bool,
    /// Which one.
    pub release: Release,
}

impl Options {
    /// A cluster of a user without a name, on a machine where the usual ports of Services are open to everybody.
    pub fn as_a_user() -> Self {
        Self {
            user: Some(User {
                id: 61_234,
                first_port: 0,
            }),
            ..Self::default()
        }
    }
}

/// An ordinary user of a machine.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub id: u32,
    /// The first port that the machine lets users listen on (`net.ipv4.ip_unprivileged_port_start`).
    pub first_port: u16,
}

/// Makes the mounts of a machine that has just booted, starts its containerd if it has one, then becomes the program. `$1`
/// holds the boot id, `$2` is where containerd has its state, which a machine has in memory, and `$3` how it is started.
const BOOT: &str = r#"
set -e
mount --make-rshared /
mount -t tmpfs tmpfs /run
mount --bind "$1" /proc/sys/kernel/random/boot_id
if [ -n "$2" ]; then
  mkdir -p "$2"
  mount -t tmpfs tmpfs "$2"
  sh -c "$3" &
fi
shift 3
exec "$@"
"#;

/// A network namespace that goes with its owner.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn make() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let fresh = || {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            format!("wherry-e2e-{}-{number}", std::process::id())
        };
        // A process of the same number that was killed has left its own.
        let is_free = |name: &String| !Path::new("/run/netns").join(name).exists();
        let name = std::iter::repeat_with(fresh)
            .find(is_free)
            .expect("it goes on for ever");
        run(Command::new("ip").args(["netns", "add", &name]), "").ok();
        run(Command::new("ip").args(["-n", &name, "link", "set", "lo", "up"]), "").ok();
        Self(name)
    }

    /// Where it can be entered.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // Not `ip netns exec`: it remounts /sys and hides the control groups.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }
}

impl Namespace {
    fn set_first_port(&self, first: u16) {
        let script = format!("echo {first} > /proc/sys/net/ipv4/ip_unprivileged_port_start");
        run(self.command("sh").args(["-c", &script]), "").ok();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A machine without a cluster, as far as its network goes: for tests that start their own.
pub struct Machine(Namespace);

impl Machine {
    #[allow(clippy::new_without_default, reason = "making one changes the system")]
    pub fn new() -> Self {
        Self(Namespace::make())
    }

    /// A program on it.
    pub fn command(&self, program: &str) -> Command {
        self.0.command(program)
    }
}

/// A one-machine cluster; dropped, it ends with everything it made.
pub struct Cluster {
    process: Option<Child>,
    lines: Option<mpsc::Receiver<String>>,
    options: Options,
    /// Before the directory and the network, which it goes before.
    containerd: Option<Containerd>,
    directory: TempDir,
    namespace: Arc<Namespace>,
    port: u16,
}

const PORT: u16 = 6443;
/// The flag of those tests that are about images that go.
const IMAGE_GC: &str = "--image-gc-high-threshold";
/// For the processes of a machine without power to be gone.
const OFF: Duration = Duration::from_secs(30);
/// The first of the descriptors by which users execute the program.
const PROGRAM: i32 = 100;

impl Cluster {
    /// Starts a cluster and waits for its `ready`.
    ///
    /// # Panics
    /// When it does not become ready within a minute, with the end of its log.
    pub fn start(options: Options) -> Self {
        let mut cluster = Self::new(options, Arc::new(Namespace::make()), PORT);
        cluster.up();
        if cluster.containerd.is_some() {
            cluster.load_image(&Image::pause(), PAUSE);
        }
        cluster
    }

    /// Prepares a second cluster on the machine of this one, whose API has the next port; nothing is started.
    pub fn beside(&self, options: Options) -> Self {
        Self::new(options, Arc::clone(&self.namespace), self.port + 1)
    }

    fn new(options: Options, namespace: Arc<Namespace>, port: u16) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("wherry-e2e-")
            .tempdir()
            .expect("a temporary directory");
        let containerd = options.containerd.then(|| {
            let network = Some(namespace.path());
            match options.machine {
                // It starts with the machine, and ends with it.
                true => Containerd::prepare(directory.path(), network, options.release),
                false => Containerd::start(directory.path(), network, options.release),
            }
        });
        let cluster = Self {
            process: None,
            lines: None,
            options,
            containerd,
            directory,
            namespace,
            port,
        };
        if let Some(user) = cluster.options.user {
            let mine = |path: &Path| std::os::unix::fs::chown(path, Some(user.id), Some(user.id));
            mine(cluster.scratch()).expect("root gives directories away");
            cluster.namespace.set_first_port(user.first_port);
        }
        if let Some(size) = cluster.options.disk {
            std::fs::create_dir(cluster.data()).expect("a directory");
            let size = format!("size={size}m,mode=0700");
            run(
                Command::new("mount")
                    .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
                    .arg(cluster.data()),
                "",
            )
            .ok();
        }
        cluster
    }

    /// Starts `wherry up` on the data directory, which must not be running, and waits for its `ready`.
    pub fn up(&mut self) {
        self.launch();
        self.wait_ready();
    }

    /// Starts `wherry up` and does not wait.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "the cluster runs already");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a log file");
        let mut command = if self.options.machine {
            self.booted("up")
        } else {
            self.wherry("up")
        };
        command
            .args(["--api-bind", &format!("127.0.0.1:{}", self.port)])
            .arg("--kubeconfig")
            .arg(self.kubeconfig());
        if let Some(containerd) = &self.containerd {
            command.arg("--containerd").arg(containerd.socket());
        }
        // Images that a test loads and does not use yet stay, however full the disk of the machine that runs the tests is.
        if !self
            .options
            .arguments
            .iter()
            .any(|argument| argument.starts_with(IMAGE_GC))
        {
            command.args([IMAGE_GC, "100"]);
        }
        command
            .args(&self.options.arguments)
            .envs(self.options.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        self.process = Some(child);
        let (said, lines) = mpsc::sync_channel(8);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        self.lines = Some(lines);
    }

    /// Waits for the `ready` of a launched cluster.
    ///
    /// # Panics
    /// When it does not come within a minute, with the end of the log.
    pub fn wait_ready(&mut self) {
        let lines = self.lines.take().expect("the cluster was launched");
        match lines.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => assert_eq!(line, "ready"),
            Err(_) => panic!("wherry up did not become ready:\n{}", self.log_tail()),
        }
    }

    /// A command of the binary for this cluster's data directory.
    pub fn wherry(&self, subcommand: &str) -> Command {
        let mut command = match self.options.user {
            Some(user) => self.as_user(user),
            None => self.namespace.command(self.program()),
        };
        command.args(subcommand.split(' ')).arg("--data-dir").arg(self.data());
        command
    }

    /// The program as an ordinary user who has logged in.
    fn as_user(&self, user: User) -> Command {
        let id = user.id.to_string();
        let program = std::fs::File::open(self.program()).expect("the binary is there");
        // A number of its own, above those that starting a process uses.
        let raw = fcntl(&program, FcntlArg::F_DUPFD_CLOEXEC(PROGRAM)).expect("a descriptor");
        // SAFETY: the descriptor was just made, and nobody else knows of it.
        let program = unsafe { OwnedFd::from_raw_fd(raw) };
        let mut command = self.namespace.command("setpriv");
        command
            .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
            .args(["--inh-caps=-all", "--bounding-set=-all"])
            // By its descriptor: the user need not be allowed into the directory where it was built.
            .arg(format!("/proc/self/fd/{raw}"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.scratch())
            .env("XDG_RUNTIME_DIR", self.scratch());
        // SAFETY: between fork and exec the closure makes one system call.
        unsafe {
            command.pre_exec(move || {
                fcntl(&program, FcntlArg::F_SETFD(FdFlag::empty()))?;
                Ok(())
            });
        }
        command
    }

    /// The same on a machine that has just booted.
    fn booted(&self, subcommand: &str) -> Command {
        let boot_id = self.directory.path().join("boot_id");
        let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel makes UUIDs");
        std::fs::write(&boot_id, random).expect("a scratch file");
        let mut command = self.namespace.command("unshare");
        command.args([
            "-m",
            "-p",
            "-f",
            "--mount-proc",
            "--kill-child",
            "bash",
            "-c",
            BOOT,
            "boot",
        ]);
        let containerd = self.containerd.as_ref();
        command
            .arg(boot_id)
            .arg(containerd.map(Containerd::state).unwrap_or_default())
            .arg(containerd.map(Containerd::command_line).unwrap_or_default())
            .arg(self.program())
            .arg(subcommand)
            .arg("--data-dir")
            .arg(self.data());
        command
    }

    /// Takes the power from a cluster that is a machine: every process ends at once, and of the network nothing is left.
    pub fn lose_power(&mut self) {
        assert!(self.options.machine, "only a machine has power to lose");
        self.end(Signal::SIGKILL);
        // The machine's first process is told by the death of this one, and the others by that one's.
        until("the machine is off", OFF, || match self.processes("").as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:?} run")),
        });
        self.namespace = Arc::new(Namespace::make());
        if let Some(containerd) = &mut self.containerd {
            containerd.move_to(self.namespace.path());
        }
    }

    /// Whether an ordinary user runs it.
    pub fn is_users(&self) -> bool {
        self.options.user.is_some()
    }

    /// Where the cluster's network namespace can be entered.
    pub fn network(&self) -> PathBuf {
        self.namespace.path()
    }

    /// Pids of the processes of this cluster whose command line holds `word`, as this test sees them.
    pub fn processes(&self, word: &str) -> Vec<u32> {
        let is_ours = |pid: &str| {
            let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            // A file that was replaced is still what its processes run.
            program.display().to_string().trim_end_matches(" (deleted)") == self.program().display().to_string()
        };
        let data = self.data().display().to_string();
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|n| n.parse::<u32>().is_ok());
        let ours = pids.filter(|pid| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let mine = command.contains(&data) || directory.starts_with(self.data());
            is_ours(pid) && mine && command.contains(word)
        });
        ours.filter_map(|pid| pid.parse().ok()).collect()
    }

    /// The program that the cluster is started with.
    fn program(&self) -> PathBuf {
        self.options.program.clone().unwrap_or_else(binary)
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A directory for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("wherry.log")
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The pid of `wherry up`: `nsenter` becomes the program it starts.
    pub fn server_pid(&self) -> u32 {
        self.process.as_ref().expect("the cluster runs").id()
    }

    /// Loads an image into the node.
    pub fn load(&self, file: &Path, name: &str) -> Output {
        // Users read their own files.
        let own = self.scratch().join(file.file_name().expect("a file"));
        let file = if self.options.user.is_some() {
            std::fs::copy(file, &own).expect("a scratch file");
            &own
        } else {
            file
        };
        run(self.wherry("image load").arg(file).arg(name), "")
    }

    /// Makes an image of a container and loads it into the node.
    #[track_caller]
    pub fn load_image(&self, image: &Image, name: &str) {
        let file = name.replace(['/', ':'], "-");
        self.load(&image.write(self.scratch(), &file), name).ok();
    }

    /// The containerd of the cluster's machine.
    pub fn containerd(&mut self) -> &mut Containerd {
        self.containerd.as_mut().expect("the machine has a containerd")
    }

    /// Runs the newer kubectl.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_with(Tool::Kubectl136, arguments, "")
    }

    /// Runs a kubectl with something on stdin.
    pub fn kubectl_with(&self, tool: Tool, arguments: &[&str], stdin: &str) -> Output {
        run(&mut self.kubectl_process(tool, arguments), stdin)
    }

    /// A kubectl to be started by the caller, for what goes on.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.kubectl_process(Tool::Kubectl136, arguments)
    }

    /// The same with a kubectl of one's choice. What it remembers of an API is this cluster's: all have the same address.
    pub fn kubectl_process(&self, tool: Tool, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(tool.path());
        command
            .env("KUBECACHEDIR", self.directory.path().join("kube-cache"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments);
        command
    }

    /// Applies manifests given as text.
    pub fn apply(&self, manifest: &str) -> Output {
        self.kubectl_with(Tool::Kubectl136, &["apply", "-f", "-"], manifest)
    }

    /// An object as JSON.
    #[track_caller]
    pub fn get(&self, arguments: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat()).ok();
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// The body that an URL answers from the cluster's machine.
    pub fn curl(&self, url: &str) -> Output {
        run(
            self.namespace
                .command("curl")
                .args(["-sS", "--fail", "--max-time", "10", url]),
            "",
        )
    }

    /// The same, without checking who answers.
    pub fn curl_insecure(&self, url: &str) -> Output {
        run(
            self.namespace
                .command("curl")
                .args(["-sSk", "--fail", "--max-time", "10", url]),
            "",
        )
    }

    /// A command on the cluster's machine.
    pub fn on_machine(&self, program: &str) -> Command {
        self.namespace.command(program)
    }

    /// Waits for a `wherry up` that somebody else has ended; answers whether it ended well.
    pub fn ended(&mut self) -> bool {
        let mut child = self.process.take().expect("the cluster runs");
        child.wait().expect("the child is waited for once").success()
    }

    /// Ends `wherry up` at once, as a crash would; workloads stay.
    pub fn crash(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Ends `wherry up` as an init system would; answers whether it ended well.
    pub fn stop(&mut self) -> bool {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, signal: Signal) -> bool {
        let mut child = self.process.take().expect("the cluster runs");
        kill(child.id(), signal);
        child.wait().expect("the child is waited for once").success()
    }

    /// What `wherry up` wrote to stderr so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of the log of wherry up ---\n{}", self.log_tail());
        }
        if self.process.is_some() {
            // The program that stands for a machine hands no signal on; its end takes everything with it.
            self.end(if self.options.machine {
                Signal::SIGKILL
            } else {
                Signal::SIGTERM
            });
        }
        if !self.data().join("lock").exists() {
            if let Some(containerd) = &mut self.containerd {
                containerd.end();
            }
            return; // never started
        }
        if self.options.machine
            && let Some(containerd) = &mut self.containerd
        {
            containerd.up(); // to tell it that its containers are gone
        }
        let down = run(&mut self.wherry("down"), "");
        if let Some(containerd) = &mut self.containerd {
            containerd.end();
        }
        if self.options.disk.is_some() {
            let _ = Command::new("umount").arg(self.data()).status();
        }
        if !down.success && !std::thread::panicking() {
            panic!("wherry down failed: {}", down.stderr);
        }
    }
}

/// The binary under test: `WHERRY_BIN`, else the one built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WHERRY_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a test knows its path");
    let profile = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    profile.join("wherry")
}
