//! The cgroups of pods: one per pod below one per quality of service, where the runtime puts the containers' own.
//!
//! ```text
//! <prefix>/kubepods/pod<uid>                Guaranteed
//! <prefix>/kubepods/burstable/pod<uid>
//! <prefix>/kubepods/besteffort/pod<uid>
//! ```
//! Both versions of the kernel's interface are written; which one there is shows at the mount. With the systemd driver the
//! names are those of slices. Names and values are pure; Wasm pods have no processes of their own and hence no cgroup.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cri::CgroupDriver;

use crate::{pod::Pod, resources};

mod leftover;

pub(crate) use leftover::remove_all;

/// Where the kernel's interface is mounted.
pub(crate) const MOUNT: &str = "/sys/fs/cgroup";

/// Where this node's cgroups are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroups {
    /// Where the kernel's interface is mounted.
    pub(crate) mount: PathBuf,
    /// A cgroup of the cluster's own, so that several clusters share a machine; empty: none.
    pub(crate) prefix: String,
    pub(crate) driver: CgroupDriver,
    /// How many processes and threads one pod may have; 0: any number.
    pub(crate) pod_pids: u64,
    /// What all pods together get, where something is reserved for others.
    pub(crate) together: cri::Resources,
}

/// The controllers of version 1 that a pod's limits are kept by.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Kubernetes' name for the root of all pods.
const ROOT: &str = "kubepods";

impl Cgroups {
    /// The names from the root down to the cgroup of this class.
    fn of_class(&self, class: &str) -> Vec<String> {
        let mut names: Vec<String> = Some(self.prefix.clone())
            .filter(|p| !p.is_empty())
            .into_iter()
            .collect();
        names.push(ROOT.to_owned());
        match class {
            "Burstable" => names.push("burstable".to_owned()),
            "BestEffort" => names.push("besteffort".to_owned()),
            _ => {}
        }
        names
    }

    fn of_pod(&self, class: &str, uid: &str) -> Vec<String> {
        let mut names = self.of_class(class);
        names.push(format!("pod{uid}"));
        names
    }

    /// The pod's cgroup in the form that the runtime takes.
    pub(crate) fn parent(&self, pod: &Pod) -> String {
        let names = self.of_pod(resources::qos_class(pod), &pod.metadata.uid);
        match self.driver {
            CgroupDriver::Cgroupfs => format!("/{}", names.join("/")),
            CgroupDriver::Systemd => slices(&names).pop().unwrap_or_default(),
        }
    }

    /// The directory of a cgroup, below the mount and a controller's.
    fn path(&self, names: &[String]) -> PathBuf {
        match self.driver {
            CgroupDriver::Cgroupfs => names.iter().collect(),
            CgroupDriver::Systemd => slices(names).into_iter().collect(),
        }
    }

    fn is_unified(&self) -> bool {
        self.mount.join("cgroup.controllers").exists()
    }

    /// The roots of the hierarchies.
    fn hierarchies(&self) -> Vec<PathBuf> {
        if self.is_unified() {
            return vec![self.mount.clone()];
        }
        let present = CONTROLLERS.iter().map(|name| self.mount.join(name));
        present.filter(|path| path.is_dir()).collect()
    }

