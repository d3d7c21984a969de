//! Content as it comes: digested while it is written, never longer than allowed, and given up when its client is silent.

use std::time::Duration;

use api::Status;
use apiserver::http::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::digest::{Digest, Hasher};
use crate::room::bytes;
use crate::status;
use crate::store::{Arriving, Store, StoreError};

/// How long a client may say nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// How long one that is refused is listened to, and how much it may still send.
const DRAIN: Duration = Duration::from_secs(10);
const DRAINED: usize = 64 << 20;

/// An upload as far as it has come.
pub(crate) struct Upload {
    arriving: Arriving,
    file: File,
    hasher: Hasher,
    pub(crate) length: u64,
    limit: u64,
}

impl Upload {
    /// Of at most `limit` bytes.
    pub(crate) async fn begin(store: &Store, limit: u64) -> Result<Self, Status> {
        let arriving = store.arriving();
        let path = arriving.path.clone();
        let file = blocking(move || crate::store::create(&path)).await?;
        Ok(Self {
            arriving,
            file: File::from_std(file.map_err(|error| status::of_store(&store.failed(error)))?),
            hasher: Hasher::default(),
            length: 0,
            limit,
        })
    }

    /// Refuses what is too long, or says beforehand that it will be.
    fn expect(&self, announced: Option<u64>) -> Result<(), Status> {
        match announced {
            Some(more) if self.length.saturating_add(more) > self.limit => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    fn too_large(&self) -> Status {
        Status::too_large(&format!(
            "an image may have {} (see --image-size-limit)",
            bytes(self.limit)
        ))
    }

    /// Writes all that a body brings, which may have said how much that is.
    pub(crate) async fn append(&mut self, store: &Store, announced: Option<u64>, mut body: Body) -> Result<(), Status> {
        let taken = match self.expect(announced) {
            Ok(()) => self.take(store, &mut body).await,
            refused => refused,
        };
        if taken.is_err() {
            let _ = tokio::time::timeout(DRAIN, drain(body)).await;
        }
        taken
    }

    async fn take(&mut self, store: &Store, body: &mut Body) -> Result<(), Status> {
        loop {
            let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    frame.map_err(|error| Status::bad_request(format!("the upload broke off: {error}")))?
                }
                Err(_) => return Err(Status::timeout("nothing came of the upload for 30 seconds", 1)),
            };
            if let Ok(data) = frame.into_data() {
                self.write(store, &data).await?;
            }
        }
        let flushed = self.file.flush().await;
        flushed.map_err(|error| status::of_store(&store.failed(error)))
    }

    async fn write(&mut self, store: &Store, data: &Bytes) -> Result<(), Status> {
        let more = data.len() as u64;
        self.expect(Some(more))?;
        let room = self.arriving.grow(more);
        room.map_err(|full| status::of_store(&StoreError::Full(full)))?;
        self.hasher.update(data);
        let written = self.file.write_all(data).await;
        written.map_err(|error| status::of_store(&store.failed(error)))?;
        self.length += more;
        Ok(())
    }

    /// What has come, to be read.
    pub(crate) async fn content(&self) -> Result<std::fs::File, Status> {
        let path = self.arriving.path.clone();
        let opened = blocking(move || std::fs::File::open(path)).await?;
        opened.map_err(|_| Status::internal("the upload cannot be read"))
    }

    /// The digest of what has come, which is all.
    pub(crate) fn finish(self) -> (Arriving, Digest, u64) {
        (self.arriving, self.hasher.digest(), self.length)
    }
}

/// Takes what a client still sends, so that it hears why it is refused and not only that the connection has ended.
async fn drain(mut body: Body) {
    let mut left = DRAINED;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// Work on the disk.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Status::internal("the image registry is stopping"))
}
