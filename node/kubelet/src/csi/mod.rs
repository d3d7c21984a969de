//! Volumes of storage drivers (the Container Storage Interface): drivers of this node register by sockets in a directory,
//! pods' volumes are mounted and taken back by calls to them.
//!
//! What to ask for is decided in [`request`] and [`source`], which are pure; what was asked for stands on disk ([`record`])
//! before the first call, so that nothing stays mounted whenever the agent ends. What sidecars of drivers do for the whole
//! cluster is [`controller`]'s, where it is wanted. Deliberately absent: block devices.

mod announce;
mod controller;
mod mount;
mod place;
mod record;
mod registry;
mod request;
mod source;
mod unmount;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use ::csi::Link;
use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use controller::run as control;
pub(crate) use mount::Error;
#[cfg(test)]
pub(crate) use place::attachment as attachment_name;
pub(crate) use place::of_pod;
pub(crate) use record::{in_use, mounts_below};
pub(crate) use registry::run;
pub(crate) use source::{Persistent, Sizes, Source};
pub(crate) use unmount::detach_all;

/// A driver that has registered on this node.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    pub(crate) link: Link,
    pub(crate) name: String,
    /// What the driver calls this node.
    pub(crate) node_id: String,
    /// How many volumes the node can have; 0: as many as you like.
    pub(crate) most_volumes: i64,
    pub(crate) topology: BTreeMap<String, String>,
    /// A volume is staged once on the node before pods get it.
    pub(crate) stages: bool,
    /// It gives volumes to pods' groups itself.
    pub(crate) takes_groups: bool,
    /// It knows whether one writer is one pod or one node.
    pub(crate) tells_writers_apart: bool,
    /// It makes file systems grow.
    pub(crate) expands: bool,
    /// Its controller service listens here too, and makes volumes.
    pub(crate) controls: bool,
    /// The same attaches them.
    pub(crate) publishes: bool,
    /// The same makes them grow.
    pub(crate) grows: bool,
    /// Its volumes can be reached from some places only.
    pub(crate) constrained: bool,
}

impl Driver {
    /// A driver that can nothing yet.
    pub(crate) fn new(link: Link, name: &str) -> Self {
        Self {
            link,
            name: name.to_owned(),
            node_id: String::new(),
            most_volumes: 0,
            topology: BTreeMap::new(),
            stages: false,
            takes_groups: false,
            tells_writers_apart: false,
            controls: false,
            publishes: false,
            expands: false,
            grows: false,
            constrained: false,
        }
    }
}

/// Drivers by name.
type Drivers = BTreeMap<String, Arc<Driver>>;
/// A driver's name and its name of a volume.
type Volume = (String, String);

/// The drivers of this node, and what is mounted by them.
pub(crate) struct Csi {
    root: PathBuf,
    drivers: watch::Sender<Drivers>,
    /// A volume is worked on by one at a time.
    locks: Mutex<HashMap<Volume, Weak<tokio::sync::Mutex<()>>>>,
}

impl Csi {
    /// `root` holds what drivers and the kubelet share.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            drivers: watch::Sender::default(),
            locks: Mutex::default(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a pod sees the volume.
    pub(crate) fn target(&self, uid: &str, source: &Source) -> PathBuf {
        of_pod(&self.root, uid).join(&source.name).join(place::MOUNT)
    }

    fn driver(&self, name: &str) -> Option<Arc<Driver>> {
        self.drivers.borrow().get(name).cloned()
    }

    /// Waits for whoever works on the volume.
    async fn lock(&self, driver: &str, handle: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock();
            locks.retain(|_, lock| lock.strong_count() > 0);
            let key = (driver.to_owned(), handle.to_owned());
            let known = locks.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                locks.insert(key, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}
