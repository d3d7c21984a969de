//! The directory of one sandbox host, `sandbox-hosts/<id>/`:
//!
//! - `host.json`: what the agent knows of the host ([`HostFile`]). Only the agent writes it.
//! - `socket`: where the host listens.
//! - `host.log`: the host's own log.
//! - `views/<sandbox>/<container>/`: directories made to show single files to guests (`views`).
//! - `state/`: the host's working directory with its state files. It belongs to the host's user, who is not trusted: what
//!   stands there is opened without following links, and read within bounds.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom},
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use cri::{SandboxConfig, SandboxId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    durable,
    protocol::{ContainerRecord, SandboxRecord, container_file, sandbox_file},
};

/// The largest state file that is read.
const MAX_STATE_FILE: u64 = 4 << 20;
/// The most state files that are read.
const MAX_STATE_FILES: usize = 100_000;
/// Above this a host's log is emptied when somebody looks.
const MAX_LOG: u64 = 16 << 20;

/// The most of a log's last line that is shown.
const MAX_LINE: u64 = 1024;

/// Which network a host lives in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Place {
    /// The pods' namespace.
    Pods,
    /// The node's, for pods with `hostNetwork`.
    Node,
    /// That of another runtime's sandbox, for Wasm containers of its pod; the host is theirs alone.
    Joined { sandbox: SandboxId, netns: PathBuf },
}

impl Place {
    /// Where a sandbox of this configuration belongs.
    pub(crate) fn of(config: &SandboxConfig) -> Self {
        match &config.join {
            Some(join) => match &join.network_namespace {
                Some(netns) => Self::Joined {
                    sandbox: join.sandbox.clone(),
                    netns: netns.clone(),
                },
                None => Self::Node,
            },
            None if config.host_network => Self::Node,
            None => Self::Pods,
        }
    }

    /// Whether a host there is one pod's alone.
    pub(crate) fn is_joined(&self) -> bool {
        matches!(self, Self::Joined { .. })
    }
}

/// The content of `host.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostFile {
    pub(crate) id: String,
    /// The Kubernetes namespace whose pods it holds.
    pub(crate) tenant: String,
    pub(crate) place: Place,
    /// The version it was started with.
    pub(crate) wherry_version: String,
    /// Of the boot in which it was started.
    pub(crate) boot_id: String,
    /// The user it runs as; `None`: the agent's.
    pub(crate) user: Option<u32>,
    /// When and why it ended, once that is known.
    pub(crate) lost: Option<Lost>,
}

/// The end of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lost {
    /// Nanoseconds since the epoch.
    pub(crate) at: i64,
    /// For people.
    pub(crate) cause: String,
}

/// What a host wrote before it ended.
#[derive(Debug, Default)]
pub(crate) struct StateFiles {
    pub(crate) sandboxes: Vec<SandboxRecord>,
    pub(crate) containers: Vec<ContainerRecord>,
}

