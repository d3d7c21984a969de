//! The images of this node: a content store below `images/`, and the names that point into it.
//!
//! Everything here blocks on the disk; callers on a runtime use a blocking thread. Only the agent writes the directory,
//! one change at a time. A crash leaves at worst blobs that no image needs; the next start removes them.

mod blobs;
mod catalogue;
mod digest;
mod import;
mod layer;
mod layout;
mod manifest;
mod reference;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use parking_lot::{Mutex, RwLock};

#[cfg(test)]
pub(crate) use self::manifest::Execution;
use self::{
    blobs::Blobs,
    catalogue::{Catalogue, NewerFormat},
};
pub(crate) use self::{
    catalogue::Entry,
    digest::Digest,
    import::{Content, ImportError},
    reference::{Reference, ReferenceError},
};
use crate::durable;

/// The images of this node.
#[derive(Debug)]
pub(crate) struct Images {
    root: PathBuf,
    blobs: Blobs,
    catalogue: RwLock<Catalogue>,
    /// Held while the directory changes.
    changing: Mutex<()>,
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

    /// Removes an image with all its names and the content that only it needed.
    pub(crate) fn remove(&self, entry: &Entry) -> Result<(), StoreError> {
        let _changing = self.changing.lock();
        let freed = self.change(|catalogue| catalogue.remove(&entry.manifest))?;
        for blob in freed {
            self.blobs.remove(&blob).map_err(|source| self.failed(source))?;
        }
        Ok(())
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
        let catalogue = self.catalogue.read();
        self.blobs
            .list()?
            .iter()
            .filter(|blob| !catalogue.needs(blob))
            .try_for_each(|blob| self.blobs.remove(blob))
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
