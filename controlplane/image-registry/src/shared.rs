//! Images of control planes that share a store: they are in that store, so that each finds what was brought to any.
//!
//! Three kinds of keys below [`PREFIX`]. A *repository* says which images there are and where their content is. *Content* is
//! in *chunks*, far below what a request to etcd may have (1.5 MiB), at a place of its own for each upload, and a record
//! tells of every place before the first chunk is there. Nothing here needs a write of several keys: an image is there when
//! its repository says so, by a write that is refused where its content has been given up meanwhile; and what no repository
//! names is found by its record, an hour after it began, and goes. So a control plane may die between any two writes.
//!
//! The directory is a copy: of the catalogue in memory, which follows the store, and of content on the disk, as it is asked
//! for. Content is checked against its digest on its way, whoever wrote it.

mod content;
mod document;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::store::{Asker, Backend, Change, Expect, Kv, Outcome, Page, Revision, Signal, Write};
use api::time::Timestamp;
use apiserver::Clock;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::timeout;

use self::content::Uploaded;
use self::document::{Document, REPOSITORIES, key, repository};
use crate::arrive::blocking;
use crate::catalogue::{Blob, Catalogue, Manifest};
use crate::digest::Digest;
use crate::name::{Repository, Target};
use crate::room::Full;
use crate::store::{MOST, Store, StoreError};

/// What stands first in the keys of images.
pub const PREFIX: &str = "wherry/images/";

/// How often a repository is tried to be changed that others change meanwhile.
const CONTESTED: usize = 16;
/// How long to wait before following the store again after that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a read waits for what the store has told of, and how often it asks meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Repositories that are read at once.
const PAGE: usize = 100;

/// A store that several control planes share.
#[derive(Clone)]
pub struct Sharing {
    pub backend: Arc<dyn Backend>,
    pub clock: Clock,
}

/// The images in it.
pub(crate) struct Shared {
    backend: Arc<dyn Backend>,
    clock: Clock,
    /// Bytes in all.
    limit: u64,
    /// How far the copy has come.
    position: watch::Sender<Revision>,
    /// Asks the store how far it is, while it is followed.
    asker: Mutex<Option<Asker>>,
    /// Content is fetched one after the other.
    fetching: AsyncMutex<()>,
}

/// An image to be made of content that is in the directory.
pub(crate) struct Making<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) target: &'a Target,
    pub(crate) document: &'a Digest,
    pub(crate) manifest: &'a Manifest,
    pub(crate) now: Timestamp,
}

impl Shared {
    pub(crate) fn new(sharing: Sharing, limit: u64) -> Self {
        Shared {
            backend: sharing.backend,
            clock: sharing.clock,
            limit,
            position: watch::Sender::new(Revision(0)),
            asker: Mutex::new(None),
            fetching: AsyncMutex::new(()),
        }
    }

    /// All that there is.
    pub(crate) async fn catalogue(&self) -> Result<Catalogue, StoreError> {
        let (parts, revision) = self.all().await?;
        let mut catalogue = Catalogue::default();
        for (repository, part) in parts {
            catalogue.replace(&repository, Some(&part), revision.0);
        }
        Ok(catalogue)
    }

    /// Waits until the copy is as the store is now.
    pub(crate) async fn fresh(&self) -> Result<(), StoreError> {
        let now = self.backend.revision().await?;
        self.reached(now).await
    }

