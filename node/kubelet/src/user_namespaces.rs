//! The ranges of users that pods with `hostUsers: false` (KEP-127) have on this node: one range for each pod, no two the same.
//!
//! A range is written into the pod's directory before it is used, as Kubernetes' kubelets do, and is free again when the
//! directory is gone, which is after the last of the pod's processes. What is taken is read from these files alone.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use cri::UserNamespace;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Users of a pod: as many as a program may expect to have.
const LENGTH: u32 = 1 << 16;
/// The first range is the node's own; the last ends below the users of sandbox hosts.
const RANGES: std::ops::Range<u32> = 1..0x7000;

/// Gives ranges, one at a time.
#[derive(Default)]
pub(crate) struct UserNamespaces(Mutex<()>);

/// The file, in Kubernetes' form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

fn file(data_dir: &Path, uid: &str) -> PathBuf {
    data_dir.join("pods").join(uid).join("userns")
}

/// The range of a pod, if it has one. Blocking.
///
/// # Errors
/// The file cannot be read, or does not say.
pub(crate) fn of(data_dir: &Path, uid: &str) -> io::Result<Option<UserNamespace>> {
    let text = match fs::read(file(data_dir, uid)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kept: Kept = serde_json::from_slice(&text)?;
    let first = kept.uid_mappings.first().ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some(UserNamespace {
        host_id: first.host_id,
        length: first.length,
    }))
}

impl UserNamespaces {
    /// The range of a pod; takes the first that is free where it has none. Blocking.
    ///
    /// # Errors
    /// All are taken, or what is taken cannot be read or written.
    pub(crate) fn claim(&self, data_dir: &Path, uid: &str) -> io::Result<UserNamespace> {
        let _one_at_a_time = self.0.lock();
        if let Some(known) = of(data_dir, uid)? {
            return Ok(known);
        }
        let mut taken = BTreeSet::new();
        for entry in fs::read_dir(data_dir.join("pods"))? {
            let name = entry?.file_name();
            // One that cannot be read may hold any: nothing is given then.
            taken.extend(of(data_dir, &name.to_string_lossy())?.map(|user| user.host_id / LENGTH));
        }
        let free = RANGES.into_iter().find(|range| !taken.contains(range));
        let free = free.ok_or_else(|| io::Error::other("all ranges of users are taken"))?;
        let mapping = Mapping {
            host_id: free * LENGTH,
            container_id: 0,
            length: LENGTH,
        };
        let kept = Kept {
            uid_mappings: vec![mapping],
            gid_mappings: vec![mapping],
        };
        write(&file(data_dir, uid), &serde_json::to_vec(&kept)?)?;
        Ok(UserNamespace {
            host_id: mapping.host_id,
            length: mapping.length,
        })
    }
}

/// Durable before it is used: after a power loss another pod must not get the same.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    use io::Write;
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_has_a_range_of_its_own_until_it_is_gone() {
        let data = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(data.path().join("pods/other")).expect("a pod without one");
        let users = UserNamespaces::default();
        let claim = |uid| users.claim(data.path(), uid).expect("a range");
        let (a, b) = (claim("a"), claim("b"));
        assert_eq!((a.host_id, a.length, b.host_id), (65_536, 65_536, 131_072));
        assert_eq!(claim("a"), a, "it keeps it");
        assert_eq!(
            UserNamespaces::default().claim(data.path(), "a").expect("a range"),
            a,
            "by another kubelet too"
        );
        fs::remove_dir_all(data.path().join("pods/a")).expect("the pod is gone");
        assert_eq!(of(data.path(), "a").expect("read"), None);
        assert_eq!(claim("c"), a, "what is free is given again");
        fs::write(file(data.path(), "b"), "{").expect("written");
        assert!(users.claim(data.path(), "d").is_err(), "what cannot be read may be any");
    }

    #[test]
    fn ranges_end_below_the_users_of_sandbox_hosts() {
        assert_eq!(RANGES.end * LENGTH, 0x7000_0000);
    }
}
