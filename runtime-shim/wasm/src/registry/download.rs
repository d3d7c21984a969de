//! Downloading a blob: from where the last attempt ended, digested as it streams, never longer than announced.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::mpsc;

use super::{
    error::RegistryError,
    session::{Peer, Session},
    transport::{Answer, Body, Outgoing},
};
use crate::images::{Descriptor, Partial};

/// Parts of a body that wait to be written: what the disk may be behind.
const BACKLOG: usize = 16;

impl Session {
    /// Brings a blob to its announced size and digest. What has arrived stays in the partial file when this fails or is
    /// dropped, and the next attempt goes on from there. `progress` hears how much there is.
    pub(crate) async fn blob(
        &self,
        wanted: &Descriptor,
        mut partial: Partial,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Partial, RegistryError> {
        let mut refusal = RegistryError::NotFound;
        for peer in self.peers("pull", |can| can.pull)? {
            let (back, outcome) = self.blob_from(peer, wanted, partial, progress).await?;
            partial = back;
            match outcome {
                Ok(()) => return Ok(partial),
                Err(error) => {
                    tracing::debug!(endpoint = peer.endpoint.authority, %error, "no blob from this endpoint");
                    refusal = error;
                }
            }
        }
        Err(refusal)
    }

    /// Everything one endpoint can give; the outer error is the disk's.
    async fn blob_from(
        &self,
        peer: &Peer,
        wanted: &Descriptor,
        mut partial: Partial,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(Partial, Result<(), RegistryError>), RegistryError> {
        let (mut failures, mut afresh) = (0, partial.length() == 0);
        loop {
            let before = partial.length();
            let error;
            (partial, error) = self.stretch(peer, wanted, partial, progress).await?;
            if let Some(error) = error {
                if !error.is_passing() {
                    return Ok((partial, Err(error)));
                }
                let advanced = partial.length() >= before.saturating_add(self.limits.least);
                failures = if advanced { 1 } else { failures + 1 };
                if let Err(error) = self.pause(failures, error).await {
                    return Ok((partial, Err(error)));
                }
                continue;
            }
            let found = partial.digest();
            if found == wanted.digest {
                return Ok((partial, Ok(())));
            }
            partial.clear().map_err(RegistryError::Store)?;
            // What an earlier process left may have been damaged since; what came just now was not.
            if afresh {
                let error = RegistryError::Digest {
                    url: peer.endpoint.authority.clone(),
                    expected: wanted.digest.to_string(),
                    found: found.to_string(),
                };
                return Ok((partial, Err(error)));
            }
            afresh = true;
        }
    }

    /// One request and as much of its body as comes.
    async fn stretch(
        &self,
        peer: &Peer,
        wanted: &Descriptor,
        mut partial: Partial,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(Partial, Option<RegistryError>), RegistryError> {
        if partial.length() > wanted.size {
            partial.clear().map_err(RegistryError::Store)?;
        }
        if partial.length() == wanted.size {
            return Ok((partial, None));
        }
        let mut outgoing = Outgoing::get(self.uri(peer, &format!("blobs/{}", wanted.digest))?);
        if let Some(range) = rest_from(partial.length()) {
            outgoing.headers.insert(header::RANGE, range);
        }
        let answer = match self.ask(peer, outgoing).await {
            Ok(answer) => answer,
            Err(RegistryError::Status { status, .. }) if status == StatusCode::RANGE_NOT_SATISFIABLE => {
                partial.clear().map_err(RegistryError::Store)?;
                return Ok((partial, Some(cut(peer, wanted, 0))));
            }
            Err(error) => return Ok((partial, Some(error))),
        };
        match begins_at(&answer, partial.length()) {
            Ok(0) => partial.clear().map_err(RegistryError::Store)?,
            Ok(_) => {}
            Err(what) => return Ok((partial, Some(RegistryError::Wrong { url: answer.url, what }))),
        }
        let body = peer.transport.body(answer);
        receive(peer, body, wanted, partial, progress).await
    }
}

/// Writes a body to the file as it comes.
async fn receive(
    peer: &Peer,
    mut body: Body,
    wanted: &Descriptor,
    partial: Partial,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(Partial, Option<RegistryError>), RegistryError> {
    let mut arrived = partial.length();
    let (chunks, incoming) = mpsc::channel::<Bytes>(BACKLOG);
    let writer = tokio::task::spawn_blocking(move || partial.append(incoming));
    let error = loop {
        match body.next().await {
            Ok(Some(chunk)) => {
                arrived += chunk.len() as u64;
                if arrived > wanted.size {
                    break Some(RegistryError::Wrong {
                        url: body.url,
                        what: format!(
                            "blob {} is longer than the {} bytes announced",
                            wanted.digest, wanted.size
                        ),
                    });
                }
                // The writer gives up only for an error, which it returns.
                if chunks.send(chunk).await.is_err() {
                    break None;
                }
                progress(arrived);
            }
            Ok(None) if arrived < wanted.size => break Some(cut(peer, wanted, arrived)),
            Ok(None) => break None,
            Err(RegistryError::Cut { .. }) => break Some(cut(peer, wanted, arrived)),
            Err(error) => break Some(error),
        }
    };
    drop(chunks);
    let written = writer
        .await
        .map_err(|error| RegistryError::Store(std::io::Error::other(error)))?;
    Ok((written.map_err(RegistryError::Store)?, error))
}

fn cut(peer: &Peer, wanted: &Descriptor, received: u64) -> RegistryError {
    RegistryError::Cut {
        url: peer.endpoint.authority.clone(),
        received,
        expected: wanted.size,
    }
}

fn rest_from(length: u64) -> Option<HeaderValue> {
    let range = (length > 0).then(|| format!("bytes={length}-"))?;
    HeaderValue::from_str(&range).ok()
}

/// Where in the blob an answer begins, when the part from `asked` on was asked for: there, or at the start.
fn begins_at(answer: &Answer, asked: u64) -> Result<u64, String> {
    if answer.response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    match range_start(answer.response.headers()) {
        Some(start) if start == asked => Ok(start),
        _ => Err(format!(
            "it was asked for the part from byte {asked} on and sent another"
        )),
    }
}

/// `Content-Range: bytes 100-199/200` begins at 100.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}
