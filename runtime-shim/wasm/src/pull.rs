//! Pulling: from the name of an image to the image in the store.
//!
//! A name is resolved to a manifest, an index to the manifest for Wasm, and what of its blobs is not here yet is fetched,
//! several at a time, each going on where an earlier attempt ended. Only then is there an image: a pull that fails leaves
//! nothing but the beginnings of blobs.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;

use crate::{
    images::{
        Descriptor, Digest, Entry, Form, ImageConfig, Images, ImportError, Index, LayerError, MAX_DOCUMENT, MAX_LAYER,
        Manifest, ManifestError, Pulled, Reference, Target, check_entrypoint, choose,
    },
    protocol::compiled::MAX_BINARY,
    registry::{Access, Document, RegistryError, Session, Settings},
};

/// Blobs of one image that are fetched at once, as containerd does it.
const AT_ONCE: usize = 3;
/// How deep indexes may be nested.
const MAX_DEPTH: usize = 3;
/// The most blobs of an image.
const MAX_BLOBS: usize = 130;
/// The most bytes of an image.
const MAX_IMAGE: u64 = 4 << 30;

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("failed to resolve reference \"{name}\"")]
    Resolve { name: String, source: RegistryError },
    #[error("failed to fetch {digest}")]
    Fetch { digest: Digest, source: RegistryError },
    #[error("{document} cannot be read")]
    Document {
        document: &'static str,
        source: serde_json::Error,
    },
    #[error("indexes are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("{what} has {size} bytes, more than the {limit} that are allowed")]
    TooLarge { what: String, size: u64, limit: u64 },
    #[error("it has {count} blobs, more than the {MAX_BLOBS} that are allowed")]
    TooMany { count: usize },
    #[error(transparent)]
    Manifest(ManifestError),
    /// Not ours to run.
    #[error("it is an OCI container image without a Wasm program")]
    ContainerImage(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the image cannot be stored")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl PullError {
    fn store(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Store(error.into())
    }
}

impl From<ManifestError> for PullError {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::NoPlatform { .. } => Self::ContainerImage(error.into()),
            error => Self::Manifest(error),
        }
    }
}

impl From<ImportError> for PullError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::ContainerImage(why) => Self::ContainerImage(why.into()),
            error => Self::store(error),
        }
    }
}

/// How far a pull is. Shared by all who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Parts>);

#[derive(Debug, Default)]
struct Parts {
    total: u64,
    arrived: HashMap<Digest, u64>,
}

impl Progress {
    /// Bytes that have arrived, and all that are to come; `None`: not known yet.
    pub(crate) fn bytes(&self) -> Option<(u64, u64)> {
        let parts = self.0.lock();
        (parts.total > 0).then(|| (parts.arrived.values().sum(), parts.total))
    }

    fn expect(&self, bytes: u64) {
        self.0.lock().total += bytes;
    }

    fn arrived(&self, blob: &Digest, bytes: u64) {
        self.0.lock().arrived.insert(blob.clone(), bytes);
    }
}

/// One pull.
pub(crate) struct Pull {
    pub(crate) images: Arc<Images>,
    pub(crate) settings: Settings,
    pub(crate) name: Reference,
    pub(crate) credentials: Option<cri::RegistryAuth>,
    pub(crate) progress: Arc<Progress>,
}

impl Pull {
    /// Pulls, and answers the image.
    pub(crate) async fn run(self) -> Result<Entry, PullError> {
        let session = self.session().await?;
        let (document, manifest, indexes) = self.resolve(&session).await?;
        let digest = document.digest.clone();
        if let Some(known) = self.images.known(&digest)
            && let Some(renamed) = self.rename(known, &indexes).await?
        {
            return Ok(renamed);
        }
        let _lease = self.images.lease(
            manifest
                .blobs()
                .map(|blob| blob.digest.clone())
                .chain([digest.clone()])
                .chain(indexes.iter().map(|index| index.digest.clone())),
        );
        self.keep_documents(&indexes, &document).await?;
        self.fetch(&session, &manifest).await?;
        let pulled = Pulled {
            digest,
            manifest,
            indexes: indexes.into_iter().map(|index| index.digest).collect(),
        };
        let (images, name) = (Arc::clone(&self.images), self.name.clone());
        Ok(blocking(move || images.assemble(&name, &pulled)).await??)
    }

    /// Reads how the registry is reached, and whom to trust.
    async fn session(&self) -> Result<Session, PullError> {
        let (settings, name, credentials) = (self.settings.clone(), self.name.clone(), self.credentials.clone());
        let open = move || Session::open(&settings, &name, credentials, Access::Pull);
        blocking(open).await?.map_err(|source| self.unresolved(source))
    }

    fn unresolved(&self, source: RegistryError) -> PullError {
        PullError::Resolve {
            name: self.name.to_string(),
            source,
        }
    }

