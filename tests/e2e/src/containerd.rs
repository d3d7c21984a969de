//! A containerd of one test's own: its state, its socket and its network are the test's, and go with it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::process::{kill, run, until};

/// The image that holds a pod's namespaces; the test loads it.
pub const PAUSE: &str = "localhost/pause:3.6";

/// Which containerd, by the Debian it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// 1.6, installed.
    #[default]
    Bookworm,
    /// 1.7, where `WHERRY_CONTAINERD_1_7` says.
    Trixie,
    /// 2.x, where `WHERRY_CONTAINERD_2` says.
    Forky,
}

impl Release {
    /// The program; `None`: nobody has said where it is.
    pub fn program(self) -> Option<PathBuf> {
        let variable = match self {
            Self::Bookworm => return Some("/usr/bin/containerd".into()),
            Self::Trixie => "WHERRY_CONTAINERD_1_7",
            Self::Forky => "WHERRY_CONTAINERD_2",
        };
        std::env::var_os(variable).map(PathBuf::from)
    }

    /// What starts its containers: the newest containerd has the newer runc that `WHERRY_RUNC` names, if it does.
    fn runc(self) -> PathBuf {
        let newer = std::env::var_os("WHERRY_RUNC").filter(|_| self == Self::Forky);
        newer.map_or_else(|| "/usr/sbin/runc".into(), PathBuf::from)
    }

    /// Whether its pods can have users of their own.
    pub fn has_user_namespaces(self) -> bool {
        self.program().is_some() && self.runc() != Path::new("/usr/sbin/runc")
    }
}

/// A containerd that runs, or was killed.
pub struct Containerd {
    directory: PathBuf,
    process: Option<Child>,
    program: PathBuf,
    network: Option<PathBuf>,
}

impl Containerd {
    /// Starts one below a directory, in the network namespace at a path, or in this process's.
    ///
    /// # Panics
    /// When it does not answer within a minute.
    pub fn start(directory: &Path, network: Option<PathBuf>, release: Release) -> Self {
        let mut containerd = Self::prepare(directory, network, release);
        containerd.up();
        containerd
    }

    /// Makes what one needs to start, and leaves that to somebody else.
    pub fn prepare(directory: &Path, network: Option<PathBuf>, release: Release) -> Self {
        let program = release.program().expect("the test has looked for it");
        let directory = directory.join("containerd");
        std::fs::create_dir_all(directory.join("cni")).expect("a directory");
        std::fs::write(directory.join("config.toml"), config(&directory, &release.runc())).expect("a file");
        Self {
            directory,
            process: None,
            program,
            network,
        }
    }

    /// Another machine's network is its own from now on.
    pub fn move_to(&mut self, network: PathBuf) {
        self.network = Some(network);
    }

    /// Where it keeps what a reboot ends.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// How a shell on its machine starts it.
    pub fn command_line(&self) -> String {
        let own = self.program.parent().unwrap_or(Path::new("/")).display();
        let (program, at) = (self.program.display(), self.directory.display());
        format!("PATH={own}:$PATH exec {program} -c {at}/config.toml >>{at}/containerd.log 2>&1")
    }

    fn command(&self) -> Command {
        let mut command = match &self.network {
            Some(network) => {
                // Not `ip netns exec`: it remounts /sys and hides the control groups.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", network.display())).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        // Its own shim comes first.
        let own = self.program.parent().unwrap_or(Path::new("/")).display().to_string();
        let others = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{own}:{others}"));
        command.arg("-c").arg(self.directory.join("config.toml"));
        command
    }

    /// Starts it again, on what it left.
    pub fn up(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("containerd.log"))
            .expect("a log file");
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        self.process = Some(command.spawn().expect("containerd starts"));
        self.wait();
    }

    /// Waits until it answers.
    pub fn wait(&self) {
        until("containerd answers", Duration::from_secs(60), || {
            let ready = run(self.ctr().args(["plugins", "ls", "id==cri"]), "");
            match ready.stdout.contains("ok") {
                true => Ok(()),
                false => Err(format!("{ready:?}\n{}", self.log_tail())),
            }
        });
    }

    /// Ends it at once, as a crash would; containers go on.
    pub fn crash(&mut self) {
        let mut process = self.process.take().expect("it runs");
        kill(process.id(), Signal::SIGKILL);
        process.wait().expect("the child is waited for once");
    }

    /// Stops it where it is, or lets it go on.
    pub fn signal(&self, signal: Signal) {
        kill(self.process.as_ref().expect("it runs").id(), signal);
    }

    /// Where it is reached.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    /// Where its network configuration is.
    pub fn networks(&self) -> PathBuf {
        self.directory.join("cni")
    }

    /// containerd's own client, in the namespace of CRI.
    pub fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.socket()).args(["-n", "k8s.io"]);
        command
    }

    /// Pids of the processes that hold its containers.
    pub fn shims(&self) -> Vec<u32> {
        let socket = self.socket().display().to_string();
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = pids.filter(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("containerd-shim") && line.contains(&socket)
        });
        ours.collect()
    }

    /// Ids of containers, sandboxes among them, that have this label; all without one.
    pub fn containers(&self, label: Option<(&str, &str)>) -> Vec<String> {
        let filter = label.map(|(name, value)| format!("labels.\"{name}\"=={value}"));
        let listed = run(self.ctr().args(["containers", "ls", "-q"]).args(filter), "").ok();
        listed.lines().map(str::to_owned).collect()
    }

    /// Waits until it has no container any more.
    #[track_caller]
    pub fn wait_empty(&self, within: Duration) {
        until("no container is left", within, || {
            let left = self.containers(None);
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
    }

    /// Ids of tasks that run.
    pub fn running(&self) -> Vec<String> {
        let listed = run(self.ctr().args(["tasks", "ls"]), "").ok();
        let tasks = listed.lines().skip(1).filter(|line| line.contains("RUNNING"));
        tasks
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("containerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .get(lines.len().saturating_sub(40)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Ends what runs, and it.
    pub fn end(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of the log of containerd ---\n{}", self.log_tail());
        }
        if self.process.is_none() {
            self.up();
        }
        self.signal(Signal::SIGCONT);
        for task in self.running() {
            let _ = run(self.ctr().args(["tasks", "kill", "-s", "KILL", &task]), "");
            let _ = run(self.ctr().args(["tasks", "rm", "-f", &task]), "");
        }
        let mut process = self.process.take().expect("it runs");
        kill(process.id(), Signal::SIGTERM);
        let _ = process.wait();
        // What a container that was not removed has left mounted.
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let below = self.directory.display().to_string();
        let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let mut mounted: Vec<&str> = mounted.filter(|path| path.starts_with(&below)).collect();
        mounted.reverse();
        for path in mounted {
            let _ = Command::new("umount").args(["-l", path]).status();
        }
    }
}

impl Drop for Containerd {
    /// A test that fails leaves nothing either.
    fn drop(&mut self) {
        if self.process.is_some() {
            self.end();
        }
    }
}

/// As the machine's own would be set up, but for its places. `restrict_oom_score_adj`: without CAP_SYS_RESOURCE nothing may
/// lower a score, and every sandbox would fail.
fn config(directory: &Path, runc: &Path) -> String {
    let (at, runc) = (directory.display(), runc.display());
    format!(
        r#"version = 2
root = "{at}/root"
state = "{at}/state"
[grpc]
  address = "{at}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{at}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        SystemdCgroup = false
        Root = "{at}/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{at}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{at}/certs.d"
"#
    )
}
