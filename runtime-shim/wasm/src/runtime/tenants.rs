//! Which user runs the sandbox hosts of which Kubernetes namespace.
//!
//! A namespace keeps its user for as long as the node remembers it, since files that pods wrote belong to that user.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use crate::durable;

/// How many users there are from the base on.
const USERS: u32 = 65_536;

/// The users of all namespaces.
#[derive(Debug)]
pub(crate) struct Tenants {
    path: PathBuf,
    base: u32,
    offsets: Mutex<BTreeMap<String, u32>>,
}

impl Tenants {
    /// Reads `tenants.json` in the directory of the hosts. Users are numbered from `base` on.
    pub(crate) fn open(hosts: &Path, base: u32) -> io::Result<Self> {
        let path = hosts.join("tenants.json");
        let offsets = match durable::read(&path)? {
            Some(bytes) => serde_json::from_slice(&bytes)?,
            None => BTreeMap::new(),
        };
        Ok(Self {
            path,
            base,
            offsets: Mutex::new(offsets),
        })
    }

    /// The user of a namespace; a new one is written down before it is used.
    pub(crate) fn user(&self, tenant: &str) -> io::Result<u32> {
        let mut offsets = self.offsets.lock();
        if let Some(offset) = offsets.get(tenant) {
            return Ok(self.base + offset);
        }
        let offset = lowest_free(&offsets).ok_or_else(|| io::Error::other("no user is left for another namespace"))?;
        let mut next = offsets.clone();
        next.insert(tenant.to_owned(), offset);
        durable::replace(&self.path, &serde_json::to_vec(&next)?)?;
        *offsets = next;
        Ok(self.base + offset)
    }
}

fn lowest_free(offsets: &BTreeMap<String, u32>) -> Option<u32> {
    let taken: std::collections::BTreeSet<_> = offsets.values().copied().collect();
    (0..USERS).find(|offset| !taken.contains(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_keep_users_of_their_own() {
        let hosts = tempfile::tempdir().unwrap();
        let tenants = Tenants::open(hosts.path(), 1000).unwrap();
        assert_eq!(tenants.user("a").unwrap(), 1000);
        assert_eq!(tenants.user("b").unwrap(), 1001);
        assert_eq!(tenants.user("a").unwrap(), 1000);
        let reopened = Tenants::open(hosts.path(), 1000).unwrap();
        assert_eq!(reopened.user("b").unwrap(), 1001);
        assert_eq!(reopened.user("c").unwrap(), 1002);
    }
}
