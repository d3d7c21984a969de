//! Memory that an idle Wasm pod takes, everything counted: what the processes hold (their anonymous pages; the program's own
//! are there whether there are pods or not), and what the kernel holds for them (slab, sockets, page tables, files in memory),
//! as their memory control groups account it.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context;
use e2e::Cluster;

use crate::{figures::print, processes, workload};

/// After the last pod is Ready, until what follows from that has been done, old connections are gone, and the histories
/// that the API server keeps for watches have aged (75 s twice).
const SETTLE: Duration = Duration::from_secs(160);

/// Scales from one pod by `count` more and prints what each takes.
pub(crate) fn measure(count: usize, readiness: bool) -> anyhow::Result<()> {
    let cluster = workload::deploy(&workload::component(), readiness.then_some("/healthz"));
    let group = Group::of(&cluster)?;
    // A process that moves leaves what it was charged before where it was: only growth is compared, and of its own pages,
    // which it gives back there and takes anew here, what it holds.
    let before = Memory::now(&cluster, &group)?;
    workload::scale(&cluster, count + 1)?;
    processes::leave(SETTLE);
    let after = Memory::now(&cluster, &group)?;
    let each = |what: fn(&Memory) -> u64| (what(&after) as f64 - what(&before) as f64) / count as f64;
    print(format!(
        "memory pods={count} kb_each={:.1} (agent_kb={:.1} hosts_kb={:.1} kernel_kb={:.1} tmpfs_kb={:.1}) machine_slab_kb_each={:.1}",
        each(|m| m.agent + m.hosts + m.shared + m.kernel),
        each(|m| m.agent),
        each(|m| m.hosts),
        each(|m| m.kernel),
        each(|m| m.shared),
        each(|m| m.machine_slab),
    ));
    Ok(())
}

/// A control group for the agent; removed when dropped. The sandbox hosts have theirs already.
struct Group(PathBuf);

impl Group {
    fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/memory/wherry-bench-{}", std::process::id()));
        fs::create_dir(&path).context("the memory controller of cgroup v1 is mounted at /sys/fs/cgroup/memory")?;
        fs::write(path.join("cgroup.procs"), cluster.server_pid().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The agent still lives; it goes back to where this program is.
        let processes = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines() {
            let _ = fs::write("/sys/fs/cgroup/memory/cgroup.procs", pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// kB, over all processes of the cluster.
#[derive(Default)]
struct Memory {
    agent: u64,
    hosts: u64,
    /// Files in memory, and what is shared.
    shared: u64,
    kernel: u64,
    /// Of the whole machine, whoever uses it: for comparison.
    machine_slab: u64,
}

impl Memory {
    fn now(cluster: &Cluster, group: &Group) -> anyhow::Result<Self> {
        let mut memory = Self {
            machine_slab: processes::meminfo("Slab:"),
            ..Self::default()
        };
        let mut groups = vec![group.0.clone()];
        memory.agent = processes::memory(cluster.server_pid()).anonymous;
        for host in cluster.processes("sandbox-host") {
            memory.hosts += processes::memory(host).anonymous;
            groups.push(processes::memory_group(host).context("a host has a memory group")?);
        }
        for group in groups {
            // What the kernel could take back at any time, such as names of files it remembers, is not taken by a pod.
            fs::write(group.join("memory.force_empty"), "0").context("cgroup v1 gives up what it can")?;
            let stat = fs::read_to_string(group.join("memory.stat"))?;
            let field = |name: &str| {
                let line = stat.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
                line.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0) / 1024
            };
            memory.shared += field("shmem");
            let kernel = fs::read_to_string(group.join("memory.kmem.usage_in_bytes"))?;
            memory.kernel += kernel.trim().parse::<u64>()? / 1024;
        }
        Ok(memory)
    }
}
