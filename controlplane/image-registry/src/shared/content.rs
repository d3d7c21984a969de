//! Content of images in a shared store: cut into chunks, put together again and checked, given up and found again.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use ::store::{Backend, Expect, Outcome, Page, Revision, Write};
use api::time::Timestamp;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Shared;
use super::document::{CONTENTS, Document, Place, Record, chunk_key, key, record_key, recorded};
use crate::arrive::blocking;
use crate::catalogue::Blob;
use crate::digest::{Digest, Hasher};
use crate::name::Repository;
use crate::store::{Store, StoreError, create};

/// Bytes of a chunk: etcd takes requests of 1.5 MiB, and what is larger than half a megabyte takes two of them.
const CHUNK: u64 = 500 << 10;
/// How old a place is that no repository names before it is taken for forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Records that are read at once.
const PAGE: usize = 500;

/// Content that is in the store, for a repository to name.
pub(super) struct Uploaded {
    pub(super) digest: Digest,
    pub(super) place: Place,
    /// Its record, and the revision at which it is not given up.
    pub(super) record: String,
    pub(super) revision: Revision,
}

impl Shared {
    /// Puts content of the directory into the store.
    pub(super) async fn upload(
        &self,
        store: &Arc<Store>,
        repository: &Repository,
        part: &Blob,
        now: Timestamp,
    ) -> Result<Uploaded, StoreError> {
        let (local, digest) = (store.clone(), part.digest.clone());
        let file = blocking(move || local.open_blob(&digest))
            .await
            .map_err(|_| StoreError::Gone)?;
        let mut file = tokio::fs::File::from_std(file.map_err(|_| StoreError::Gone)?);
        let place = Place {
            id: uuid::Uuid::new_v4().to_string(),
            size: part.size,
            chunks: u32::try_from(part.size.div_ceil(CHUNK)).map_err(|_| StoreError::Gone)?,
        };
        let record = Record {
            repository: repository.name.clone(),
            chunks: place.chunks,
            since: now,
            going: false,
        };
        let key = record_key(&repository.namespace, &place.id);
        let revision = self.create(key.clone(), json(&record)).await?;
        for number in 0..place.chunks {
            let mut chunk = Vec::new();
            let read = (&mut file).take(CHUNK).read_to_end(&mut chunk).await;
            read.map_err(|error| store.failed(error))?;
            self.create(chunk_key(&place.id, number), chunk.into()).await?;
        }
        Ok(Uploaded {
            digest: part.digest.clone(),
            place,
            record: key,
            revision,
        })
    }

    /// Writes a key that nobody else has.
    async fn create(&self, key: String, value: Bytes) -> Result<Revision, StoreError> {
        match self.backend.write(Write::create(key, value)).await? {
            Outcome::Committed(revision) | Outcome::Unchanged(revision) => Ok(revision),
            Outcome::Conflict { .. } => Err(super::contested()),
        }
    }

