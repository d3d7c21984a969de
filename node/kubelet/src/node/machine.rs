//! What the machine is and has, read from the kernel and the system's files. Blocking, brief.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use api::Quantity;

use super::thresholds::Signal;

/// Facts that do not change while the machine runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Machine {
    pub(crate) cpus: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel_version: String,
    pub(crate) os_image: String,
    pub(crate) storage_bytes: i64,
    /// Bytes of huge pages by Kubernetes' name of the resource (`hugepages-2Mi`), for each size that the kernel has.
    pub(crate) huge_pages: BTreeMap<String, i64>,
}

/// What changes from moment to moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) memory: Reading,
    /// The disk of the data directory.
    pub(crate) nodefs: Reading,
    /// Not every file system counts them.
    pub(crate) nodefs_inodes: Option<Reading>,
    /// The fullest disk that images are on; only where it was asked for.
    pub(crate) imagefs: Option<Reading>,
    pub(crate) imagefs_inodes: Option<Reading>,
    pub(crate) pids: Reading,
}

/// How much there is of something in all, and how much of that is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) total: i64,
    pub(crate) available: i64,
}

impl Usage {
    /// What an eviction signal is about.
    pub(crate) fn of(&self, signal: Signal) -> Option<Reading> {
        match signal {
            Signal::Memory => Some(self.memory),
            Signal::Nodefs => Some(self.nodefs),
            Signal::NodefsInodes => self.nodefs_inodes,
            Signal::Imagefs => self.imagefs,
            Signal::ImagefsInodes => self.imagefs_inodes,
            Signal::Pids => Some(self.pids),
        }
    }
}

/// Reads the machine; what cannot be read is empty.
pub(crate) fn machine(data_dir: &Path) -> Machine {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let machine_id = text("/etc/machine-id");
    let uuid = text("/sys/class/dmi/id/product_uuid");
    let os_release = text("/etc/os-release");
    Machine {
        cpus: i64::try_from(cpus).unwrap_or(i64::MAX),
        memory_bytes: meminfo("MemTotal:"),
        system_uuid: if uuid.is_empty() {
            machine_id.clone()
        } else {
            uuid.to_lowercase()
        },
        machine_id,
        boot_id: text("/proc/sys/kernel/random/boot_id"),
        kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
        os_image: os_image(&os_release),
        storage_bytes: signed(storage(data_dir).0),
        huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
    }
}

/// Reads a directory of `hugepages-<size>kB/nr_hugepages`.
fn huge_pages(directory: &Path) -> BTreeMap<String, i64> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let kilobytes: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
        let bytes = kilobytes.checked_mul(1024)?;
        let total = count.trim().parse::<i64>().ok()?.checked_mul(bytes)?;
        Some((format!("hugepages-{}", Quantity::from_bytes(bytes)), total))
    });
    sizes.collect()
}

/// Whether the kernel confines by AppArmor.
pub(crate) fn has_apparmor() -> bool {
    text("/sys/module/apparmor/parameters/enabled") == "Y"
}

/// Reads what is free now; `images` are directories on the disks that images are on.
pub(crate) fn usage(data_dir: &Path, images: &[PathBuf]) -> Usage {
    let threads = text("/proc/loadavg")
        .split_whitespace()
        .nth(3)
        .and_then(|f| f.split_once('/')?.1.parse::<i64>().ok());
    let pid_max = i64::try_from(most_processes()).unwrap_or(i64::MAX);
    let (memory, available) = memory();
    let bytes = |(total, free)| Reading {
        total: signed(total),
        available: signed(free),
    };
    let images = || images.iter().map(PathBuf::as_path);
    Usage {
        memory: Reading {
            total: memory,
            available,
        },
        nodefs: bytes(storage(data_dir)),
        nodefs_inodes: inodes(data_dir),
        imagefs: tightest(images().map(|path| bytes(storage(path))).filter(|disk| disk.total > 0)),
        imagefs_inodes: tightest(images().filter_map(inodes)),
        pids: Reading {
            total: pid_max,
            available: pid_max.saturating_sub(threads.unwrap_or(0)),
        },
    }
}

/// The one of which the smallest share is free.
fn tightest(readings: impl Iterator<Item = Reading>) -> Option<Reading> {
    readings.min_by_key(|reading| i128::from(reading.available) * 1_000_000 / i128::from(reading.total.max(1)))
}

/// How many processes and threads the kernel takes.
pub(crate) fn most_processes() -> u64 {
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let limits = limits.iter().filter_map(|path| text(path).parse().ok());
    limits.min().unwrap_or(u64::MAX)
}

fn text(path: &str) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Bytes of the machine's memory, and those of it that are free or could be.
pub(crate) fn memory() -> (i64, i64) {
    (meminfo("MemTotal:"), meminfo("MemAvailable:"))
}

fn meminfo(field: &str) -> i64 {
    let all = text("/proc/meminfo");
    let line = all.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Size of the file system and what is free of it, bytes.
pub(crate) fn storage(path: &Path) -> (u64, u64) {
    let Ok(stat) = rustix::fs::statvfs(path) else {
        return (0, 0);
    };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    (bytes(stat.f_blocks), bytes(stat.f_bavail))
}

/// How many files the file system can hold, and how many more; `None` where it has no such limit.
fn inodes(path: &Path) -> Option<Reading> {
    let stat = rustix::fs::statvfs(path).ok().filter(|stat| stat.f_files > 0)?;
    Some(Reading {
        total: signed(stat.f_files),
        available: signed(stat.f_favail),
    })
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_machine() {
        let (machine, usage) = (machine(Path::new("/")), usage(Path::new("/"), &["/".into()]));
        assert!(
            machine.cpus > 0 && machine.memory_bytes > 0 && machine.storage_bytes > 0,
            "{machine:?}"
        );
        assert!(
            !machine.boot_id.is_empty() && !machine.kernel_version.is_empty(),
            "{machine:?}"
        );
        assert!(
            usage.memory.available > 0 && usage.memory.available <= machine.memory_bytes,
            "{usage:?}"
        );
        assert!(
            usage.pids.available > 0 && usage.pids.available < usage.pids.total,
            "{usage:?}"
        );
        let same = |a: Reading, b: Reading| a.total == b.total;
        assert!(usage.imagefs.is_some_and(|disk| same(disk, usage.nodefs)), "{usage:?}");
    }

    #[test]
    fn the_fullest_disk_counts() {
        let disk = |total, available| Reading { total, available };
        assert_eq!(
            tightest([disk(100, 50), disk(1000, 100), disk(10, 9)].into_iter()),
            Some(disk(1000, 100))
        );
        assert_eq!(tightest([].into_iter()), None);
    }

    #[test]
    fn reads_huge_pages_of_each_size() {
        let dir = tempfile::tempdir().expect("dir");
        for (name, count) in [
            ("hugepages-2048kB", "3\n"),
            ("hugepages-1048576kB", "0\n"),
            ("other", "1\n"),
        ] {
            fs::create_dir(dir.path().join(name)).expect("dir");
            fs::write(dir.path().join(name).join("nr_hugepages"), count).expect("file");
        }
        let read = huge_pages(dir.path());
        let want = BTreeMap::from([("hugepages-1Gi".to_owned(), 0), ("hugepages-2Mi".to_owned(), 6 << 20)]);
        assert_eq!(read, want);
        assert!(huge_pages(&dir.path().join("none")).is_empty());
    }

    #[test]
    fn names_the_distribution() {
        assert_eq!(
            os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_image(""), "Linux");
    }
}
