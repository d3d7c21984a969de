//! The images of this node: a content store below `images/`, and the names that point into it.
//!
//! Everything here blocks on the disk; callers on a runtime use a blocking thread. Only the agent writes the directory,
//! one change at a time; content on its way from a registry is written beside that, and leased so that it stays until it
//! is an image's. A crash leaves at worst blobs that no image needs; the next start removes them.

pub(crate) mod artifact;
mod blobs;
mod catalogue;
mod digest;
mod import;
mod layer;
mod layout;
mod lease;
mod manifest;
mod partial;
mod reference;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};

#[cfg(test)]
pub(crate) use self::manifest::Execution;
use self::{
    blobs::Blobs,
    catalogue::{Catalogue, NewerFormat},
    lease::Leases,
};
pub(crate) use self::{
    catalogue::Entry,
    digest::Digest,
    import::{Content, ImportError, Pulled},
    layer::{LayerError, MAX_LAYER, check_entrypoint},
    layout::MAX_DOCUMENT,
    lease::Lease,
    manifest::{Descriptor, Form, ImageConfig, Index, MANIFESTS, Manifest, ManifestError, OCI_MANIFEST, choose},
    partial::Partial,
    reference::{Reference, ReferenceError, Target},
};
use crate::durable;

/// How long the beginning of a blob is kept for the next attempt.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 3600);

/// The images of this node.
#[derive(Debug)]
pub(crate) struct Images {
    root: PathBuf,
    blobs: Blobs,
    catalogue: RwLock<Catalogue>,
    /// Held while the directory changes.
    changing: Mutex<()>,
    leases: Arc<Leases>,
}

/// The store cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("image store {path} cannot be used", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("image index {path} cannot be read", path = path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("image store {path} is of a newer wherry", path = path.display())]
    Newer { path: PathBuf, source: NewerFormat },
}

/// An image is not removed while a container was made of it.
#[derive(Debug, thiserror::Error)]
#[error("it is in use by container \"{container}\"")]
pub(crate) struct InUse {
    pub(crate) container: String,
}