    /// Makes the pod's cgroup and gives it the pod's limits. Blocking.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn make(&self, pod: &Pod) -> io::Result<()> {
        let class = resources::qos_class(pod);
        let path = self.path(&self.of_pod(class, &pod.metadata.uid));
        let limits = resources::of_pod(pod);
        for hierarchy in self.hierarchies() {
            if self.is_unified() {
                delegate(&hierarchy, &path)?;
            }
            fs::create_dir_all(hierarchy.join(&path))?;
        }
        self.write(&path, &values(&limits, self.is_unified()))?;
        let all = self.path(&self.of_class("Guaranteed"));
        if let Err(error) = self.write(&all, &values(&self.together, self.is_unified())) {
            // Pods that have more already keep it.
            tracing::warn!(%error, "cannot keep what is reserved from pods");
        }
        if self.pod_pids > 0 {
            self.write(&path, &[("pids", "pids.max", self.pod_pids.to_string())])?;
        }
        let share = cri::Resources {
            cpu_shares: 2,
            ..cri::Resources::default()
        };
        if class == "BestEffort" {
            let class = self.path(&self.of_class(class));
            self.write(&class, &values(&share, self.is_unified()))?;
        }
        Ok(())
    }

    /// Gives the pod's cgroup the pod's limits as they are now; a pod without one has none to give. Blocking.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn update(&self, pod: &Pod) -> io::Result<()> {
        let path = self.path(&self.of_pod(resources::qos_class(pod), &pod.metadata.uid));
        if !self.hierarchies().iter().any(|h| h.join(&path).is_dir()) {
            return Ok(());
        }
        self.write(&path, &values(&resources::of_pod(pod), self.is_unified()))
    }

    /// How often a process of the pod could not be made because the pod has as many as it may. Blocking.
    pub(crate) fn refused_processes(&self, pod: &Pod) -> u64 {
        let path = self.path(&self.of_pod(resources::qos_class(pod), &pod.metadata.uid));
        let hierarchy = match self.is_unified() {
            true => self.mount.clone(),
            false => self.mount.join("pids"),
        };
        let own = hierarchy.join(path);
        let below = fs::read_dir(&own)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        // Older kernels count where the process would have been, newer ones where the limit is.
        std::iter::once(own.clone())
            .chain(below)
            .map(|cgroup| refused(&cgroup))
            .sum()
    }

    /// Gives all burstable pods together what they ask for. Blocking.
    pub(crate) fn balance<'a>(&self, pods: impl Iterator<Item = &'a Pod>) {
        let burstable = pods.filter(|pod| resources::qos_class(pod) == "Burstable" && !pod.status.phase.is_terminal());
        let shares = burstable
            .map(|pod| resources::of_pod(pod).cpu_shares)
            .sum::<u64>()
            .max(2);
        let path = self.path(&self.of_class("Burstable"));
        let together = cri::Resources {
            cpu_shares: shares,
            ..cri::Resources::default()
        };
        if self.hierarchies().iter().any(|h| h.join(&path).is_dir())
            && let Err(error) = self.write(&path, &values(&together, self.is_unified()))
        {
            tracing::debug!(%error, "cannot weigh the cgroup of burstable pods");
        }
    }

    fn write(&self, path: &Path, values: &[(&str, &str, String)]) -> io::Result<()> {
        for (controller, file, value) in values {
            let hierarchy = match self.is_unified() {
                true => self.mount.clone(),
                false => self.mount.join(controller),
            };
            let file = hierarchy.join(path).join(file);
            if file.exists() {
                fs::write(&file, value)
                    .map_err(|e| io::Error::new(e.kind(), format!("{} to {}: {e}", value, file.display())))?;
            }
        }
        Ok(())
    }
}

/// Lets the cgroups on the way to `path` have the controllers that pods are limited by.
fn delegate(root: &Path, path: &Path) -> io::Result<()> {
    let mut at = root.to_owned();
    for part in path.components() {
        let control = at.join("cgroup.subtree_control");
        for controller in CONTROLLERS {
            // One that the kernel does not have, or that is on already, is no failure.
            let _ = fs::write(&control, format!("+{controller}"));
        }
        at.push(part);
        fs::create_dir_all(&at)?;
    }
    for controller in CONTROLLERS {
        let _ = fs::write(at.join("cgroup.subtree_control"), format!("+{controller}")); // as above
    }
    Ok(())
}

