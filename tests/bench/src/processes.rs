//! What processes use, from `/proc`: CPU time and resident memory of a cluster's processes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::Cluster;

/// A process with its command line.
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) command: String,
}

/// CPU time of a cluster's processes so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) agent: Duration,
    pub(crate) hosts: Duration,
}

impl Usage {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self {
            agent: cpu(cluster.server_pid()),
            hosts: cluster.processes("sandbox-host").into_iter().map(cpu).sum(),
        }
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            agent: self.agent.saturating_sub(before.agent),
            hosts: self.hosts.saturating_sub(before.hosts),
        }
    }
}

/// The processes whose executable is `binary`: the agent and its sandbox hosts.
pub(crate) fn of_binary(binary: &Path) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let ours = pids.filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary));
    ours.map(|pid| {
        let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = raw
            .split(|b| *b == 0)
            .map(|w| String::from_utf8_lossy(w).into_owned())
            .collect();
        Process {
            pid,
            command: words.join(" "),
        }
    })
    .collect()
}

/// User and system time of a process so far.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the name in parentheses and may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    // utime and stime are fields 14 and 15 of proc_pid_stat(5), the first after the name being field 3.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Memory of a process, in kB.
pub(crate) struct Resident {
    pub(crate) rss: u64,
    /// Pages that processes share are divided among them.
    pub(crate) pss: u64,
    /// Without the pages of files.
    pub(crate) anonymous: u64,
}

/// What a process holds now.
pub(crate) fn memory(pid: u32) -> Resident {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let value = rollup.lines().find_map(|l| l.strip_prefix(name))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    let kb = |name| field(name).unwrap_or(0);
    Resident {
        rss: kb("Rss:"),
        pss: kb("Pss:"),
        anonymous: kb("Anonymous:"),
    }
}

/// A field of `/proc/meminfo`, in kB.
pub(crate) fn meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// The memory control group (v1) that a process is in.
pub(crate) fn memory_group(pid: u32) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = groups.lines().find_map(|l| l.split_once(":memory:/"))?.1;
    Some(Path::new("/sys/fs/cgroup/memory").join(path))
}

/// What else the machine does: a figure measured beside much other work says little.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Lets time pass while the cluster is left to itself.
#[allow(
    clippy::disallowed_methods,
    reason = "what is measured is what happens in a span of time"
)]
pub(crate) fn leave(time: Duration) {
    std::thread::sleep(time);
}
