//! A cgroup of its own for each sandbox host, outside the agent's: what ends or limits the agent leaves the pods alone.
//!
//! Both versions are known. Where cgroups cannot be written, hosts stay in the agent's: the caller logs it and goes on.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The v1 hierarchies by which services are limited and ended.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "name=systemd"];

/// Where the cgroups of sandbox hosts are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroups {
    directories: Vec<PathBuf>,
}

impl Cgroups {
    /// Below `parent` (a path from the root of each hierarchy, such as `wherry`) of every hierarchy that is mounted here.
    pub(crate) fn below(parent: &str) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let parent = parent.trim_start_matches('/');
        let directories = hierarchies(&mounts)
            .into_iter()
            .map(|mount| mount.join(parent))
            .collect();
        Ok(Self { directories })
    }

    /// Moves a process into a cgroup of its own.
    pub(crate) fn place(&self, id: &str, pid: u32) -> io::Result<()> {
        self.each(|directory| {
            let own = directory.join(id);
            fs::create_dir_all(&own)?;
            fs::write(own.join("cgroup.procs"), pid.to_string())
        })
    }

    /// Removes the cgroup of a process that has ended.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        self.each(|directory| remove(&directory.join(id)))
    }

    /// Removes the parent of all, with what processes that nobody saw end have left in it.
    pub(crate) fn remove_all(&self) -> io::Result<()> {
        self.each(|parent| {
            let left = match fs::read_dir(parent) {
                Ok(entries) => entries
                    .flatten()
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            left.map(|entry| remove(&entry.path())).fold(Ok(()), Result::and)?;
            remove(parent)
        })
    }

    /// Does it for every hierarchy and reports the first failure.
    fn each(&self, act: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        self.directories
            .iter()
            .map(|directory| act(directory))
            .fold(Ok(()), Result::and)
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The mount points that count, of `/proc/self/mountinfo`.
fn hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo.lines().filter_map(hierarchy).collect()
}

/// `36 35 98:0 / /sys/fs/cgroup/cpu rw,noatime shared:1 - cgroup cgroup rw,cpu`
fn hierarchy(line: &str) -> Option<PathBuf> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4)?;
    let mut filesystem = filesystem.split(' ');
    let counts = match filesystem.next()? {
        "cgroup2" => true,
        "cgroup" => filesystem
            .nth(1)?
            .split(',')
            .any(|option| CONTROLLERS.contains(&option)),
        _ => false,
    };
    counts.then(|| PathBuf::from(point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_both_versions() {
        let mounts = "\
22 1 0:20 / /proc rw - proc proc rw
30 29 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
31 29 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
32 29 0:28 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu
33 29 0:29 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices";
        let points = ["unified", "systemd", "cpu"].map(|name| Path::new("/sys/fs/cgroup").join(name));
        assert_eq!(hierarchies(mounts), points);
    }

    #[test]
    fn places_in_every_hierarchy_and_removes_again() {
        let root = tempfile::tempdir().unwrap();
        let directories = vec![root.path().join("cpu/wherry"), root.path().join("memory/wherry")];
        let cgroups = Cgroups {
            directories: directories.clone(),
        };
        cgroups.place("h1", 42).unwrap();
        assert!(cgroups.remove_all().is_err(), "a host is left");
        for directory in &directories {
            let procs = directory.join("h1/cgroup.procs");
            assert_eq!(fs::read_to_string(&procs).unwrap(), "42");
            // The kernel's files vanish with their directory.
            fs::remove_file(procs).unwrap();
        }
        cgroups.remove("h1").unwrap();
        cgroups.remove("h1").unwrap();
        fs::create_dir(root.path().join("cpu/wherry/h2")).unwrap();
        cgroups.remove_all().unwrap();
        assert!(directories.iter().all(|directory| !directory.exists()));
    }
}
