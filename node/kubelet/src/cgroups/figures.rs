//! What the kernel counts of a container's cgroup beyond what the runtime tells: throttling, disks, caches, tasks, and the
//! interfaces of its network namespace. Read where it is told; what the kernel does not have is nothing.

use std::{fs, path::Path};

use super::Cgroups;
use crate::{pod::Pod, resources};

/// Counters since the container's start, and what it holds now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// Below the mount, beginning with a slash.
    pub(crate) path: String,
    pub(crate) periods: u64,
    pub(crate) throttled_periods: u64,
    /// Nanoseconds.
    pub(crate) throttled: u64,
    pub(crate) cache: u64,
    pub(crate) swap: u64,
    pub(crate) oom_kills: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) processes: u64,
    pub(crate) interfaces: Vec<Interface>,
}

/// One line of `/proc/PID/net/dev`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) receive: Traffic,
    pub(crate) transmit: Traffic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

impl Cgroups {
    /// The figures of a container, by the id that containerd knows it by; `None`: it has no cgroup. Blocking.
    pub(crate) fn figures(&self, pod: &Pod, id: &str) -> Option<Figures> {
        let mut path = self.path(&self.of_pod(resources::qos_class(pod), &pod.metadata.uid));
        path.push(match self.driver {
            cri::CgroupDriver::Cgroupfs => id.to_owned(),
            cri::CgroupDriver::Systemd => format!("cri-containerd-{id}.scope"),
        });
        let mut figures = match self.is_unified() {
            true => unified(&self.mount.join(&path))?,
            false => divided(&self.mount, &path)?,
        };
        figures.path = format!("/{}", path.display());
        Some(figures)
    }
}

fn text(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap_or_default()
}

/// The number behind a word at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// Version 2: one directory.
fn unified(at: &Path) -> Option<Figures> {
    let processes = fs::read_to_string(at.join("cgroup.procs")).ok()?;
    let (cpu, memory, io) = (text(at, "cpu.stat"), text(at, "memory.stat"), text(at, "io.stat"));
    let sum = |key: &str| -> u64 {
        let words = io
            .split_whitespace()
            .filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        words.map(number).sum()
    };
    Some(Figures {
        periods: field(&cpu, "nr_periods"),
        throttled_periods: field(&cpu, "nr_throttled"),
        throttled: field(&cpu, "throttled_usec").saturating_mul(1000),
        cache: field(&memory, "file"),
        swap: number(&text(at, "memory.swap.current")),
        oom_kills: field(&text(at, "memory.events"), "oom_kill"),
        reads: sum("rios"),
        writes: sum("wios"),
        read_bytes: sum("rbytes"),
        written_bytes: sum("wbytes"),
        threads: number(&text(at, "pids.current")),
        ..of_processes(&processes)
    })
}

/// Version 1: one directory in each hierarchy.
fn divided(mount: &Path, path: &Path) -> Option<Figures> {
    let at = |controller: &str| mount.join(controller).join(path);
    let processes = fs::read_to_string(at("cpu").join("cgroup.procs")).ok()?;
    let (cpu, memory) = (text(&at("cpu"), "cpu.stat"), text(&at("memory"), "memory.stat"));
    let disks = |file: &str, what: &str| of_disks(&text(&at("blkio"), file), what);
    let (bytes, requests) = (
        "blkio.throttle.io_service_bytes_recursive",
        "blkio.throttle.io_serviced_recursive",
    );
    Some(Figures {
        periods: field(&cpu, "nr_periods"),
        throttled_periods: field(&cpu, "nr_throttled"),
        throttled: field(&cpu, "throttled_time"),
        cache: field(&memory, "cache"),
        swap: field(&memory, "swap"),
        oom_kills: field(&text(&at("memory"), "memory.oom_control"), "oom_kill"),
        reads: disks(requests, "Read"),
        writes: disks(requests, "Write"),
        read_bytes: disks(bytes, "Read"),
        written_bytes: disks(bytes, "Write"),
        threads: number(&text(&at("pids"), "pids.current")),
        ..of_processes(&processes)
    })
}

