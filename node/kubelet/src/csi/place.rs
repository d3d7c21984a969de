//! Where volumes of drivers lie below the kubelet's directory: drivers and their tools rely on these places. Pure.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where drivers' registrars put their sockets.
pub(crate) fn registry(root: &Path) -> PathBuf {
    root.join("plugins_registry")
}

/// Where drivers have their own sockets.
pub(crate) fn plugins(root: &Path) -> PathBuf {
    root.join("plugins")
}

/// What a pod has of drivers' volumes, a directory each by the volume's name.
pub(crate) fn of_pod(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid).join("volumes/kubernetes.io~csi")
}

/// Where a pod sees a volume, below the volume's directory.
pub(crate) const MOUNT: &str = "mount";
/// Where a volume is staged for all pods of the node, below the device's directory.
pub(crate) const GLOBAL_MOUNT: &str = "globalmount";

/// What all pods of the node share of a volume.
pub(crate) fn device(root: &Path, driver: &str, handle: &str) -> PathBuf {
    devices(root).join(driver).join(hash(&[handle]))
}

/// The directory of all of them, by driver.
pub(crate) fn devices(root: &Path) -> PathBuf {
    plugins(root).join("kubernetes.io/csi")
}

/// The name of the object by which a volume is attached to a node.
pub(crate) fn attachment(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", hash(&[handle, driver, node]))
}

/// How a node's status names a volume.
pub(crate) fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// What the driver is to call a volume that lives as long as its pod.
pub(crate) fn ephemeral_handle(uid: &str, volume: &str) -> String {
    format!("csi-{}", hash(&[uid, volume]))
}

fn hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A driver's name can be part of a path, and of an object's name.
pub(crate) fn is_driver_name(name: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_that_drivers_expect() {
        let root = Path::new("/var/lib/kubelet");
        assert_eq!(
            of_pod(root, "u1").join("pv1").join(MOUNT),
            Path::new("/var/lib/kubelet/pods/u1/volumes/kubernetes.io~csi/pv1/mount")
        );
        assert_eq!(
            device(root, "hostpath.csi.k8s.io", "abc").join(GLOBAL_MOUNT),
            Path::new(
                "/var/lib/kubelet/plugins/kubernetes.io/csi/hostpath.csi.k8s.io/\
                 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad/globalmount"
            )
        );
        assert_eq!(attachment("a", "b", "c"), format!("csi-{}", hash(&["abc"])));
    }

    #[test]
    fn a_drivers_name_stays_in_its_directory() {
        for good in ["hostpath.csi.k8s.io", "a", "A-1.b"] {
            assert!(is_driver_name(good), "{good}");
        }
        for bad in ["", "..", ".", "a/b", "a/../b", "-a", "a.", &"x".repeat(64)] {
            assert!(!is_driver_name(bad), "{bad}");
        }
    }
}
