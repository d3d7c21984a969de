//! The cluster's own image registry: Wasm programs that people upload or push, kept by the control plane and pulled by its
//! nodes.
//!
//! There is one kind, `images` of `registry.wherry.dev`, and two ways to it: the Kubernetes API (list, watch, get, delete, and
//! create with a `.wasm` as the body), and OCI's distribution specification below `/v2/`, which is the same resource to RBAC.
//! The API server has authenticated and authorized whoever comes here.
//!
//! Content is in a directory of this process alone. Control planes that share a store have the images in that store, and the
//! directory is a copy of what was asked for ([`shared`]).
//!
//! Deliberately absent: container images, image indexes, signatures and other referrers, cross-repository mounts.

#![allow(
    clippy::result_large_err,
    reason = "a Status is the answer to the request and is made once"
)]

pub mod admission;
pub mod archive;
mod arrive;
mod catalogue;
mod digest;
mod distribution;
mod inspect;
mod manifest;
mod name;
mod objects;
mod resource;
mod room;
pub mod shared;
mod status;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use api::time::Timestamp;
use apiserver::images::{GROUP, RESOURCE, VERSION};
use apiserver::registry::virtuals::{Passing, VirtualRoute};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use inspect::{Inspector, Looked};
pub use store::OpenError;

use arrive::{Upload, blocking};
use catalogue::{Manifest, Named};
use digest::Digest;
use manifest::Artifact;
use name::{Repository, Target};
use shared::{Making, Shared, Sharing};
use store::{Store, StoreError};

/// Uploads at once; the next are told to come again.
const UPLOADS: usize = 16;
/// How long an upload may rest between two requests.
const REST: Duration = Duration::from_secs(900);
/// How often uploads that rest too long are looked for.
const ROUND: Duration = Duration::from_secs(60);
/// How often content is looked for that a control plane which has ended left in the shared store.
const SWEEP: Duration = Duration::from_secs(1800);
/// Bytes of a manifest or a configuration.
const MAX_DOCUMENT: u64 = 1 << 20;

/// How much a registry takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one image's program.
    pub image: u64,
    /// Bytes in all.
    pub total: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            image: 256 << 20,
            total: 8 << 30,
        }
    }
}

/// What a registry is made of.
pub struct Config {
    /// Its directory, which belongs to it alone.
    pub directory: PathBuf,
    pub limits: Limits,
    pub inspector: Arc<dyn Inspector>,
    /// The store that has the images, where control planes share one.
    pub sharing: Option<Sharing>,
}

/// A registry.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    shared: Option<Arc<Shared>>,
    limits: Limits,
    inspector: Arc<dyn Inspector>,
    /// Uploads by pieces, by their names.
    uploads: Mutex<HashMap<String, Pieces>>,
    /// One for each upload that goes on.
    places: Arc<Semaphore>,
    /// Programs are looked into one after the other.
    looking: Semaphore,
}

/// An upload that comes in several requests.
struct Pieces {
    repository: Repository,
    touched: Instant,
    upload: Arc<AsyncMutex<Option<Upload>>>,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl Registry {
    /// Opens a registry, and removes what was left of uploads.
    ///
    /// # Errors
    /// Its directory, or the store that it shares, cannot be used.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        let (directory, limits) = (config.directory, config.limits);
        let opening = |error: Box<dyn std::error::Error + Send + Sync>| OpenError::Shared(error);
        let (store, shared) = match config.sharing {
            None => (blocking(move || Store::open(&directory, limits.total)).await, None),
            Some(sharing) => {
                let shared = Shared::new(sharing, limits.total);
                let catalogue = shared.catalogue().await.map_err(|error| opening(error.into()))?;
                // Beside copies there are uploads.
                let local = limits.total.saturating_add(limits.image.saturating_mul(UPLOADS as u64));
                let store = blocking(move || Store::copy_of(&directory, local, catalogue)).await;
                (store, Some(Arc::new(shared)))
            }
        };
        let store = store.map_err(|status| opening(status.message.into()))??;
        Ok(Self(Arc::new(Inner {
            store: Arc::new(store),
            shared,
            limits,
            inspector: config.inspector,
            uploads: Mutex::default(),
            places: Arc::new(Semaphore::new(UPLOADS)),
            looking: Semaphore::new(1),
        })))
    }

    /// Where it stands in the API.
    pub fn route(&self) -> VirtualRoute {
        VirtualRoute {
            group: GROUP,
            version: VERSION,
            resource: RESOURCE,
            subresource: None,
            namespaced: true,
            kind: "Image",
            kind_group_version: None,
            definition: None,
            verbs: &["create", "delete", "deletecollection", "get", "list", "watch"],
            passing: Passing::Unseen,
            handler: Arc::new(resource::Endpoint(self.0.clone())),
        }
    }

    /// Has nothing happen to images until the answer goes on: for a backup that is of one moment with another's.
    pub fn stand_still(&self) -> archive::Still<'_> {
        self.0.store.stand_still()
    }

    /// Gives up uploads that nobody goes on with, and follows what others do, until the end.
    pub async fn run(self, shutdown: CancellationToken) {
        let following = async {
            match &self.0.shared {
                Some(shared) => match shared.follow(&self.0.store).await {},
                None => std::future::pending().await,
            }
        };
        let sweeping = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                if let Some(shared) = &self.0.shared
                    && let Err(error) = shared.sweep().await
                {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "content that no image needs was not looked for");
                }
            }
        };
        let rounds = async {
            loop {
                tokio::time::sleep(ROUND).await;
                self.0
                    .uploads
                    .lock()
                    .retain(|_, pieces| pieces.touched.elapsed() < REST);
                let store = self.0.store.clone();
                let _ = tokio::task::spawn_blocking(move || store.tidy()).await;
            }
        };
        let all = async {
            tokio::select! {
                () = following => {}
                () = sweeping => {}
                () = rounds => {}
            }
        };
        let _ = shutdown.run_until_cancelled(all).await;
    }
}

