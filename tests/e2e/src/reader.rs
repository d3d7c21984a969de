//! Somebody who reads a document and pastes its blocks into a terminal.
//!
//! The reader has a home of their own, and on the PATH what the documents ask for. Where this machine is not the one the
//! documents are written for, programs that go before the others on the PATH make up for it, so that the text is run as
//! it stands:
//! - `wherry`, `kubectl` and `curl` enter the network namespace of the cluster; everything else has the machine's own
//!   network, to download what it needs;
//! - those in `shims/` say in their first lines what they do.
//!
//! Downloads are kept in `$XDG_CACHE_HOME/wherry-tests`, so that the next run is quick.

use std::{
    fs::File,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{
    Cluster, Tool, binary,
    cluster::Namespace,
    document::{self, Step},
    kill, repository, run,
};

/// A reader at a machine of their own.
pub struct Reader {
    home: TempDir,
    namespace: PathBuf,
    variables: Vec<(&'static str, PathBuf)>,
    _own_namespace: Option<Namespace>,
}

impl Reader {
    /// A reader who has no cluster yet.
    pub fn new() -> Self {
        let namespace = Namespace::make();
        Self::at(&namespace.path(), Vec::new(), Some(namespace))
    }

    /// A reader who has started a cluster as README.md says.
    pub fn of(cluster: &Cluster) -> Self {
        let variables = vec![
            ("WHERRY_DATA_DIR", cluster.data()),
            ("KUBECONFIG", cluster.kubeconfig()),
        ];
        Self::at(&cluster.network(), variables, None)
    }

    fn at(namespace: &Path, mut variables: Vec<(&'static str, PathBuf)>, own: Option<Namespace>) -> Self {
        let home = tempfile::Builder::new()
            .prefix("wherry-reader-")
            .tempdir()
            .expect("a temporary directory");
        variables.push(("WHERRY", repository()));
        let reader = Self {
            home,
            namespace: namespace.to_owned(),
            variables,
            _own_namespace: own,
        };
        for directory in ["bin", "out", "work"] {
            std::fs::create_dir(reader.path(directory)).expect("a directory");
        }
        for (name, program) in [
            ("wherry", binary()),
            ("kubectl", Tool::Kubectl136.path().into()),
            ("curl", "curl".into()),
            ("etcd", etcd()),
        ] {
            // Who only builds needs no kubectl.
            if let Some(program) = on_path(&program) {
                reader.enters_namespace(name, &program);
            }
        }
        reader
    }

    fn enters_namespace(&self, name: &str, program: &Path) {
        let path = self.path("bin").join(name);
        let script = format!(
            "#!/bin/sh\nexec nsenter --net={} {} \"$@\"\n",
            self.namespace.display(),
            program.display()
        );
        std::fs::write(&path, script).expect("a scratch file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
    }

    /// A directory of the reader's; `work` is where scenarios begin, and empty.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Puts a copy of this checkout where scenarios begin, without what was built in it.
    pub fn clone_repository(&self) {
        let copy = r#"tar -C "$1" --exclude=target --exclude=.git --exclude=.wherry --exclude=node_modules -c . | tar -C "$2" -x"#;
        let mut command = Command::new("bash");
        command
            .args(["-c", copy, "copy"])
            .arg(repository())
            .arg(self.path("work"));
        run(&mut command, "").ok();
    }

    /// The steps of one scenario of a document of this repository.
    ///
    /// # Panics
    /// When the document is malformed or has no such scenario.
    #[track_caller]
    pub fn steps(&self, file: &str, scenario: &str) -> Vec<Step> {
        let text = std::fs::read_to_string(repository().join(file)).expect("the document is in the checkout");
        let mut steps = document::steps(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        steps.retain(|step| step.scenario == scenario);
        assert!(!steps.is_empty(), "{file} has no scenario {scenario}");
        steps
    }

    /// Takes all steps of a scenario.
    ///
    /// # Panics
    /// As [`Self::steps`] and [`Self::paste`].
    #[track_caller]
    pub fn follow(&self, file: &str, scenario: &str, deadline: Duration) -> String {
        self.paste(&self.steps(file, scenario), deadline)
    }

    /// Takes steps, in one shell; answers what they printed.
    ///
    /// # Panics
    /// When a step fails or the deadline passes, with everything that was said.
    #[track_caller]
    pub fn paste(&self, steps: &[Step], deadline: Duration) -> String {
        let script = self.path("script");
        std::fs::write(&script, document::script(steps)).expect("a scratch file");
        // Files, not pipes: what `make up` leaves running holds them open.
        let said = self.path("said");
        let log = || {
            File::options()
                .append(true)
                .create(true)
                .open(&said)
                .expect("a scratch file")
        };
        // Ends the whole group of processes at its deadline, which killing the shell would not.
        let mut command = Command::new("timeout");
        command
            .args(["-k", "10", &deadline.as_secs().to_string(), "bash"])
            .arg(&script);
        command
            .current_dir(self.path("work"))
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log());
        self.environment(&mut command);
        let status = command.status().expect("coreutils are there");
        let printed = self.printed(steps);
        assert!(
            status.success(),
            "a step failed: {status}\n{}\n--- printed ---\n{printed}",
            std::fs::read_to_string(&said).unwrap_or_default()
        );
        printed
    }

    /// What the blocks printed, one after another.
    fn printed(&self, steps: &[Step]) -> String {
        let files = steps
            .iter()
            .map(|step| self.path("out").join(step.line.to_string()))
            .filter(|path| path.is_file());
        files
            .map(|path| std::fs::read_to_string(path).unwrap_or_default())
            .collect()
    }

    fn environment(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["CARGO", "RUST", "NEXTEST", "KUBE", "WHERRY"]
                .iter()
                .any(|p| name.starts_with(p))
            {
                command.env_remove(name);
            }
        }
        let home = |name: &str, default: &str| {
            let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(default);
            std::env::var_os(name).map_or_else(home, PathBuf::from)
        };
        let cache = home("XDG_CACHE_HOME", ".cache").join("wherry-tests");
        let shims = Path::new(env!("CARGO_MANIFEST_DIR")).join("shims");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let first = [shims, self.path("bin"), cache.join("cargo/bin")];
        let path = std::env::join_paths(first.into_iter().chain(std::env::split_paths(&path)));
        command
            .env("PATH", path.expect("no colons in our paths"))
            .env("HOME", self.home.path())
            .env("OUT", self.path("out"))
            .env("CARGO_HOME", home("CARGO_HOME", ".cargo"))
            .env("RUSTUP_HOME", home("RUSTUP_HOME", ".rustup"))
            .env("CARGO_INSTALL_ROOT", cache.join("cargo"))
            .env("npm_config_cache", cache.join("npm"))
            .env("PIP_CACHE_DIR", cache.join("pip"))
            .env("SHIM_CACHE", cache)
            .env("SHIM_WHERRY", self.path("bin/wherry"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// Processes of the binary that run in the reader's directories.
    pub fn left_behind(&self) -> Vec<u32> {
        self.processes(&binary())
    }

    /// Processes of a program that run in the reader's directories.
    pub fn processes(&self, program: &Path) -> Vec<u32> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|e| e.file_name().into_string().ok()?.parse::<u32>().ok());
        let home = self.home.path().display().to_string();
        let ours = pids.filter(|pid| {
            let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mine = command.contains(&home) || String::from_utf8_lossy(&environment).contains(&home);
            link("exe") == program && (mine || link("cwd").starts_with(self.home.path()))
        });
        ours.collect()
    }

    /// The command `name` as the reader has it, where scenarios begin.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path("bin").join(name));
        command.current_dir(self.path("work"));
        command
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let etcd = on_path(&etcd()).and_then(|etcd| etcd.canonicalize().ok());
        let members = etcd.map(|etcd| self.processes(&etcd)).unwrap_or_default();
        for pid in self.left_behind().into_iter().chain(members) {
            kill(pid, Signal::SIGKILL);
        }
    }
}

/// An etcd of 3.5, where `make test` has unpacked one, else the one on the PATH.
pub fn etcd() -> PathBuf {
    std::env::var_os("WHERRY_ETCD_3_5").map_or_else(|| "etcd".into(), PathBuf::from)
}

/// The absolute path of a program, if the machine has it.
fn on_path(program: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join(program));
    candidates.find(|candidate| candidate.is_file())
}