    async fn reached(&self, wanted: Revision) -> Result<(), StoreError> {
        let mut position = self.position.subscribe();
        let wait = async {
            loop {
                if *position.borrow_and_update() >= wanted {
                    return;
                }
                if let Some(asker) = &*self.asker.lock() {
                    asker.ask();
                }
                let _ = timeout(ASK_EVERY, position.changed()).await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        waited.map_err(|_| ::store::Error::Timeout { revision: wanted }.into())
    }

    /// Follows the store, for ever.
    pub(crate) async fn follow(&self, store: &Arc<Store>) -> Infallible {
        loop {
            if let Err(error) = self.follow_once(store).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "images of other control planes are not followed");
            }
            *self.asker.lock() = None;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow_once(&self, store: &Arc<Store>) -> Result<(), StoreError> {
        let (parts, from) = self.all().await?;
        let mut parts: Vec<(Repository, Option<Catalogue>)> =
            parts.into_iter().map(|(r, part)| (r, Some(part))).collect();
        for known in store.repositories() {
            if !parts.iter().any(|(repository, _)| *repository == known) {
                parts.push((known, None));
            }
        }
        self.mirror(store, parts, from).await;
        let mut watch = self.backend.watch(REPOSITORIES, from).await?;
        *self.asker.lock() = Some(watch.asker());
        while let Some(signal) = watch.next().await {
            match signal? {
                Signal::Change(change) => {
                    let revision = change.revision;
                    let part = changed(change)?;
                    self.mirror(store, part.into_iter().collect(), revision).await;
                }
                Signal::Progress(revision) => self.come_to(revision),
            }
        }
        Ok(())
    }

    async fn mirror(&self, store: &Arc<Store>, parts: Vec<(Repository, Option<Catalogue>)>, at: Revision) {
        let store = store.clone();
        let _ = blocking(move || store.mirror(parts, at.0)).await;
        self.come_to(at);
    }

    fn come_to(&self, revision: Revision) {
        self.position.send_if_modified(|position| {
            let on = *position < revision;
            *position = revision.max(*position);
            on
        });
    }

    async fn all(&self) -> Result<(Vec<(Repository, Catalogue)>, Revision), StoreError> {
        let (mut found, mut page, mut at) = (Vec::new(), Page::first(PAGE), None);
        loop {
            let range = self.backend.range(REPOSITORIES, page, at).await?;
            for kv in &range.items {
                if let Some(repository) = repository(&kv.key) {
                    found.push((repository, Document::read(kv)?.catalogue));
                }
            }
            at = Some(range.revision);
            match range.items.last() {
                Some(last) if range.more => {
                    page = Page {
                        after: Some(last.key.clone()),
                        limit: PAGE,
                    }
                }
                _ => return Ok((found, range.revision)),
            }
        }
    }

    async fn document(&self, repository: &Repository) -> Result<(Document, Expect), StoreError> {
        match self.backend.get(&key(repository)).await?.value {
            Some(kv) => Ok((Document::read(&kv)?, Expect::At(kv.revision))),
            None => Ok((Document::default(), Expect::Absent)),
        }
    }

    /// Makes an image.
    pub(crate) async fn commit(&self, store: &Arc<Store>, making: Making<'_>) -> Result<(), StoreError> {
        let (document, manifest) = (making.document.clone(), making.manifest);
        let parts = [
            Blob {
                digest: document,
                size: manifest.size,
            },
            manifest.config.clone(),
            manifest.layer.clone(),
        ];
        self.room(store, &parts)?;
        let mut uploaded: Vec<Uploaded> = Vec::new();
        for part in &parts {
            if uploaded.iter().any(|one| one.digest == part.digest) {
                continue;
            }
            uploaded.push(self.upload(store, making.repository, part, making.now).await?);
        }
        let committed = self.point(&making, &uploaded).await;
        match committed {
            Ok((revision, given_up)) => {
                for place in &given_up {
                    self.discard_or_leave(making.repository, place).await;
                }
                self.reached(revision).await
            }
            Err(error) => {
                // What may have been written may be needed.
                if !matches!(&error, StoreError::Away(::store::Error::Undecided { .. })) {
                    for one in &uploaded {
                        self.discard_or_leave(making.repository, &one.place).await;
                    }
                }
                Err(error)
            }
        }
    }

    /// Has the repository name the image and where its content is; answers the places that it names no more.
    async fn point(
        &self,
        making: &Making<'_>,
        uploaded: &[Uploaded],
    ) -> Result<(Revision, Vec<document::Place>), StoreError> {
        for _ in 0..CONTESTED {
            let (before, expect) = self.document(making.repository).await?;
            let mut next = before.clone();
            let manifest = making.manifest.clone();
            next.catalogue
                .put(making.repository, making.target, making.document, manifest, making.now);
            for one in uploaded {
                next.places.insert(one.digest.clone(), one.place.clone());
            }
            let mut write = Write {
                expect,
                ..Write::put(key(making.repository), next.bytes(&before))
            };
            for one in uploaded {
                write = write.guard(&*one.record, Expect::At(one.revision));
            }
            match self.backend.write(write).await.map_err(of_document)? {
                Outcome::Committed(revision) => return Ok((revision, before.no_more_in(&next))),
                Outcome::Unchanged(revision) => return Ok((revision, Vec::new())),
                Outcome::Conflict { key: which, .. } if *which == *key(making.repository) => {}
                Outcome::Conflict { .. } => return Err(StoreError::Gone),
            }
        }
        Err(contested())
    }

    /// Removes a name, and with the last the image and what only it needed.
    pub(crate) async fn remove(
        &self,
        repository: &Repository,
        target: &Target,
        now: Timestamp,
    ) -> Result<Option<()>, StoreError> {
        for _ in 0..CONTESTED {
            let (before, expect) = self.document(repository).await?;
            let mut next = before.clone();
            if next.catalogue.remove(repository, target, now).is_none() {
                return Ok(None);
            }
            next.prune();
            let value = (next.catalogue.count() > 0).then(|| next.bytes(&before).into());
            let write = Write {
                expect,
                value,
                ..Write::delete(key(repository), Expect::Any)
            };
            match self.backend.write(write).await.map_err(of_document)? {
                Outcome::Committed(revision) | Outcome::Unchanged(revision) => {
                    for place in &before.no_more_in(&next) {
                        self.discard_or_leave(repository, place).await;
                    }
                    self.reached(revision).await?;
                    return Ok(Some(()));
                }
                Outcome::Conflict { .. } => {}
            }
        }
        Err(contested())
    }

    /// Refuses what is more than is kept in all.
    fn room(&self, store: &Store, parts: &[Blob]) -> Result<(), StoreError> {
        let (used, images) = store.held();
        if images >= MOST {
            return Err(StoreError::Many);
        }
        let more: u64 = parts.iter().map(|part| part.size).sum();
        match used.saturating_add(more) > self.limit {
            true => Err(StoreError::Full(Full::Limit {
                used,
                limit: self.limit,
            })),
            false => Ok(()),
        }
    }
}

/// What a change makes of which repository.
fn changed(change: Change) -> Result<Option<(Repository, Option<Catalogue>)>, StoreError> {
    let Some(of) = repository(&change.key) else {
        return Ok(None);
    };
    let kv: Option<Kv> = change.kv();
    let part = kv.map(|kv| Document::read(&kv)).transpose()?;
    Ok(Some((of, part.map(|document| document.catalogue))))
}

/// A repository has one value, which has its limit.
fn of_document(error: ::store::Error) -> StoreError {
    match error {
        ::store::Error::TooLarge => StoreError::Many,
        other => other.into(),
    }
}

fn contested() -> StoreError {
    let source = std::io::Error::other("others change the same repository all the time");
    StoreError::Away(::store::Error::unavailable("changing the images", source))
}