impl Images {
    /// Opens the store at `root`, making it if it is absent, and frees what no image needs.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io {
            path: root.to_owned(),
            source,
        };
        let blobs = Blobs::open(root).map_err(failed)?;
        let catalogue = load(&root.join("index.json"))?;
        let images = Self {
            root: root.to_owned(),
            blobs,
            catalogue: RwLock::new(catalogue),
            changing: Mutex::new(()),
            leases: Arc::default(),
        };
        images.sweep().map_err(failed)?;
        Ok(images)
    }

    /// The image that a reference, an id (`sha256:…`) or the digits of an id name.
    pub(crate) fn find(&self, text: &str) -> Result<Option<Entry>, ReferenceError> {
        let catalogue = self.catalogue.read();
        let id = text.parse().or_else(|_| format!("sha256:{text}").parse::<Digest>());
        Ok(match id {
            Ok(id) => catalogue.by_id(&id).cloned(),
            Err(_) => catalogue.by_reference(&text.parse()?).cloned(),
        })
    }

    /// Every image, as the kubelet sees it.
    pub(crate) fn list(&self) -> Vec<cri::Image> {
        let catalogue = self.catalogue.read();
        catalogue.entries().map(|entry| catalogue.describe(entry)).collect()
    }

    /// One image, as the kubelet sees it.
    pub(crate) fn describe(&self, entry: &Entry) -> cri::Image {
        self.catalogue.read().describe(entry)
    }

    /// The Wasm binary with this digest, opened for reading.
    pub(crate) fn open_module(&self, module: &Digest) -> io::Result<File> {
        self.blobs.open_blob(module)
    }

    /// Whether some image runs this Wasm binary.
    pub(crate) fn runs(&self, module: &Digest) -> bool {
        self.catalogue.read().entries().any(|entry| entry.module == *module)
    }

    /// Imports content under a name.
    pub(crate) fn import(&self, name: &Reference, content: Content) -> Result<Entry, ImportError> {
        let _changing = self.changing.lock();
        let imported = import::import(&self.blobs, name, content);
        let result = imported.and_then(|entry| {
            self.change(|catalogue| catalogue.add(name, entry.clone()))
                .map_err(ImportError::Store)?;
            Ok(entry)
        });
        // What a failed import left, and what of an archive belonged to no chosen image.
        if let Err(error) = self.sweep() {
            tracing::warn!(error = &error as &dyn std::error::Error, "unneeded image content stays");
        }
        result
    }

    /// The image with this manifest.
    pub(crate) fn known(&self, manifest: &Digest) -> Option<Entry> {
        self.catalogue.read().by_id(manifest).cloned()
    }

    /// Gives an image another name; `false`: it was removed meanwhile.
    pub(crate) fn name(&self, name: &Reference, entry: Entry) -> Result<bool, StoreError> {
        let _changing = self.changing.lock();
        self.change(|catalogue| catalogue.rename(name, entry))
    }

    /// Keeps blobs from being removed while an image is made of them.
    pub(crate) fn lease(&self, blobs: impl IntoIterator<Item = Digest>) -> Lease {
        self.leases.take(blobs)
    }

    /// Whether a blob is here, whole.
    pub(crate) fn holds(&self, blob: &Descriptor) -> bool {
        self.blobs.size(&blob.digest).is_ok_and(|size| size == blob.size)
    }

    /// What has arrived of a blob; waits until nobody else brings it.
    pub(crate) async fn partial(self: &Arc<Self>, blob: &Digest) -> io::Result<Partial> {
        let alone = self.leases.alone(blob).await;
        let (directory, blob) = (self.root.join("partial"), blob.clone());
        let open = tokio::task::spawn_blocking(move || Partial::open(&directory, &blob, alone));
        open.await.map_err(io::Error::other)?
    }

    /// Takes a blob that has arrived whole.
    pub(crate) fn keep(&self, partial: Partial, blob: &Digest) -> io::Result<()> {
        partial.keep(&self.blobs.path(blob))
    }

    /// Stores a document.
    pub(crate) fn put(&self, document: &[u8]) -> Result<Digest, ImportError> {
        Ok(self.blobs.put(&mut &*document, MAX_DOCUMENT, None)?.0)
    }

    /// The content of a document.
    pub(crate) fn document(&self, blob: &Digest) -> Result<Vec<u8>, ImportError> {
        Ok(self.blobs.read(blob, MAX_DOCUMENT)?)
    }

    /// Makes an image of what was pulled; its blobs are here, and leased.
    pub(crate) fn assemble(&self, name: &Reference, pulled: &Pulled) -> Result<Entry, ImportError> {
        let _changing = self.changing.lock();
        let entry = import::assemble(&self.blobs, name, pulled)?;
        self.change(|catalogue| catalogue.add(name, entry.clone()))
            .map_err(ImportError::Store)?;
        Ok(entry)
    }

    /// Removes an image with all its names and the content that only it needed.
    pub(crate) fn remove(&self, entry: &Entry) -> Result<(), StoreError> {
        let _changing = self.changing.lock();
        let freed = self.change(|catalogue| catalogue.remove(&entry.manifest))?;
        self.leases
            .unless_leased(freed, |blob| self.blobs.remove(blob))
            .map_err(|source| self.failed(source))
    }

    /// Applies a change to a copy, writes it, and then shows it.
    fn change<T>(&self, edit: impl FnOnce(&mut Catalogue) -> T) -> Result<T, StoreError> {
        let mut next = self.catalogue.read().clone();
        let answer = edit(&mut next);
        let bytes = serde_json::to_vec_pretty(&next).map_err(|source| self.failed(source.into()))?;
        durable::replace(&self.root.join("index.json"), &bytes).map_err(|source| self.failed(source))?;
        *self.catalogue.write() = next;
        Ok(answer)
    }

    fn sweep(&self) -> io::Result<()> {
        partial::forget(&self.root.join("partial"), PARTIAL_AGE)?;
        let catalogue = self.catalogue.read();
        let unneeded = self.blobs.list()?.into_iter().filter(|blob| !catalogue.needs(blob));
        self.leases.unless_leased(unneeded, |blob| self.blobs.remove(blob))
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Io {
            path: self.root.clone(),
            source,
        }
    }
}

fn load(path: &Path) -> Result<Catalogue, StoreError> {
    let bytes = durable::read(path).map_err(|source| StoreError::Io {
        path: path.to_owned(),
        source,
    })?;
    let Some(bytes) = bytes else {
        return Ok(Catalogue::default());
    };
    let catalogue: Catalogue = serde_json::from_slice(&bytes).map_err(|source| StoreError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    catalogue.check_format().map_err(|source| StoreError::Newer {
        path: path.to_owned(),
        source,
    })
}

/// Bytes and files below a directory that has no deep nesting.
pub(crate) fn usage(directory: &Path) -> io::Result<cri::FilesystemUsage> {
    let mut usage = cri::FilesystemUsage::default();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // A file may be renamed or removed while we look.
            let Ok(metadata) = entry.metadata() else { continue };
            usage.inodes_used += 1;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else {
                usage.used_bytes += metadata.len();
            }
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests;
