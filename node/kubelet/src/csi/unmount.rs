//! Taking volumes back, by what stands on disk alone: from a pod, and from the node when no pod has them.
//!
//! Nothing of a pod is removed while one of its volumes is mounted: it would be the volume's data that goes.

use std::{fs, io, path::Path};

use ::csi::{
    Link,
    v1::{NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest},
};

use super::{
    Csi, Driver,
    mount::{PATIENCE, blocking, path_text},
    place,
    record::{self, Record},
};

/// A volume could not be taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("UnmountVolume.TearDown failed for volume \"{volume}\" : {source}")]
    Pod { volume: String, source: Failure },
    #[error("UnmountDevice failed for volume \"{volume}\" : {source}")]
    Device { volume: String, source: Failure },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("kubernetes.io/csi: driver name {0} not found in the list of registered CSI drivers")]
    NotRegistered(String),
    #[error("{path} is mounted, and nothing says by which driver")]
    Unknown { path: String },
    #[error("{path} is still mounted after the driver has unmounted it")]
    StillMounted { path: String },
    #[error(transparent)]
    Driver(#[from] ::csi::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Csi {
    /// Takes all volumes of a pod back.
    ///
    /// # Errors
    /// The first that is not; trying again goes on with it.
    pub(crate) async fn unmount(&self, uid: &str) -> Result<(), Error> {
        let (root, uid) = (self.root.clone(), uid.to_owned());
        let found = blocking(move || Ok(record::of_pod(&root, &uid)))
            .await
            .unwrap_or_default();
        let mut first = Ok(());
        for (directory, record) in found {
            let volume = directory.file_name().map(|name| name.to_string_lossy().into_owned());
            let volume = volume.unwrap_or_default();
            let done = match &record {
                Some(record) => self.unpublish(&directory, record).await,
                None => remove_unknown(&directory).await,
            };
            let done = done.map_err(|source| Error::Pod {
                volume: volume.clone(),
                source,
            });
            let done = match (done, record) {
                (Ok(()), Some(record)) => self.release(&record).await,
                (done, _) => done,
            };
            if first.is_ok() {
                first = done;
            }
        }
        first
    }

    /// Takes back from the node what is staged and no pod has.
    pub(crate) async fn sweep(&self) {
        let root = self.root.clone();
        let staged = blocking(move || Ok(record::devices(&root))).await.unwrap_or_default();
        for record in staged {
            if let Err(error) = self.release(&record).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot take a volume back from the node"
                );
            }
        }
    }

    async fn unpublish(&self, directory: &Path, record: &Record) -> Result<(), Failure> {
        let _alone = self.lock(&record.driver_name, &record.volume_handle).await;
        let driver = self.known(record)?;
        let target = directory.join(place::MOUNT);
        let message = NodeUnpublishVolumeRequest {
            volume_id: record.volume_handle.clone(),
            target_path: path_text(&target)?,
        };
        let mut node = driver.link.node();
        let call = node.node_unpublish_volume(Link::request(message, PATIENCE));
        driver.link.call(PATIENCE, call).await?;
        finish(directory, place::MOUNT).await
    }

    /// Unstages the volume if no pod of the node has it.
    async fn release(&self, record: &Record) -> Result<(), Error> {
        let failed = |source| Error::Device {
            volume: record.name.clone(),
            source,
        };
        let (name, handle) = (&record.driver_name, &record.volume_handle);
        let _alone = self.lock(name, handle).await;
        let device = place::device(&self.root, name, handle);
        let (root, wanted, at) = (self.root.clone(), record.clone(), device.clone());
        let idle = blocking(move || {
            let used = record::is_used(&root, &wanted.driver_name, &wanted.volume_handle);
            Ok(!used && at.exists())
        });
        if !idle.await.map_err(|e| failed(e.into()))? {
            return Ok(());
        }
        let unstaged = async {
            let driver = self.known(record)?;
            let message = NodeUnstageVolumeRequest {
                volume_id: handle.clone(),
                staging_target_path: path_text(&device.join(place::GLOBAL_MOUNT))?,
            };
            let mut node = driver.link.node();
            let call = node.node_unstage_volume(Link::request(message, PATIENCE));
            driver.link.call(PATIENCE, call).await?;
            finish(&device, place::GLOBAL_MOUNT).await
        };
        unstaged.await.map_err(failed)
    }

    fn known(&self, record: &Record) -> Result<std::sync::Arc<Driver>, Failure> {
        let name = &record.driver_name;
        self.driver(name).ok_or_else(|| Failure::NotRegistered(name.clone()))
    }
}

/// Removes the directory of a volume that its driver has unmounted.
async fn finish(directory: &Path, mount: &str) -> Result<(), Failure> {
    let (directory, mount) = (directory.to_owned(), directory.join(mount));
    let left = blocking(move || {
        let mounted = record::mounts_below(&directory)?;
        if let Some(path) = mounted.into_iter().next() {
            return Ok(Some(path));
        }
        match fs::remove_dir(&mount) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(&mount)?,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        record::remove(&directory).map(|()| None)
    });
    match left.await? {
        None => Ok(()),
        Some(path) => Err(Failure::StillMounted {
            path: path.display().to_string(),
        }),
    }
}

/// Removes a directory that says nothing, if nothing is there.
async fn remove_unknown(directory: &Path) -> Result<(), Failure> {
    let at = directory.to_owned();
    let mounted = blocking(move || record::mounts_below(&at)).await?;
    match mounted.into_iter().next() {
        None => finish(directory, place::MOUNT).await,
        Some(path) => Err(Failure::Unknown {
            path: path.display().to_string(),
        }),
    }
}

/// Detaches whatever drivers have mounted below the kubelet's directory, when no pod and no driver is left to ask.
/// Blocking.
///
/// # Errors
/// Whatever the kernel says; trying again goes on where it stopped.
pub(crate) fn detach_all(root: &Path) -> io::Result<()> {
    let pods = fs::read_dir(root.join("pods")).into_iter().flatten().flatten();
    let of_pods = pods.map(|pod| pod.path().join("volumes/kubernetes.io~csi"));
    for directory in of_pods
        .chain([place::devices(root)])
        .filter(|directory| directory.is_dir())
    {
        for mount in record::mounts_below(&directory)? {
            nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH)?;
        }
        if let Some(left) = record::mounts_below(&directory)?.first() {
            return Err(io::Error::other(format!("{} is still mounted", left.display())));
        }
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
