//! What is known on disk of volumes that drivers have mounted, or were asked to: written before the first call and removed
//! after the last, so that whoever comes after a crash knows what to take back. Blocking.
//!
//! The file has the name and the fields of Kubernetes' kubelet.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::place;

const FILE: &str = "vol_data.json";

/// One volume of one pod, or of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Record {
    #[serde(rename = "specVolID")]
    pub(crate) name: String,
    pub(crate) volume_handle: String,
    pub(crate) driver_name: String,
    pub(crate) node_name: String,
    /// Empty for what is not attached.
    #[serde(rename = "attachmentID")]
    pub(crate) attachment: String,
    pub(crate) volume_lifecycle_mode: String,
}

impl Record {
    pub(crate) fn is_of(&self, driver: &str, handle: &str) -> bool {
        self.driver_name == driver && self.volume_handle == handle
    }
}

/// Writes a record into a directory, which is made; at once, or not at all.
pub(crate) fn write(directory: &Path, record: &Record) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if read(directory).as_ref() == Some(record) {
        return Ok(());
    }
    let fresh = directory.join(format!("{FILE}.new"));
    fs::write(&fresh, serde_json::to_vec(record)?)?;
    fs::rename(fresh, directory.join(FILE))
}

/// The record of a directory; `None` if there is none that can be read.
pub(crate) fn read(directory: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(directory.join(FILE)).ok()?).ok()
}

/// Removes a record and its directory, in which nothing else may be left.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    for file in [FILE.to_owned(), format!("{FILE}.new")] {
        fs::remove_file(directory.join(file)).or_else(|e| if absent(&e) { Ok(()) } else { Err(e) })?;
    }
    fs::remove_dir(directory).or_else(|e| if absent(&e) { Ok(()) } else { Err(e) })
}

/// The directories of a pod's volumes, with what is known of each.
pub(crate) fn of_pod(root: &Path, uid: &str) -> Vec<(PathBuf, Option<Record>)> {
    directories(&place::of_pod(root, uid))
        .into_iter()
        .map(|directory| {
            let record = read(&directory);
            (directory, record)
        })
        .collect()
}

/// Whether a pod of this node has the volume.
pub(crate) fn is_used(root: &Path, driver: &str, handle: &str) -> bool {
    of_pods(root).any(|record| record.is_of(driver, handle))
}

/// What is staged on this node.
pub(crate) fn devices(root: &Path) -> Vec<Record> {
    let drivers = directories(&place::devices(root)).into_iter();
    drivers
        .flat_map(|driver| directories(&driver))
        .filter_map(|d| read(&d))
        .collect()
}

/// Attached volumes that may not be detached yet, as the node's status names them.
pub(crate) fn in_use(root: &Path) -> Vec<String> {
    let attached = of_pods(root)
        .chain(devices(root))
        .filter(|record| !record.attachment.is_empty());
    let names: BTreeSet<String> = attached
        .map(|r| place::unique_name(&r.driver_name, &r.volume_handle))
        .collect();
    names.into_iter().collect()
}

fn of_pods(root: &Path) -> impl Iterator<Item = Record> {
    let root = root.to_owned();
    let pods = directories(&root.join("pods")).into_iter();
    let names = pods.filter_map(|pod| pod.file_name().and_then(|name| name.to_str()).map(str::to_owned));
    names
        .flat_map(move |uid| of_pod(&root, &uid))
        .filter_map(|(_, record)| record)
}

fn directories(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Mounts at or below a directory, the deepest first.
pub(crate) fn mounts_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let table = fs::read("/proc/self/mountinfo")?;
    let mut found = below(&String::from_utf8_lossy(&table), &directory);
    found.reverse();
    Ok(found)
}

/// Whether something is mounted at the very path.
pub(crate) fn is_mounted(path: &Path) -> io::Result<bool> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Ok(mounts_below(&path)?.contains(&path))
}

/// Of the kernel's table, in its order, which is that of mounting.
fn below(table: &str, directory: &Path) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .map(|point| PathBuf::from(plain(point)))
        .filter(|point| point.starts_with(directory))
        .collect()
}

/// The kernel writes blanks and the like as octal numbers.
fn plain(point: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(point.to_owned(), |text, (octal, plain)| text.replace(octal, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(handle: &str, attachment: &str) -> Record {
        Record {
            name: "pv".into(),
            volume_handle: handle.into(),
            driver_name: "d".into(),
            node_name: "n".into(),
            attachment: attachment.into(),
            volume_lifecycle_mode: "Persistent".into(),
        }
    }

    #[test]
    fn what_was_begun_is_found_again_and_ends_without_a_trace() {
        let dir = tempfile::tempdir().expect("dir");
        let root = dir.path();
        let (of_pod_dir, device) = (place::of_pod(root, "u1").join("pv"), place::device(root, "d", "h"));
        write(&of_pod_dir, &record("h", "")).expect("written");
        write(&device, &record("h", "csi-1")).expect("written");
        assert!(is_used(root, "d", "h") && !is_used(root, "d", "other") && !is_used(root, "e", "h"));
        assert_eq!(of_pod(root, "u1"), [(of_pod_dir.clone(), Some(record("h", "")))]);
        assert_eq!(devices(root), [record("h", "csi-1")]);
        assert_eq!(in_use(root), ["kubernetes.io/csi/d^h"]);
        for directory in [&of_pod_dir, &device, &device] {
            remove(directory).expect("removed");
        }
        assert!(!is_used(root, "d", "h") && devices(root).is_empty() && in_use(root).is_empty());
        let text = serde_json::to_string(&record("h", "a")).expect("json");
        assert!(
            text.contains("\"specVolID\":\"pv\"") && text.contains("\"attachmentID\":\"a\""),
            "{text}"
        );
    }

    #[test]
    fn a_directory_with_something_in_it_stays() {
        let dir = tempfile::tempdir().expect("dir");
        let volume = dir.path().join("pv");
        write(&volume, &record("h", "")).expect("written");
        fs::write(volume.join("data"), "precious").expect("file");
        remove(&volume).expect_err("not empty");
        assert!(volume.join("data").exists());
    }

    #[test]
    fn the_kernels_table_is_read() {
        let table = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / /k/pods/u/a rw - tmpfs t rw\n\
                     3 2 0:3 / /k/pods/u/a/b\\040c rw - tmpfs t rw\n4 1 0:4 / /k/pods/uu rw - tmpfs t rw\n";
        let found = below(table, Path::new("/k/pods/u"));
        assert_eq!(found, [Path::new("/k/pods/u/a"), Path::new("/k/pods/u/a/b c")]);
    }
}