impl Inner {
    /// A place among those who upload.
    fn place(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Status> {
        let place = self.places.clone().try_acquire_owned();
        place.map_err(|_| Status::too_many_requests(format!("{UPLOADS} uploads are going on; try again"), 5))
    }

    /// Looks into a program; one that cannot run is refused.
    async fn look(&self, program: std::fs::File, name: &str, title: &str, now: Timestamp) -> Result<Looked, Status> {
        let turn = self.looking.acquire().await;
        let _turn = turn.map_err(|_| Status::internal("the image registry is stopping"))?;
        let looked = self.inspector.look(program, title, &api::time::rfc3339(now)).await;
        let looked = looked.map_err(|why| {
            tracing::error!(%why, "a program cannot be looked into");
            Status::internal("the program could not be looked into; the server's log has more")
        })?;
        match &looked.refusal {
            Some(refusal) => Err(status::not_runnable(name, refusal, Some(&looked))),
            None => Ok(looked),
        }
    }

    /// Takes an upload that is whole as content of a repository.
    async fn keep(&self, repository: &Repository, upload: Upload) -> Result<(Digest, u64), Status> {
        let (arriving, digest, size) = upload.finish();
        let (store, repository, as_digest) = (self.store.clone(), repository.clone(), digest.clone());
        self.stored(move || store.take(&repository, arriving, &as_digest, size))
            .await?;
        Ok((digest, size))
    }

    async fn put(&self, repository: &Repository, document: Vec<u8>) -> Result<(Digest, u64), Status> {
        let (store, repository, size) = (self.store.clone(), repository.clone(), document.len() as u64);
        let digest = self.stored(move || store.put(&repository, &document)).await?;
        Ok((digest, size))
    }

    /// Makes an image of content that is here.
    async fn commit(&self, made: Made<'_>) -> Result<(), Status> {
        let manifest = Manifest {
            media_type: made.artifact.media_type.clone(),
            size: made.size,
            config: made.artifact.config.clone(),
            layer: made.artifact.layer.clone(),
            program: made.program.clone(),
            pushed_by: made.by.to_owned(),
        };
        if let Some(shared) = &self.shared {
            return self.share(shared, &made, &manifest).await;
        }
        let (store, repository, target) = (self.store.clone(), made.repository.clone(), made.target.clone());
        let (document, now) = (made.document, made.now);
        self.stored(move || store.commit(&repository, &target, &document, manifest, now))
            .await
    }

    /// Makes an image in the shared store; what of it was brought to another control plane is fetched first.
    async fn share(&self, shared: &Shared, made: &Made<'_>, manifest: &Manifest) -> Result<(), Status> {
        let content = [
            made.document.clone(),
            manifest.config.digest.clone(),
            manifest.layer.digest.clone(),
        ];
        for digest in &content {
            let found = self.content(made.repository, digest).await?;
            found.ok_or_else(|| failed(StoreError::Gone))?;
        }
        let making = Making {
            repository: made.repository,
            target: made.target,
            document: &made.document,
            manifest,
            now: made.now,
        };
        shared.commit(&self.store, making).await.map_err(failed)?;
        self.store.await_no_more(made.repository, &content);
        Ok(())
    }

    /// Removes a name; 404 where there is no such.
    async fn remove(&self, repository: &Repository, target: &Target, now: Timestamp) -> Result<(), Status> {
        let (store, of, what) = (self.store.clone(), repository.clone(), target.clone());
        let removed = match &self.shared {
            Some(shared) => shared.remove(repository, target, now).await.map_err(failed)?,
            None => self.stored(move || store.remove(&of, &what, now)).await?,
        };
        removed.ok_or_else(|| status::not_found(&format!("{}{}", repository.name, target.suffix())))
    }

    /// Waits until what others did is known here.
    async fn fresh(&self) -> Result<(), Status> {
        match &self.shared {
            Some(shared) => shared.fresh().await.map_err(failed),
            None => Ok(()),
        }
    }

    /// Content of a repository, opened for reading; `None` where it is not there.
    async fn content(&self, repository: &Repository, digest: &Digest) -> Result<Option<std::fs::File>, Status> {
        let (store, wanted) = (self.store.clone(), digest.clone());
        if let Ok(file) = blocking(move || store.open_blob(&wanted)).await? {
            return Ok(Some(file));
        }
        match &self.shared {
            Some(shared) => shared.fetch(&self.store, repository, digest).await.map_err(failed),
            None => Ok(None),
        }
    }

    fn named(&self, repository: &Repository, target: &Target) -> Result<Named, Status> {
        let found = self.store.named(repository, target);
        found.ok_or_else(|| status::not_found(&format!("{}{}", repository.name, target.suffix())))
    }

    async fn stored<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        blocking(work).await?.map_err(|error| status::of_store(&error))
    }
}

fn failed(error: StoreError) -> Status {
    status::of_store(&error)
}

/// An image to be made.
struct Made<'a> {
    repository: &'a Repository,
    target: &'a Target,
    /// The manifest's digest and size.
    document: Digest,
    size: u64,
    artifact: Artifact,
    program: serde_json::Value,
    by: &'a str,
    now: Timestamp,
}
