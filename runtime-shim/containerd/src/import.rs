//! Bringing an image from a local archive into containerd: what `ctr images import` does, as CRI has no such call.
//!
//! `archive` finds out what a tar holds, `upload` writes it. A lease keeps containerd from collecting the content before
//! the image that refers to it is made; then the labels of the manifest do.

mod archive;
mod upload;

use std::{
    collections::HashMap,
    io::{self, Read, Seek, SeekFrom},
};

use cri::{Error, ImportContent};
use tonic::Code;

use self::archive::{Archive, ArchiveError, Picked, Source};
use crate::{
    link::{Link, Own},
    reference,
    services::{
        images::{CreateImageRequest, Descriptor, Image, Paths, UpdateImageRequest, images_client::ImagesClient},
        leases::{CreateRequest, DeleteRequest, leases_client::LeasesClient},
    },
};

/// How long containerd keeps what an import left that was cut off.
const LEASE: std::time::Duration = std::time::Duration::from_secs(3600);

/// Why content is no image that containerd could take.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("the content cannot be read")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Imports an archive under a name; answers the full name.
pub(crate) async fn import(link: &Link, name: &str, content: ImportContent) -> Result<String, Error> {
    let full = reference::full(name).map_err(|reason| Error::InvalidImageName {
        reference: name.to_owned(),
        reason: reason.to_owned(),
    })?;
    let failed = |error: ImportError| Error::failed(format!("importing image \"{name}\""), error);
    let opened = tokio::task::spawn_blocking(move || -> Result<(Source, Picked), ImportError> {
        let mut archive = Archive::read(open(content)?)?;
        let picked = archive.pick(std::env::consts::ARCH)?;
        Ok((archive.into_source(), picked))
    });
    let (source, picked) = opened
        .await
        .map_err(|error| failed(io::Error::other(error).into()))?
        .map_err(failed)?;
    let own = link.own()?;
    let lease = format!("wherry-import-{}", unique());
    let request = own.request(CreateRequest {
        id: lease.clone(),
        labels: HashMap::from([("containerd.io/gc.expire".to_owned(), expiry())]),
    });
    own.call("making a lease", async {
        LeasesClient::new(own.channel()).create(request).await
    })
    .await?;
    let result = store(&own, &lease, &full, source, picked).await;
    let request = own.request(DeleteRequest { id: lease });
    let ended = own
        .call("ending a lease", async {
            LeasesClient::new(own.channel()).delete(request).await
        })
        .await;
    if let Err(error) = ended {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "an import's lease ends by itself"
        );
    }
    result.map(|()| full)
}

/// Writes all blobs, the manifest last, and gives the image its name.
async fn store(own: &Own<'_>, lease: &str, name: &str, source: Source, picked: Picked) -> Result<(), Error> {
    let source = std::sync::Arc::new(parking_lot::Mutex::new(source));
    for blob in &picked.blobs {
        upload::blob(own, lease, &source, blob).await?;
    }
    upload::manifest(own, lease, &picked).await?;
    let image = Image {
        name: name.to_owned(),
        labels: HashMap::new(),
        target: Some(Descriptor {
            media_type: picked.media_type.clone(),
            digest: picked.digest.clone(),
            size: i64::try_from(picked.manifest.len()).unwrap_or(i64::MAX),
        }),
    };
    let create = own.leased(
        lease,
        CreateImageRequest {
            image: Some(image.clone()),
        },
    );
    let update = own.leased(
        lease,
        UpdateImageRequest {
            image: Some(image),
            update_mask: Some(Paths {
                paths: vec!["target".to_owned()],
            }),
        },
    );
    let made = own
        .attempt(async { ImagesClient::new(own.channel()).create(create).await })
        .await?;
    match made {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => own
            .call("renaming an image", async {
                ImagesClient::new(own.channel()).update(update).await
            })
            .await
            .map(drop),
        Err(status) => Err(own.failed("naming an image", status)),
    }
}

/// A tar that can be read at any place: one that is compressed is unpacked into a file without a name.
fn open(content: ImportContent) -> io::Result<Source> {
    let mut source: Source = match content {
        ImportContent::Bytes(bytes) => Box::new(io::Cursor::new(bytes)),
        ImportContent::File(path) => Box::new(std::fs::File::open(path)?),
    };
    let mut start = [0; 2];
    let is_gzip = source.read_exact(&mut start).is_ok() && start == [0x1f, 0x8b];
    source.seek(SeekFrom::Start(0))?;
    if !is_gzip {
        return Ok(source);
    }
    let mut plain = tempfile::tempfile()?;
    io::copy(&mut flate2::read::MultiGzDecoder::new(source), &mut plain)?;
    plain.seek(SeekFrom::Start(0))?;
    Ok(Box::new(plain))
}

fn unique() -> String {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{}-{number}-{}", std::process::id(), crate::now())
}

/// When the lease ends, in RFC 3339.
fn expiry() -> String {
    let now = jiff::Timestamp::now();
    now.checked_add(LEASE).unwrap_or(now).to_string()
}
