//! Writing blobs into containerd's content store.

use std::{
    collections::HashMap,
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};

use bytes::Bytes;
use cri::Error;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::archive::{Blob, Picked, Place, Source};
use crate::{
    link::Own,
    services::content::{
        Info, InfoRequest, Paths, UpdateRequest, WriteAction, WriteContentRequest, content_client::ContentClient,
    },
};

/// What is sent at a time.
const CHUNK: usize = 1 << 20;
/// Chunks that wait to be sent.
const QUEUE: usize = 2;

/// Writes a blob, unless it is there.
pub(super) async fn blob(own: &Own<'_>, lease: &str, source: &Arc<Mutex<Source>>, blob: &Blob) -> Result<(), Error> {
    if exists(own, &blob.digest).await? {
        return Ok(());
    }
    let (messages, receiver) = mpsc::channel(QUEUE);
    let (source, place, digest) = (Arc::clone(source), blob.place, blob.digest.clone());
    let reading = tokio::task::spawn_blocking(move || read(&source, place, &digest, &messages));
    let written = write(own, lease, receiver).await;
    let read = reading.await.map_err(io::Error::other).flatten();
    written?;
    read.map_err(|error| Error::failed(format!("reading blob {}", blob.digest), error))
}

/// Writes the manifest, with labels by which the rest of the image is kept as long as it is.
pub(super) async fn manifest(own: &Own<'_>, lease: &str, picked: &Picked) -> Result<(), Error> {
    let names = ["config".to_owned()].into_iter().chain((0..).map(|n| format!("l.{n}")));
    let labels: HashMap<String, String> = names
        .zip(&picked.blobs)
        .map(|(name, blob)| (format!("containerd.io/gc.ref.content.{name}"), blob.digest.clone()))
        .collect();
    if exists(own, &picked.digest).await? {
        return label(own, &picked.digest, labels).await;
    }
    let total = size(picked.manifest.len());
    let message = WriteContentRequest {
        action: WriteAction::Commit.into(),
        r#ref: write_ref(&picked.digest),
        total,
        expected: picked.digest.clone(),
        offset: 0,
        data: picked.manifest.clone(),
        labels,
    };
    let (messages, receiver) = mpsc::channel(1);
    // There is room for one.
    let _ = messages.try_send(message);
    drop(messages);
    write(own, lease, receiver).await
}

async fn exists(own: &Own<'_>, digest: &str) -> Result<bool, Error> {
    let request = own.request(InfoRequest {
        digest: digest.to_owned(),
    });
    let found = own
        .attempt(async { ContentClient::new(own.channel()).info(request).await })
        .await?;
    match found {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(own.failed("looking for a blob", status)),
    }
}

async fn label(own: &Own<'_>, digest: &str, labels: HashMap<String, String>) -> Result<(), Error> {
    let request = UpdateRequest {
        update_mask: Some(Paths {
            paths: labels.keys().map(|key| format!("labels.{key}")).collect(),
        }),
        info: Some(Info {
            digest: digest.to_owned(),
            labels,
            ..Info::default()
        }),
    };
    let request = own.request(request);
    own.call("labelling a manifest", async {
        ContentClient::new(own.channel()).update(request).await
    })
    .await
    .map(drop)
}

/// Sends the messages of one blob. That somebody else has written it meanwhile is as good.
async fn write(own: &Own<'_>, lease: &str, messages: mpsc::Receiver<WriteContentRequest>) -> Result<(), Error> {
    let request = own.leased(lease, ReceiverStream::new(messages));
    let sent = async {
        let mut answers = ContentClient::new(own.channel()).write(request).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok::<_, Status>(())
    };
    match sent.await {
        Err(status) if status.code() != Code::AlreadyExists => Err(own.failed("writing a blob", status)),
        _ => Ok(()),
    }
}

/// Reads a blob into messages, until nobody wants more. Blocks.
fn read(
    source: &Mutex<Source>,
    place: Place,
    digest: &str,
    messages: &mpsc::Sender<WriteContentRequest>,
) -> io::Result<()> {
    let mut source = source.lock();
    source.seek(SeekFrom::Start(place.offset))?;
    let message = |action: WriteAction, offset: u64, data: Bytes| WriteContentRequest {
        action: action.into(),
        r#ref: write_ref(digest),
        total: i64::try_from(place.size).unwrap_or(i64::MAX),
        expected: digest.to_owned(),
        offset: i64::try_from(offset).unwrap_or(i64::MAX),
        data,
        labels: HashMap::new(),
    };
    let mut offset = 0;
    while offset < place.size {
        let mut chunk = Vec::with_capacity(CHUNK);
        let wanted = (place.size - offset).min(CHUNK as u64);
        (&mut *source).take(wanted).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let read = chunk.len() as u64;
        let sent = messages.blocking_send(message(WriteAction::Write, offset, chunk.into()));
        if sent.is_err() {
            return Ok(()); // the call has ended, and says why
        }
        offset += read;
    }
    let _ = messages.blocking_send(message(WriteAction::Commit, offset, Bytes::new())); // as above
    Ok(())
}

/// Names a write that is under way; two of one blob are one.
fn write_ref(digest: &str) -> String {
    format!("wherry-import-{digest}")
}

fn size(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