/// All disks together: lines such as `8:0 Read 4096`.
fn of_disks(text: &str, what: &str) -> u64 {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == what).then(|| words.next().map(number)).flatten()
    });
    lines.sum()
}

/// What is told by a list of processes: how many, and the interfaces that the first of them sees.
fn of_processes(processes: &str) -> Figures {
    let first = processes.lines().next();
    let seen = first.map(|pid| text(Path::new("/proc"), &format!("{pid}/net/dev")));
    Figures {
        processes: processes.lines().count() as u64,
        interfaces: interfaces(&seen.unwrap_or_default()),
        ..Figures::default()
    }
}

fn interfaces(text: &str) -> Vec<Interface> {
    let read = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest.split_whitespace().map(number).collect();
        let traffic = |at: usize| {
            Some(Traffic {
                bytes: *numbers.get(at)?,
                packets: *numbers.get(at + 1)?,
                errors: *numbers.get(at + 2)?,
                dropped: *numbers.get(at + 3)?,
            })
        };
        Some(Interface {
            name: name.trim().to_owned(),
            receive: traffic(0)?,
            transmit: traffic(8)?,
        })
    };
    let all = text.lines().filter_map(read);
    all.filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_version_2() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = [
            ("cgroup.procs", "0\n0\n"),
            (
                "cpu.stat",
                "usage_usec 9\nnr_periods 10\nnr_throttled 3\nthrottled_usec 250\n",
            ),
            ("memory.stat", "anon 1\nfile 4096\nfile_mapped 7\n"),
            ("memory.events", "oom 2\noom_kill 1\n"),
            (
                "io.stat",
                "8:0 rbytes=10 wbytes=20 rios=1 wios=2\n8:16 rbytes=5 wbytes=0 rios=1 wios=0 dbytes=0\n",
            ),
            ("pids.current", "4\n"),
        ];
        for (name, content) in files {
            fs::write(directory.path().join(name), content).expect("a file");
        }
        let expected = Figures {
            periods: 10,
            throttled_periods: 3,
            throttled: 250_000,
            cache: 4096,
            oom_kills: 1,
            reads: 2,
            writes: 2,
            read_bytes: 15,
            written_bytes: 20,
            threads: 4,
            processes: 2,
            ..Figures::default()
        };
        assert_eq!(unified(directory.path()), Some(expected));
        assert_eq!(unified(&directory.path().join("none")), None);
    }

    #[test]
    fn reads_version_1() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = [
            ("cpu/p/cgroup.procs", "0\n"),
            ("cpu/p/cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_time 250\n"),
            ("memory/p/memory.stat", "cache 4096\nswap 8\ntotal_cache 1\n"),
            (
                "memory/p/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            ),
            (
                "blkio/p/blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 10\n8:0 Write 20\n8:16 Read 5\nTotal 35\n",
            ),
            (
                "blkio/p/blkio.throttle.io_serviced_recursive",
                "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
            ),
        ];
        for (name, content) in files {
            let file = directory.path().join(name);
            fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
            fs::write(file, content).expect("a file");
        }
        let expected = Figures {
            periods: 10,
            throttled_periods: 3,
            throttled: 250,
            cache: 4096,
            swap: 8,
            oom_kills: 1,
            reads: 1,
            writes: 2,
            read_bytes: 15,
            written_bytes: 20,
            processes: 1,
            ..Figures::default()
        };
        assert_eq!(divided(directory.path(), Path::new("p")), Some(expected));
    }

    #[test]
    fn reads_interfaces_but_for_the_loopback() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets errs drop\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
                    eth0: 100 10 1 2 0 0 0 0 200 20 3 4 0 0 0 0\n";
        let traffic = |bytes, packets, errors, dropped| Traffic {
            bytes,
            packets,
            errors,
            dropped,
        };
        let expected = Interface {
            name: "eth0".to_owned(),
            receive: traffic(100, 10, 1, 2),
            transmit: traffic(200, 20, 3, 4),
        };
        assert_eq!(interfaces(text), [expected]);
    }
}
