//! The kernel's files. Whatever one kernel has and another has not counts as nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cri::{Accounting, ContainerId, DeviceUsage, InterfaceCounters, Traffic};

/// A control group with more processes is counted no further, so that no container makes a reader's work endless.
const MOST_PROCESSES: usize = 4096;

/// Where the kernel's files are.
pub(super) struct Kernel {
    proc: PathBuf,
    cgroup: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
        }
    }
}

impl Kernel {
    /// The accounts of the container whose first process this is; `None`: it has ended. Blocks.
    pub(super) fn accounting(&self, id: ContainerId, pid: u32) -> Option<Accounting> {
        let process = self.proc.join(pid.to_string());
        let groups = fs::read_to_string(process.join("cgroup")).ok()?;
        let mut accounting = Accounting {
            id,
            interfaces: interfaces(&text(&process.join("net/dev"))),
            ..Accounting::default()
        };
        let members = match unified(&groups).filter(|_| self.cgroup.join("cgroup.controllers").exists()) {
            Some(path) => second_version(&self.below(&self.cgroup, path), &mut accounting),
            None => first_version(|controller| self.controller(&groups, controller), &mut accounting),
        };
        self.descriptors(&members, &mut accounting);
        Some(accounting)
    }

    /// The directory of a controller of version 1.
    fn controller(&self, groups: &str, controller: &str) -> PathBuf {
        let line = groups.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            names.split(',').any(|name| name == controller).then_some((names, path))
        });
        let Some((names, path)) = line else {
            return PathBuf::new();
        };
        let mounted = [names, controller].map(|name| self.cgroup.join(name));
        let [together, alone] = mounted;
        self.below(if together.is_dir() { &together } else { &alone }, path)
    }

    fn below(&self, mount: &Path, path: &str) -> PathBuf {
        mount.join(path.trim_start_matches('/'))
    }

    fn descriptors(&self, members: &str, accounting: &mut Accounting) {
        let members: Vec<&str> = members.lines().take(MOST_PROCESSES).collect();
        accounting.processes = members.len() as u64;
        for member in members {
            for entry in fs::read_dir(self.proc.join(member).join("fd"))
                .into_iter()
                .flatten()
                .flatten()
            {
                accounting.descriptors += 1;
                let is_socket = |target: PathBuf| target.to_string_lossy().starts_with("socket:");
                accounting.sockets += u64::from(fs::read_link(entry.path()).is_ok_and(is_socket));
            }
        }
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The path in the hierarchy of version 2.
fn unified(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// A file of one number; `max` and nothing are 0.
fn number(path: &Path) -> u64 {
    text(path).trim().parse().unwrap_or_default()
}

/// A number of a file of lines `name number`.
fn named(text: &str, name: &str) -> u64 {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

/// Answers the text with the group's processes.
fn second_version(group: &Path, into: &mut Accounting) -> String {
    let file = |name: &str| group.join(name);
    let cpu = text(&file("cpu.stat"));
    let micro = |name: &str| named(&cpu, name).saturating_mul(1000);
    (into.cpu_user_nanoseconds, into.cpu_system_nanoseconds) = (micro("user_usec"), micro("system_usec"));
    (into.cpu_periods, into.cpu_throttled_periods) = (named(&cpu, "nr_periods"), named(&cpu, "nr_throttled"));
    into.cpu_throttled_nanoseconds = micro("throttled_usec");
    let (memory, events) = (text(&file("memory.stat")), text(&file("memory.events")));
    (into.memory_cache_bytes, into.memory_mapped_bytes) = (named(&memory, "file"), named(&memory, "file_mapped"));
    into.memory_kernel_bytes = named(&memory, "kernel");
    into.memory_max_usage_bytes = number(&file("memory.peak"));
    (into.memory_failures, into.out_of_memory_kills) = (named(&events, "max"), named(&events, "oom_kill"));
    (into.threads, into.threads_max) = (number(&file("pids.current")), number(&file("pids.max")));
    for line in text(&file("io.stat")).lines() {
        let mut words = line.split_whitespace();
        let Some(device) = words.next() else { continue };
        let mut usage = DeviceUsage {
            device: device.to_owned(),
            ..DeviceUsage::default()
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or_default();
            match name {
                "rbytes" => usage.read_bytes = value,
                "wbytes" => usage.written_bytes = value,
                "rios" => usage.reads = value,
                "wios" => usage.writes = value,
                _ => {}
            }
        }
        into.devices.push(usage);
    }
    text(&file("cgroup.procs"))
}

/// Answers the text with the group's processes.
fn first_version(controller: impl Fn(&str) -> PathBuf, into: &mut Accounting) -> String {
    let (account, memory, tasks) = (controller("cpuacct"), controller("memory"), controller("pids"));
    into.cpu_user_nanoseconds = number(&account.join("cpuacct.usage_user"));
    into.cpu_system_nanoseconds = number(&account.join("cpuacct.usage_sys"));
    let cpu = text(&controller("cpu").join("cpu.stat"));
    (into.cpu_periods, into.cpu_throttled_periods) = (named(&cpu, "nr_periods"), named(&cpu, "nr_throttled"));
    into.cpu_throttled_nanoseconds = named(&cpu, "throttled_time");
    let stat = text(&memory.join("memory.stat"));
    (into.memory_cache_bytes, into.memory_mapped_bytes) =
        (named(&stat, "total_cache"), named(&stat, "total_mapped_file"));
    into.memory_kernel_bytes = number(&memory.join("memory.kmem.usage_in_bytes"));
    into.memory_max_usage_bytes = number(&memory.join("memory.max_usage_in_bytes"));
    into.memory_failures = number(&memory.join("memory.failcnt"));
    into.out_of_memory_kills = named(&text(&memory.join("memory.oom_control")), "oom_kill");
    (into.threads, into.threads_max) = (number(&tasks.join("pids.current")), number(&tasks.join("pids.max")));
    let disks = controller("blkio");
    let bytes = text(&disks.join("blkio.throttle.io_service_bytes_recursive"));
    let operations = text(&disks.join("blkio.throttle.io_serviced_recursive"));
    let mut names: Vec<&str> = bytes
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    names.retain(|name| name.contains(':'));
    names.dedup();
    into.devices = names
        .into_iter()
        .map(|device| DeviceUsage {
            device: device.to_owned(),
            read_bytes: named(&bytes, &format!("{device} Read")),
            written_bytes: named(&bytes, &format!("{device} Write")),
            reads: named(&operations, &format!("{device} Read")),
            writes: named(&operations, &format!("{device} Write")),
        })
        .collect();
    text(&memory.join("cgroup.procs"))
}

/// The interfaces of a network namespace, but for the loopback.
fn interfaces(dev: &str) -> Vec<InterfaceCounters> {
    let parsed = dev.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        Some(InterfaceCounters {
            name: name.trim().to_owned(),
            received: traffic(numbers.get(..8)?)?,
            sent: traffic(numbers.get(8..)?)?,
        })
    });
    parsed.filter(|interface| interface.name != "lo").collect()
}

fn traffic(numbers: &[u64]) -> Option<Traffic> {
    let [bytes, packets, errors, dropped, ..] = *numbers else {
        return None;
    };
    Some(Traffic {
        bytes,
        packets,
        errors,
        dropped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0
  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0
";

    /// A kernel with one process, number 7, whose control groups are these.
    fn kernel(groups: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Kernel) {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("proc/7/cgroup", groups);
        write("proc/7/net/dev", DEV);
        fs::create_dir_all(root.path().join("proc/7/fd")).unwrap();
        for (number, target) in ["/dev/null", "socket:[1]"].iter().enumerate() {
            std::os::unix::fs::symlink(target, root.path().join(format!("proc/7/fd/{number}"))).unwrap();
        }
        files.iter().for_each(|(path, content)| write(path, content));
        let kernel = Kernel {
            proc: root.path().join("proc"),
            cgroup: root.path().join("cgroup"),
        };
        (root, kernel)
    }

    /// What both versions tell below.
    fn wanted() -> Accounting {
        Accounting {
            id: ContainerId("c".into()),
            cpu_user_nanoseconds: 2000,
            cpu_system_nanoseconds: 3000,
            cpu_periods: 4,
            cpu_throttled_periods: 5,
            cpu_throttled_nanoseconds: 6000,
            memory_cache_bytes: 7,
            memory_mapped_bytes: 8,
            memory_kernel_bytes: 9,
            memory_max_usage_bytes: 10,
            memory_failures: 11,
            out_of_memory_kills: 12,
            processes: 1,
            threads: 13,
            threads_max: 14,
            descriptors: 2,
            sockets: 1,
            devices: vec![DeviceUsage {
                device: "254:0".into(),
                read_bytes: 15,
                written_bytes: 16,
                reads: 17,
                writes: 18,
            }],
            interfaces: interfaces(DEV),
            ..Accounting::default()
        }
    }

    #[test]
    fn interfaces_are_counted_but_for_the_loopback() {
        let [eth0] = interfaces(DEV).try_into().unwrap();
        assert_eq!(
            (&*eth0.name, eth0.received.bytes, eth0.received.dropped),
            ("eth0", 1, 4)
        );
        assert_eq!((eth0.sent.bytes, eth0.sent.packets, eth0.sent.errors), (5, 6, 7));
    }

    #[test]
    fn reads_the_second_version() {
        let group = "cgroup/kubepods/c";
        let files = [
            (
                "cpu.stat",
                "usage_usec 9\nuser_usec 2\nsystem_usec 3\nnr_periods 4\nnr_throttled 5\nthrottled_usec 6\n",
            ),
            ("memory.stat", "anon 1\nfile 7\nkernel 9\nfile_mapped 8\n"),
            ("memory.peak", "10\n"),
            ("memory.events", "low 0\nhigh 0\nmax 11\noom 0\noom_kill 12\n"),
            ("pids.current", "13\n"),
            ("pids.max", "14\n"),
            ("io.stat", "254:0 rbytes=15 wbytes=16 rios=17 wios=18 dbytes=0 dios=0\n"),
            ("cgroup.procs", "7\n"),
        ]
        .map(|(name, content)| (format!("{group}/{name}"), content));
        let mut files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        files.push(("cgroup/cgroup.controllers", "cpu memory\n"));
        let (_root, kernel) = kernel("0::/kubepods/c\n", &files);
        assert_eq!(kernel.accounting(ContainerId("c".into()), 7), Some(wanted()));
        assert_eq!(kernel.accounting(ContainerId("c".into()), 8), None, "it has ended");
    }

    #[test]
    fn reads_the_first_version() {
        let files = [
            ("cgroup/cpu,cpuacct/k/c/cpuacct.usage_user", "2000\n"),
            ("cgroup/cpu,cpuacct/k/c/cpuacct.usage_sys", "3000\n"),
            (
                "cgroup/cpu,cpuacct/k/c/cpu.stat",
                "nr_periods 4\nnr_throttled 5\nthrottled_time 6000\n",
            ),
            (
                "cgroup/memory/k/c/memory.stat",
                "cache 1\ntotal_cache 7\ntotal_mapped_file 8\n",
            ),
            ("cgroup/memory/k/c/memory.kmem.usage_in_bytes", "9\n"),
            ("cgroup/memory/k/c/memory.max_usage_in_bytes", "10\n"),
            ("cgroup/memory/k/c/memory.failcnt", "11\n"),
            (
                "cgroup/memory/k/c/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 12\n",
            ),
            ("cgroup/memory/k/c/cgroup.procs", "7\n"),
            ("cgroup/pids/k/c/pids.current", "13\n"),
            ("cgroup/pids/k/c/pids.max", "14\n"),
            (
                "cgroup/blkio/k/c/blkio.throttle.io_service_bytes_recursive",
                "254:0 Read 15\n254:0 Write 16\n254:0 Total 31\nTotal 31\n",
            ),
            (
                "cgroup/blkio/k/c/blkio.throttle.io_serviced_recursive",
                "254:0 Read 17\n254:0 Write 18\n254:0 Total 35\nTotal 35\n",
            ),
        ];
        let groups = "5:blkio:/k/c\n4:pids:/k/c\n3:memory:/k/c\n2:cpu,cpuacct:/k/c\n0::/\n";
        let (_root, kernel) = kernel(groups, &files);
        assert_eq!(kernel.accounting(ContainerId("c".into()), 7), Some(wanted()));
    }
}
