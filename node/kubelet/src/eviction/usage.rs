//! How much disk a pod uses, and whether that is more than it may: volumes, logs, and what containers wrote elsewhere.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path};

use api::Quantity;

use crate::{
    make,
    pod::{Amounts, Pod, Role},
    volumes,
};

/// What the runtime says that containers wrote outside of their volumes, by pod and container.
pub(super) type Layers = BTreeMap<(String, String), cri::FilesystemUsage>;

/// What a pod has on disk, bytes unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DiskUsage {
    /// By volume; those in memory are none.
    volumes: BTreeMap<String, i64>,
    /// Logs and writable layer, by container.
    containers: BTreeMap<String, i64>,
    /// Files and directories of all of it.
    inodes: i64,
}

impl DiskUsage {
    pub(super) fn total(&self) -> i64 {
        let all = self.volumes.values().chain(self.containers.values());
        all.fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    pub(super) fn inodes(&self) -> i64 {
        self.inodes
    }
}

fn limit(limits: &Amounts) -> Option<i64> {
    let text = limits.get("ephemeral-storage")?;
    text.0.parse::<Quantity>().ok().map(|q| q.value())
}

fn size_limit(volume: &crate::pod::Volume) -> Option<i64> {
    let source = volume.empty_dir.as_ref()?;
    let size = source.size_limit.as_ref()?.0.parse::<Quantity>().ok()?.value();
    (size > 0).then_some(size)
}

/// Whether anything limits what the pod may write.
pub(super) fn has_limits(pod: &Pod) -> bool {
    pod.spec.volumes.iter().any(|v| size_limit(v).is_some())
        || pod
            .lasting_containers()
            .any(|(_, c)| limit(&c.resources.limits).is_some())
}

/// Measures a pod; `layers` is what the runtime says of its containers. Blocking.
pub(super) fn of_pod(data_dir: &Path, pod: &Pod, layers: &Layers) -> DiskUsage {
    let mut used = DiskUsage::default();
    for volume in pod.spec.volumes.iter().filter(|v| v.empty_dir.is_some()) {
        if let Some(path) = volumes::path(data_dir, &pod.metadata.uid, volume) {
            let (bytes, inodes) = tree(&path);
            used.volumes.insert(volume.name.clone(), bytes);
            used.inodes = used.inodes.saturating_add(inodes);
        }
    }
    let logs = make::log_directory(data_dir, pod);
    for (_, container) in pod.all_containers() {
        let key = (pod.metadata.uid.to_string(), container.name.clone());
        let layer = layers.get(&key).copied().unwrap_or_default();
        let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        let (bytes, inodes) = tree(&logs.join(&container.name));
        let bytes = bytes.saturating_add(signed(layer.used_bytes));
        used.containers.insert(container.name.clone(), bytes);
        let inodes = inodes.saturating_add(signed(layer.inodes_used));
        used.inodes = used.inodes.saturating_add(inodes);
    }
    used
}

/// Bytes of blocks below a directory, and how many files and directories. Links are not followed, other file systems not
/// entered.
fn tree(directory: &Path) -> (i64, i64) {
    let Ok(root) = fs::symlink_metadata(directory) else {
        return (0, 0);
    };
    let (mut sum, mut count, mut left) = (0_i64, 0_i64, vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != root.dev() {
                continue;
            }
            let bytes = i64::try_from(metadata.blocks().saturating_mul(512)).unwrap_or(i64::MAX);
            sum = sum.saturating_add(bytes);
            count = count.saturating_add(1);
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    (sum, count)
}

/// What the pod uses too much of, worded as the kubelet words it. Pure.
pub(super) fn excess(pod: &Pod, used: &DiskUsage) -> Option<String> {
    for volume in &pod.spec.volumes {
        let (limit, used) = (size_limit(volume), used.volumes.get(&volume.name));
        if let (Some(limit), Some(used)) = (limit, used)
            && *used > limit
        {
            let limit = Quantity::from_bytes(limit);
            return Some(format!(
                "Usage of EmptyDir volume \"{}\" exceeds the limit \"{limit}\". ",
                volume.name
            ));
        }
    }
    let limits: Vec<_> = pod
        .lasting_containers()
        .filter(|(role, _)| *role != Role::Init)
        .map(|(_, c)| limit(&c.resources.limits))
        .collect();
    if let Some(total) = limits.into_iter().sum::<Option<i64>>().filter(|total| *total > 0)
        && used.total() > total
    {
        let total = Quantity::from_bytes(total);
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
        ));
    }
    pod.lasting_containers().find_map(|(_, container)| {
        let limit = limit(&container.resources.limits).filter(|limit| *limit > 0)?;
        (*used.containers.get(&container.name)? > limit).then(|| {
            let limit = Quantity::from_bytes(limit);
            format!(
                "Container {} exceeded its local ephemeral storage limit \"{limit}\". ",
                container.name
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let metadata = json!({"name": "p", "namespace": "ns", "uid": "u"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("pod")
    }

    #[test]
    fn a_volume_that_is_too_full_is_found() {
        let dir = tempfile::tempdir().expect("dir");
        let volume = json!({"name": "work", "emptyDir": {"sizeLimit": "64Ki"}});
        let pod = pod(json!({"volumes": [volume], "containers": [{"name": "c"}]}));
        let path = dir.path().join("pods/u/volumes/kubernetes.io~empty-dir/work/deep");
        fs::create_dir_all(&path).expect("dir");
        assert!(has_limits(&pod));
        let measured = || of_pod(dir.path(), &pod, &Layers::new());
        assert_eq!(excess(&pod, &measured()), None);
        fs::write(path.join("file"), vec![1; 128 << 10]).expect("file");
        assert_eq!(
            excess(&pod, &measured()).as_deref(),
            Some("Usage of EmptyDir volume \"work\" exceeds the limit \"64Ki\". ")
        );
        assert_eq!(measured().inodes(), 2, "a directory and a file");
        let layer = cri::FilesystemUsage {
            used_bytes: 7,
            inodes_used: 3,
        };
        let layers = Layers::from([(("u".to_owned(), "c".to_owned()), layer)]);
        let with_layer = of_pod(dir.path(), &pod, &layers);
        assert_eq!((with_layer.inodes(), with_layer.total() - measured().total()), (5, 7));
    }

    #[test]
    fn containers_are_held_to_their_limits_alone_and_together() {
        let container = |name: &str| json!({"name": name, "resources": {"limits": {"ephemeral-storage": "1Mi"}}});
        let two = pod(json!({"containers": [container("a"), container("b")]}));
        let used = |a: i64, b: i64| DiskUsage {
            containers: BTreeMap::from([("a".to_owned(), a << 10), ("b".to_owned(), b << 10)]),
            ..DiskUsage::default()
        };
        assert_eq!(excess(&two, &used(1000, 1000)), None);
        assert_eq!(
            excess(&two, &used(1025, 0)).as_deref(),
            Some("Container a exceeded its local ephemeral storage limit \"1Mi\". ")
        );
        assert_eq!(
            excess(&two, &used(2000, 100)).as_deref(),
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ")
        );
        let one = pod(json!({"containers": [container("a"), {"name": "b"}]}));
        assert_eq!(excess(&one, &used(100, 5000)), None, "not all are limited");
    }
}
