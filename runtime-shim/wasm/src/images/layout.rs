//! Reading a tar of an OCI image layout into the content store.
//!
//! Of the archive only `index.json` and `blobs/sha256/<digest>` are looked at, every blob checked against its digest, so
//! no name in it can reach a path of ours. Size and number of entries are bounded.

use std::{
    collections::BTreeSet,
    io::{self, Read},
};

use tar::Archive;

use super::{
    blobs::{BlobError, Blobs},
    digest::Digest,
    manifest::{Descriptor, Index, Manifest, ManifestError, choose},
};

/// The most bytes of an archive.
const MAX_ARCHIVE: u64 = 4 << 30;
/// The most entries of an archive.
const MAX_ENTRIES: usize = 10_000;
/// The largest manifest, index or configuration; registries have the same limit.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;
/// How deep indexes may be nested.
const MAX_DEPTH: usize = 3;

/// Why an archive cannot be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("it is not a tar of an OCI image layout: index.json is missing")]
    NoIndex,
    #[error("it is an archive of \"docker save\"; save it as an OCI layout instead (skopeo copy ... oci-archive:FILE)")]
    DockerArchive,
    #[error("it is larger than {MAX_ARCHIVE} bytes or has more than {MAX_ENTRIES} entries")]
    TooLarge,
    #[error("{document} cannot be read")]
    Document {
        document: String,
        source: serde_json::Error,
    },
    #[error("blob {digest} is missing from the archive")]
    MissingBlob { digest: Digest },
    #[error("indexes are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("blob cannot be stored")]
    Blob(#[from] BlobError),
    #[error("the archive cannot be read")]
    Io(#[from] io::Error),
}

/// What an archive held.
#[derive(Debug)]
pub(crate) struct Layout {
    index: Index,
    /// The blobs that were stored.
    blobs: BTreeSet<Digest>,
}

/// Stores all blobs of an archive.
pub(crate) fn read(archive: impl Read, blobs: &Blobs) -> Result<Layout, LayoutError> {
    let mut archive = Archive::new(archive.take(MAX_ARCHIVE + 1));
    let (mut index, mut docker, mut stored) = (None, false, BTreeSet::new());
    for (count, entry) in archive.entries()?.raw(true).enumerate() {
        let mut entry = entry?;
        if count >= MAX_ENTRIES || entry.raw_file_position().saturating_add(entry.size()) > MAX_ARCHIVE {
            return Err(LayoutError::TooLarge);
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.trim_start_matches("./");
        if !entry.header().entry_type().is_file() {
            continue;
        }
        match (name, name.strip_prefix("blobs/sha256/")) {
            ("index.json", _) => index = Some(document("index.json", &read_small(&mut entry)?)?),
            ("manifest.json", _) => docker = true,
            (_, Some(hex)) => {
                let Ok(digest) = format!("sha256:{hex}").parse() else {
                    continue;
                };
                blobs.put(&mut entry, MAX_ARCHIVE, Some(&digest))?;
                stored.insert(digest);
            }
            _ => {}
        }
    }
    match index {
        Some(index) => Ok(Layout { index, blobs: stored }),
        None if docker => Err(LayoutError::DockerArchive),
        None => Err(LayoutError::NoIndex),
    }
}

impl Layout {
    /// The manifest of the image called `wanted`, with its digest.
    pub(crate) fn manifest(&self, wanted: &str, blobs: &Blobs) -> Result<(Digest, Manifest), LayoutError> {
        let mut descriptor = choose(&self.index, wanted)?.clone();
        for _ in 0..MAX_DEPTH {
            let bytes = self.document(&descriptor, blobs)?;
            if !descriptor.is_index() {
                return Ok((descriptor.digest, document("the manifest", &bytes)?));
            }
            let index: Index = document("an index", &bytes)?;
            descriptor = choose(&index, wanted)?.clone();
        }
        Err(LayoutError::TooDeep)
    }

    /// The bytes of a small blob of this archive.
    pub(crate) fn document(&self, descriptor: &Descriptor, blobs: &Blobs) -> Result<Vec<u8>, LayoutError> {
        self.check(&descriptor.digest)?;
        Ok(blobs.read(&descriptor.digest, MAX_DOCUMENT)?)
    }

    /// Refuses what the archive did not bring, even if it is stored: whose image would that be?
    pub(crate) fn check(&self, digest: &Digest) -> Result<(), LayoutError> {
        match self.blobs.contains(digest) {
            true => Ok(()),
            false => Err(LayoutError::MissingBlob { digest: digest.clone() }),
        }
    }
}

fn read_small(entry: &mut impl Read) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = Vec::new();
    entry.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        Err(LayoutError::TooLarge)
    } else {
        Ok(bytes)
    }
}

/// Parses one of the documents of an image.
pub(crate) fn document<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes).map_err(|source| LayoutError::Document {
        document: name.to_owned(),
        source,
    })
}