    /// Content of a repository, from the directory if it has it; `None` where the repository has no such.
    pub(crate) async fn fetch(
        &self,
        store: &Arc<Store>,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<File>, StoreError> {
        let _turn = self.fetching.lock().await;
        if let Some(file) = here(store, digest).await {
            return Ok(Some(file));
        }
        let mut tried: Option<Place> = None;
        loop {
            let (document, _) = self.document(repository).await?;
            match (document.places.get(digest), &tried) {
                (None, _) => return Ok(None),
                // It is where it was, and is not what it was.
                (Some(place), Some(known)) if place == known => {
                    return Err(StoreError::Damaged(digest.to_string()));
                }
                (Some(place), _) => {
                    let revision = Revision(document.catalogue.revision);
                    let place = place.clone();
                    if let Some(file) = self.copy(store, digest, &place, revision).await? {
                        return Ok(Some(file));
                    }
                    // It may have been brought anew meanwhile.
                    tried = Some(place);
                }
            }
        }
    }

    /// Copies content into the directory; `None` where it is not what it should be.
    async fn copy(
        &self,
        store: &Arc<Store>,
        digest: &Digest,
        place: &Place,
        named: Revision,
    ) -> Result<Option<File>, StoreError> {
        let mut arriving = store.arriving();
        arriving.grow(place.size)?;
        let path = arriving.path.clone();
        let file = blocking(move || create(&path)).await.map_err(|_| StoreError::Gone)?;
        let mut file = tokio::fs::File::from_std(file.map_err(|error| store.failed(error))?);
        let (mut hasher, mut length) = (Hasher::default(), 0u64);
        for number in 0..place.chunks {
            let key = chunk_key(&place.id, number);
            let Some(chunk) = self.chunk(&key).await? else {
                tracing::warn!(%digest, number, "a chunk of an image is missing in the store");
                return Ok(None);
            };
            length = length.saturating_add(chunk.len() as u64);
            if length > place.size {
                break;
            }
            hasher.update(&chunk);
            file.write_all(&chunk).await.map_err(|error| store.failed(error))?;
        }
        file.flush().await.map_err(|error| store.failed(error))?;
        if length != place.size || hasher.digest() != *digest {
            tracing::warn!(%digest, "an image in the store is not what was pushed");
            return Ok(None);
        }
        // It is kept if the copy of the catalogue knows who needs it.
        self.reached(named).await?;
        let (local, digest) = (store.clone(), digest.clone());
        let kept = blocking(move || local.keep(arriving, &digest)).await;
        kept.map_err(|_| StoreError::Gone)?.map(Some)
    }

    /// A chunk; none where it was altered so that it cannot be opened.
    async fn chunk(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.backend.get(key).await {
            Err(::store::Error::Corrupt { what }) => {
                tracing::error!(what, "an image in the store is damaged");
                Ok(None)
            }
            read => Ok(read?.value.map(|kv| kv.value)),
        }
    }

    /// Removes what a repository names no more; what cannot be removed now is found later.
    pub(super) async fn discard_or_leave(&self, repository: &Repository, place: &Place) {
        if let Err(error) = self.discard(&repository.namespace, &place.id, place.chunks).await {
            let error = &error as &dyn std::error::Error;
            tracing::info!(
                error,
                place = place.id,
                "content that no image needs stays in the store for now"
            );
        }
    }

    /// The record goes last: as long as there is anything, it tells of it.
    async fn discard(&self, namespace: &str, id: &str, chunks: u32) -> Result<(), StoreError> {
        for number in 0..chunks {
            self.backend
                .write(Write::delete(chunk_key(id, number), Expect::Any))
                .await?;
        }
        self.backend
            .write(Write::delete(record_key(namespace, id), Expect::Any))
            .await?;
        Ok(())
    }

    /// Removes content that no repository names, of uploads that were begun long ago; answers how many there were.
    pub(crate) async fn sweep(&self) -> Result<usize, StoreError> {
        let (mut swept, mut page) = (0, Page::first(PAGE));
        let now = (self.clock)();
        loop {
            let range = self.backend.range(CONTENTS, page, None).await?;
            for kv in &range.items {
                let record: Option<Record> = serde_json::from_slice(&kv.value).ok();
                if let (Some((namespace, id)), Some(record)) = (recorded(&kv.key), record)
                    && self.give_up(namespace, id, &record, kv.revision, now).await?
                {
                    self.discard(namespace, id, record.chunks).await?;
                    swept += 1;
                }
            }
            match range.items.last() {
                Some(last) if range.more => {
                    page = Page {
                        after: Some(last.key.clone()),
                        limit: PAGE,
                    }
                }
                _ => return Ok(swept),
            }
        }
    }

    /// Whether a place belongs to nobody from now on.
    async fn give_up(
        &self,
        namespace: &str,
        id: &str,
        record: &Record,
        at: Revision,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if record.going {
            return Ok(true);
        }
        let age = Duration::try_from(now.duration_since(record.since)).unwrap_or_default();
        if age < FORGOTTEN {
            return Ok(false);
        }
        let Ok(repository) = Repository::new(namespace, &record.repository) else {
            return Ok(false);
        };
        let (document, expect): (Document, Expect) = self.document(&repository).await?;
        if document.names(id) {
            return Ok(false);
        }
        let going = Record {
            going: true,
            ..record.clone()
        };
        // Whoever wants to name it after all finds its record changed; whoever has done so has changed the repository.
        let write = Write::update(record_key(namespace, id), json(&going), at).guard(key(&repository), expect);
        Ok(matches!(self.backend.write(write).await?, Outcome::Committed(_)))
    }
}

async fn here(store: &Arc<Store>, digest: &Digest) -> Option<File> {
    let (local, digest) = (store.clone(), digest.clone());
    blocking(move || local.open_blob(&digest)).await.ok()?.ok()
}

fn json(record: &Record) -> Bytes {
    serde_json::to_vec(record).expect("a record is JSON").into()
}
