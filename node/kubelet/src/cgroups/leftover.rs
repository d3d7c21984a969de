//! What is left of cgroups: those of pods that have ended, with whatever a runtime that was killed has forgotten in them.
//!
//! A runtime that dies while it starts a sandbox, or whose shim is killed, may leave processes that it does not know of when it
//! comes back. Nobody but the kernel knows them then, by the cgroup of the pod that they belong to.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cri::CgroupDriver;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Cgroups, slices};

const CLASSES: [&str; 3] = ["Guaranteed", "Burstable", "BestEffort"];
/// How often, and after which pause, it is tried again to remove what is in use.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

impl Cgroups {
    /// UIDs of the pods that have a cgroup, in whichever hierarchy. Blocking.
    pub(crate) fn uids(&self) -> BTreeSet<Arc<str>> {
        let mut uids = BTreeSet::new();
        for class in CLASSES {
            let names = self.of_class(class);
            let path = self.path(&names);
            for hierarchy in self.every_hierarchy() {
                let entries = fs::read_dir(hierarchy.join(&path)).into_iter().flatten().flatten();
                let found = entries.filter_map(|entry| self.uid(&names, entry.file_name().to_str()?));
                uids.extend(found);
            }
        }
        uids
    }

    /// The pod that a cgroup below that of these names is for.
    fn uid(&self, above: &[String], name: &str) -> Option<Arc<str>> {
        match self.driver {
            CgroupDriver::Cgroupfs => name.strip_prefix("pod").map(Arc::from),
            CgroupDriver::Systemd => {
                let above = slices(above).pop()?;
                let own = name.strip_prefix(above.strip_suffix(".slice")?)?;
                let uid = own.strip_prefix("-pod")?.strip_suffix(".slice")?;
                Some(uid.replace('_', "-").into())
            }
        }
    }

    /// The roots of all hierarchies, also of those that nothing is limited by: the runtime makes cgroups in every one.
    fn every_hierarchy(&self) -> Vec<PathBuf> {
        if self.is_unified() {
            return vec![self.mount.clone()];
        }
        let all = fs::read_dir(&self.mount).into_iter().flatten().flatten();
        all.map(|entry| entry.path()).collect()
    }

    /// The directories of a pod's cgroup, of whichever class it was.
    fn directories(&self, uid: &str) -> Vec<PathBuf> {
        let paths = CLASSES.map(|class| self.path(&self.of_pod(class, uid)));
        let hierarchies = self.every_hierarchy();
        let all = hierarchies
            .iter()
            .flat_map(|hierarchy| paths.iter().map(|path| hierarchy.join(path)));
        all.filter(|directory| directory.is_dir()).collect()
    }

    /// Removes the pod's cgroup, of whichever class it was, and what the runtime left in it. Blocking.
    ///
    /// # Errors
    /// Something is still in it.
    pub(crate) fn remove(&self, uid: &str) -> io::Result<()> {
        let removed = self.directories(uid).into_iter().map(|directory| {
            remove_tree(&directory).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", directory.display())))
        });
        removed.fold(Ok(()), Result::and)
    }

    /// Ends what still runs in the cgroup of a pod that the runtime does not know, and removes the cgroup. Blocking.
    ///
    /// # Errors
    /// Something in it does not end.
    pub(crate) fn end(&self, uid: &str) -> io::Result<()> {
        patiently(|| {
            let removed = self.remove(uid);
            if removed.is_err() {
                let killed: usize = self.directories(uid).iter().map(|directory| kill(directory)).sum();
                if killed > 0 {
                    tracing::warn!(uid, "killed processes of a pod that nobody knows");
                }
            }
            removed
        })
    }
}

/// Tries until it succeeds, or what a cgroup holds has had its time to end. Blocking.
#[allow(
    clippy::disallowed_methods,
    reason = "runs where blocking is expected, and the first hierarchies tell nobody when a cgroup has emptied"
)]
fn patiently(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 1..TRIES {
        if attempt().is_ok() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    attempt()
}

/// Kills the processes in a cgroup and in those below it; how many there were. One that was frozen before it was killed goes
/// on, to its end.
fn kill(cgroup: &Path) -> usize {
    let below = fs::read_dir(cgroup).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut killed: usize = below.map(|entry| kill(&entry.path())).sum();
    let open = |pid: i32| -> Option<(i32, OwnedFd)> {
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty());
        pidfd.ok().map(|pidfd| (pid, pidfd))
    };
    let open: Vec<(i32, OwnedFd)> = processes(cgroup).into_iter().filter_map(open).collect();
    // A descriptor cannot come to mean another process; that it means the right one is known by the second look.
    let still = processes(cgroup);
    for (_, process) in open.iter().filter(|(pid, _)| still.contains(pid)) {
        killed += usize::from(pidfd_send_signal(process, Signal::KILL).is_ok());
    }
    for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let file = cgroup.join(file);
        if file.exists() {
            let _ = fs::write(file, thawed); // the cgroup may be gone; if it is not, it is tried again
        }
    }
    killed
}