/// The directory of one host.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory of the host with this id below `sandbox-hosts`.
    pub(crate) fn of(hosts: &Path, id: &str) -> Self {
        Self { path: hosts.join(id) }
    }

    /// The directories of all hosts.
    pub(crate) fn list(hosts: &Path) -> io::Result<Vec<Self>> {
        let entries = fs::read_dir(hosts)?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries
            .iter()
            .map(fs::DirEntry::path)
            .filter(|path| path.is_dir())
            .map(|path| Self { path })
            .collect())
    }

    /// Makes the directory with its `host.json`, and `state/` for the host's user.
    pub(crate) fn create(&self, host: &HostFile) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.path)?;
        let state = self.path.join("state");
        DirBuilder::new().mode(0o700).create(&state)?;
        if let Some(user) = host.user {
            std::os::unix::fs::chown(&state, Some(user), Some(user))?;
        }
        self.write(host)
    }

    /// Writes `host.json`.
    pub(crate) fn write(&self, host: &HostFile) -> io::Result<()> {
        durable::replace(&self.path.join("host.json"), &serde_json::to_vec(host)?)
    }

    /// Reads `host.json`; `None` if the directory was left half made.
    pub(crate) fn read(&self) -> io::Result<Option<HostFile>> {
        let bytes = durable::read(&self.path.join("host.json"))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Removes everything.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Binds the socket. The agent alone may connect.
    pub(crate) fn listen(&self) -> io::Result<OwnedFd> {
        let directory = File::open(&self.path)?;
        let listener = UnixListener::bind(self.short_socket(&directory))?;
        fs::set_permissions(self.path.join("socket"), Permissions::from_mode(0o600))?;
        Ok(listener.into())
    }

    /// Connects to the host.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let directory = File::open(&self.path)?;
        let stream = UnixStream::connect(self.short_socket(&directory))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// The path of a socket has at most 107 bytes; a data directory may be deeper.
    fn short_socket(&self, directory: &File) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/socket", directory.as_raw_fd()))
    }

    /// The host's working directory.
    pub(crate) fn open_state(&self) -> io::Result<File> {
        open_in(&self.path.join("state"), libc::O_DIRECTORY)
    }

    /// The host's log, for appending.
    pub(crate) fn open_log(&self) -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(self.path.join("host.log"))
    }

    /// Empties a log that has grown too long; the host goes on appending.
    pub(crate) fn bound_log(&self) -> io::Result<()> {
        let log = self.open_log()?;
        if log.metadata()?.len() > MAX_LOG {
            log.set_len(0)
        } else {
            Ok(())
        }
    }

    /// The last thing the host said for people.
    pub(crate) fn last_log_line(&self) -> Option<String> {
        let mut log = File::open(self.path.join("host.log")).ok()?;
        let end = log.metadata().ok()?.len();
        log.seek(SeekFrom::Start(end.saturating_sub(MAX_LINE))).ok()?;
        let mut bytes = Vec::new();
        log.take(MAX_LINE).read_to_end(&mut bytes).ok()?;
        String::from_utf8_lossy(&bytes)
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .map(|line| line.trim().to_owned())
    }

    /// Everything the host had recorded. What cannot be read is left out.
    pub(crate) fn read_state(&self) -> io::Result<StateFiles> {
        let mut files = StateFiles::default();
        for entry in fs::read_dir(self.path.join("state"))?.take(MAX_STATE_FILES) {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            match name.strip_suffix(".json").and_then(|stem| stem.split_once('-')) {
                Some(("sandbox", _)) => files.sandboxes.extend(read_record(&entry.path())),
                Some(("container", _)) => files.containers.extend(read_record(&entry.path())),
                _ => {}
            }
        }
        Ok(files)
    }

    /// Where the views of a sandbox's containers are.
    pub(crate) fn views(&self, sandbox: &SandboxId) -> PathBuf {
        self.path.join("views").join(&sandbox.0)
    }

    /// Removes the record of a sandbox of a host that is gone.
    pub(crate) fn forget_sandbox(&self, id: &SandboxId) -> io::Result<()> {
        self.forget(&sandbox_file(id))
    }

    /// Removes the record of a container of a host that is gone.
    pub(crate) fn forget_container(&self, id: &cri::ContainerId) -> io::Result<()> {
        self.forget(&container_file(id))
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join("state").join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn read_record<R: DeserializeOwned>(path: &Path) -> Option<R> {
    let read = || -> io::Result<R> {
        let file = open_in(path, libc::O_NONBLOCK)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_STATE_FILE).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    read()
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a state file cannot be read"))
        .ok()
}

fn open_in(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | flags)
        .open(path)
}

/// The next generation of the agent: one more than any before it.
pub(crate) fn next_generation(hosts: &Path) -> io::Result<u64> {
    let next = last_generation(hosts)? + 1;
    durable::replace(&hosts.join("generation"), next.to_string().as_bytes())?;
    Ok(next)
}

/// The generation of the last agent; 0 before the first.
pub(crate) fn last_generation(hosts: &Path) -> io::Result<u64> {
    let last = durable::read(&hosts.join("generation"))?;
    Ok(last
        .and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok())
        .unwrap_or(0))
}

/// Where the loopback addresses of pods are: a part of 127.0.0.0/8 that nothing else uses.
pub(crate) const LOOPBACKS: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 64, 0, 0), 12);

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: &str) -> HostFile {
        HostFile {
            id: id.to_owned(),
            tenant: "default".into(),
            place: Place::Pods,
            wherry_version: "1".into(),
            boot_id: "b".into(),
            user: None,
            lost: None,
        }
    }

    #[test]
    fn a_directory_is_made_found_and_removed() {
        let hosts = tempfile::tempdir().unwrap();
        let directory = Directory::of(hosts.path(), "h1");
        directory.create(&host("h1")).unwrap();
        let found = Directory::list(hosts.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].read().unwrap(), Some(host("h1")));
        directory.remove().unwrap();
        directory.remove().unwrap();
        assert!(Directory::list(hosts.path()).unwrap().is_empty());
    }

    #[test]
    fn sockets_work_below_the_deepest_directory() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let directory = Directory::of(&deep, "h1");
        directory.create(&host("h1")).unwrap();
        let _listener = directory.listen().unwrap();
        directory.connect().unwrap();
    }

    #[test]
    fn what_a_hostile_host_left_is_not_followed() {
        let hosts = tempfile::tempdir().unwrap();
        let directory = Directory::of(hosts.path(), "h1");
        directory.create(&host("h1")).unwrap();
        let state = hosts.path().join("h1/state");
        std::os::unix::fs::symlink("/etc/passwd", state.join("sandbox-link.json")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, state.join("container-fifo.json"), 0o600.into()).unwrap();
        fs::write(state.join("container-bad.json"), b"{").unwrap();
        fs::create_dir(state.join("sandbox-dir.json")).unwrap();
        let files = directory.read_state().unwrap();
        assert!(files.sandboxes.is_empty() && files.containers.is_empty());
    }

    #[test]
    fn generations_only_grow() {
        let hosts = tempfile::tempdir().unwrap();
        let generations: Vec<_> = (0..3).map(|_| next_generation(hosts.path()).unwrap()).collect();
        assert_eq!(generations, [1, 2, 3]);
    }
}