/// What a cgroup counts of processes that could not be made.
fn refused(cgroup: &Path) -> u64 {
    let events = fs::read_to_string(cgroup.join("pids.events")).unwrap_or_default();
    let count = events.lines().find_map(|line| line.strip_prefix("max "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}

/// How many processes and threads one pod may have, on a kernel that takes so many: as many as leave room for others, and
/// never so few that an ordinary program does not run. Pure.
pub(crate) fn pod_pids(of_node: u64) -> u64 {
    (of_node / 8).max(1024)
}

/// The slices on the way to the last name: each repeats the names of those above it.
fn slices(names: &[String]) -> Vec<String> {
    let escaped = names.iter().map(|name| name.replace('-', "_"));
    let mut joined = String::new();
    let named = escaped.map(|name| {
        if !joined.is_empty() {
            joined.push('-');
        }
        joined.push_str(&name);
        format!("{joined}.slice")
    });
    named.collect()
}

/// Controller, file and text for these limits.
fn values(limits: &cri::Resources, unified: bool) -> Vec<(&'static str, &'static str, String)> {
    let mut out = Vec::new();
    let (quota, period) = (limits.cpu_quota, limits.cpu_period);
    if unified {
        if limits.cpu_shares > 0 {
            // The kernel's own conversion of shares (2 to 262144) to a weight (1 to 10000).
            let weight = 1 + (limits.cpu_shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
            out.push(("cpu", "cpu.weight", weight.to_string()));
        }
        if quota > 0 {
            out.push(("cpu", "cpu.max", format!("{quota} {period}")));
        }
        if limits.memory_limit > 0 {
            out.push(("memory", "memory.max", limits.memory_limit.to_string()));
        }
        return out;
    }
    if limits.cpu_shares > 0 {
        out.push(("cpu", "cpu.shares", limits.cpu_shares.to_string()));
    }
    if quota > 0 {
        out.push(("cpu", "cpu.cfs_period_us", period.to_string()));
        out.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
    }
    if limits.memory_limit > 0 {
        out.push(("memory", "memory.limit_in_bytes", limits.memory_limit.to_string()));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(resources: serde_json::Value) -> Pod {
        let spec = json!({"containers": [{"name": "c", "resources": resources}]});
        serde_json::from_value(json!({"metadata": {"uid": "a-b"}, "spec": spec})).expect("pod")
    }

    pub(super) fn burstable() -> Pod {
        pod(json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1Mi"}}))
    }

    pub(super) fn cgroups(mount: &Path, driver: CgroupDriver) -> Cgroups {
        let (mount, prefix) = (mount.to_owned(), "wherry-x".to_owned());
        Cgroups {
            mount,
            prefix,
            driver,
            pod_pids: 4096,
            together: cri::Resources::default(),
        }
    }

    #[test]
    fn a_pod_has_room_and_leaves_room() {
        for (of_node, of_pod) in [(32_768, 4096), (4_194_304, 524_288), (1000, 1024)] {
            assert_eq!(pod_pids(of_node), of_pod);
        }
    }

    #[test]
    fn refused_processes_are_counted_wherever_the_kernel_counts_them() {
        let dir = tempfile::tempdir().expect("dir");
        fs::create_dir(dir.path().join("pids")).expect("hierarchy");
        let cgroups = cgroups(dir.path(), CgroupDriver::Cgroupfs);
        assert_eq!(cgroups.refused_processes(&burstable()), 0);
        let own = dir.path().join("pids/wherry-x/kubepods/burstable/poda-b");
        fs::create_dir_all(own.join("container")).expect("dir");
        fs::write(own.join("pids.events"), "max 2\n").expect("file");
        fs::write(own.join("container/pids.events"), "max 40\n").expect("file");
        assert_eq!(cgroups.refused_processes(&burstable()), 42);
    }

    #[test]
    fn names_are_paths_or_slices() {
        let named = |driver, pod: &Pod| cgroups(Path::new("/c"), driver).parent(pod);
        let guaranteed = pod(json!({"limits": {"cpu": "1", "memory": "1Mi"}}));
        let paths = [
            (
                guaranteed,
                "/wherry-x/kubepods/poda-b",
                "wherry_x-kubepods-poda_b.slice",
            ),
            (
                burstable(),
                "/wherry-x/kubepods/burstable/poda-b",
                "wherry_x-kubepods-burstable-poda_b.slice",
            ),
            (
                pod(json!({})),
                "/wherry-x/kubepods/besteffort/poda-b",
                "wherry_x-kubepods-besteffort-poda_b.slice",
            ),
        ];
        for (pod, path, slice) in paths {
            assert_eq!(named(CgroupDriver::Cgroupfs, &pod), path);
            assert_eq!(named(CgroupDriver::Systemd, &pod), slice);
        }
        let systemd = cgroups(Path::new("/c"), CgroupDriver::Systemd);
        let path = systemd.path(&systemd.of_class("Burstable"));
        assert_eq!(
            path,
            Path::new("wherry_x.slice/wherry_x-kubepods.slice/wherry_x-kubepods-burstable.slice")
        );
    }

    #[test]
    fn limits_are_written_in_either_version() {
        let limits = cri::Resources {
            cpu_shares: 512,
            cpu_quota: 100_000,
            cpu_period: 100_000,
            memory_limit: 1 << 20,
        };
        let texts = |unified| -> Vec<String> {
            let made = values(&limits, unified).into_iter();
            made.map(|(_, file, value)| format!("{file}={value}")).collect()
        };
        assert_eq!(
            texts(false),
            [
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=100000",
                "memory.limit_in_bytes=1048576"
            ]
        );
        assert_eq!(
            texts(true),
            ["cpu.weight=20", "cpu.max=100000 100000", "memory.max=1048576"]
        );
    }
}