/// The processes in a cgroup; none if it is gone.
fn processes(cgroup: &Path) -> BTreeSet<i32> {
    let listed = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Removes all cgroups below a prefix, when all pods have ended: those of the last processes are in use for a moment longer.
/// What is in use after that stays. Blocking.
pub(crate) fn remove_all(mount: &Path, prefix: &str) {
    let slice = format!("{}.slice", prefix.replace('-', "_"));
    let hierarchies = fs::read_dir(mount)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let places = std::iter::once(mount.to_owned()).chain(hierarchies);
    let directories = places.flat_map(|place| [place.join(prefix), place.join(&slice)]);
    for directory in directories.filter(|path| path.is_dir()) {
        if let Err(error) = patiently(|| remove_tree(&directory)) {
            tracing::warn!(directory = %directory.display(), %error, "cannot remove a cgroup");
        }
    }
}

/// Removes a directory of cgroups: the files in it go by themselves.
fn remove_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{
        super::tests::{burstable, cgroups},
        *,
    };

    const OWN: &str = "wherry-x/kubepods/burstable/poda-b";

    #[test]
    fn the_directories_come_and_go() {
        let dir = tempfile::tempdir().expect("dir");
        for controller in ["cpu", "memory", "freezer"] {
            fs::create_dir(dir.path().join(controller)).expect("hierarchy");
        }
        let cgroups = cgroups(dir.path(), CgroupDriver::Cgroupfs);
        cgroups.make(&burstable()).expect("made");
        assert!(dir.path().join("cpu").join(OWN).is_dir() && dir.path().join("memory").join(OWN).is_dir());
        fs::create_dir_all(dir.path().join("freezer").join(OWN).join("container")).expect("the runtime's");
        cgroups.remove("a-b").expect("it is empty");
        for controller in ["cpu", "memory", "freezer"] {
            let class = dir.path().join(controller).join(OWN);
            assert!(!class.exists(), "{controller}");
        }
        assert!(
            dir.path().join("cpu/wherry-x/kubepods/burstable").is_dir(),
            "others may be in it"
        );
        remove_all(dir.path(), "wherry-x");
        assert!(!dir.path().join("cpu/wherry-x").exists() && dir.path().join("cpu").is_dir());
    }

    #[test]
    fn pods_are_told_by_the_names_of_their_cgroups() {
        for driver in [CgroupDriver::Cgroupfs, CgroupDriver::Systemd] {
            let dir = tempfile::tempdir().expect("dir");
            let cgroups = cgroups(dir.path(), driver);
            assert!(cgroups.uids().is_empty());
            for (hierarchy, class, uid) in [
                ("cpu", "Guaranteed", "a-1"),
                ("freezer", "Burstable", "b-2"),
                ("pids", "BestEffort", "c-3"),
                ("cpu", "BestEffort", "c-3"),
            ] {
                let path = cgroups.path(&cgroups.of_pod(class, uid));
                fs::create_dir_all(dir.path().join(hierarchy).join(path)).expect("a cgroup");
            }
            let uids: Vec<Arc<str>> = cgroups.uids().into_iter().collect();
            assert_eq!(uids, ["a-1".into(), "b-2".into(), "c-3".into()], "{driver:?}");
        }
    }

    #[test]
    fn what_is_in_a_cgroup_is_killed_and_thawed() {
        let dir = tempfile::tempdir().expect("dir");
        let below = dir.path().join("container");
        fs::create_dir(&below).expect("a cgroup");
        let mut children = [(); 2].map(|()| Command::new("sleep").arg("1000").spawn().expect("a process"));
        for (cgroup, child) in [dir.path(), &below].into_iter().zip(&children) {
            fs::write(cgroup.join("cgroup.procs"), format!("{}\n", child.id())).expect("a file");
        }
        fs::write(below.join("freezer.state"), "FROZEN").expect("a file");
        assert_eq!(kill(dir.path()), 2);
        for child in &mut children {
            assert!(!child.wait().expect("a child").success());
        }
        assert_eq!(
            fs::read_to_string(below.join("freezer.state")).expect("a file"),
            "THAWED"
        );
    }
}
