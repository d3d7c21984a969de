//! What processes use, from `/proc`: CPU time and resident memory of a cluster's processes.

use std::{fs, path::Path, time::Duration};

/// A process with its command line.
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) command: String,
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

/// Resident and proportional memory in kB.
pub(crate) fn memory(pid: u32) -> (u64, u64) {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = rollup.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    (field("Rss:").unwrap_or(0), field("Pss:").unwrap_or(0))
}