    /// The manifest that the name means, and the indexes on the way to it.
    async fn resolve(&self, session: &Session) -> Result<(Document, Manifest, Vec<Document>), PullError> {
        let (Target::Tag(target) | Target::Digest(target)) = &self.name.target;
        let (mut target, mut indexes) = (target.clone(), Vec::new());
        while indexes.len() <= MAX_DEPTH {
            let document = session
                .manifest(&target)
                .await
                .map_err(|source| self.unresolved(source))?;
            let manifest: Manifest = read("the manifest", &document.bytes)?;
            if !manifest.is_index() {
                return Ok((document, manifest, indexes));
            }
            let index: Index = read("the index", &document.bytes)?;
            target = choose(&index, &self.name.to_string())?.digest.to_string();
            indexes.push(document);
        }
        Err(PullError::TooDeep)
    }

    /// The registry's image is here already, and may only have got another name; `None`: it has just been removed.
    async fn rename(&self, mut known: Entry, indexes: &[Document]) -> Result<Option<Entry>, PullError> {
        let digests: BTreeSet<_> = indexes.iter().map(|index| index.digest.clone()).collect();
        let _lease = self.images.lease(digests.iter().cloned());
        self.keep_all(indexes.iter()).await?;
        known.blobs.extend(digests.iter().cloned());
        known.indexes.extend(digests);
        let (images, name, entry) = (Arc::clone(&self.images), self.name.clone(), known.clone());
        let named = blocking(move || images.name(&name, entry)).await?;
        Ok(named.map_err(PullError::store)?.then_some(known))
    }

    async fn keep_documents(&self, indexes: &[Document], manifest: &Document) -> Result<(), PullError> {
        self.keep_all(indexes.iter().chain([manifest])).await
    }

    async fn keep_all(&self, documents: impl Iterator<Item = &Document>) -> Result<(), PullError> {
        let (images, documents) = (
            Arc::clone(&self.images),
            documents.map(|document| document.bytes.clone()).collect::<Vec<_>>(),
        );
        let keep = move || documents.iter().try_for_each(|document| images.put(document).map(drop));
        Ok(blocking(keep).await??)
    }

    /// Brings the blobs that are not here; the configuration first, which may say that the rest is of no use.
    async fn fetch(&self, session: &Session, manifest: &Manifest) -> Result<(), PullError> {
        let form = manifest.form()?;
        check_sizes(manifest, &form)?;
        let mut missing: Vec<_> = manifest.blobs().filter(|blob| !self.images.holds(blob)).collect();
        missing.sort_by_key(|blob| &blob.digest);
        missing.dedup_by_key(|blob| &blob.digest);
        self.progress.expect(missing.iter().map(|blob| blob.size).sum());
        if let Form::Image { config, .. } = &form {
            self.blob(session, config).await?;
            let document = self.images.document(&config.digest)?;
            let image: ImageConfig = read("the image's configuration", &document)?;
            check_entrypoint(&image.config).map_err(|why: LayerError| PullError::ContainerImage(why.into()))?;
        }
        let fetches: Vec<_> = missing.into_iter().map(|blob| self.blob(session, blob)).collect();
        stream::iter(fetches)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    /// Brings one blob. Of two pulls that need it, one brings it and the other finds it.
    async fn blob(&self, session: &Session, wanted: &Descriptor) -> Result<(), PullError> {
        let partial = self.images.partial(&wanted.digest).await.map_err(PullError::store)?;
        if self.images.holds(wanted) {
            self.progress.arrived(&wanted.digest, wanted.size);
            return Ok(());
        }
        let tell = |arrived| self.progress.arrived(&wanted.digest, arrived);
        let fetched = session.blob(wanted, partial, &tell).await;
        let partial = fetched.map_err(|source| PullError::Fetch {
            digest: wanted.digest.clone(),
            source,
        })?;
        let (images, digest) = (Arc::clone(&self.images), wanted.digest.clone());
        blocking(move || images.keep(partial, &digest))
            .await?
            .map_err(PullError::store)
    }
}

/// Refuses before anything is fetched what is announced larger than we take.
fn check_sizes(manifest: &Manifest, form: &Form) -> Result<(), PullError> {
    let too_large = |blob: &Descriptor, limit| PullError::TooLarge {
        what: format!("blob {}", blob.digest),
        size: blob.size,
        limit,
    };
    let count = manifest.blobs().count();
    if count > MAX_BLOBS {
        return Err(PullError::TooMany { count });
    }
    let (layers, limit): (Vec<&Descriptor>, u64) = match form {
        Form::Artifact { layer } => (vec![layer], MAX_BINARY),
        Form::Image { layers, .. } => (layers.iter().collect(), MAX_LAYER),
    };
    if let Some(config) = manifest.config.as_ref().filter(|config| config.size > MAX_DOCUMENT) {
        return Err(too_large(config, MAX_DOCUMENT));
    }
    if let Some(layer) = layers.into_iter().find(|layer| layer.size > limit) {
        return Err(too_large(layer, limit));
    }
    let size = manifest.blobs().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
    match size > MAX_IMAGE {
        true => Err(PullError::TooLarge {
            what: "the image".to_owned(),
            size,
            limit: MAX_IMAGE,
        }),
        false => Ok(()),
    }
}

fn read<T: serde::de::DeserializeOwned>(document: &'static str, bytes: &[u8]) -> Result<T, PullError> {
    serde_json::from_slice(bytes).map_err(|source| PullError::Document { document, source })
}

/// Work on the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PullError> {
    tokio::task::spawn_blocking(work).await.map_err(PullError::store)
}

#[cfg(test)]
mod tests;
