//! What an archive of an image holds: an OCI image layout, or what `docker save` writes.
//!
//! Only the index of the tar and its small documents are kept; layers are read where they are when they are uploaded. What
//! the documents say is checked where it matters: containerd verifies the digest of everything that it is given.

use std::{
    collections::HashMap,
    io::{self, Read, Seek, SeekFrom},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The largest index, manifest or configuration.
const MAX_DOCUMENT: u64 = 4 << 20;
/// The most members of an archive.
const MAX_MEMBERS: usize = 100_000;
/// Indexes within indexes.
const MAX_DEPTH: usize = 3;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Bytes that can be read at any place.
pub(crate) trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}
pub(crate) type Source = Box<dyn ReadSeek>;

/// Why an archive holds no image for this node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("it is neither a tar of an OCI image layout nor one of docker save")]
    Unknown,
    #[error("it is not a tar")]
    Tar(#[source] io::Error),
    #[error("it lacks \"{0}\"")]
    Lacks(String),
    #[error("\"{name}\" is larger than {MAX_DOCUMENT} bytes")]
    TooLarge { name: String },
    #[error("\"{name}\" cannot be read")]
    Read { name: String, source: io::Error },
    #[error("\"{name}\" is not what it should be")]
    Document { name: String, source: serde_json::Error },
    #[error("it holds more than {MAX_MEMBERS} files")]
    TooMany,
    #[error("it has no image for linux/{0}")]
    Platform(String),
}

/// Where something lies in the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// A blob of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) place: Place,
}

/// The image that an archive has for this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picked {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) manifest: Bytes,
    /// Configuration and layers, in the manifest's order.
    pub(crate) blobs: Vec<Blob>,
}

/// OCI's content descriptor.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// An image's manifest; written only for what `docker save` left without one.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Manifest {
    schema_version: u32,
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// A member of the `manifest.json` of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

/// A tar, with what lies where in it.
pub(crate) struct Archive {
    source: Source,
    members: HashMap<String, Place>,
}

impl Archive {
    /// Reads the index of a tar.
    pub(crate) fn read(source: Source) -> Result<Self, ArchiveError> {
        let mut tar = tar::Archive::new(source);
        let mut members = HashMap::new();
        for entry in tar.entries_with_seek().map_err(ArchiveError::Tar)? {
            let entry = entry.map_err(ArchiveError::Tar)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = entry.path().map_err(ArchiveError::Tar)?;
            let name = name.to_string_lossy().trim_start_matches("./").to_owned();
            let place = Place {
                offset: entry.raw_file_position(),
                size: entry.size(),
            };
            members.insert(name, place);
            if members.len() > MAX_MEMBERS {
                return Err(ArchiveError::TooMany);
            }
        }
        Ok(Self {
            source: tar.into_inner(),
            members,
        })
    }

    /// The image for this kind of machine.
    pub(crate) fn pick(&mut self, arch: &str) -> Result<Picked, ArchiveError> {
        if self.members.contains_key("index.json") {
            let index: Index = self.document("index.json")?;
            let arch = go_arch(arch);
            let found = self.find(&index, arch, 0)?;
            let descriptor = found.ok_or_else(|| ArchiveError::Platform(arch.to_owned()))?;
            return self.layout(&descriptor);
        }
        if self.members.contains_key("manifest.json") {
            return self.saved();
        }
        Err(ArchiveError::Unknown)
    }

    pub(crate) fn into_source(self) -> Source {
        self.source
    }

    /// The first manifest that fits, through indexes.
    fn find(&mut self, index: &Index, arch: &str, depth: usize) -> Result<Option<Descriptor>, ArchiveError> {
        for descriptor in &index.manifests {
            match descriptor.media_type.as_str() {
                OCI_INDEX | DOCKER_LIST if depth < MAX_DEPTH => {
                    let inner: Index = self.document(&blob_name(&descriptor.digest))?;
                    if let Some(found) = self.find(&inner, arch, depth + 1)? {
                        return Ok(Some(found));
                    }
                }
                OCI_MANIFEST | DOCKER_MANIFEST if fits(descriptor.platform.as_ref(), arch) => {
                    return Ok(Some(descriptor.clone()));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn layout(&mut self, descriptor: &Descriptor) -> Result<Picked, ArchiveError> {
        let name = blob_name(&descriptor.digest);
        let bytes = self.bytes(&name)?;
        let manifest: Manifest = parse(&name, &bytes)?;
        let parts = std::iter::once(&manifest.config).chain(&manifest.layers);
        let blobs = parts.map(|part| self.blob(&part.digest, &blob_name(&part.digest)));
        Ok(Picked {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            blobs: blobs.collect::<Result<_, _>>()?,
            manifest: bytes.into(),
        })
    }

    /// What `docker save` writes has no manifest of the form that registries and containerd know: one is made.
    fn saved(&mut self) -> Result<Picked, ArchiveError> {
        let all: Vec<Saved> = self.document("manifest.json")?;
        let saved = all.into_iter().next().ok_or(ArchiveError::Unknown)?;
        let config = self.hashed(&saved.config)?;
        let layers = saved.layers.iter().map(|name| self.hashed(name));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let describe = |blob: &Blob, media_type: &str| Descriptor {
            media_type: media_type.to_owned(),
            digest: blob.digest.clone(),
            size: blob.place.size,
            platform: None,
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: DOCKER_MANIFEST.to_owned(),
            config: describe(&config, DOCKER_CONFIG),
            layers: layers.iter().map(|layer| describe(layer, DOCKER_LAYER)).collect(),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|source| ArchiveError::Document {
            name: "manifest.json".to_owned(),
            source,
        })?;
        Ok(Picked {
            media_type: DOCKER_MANIFEST.to_owned(),
            digest: format!("sha256:{}", hex(&Sha256::digest(&bytes))),
            manifest: bytes.into(),
            blobs: std::iter::once(config).chain(layers).collect(),
        })
    }

    fn place(&self, name: &str) -> Result<Place, ArchiveError> {
        let place = self.members.get(name).copied();
        place.ok_or_else(|| ArchiveError::Lacks(name.to_owned()))
    }

    fn blob(&self, digest: &str, name: &str) -> Result<Blob, ArchiveError> {
        Ok(Blob {
            digest: digest.to_owned(),
            place: self.place(name)?,
        })
    }

    /// A member with the digest of its content.
    fn hashed(&mut self, name: &str) -> Result<Blob, ArchiveError> {
        let place = self.place(name)?;
        let failed = |source| ArchiveError::Read {
            name: name.to_owned(),
            source,
        };
        let mut hasher = Sha256::new();
        self.source.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
        let mut rest = (&mut self.source).take(place.size);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match rest.read(&mut buffer).map_err(failed)? {
                0 => break,
                read => hasher.update(buffer.get(..read).unwrap_or_default()),
            }
        }
        self.blob(&format!("sha256:{}", hex(&hasher.finalize())), name)
    }

    fn document<T: serde::de::DeserializeOwned>(&mut self, name: &str) -> Result<T, ArchiveError> {
        parse(name, &self.bytes(name)?)
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let place = self.place(name)?;
        if place.size > MAX_DOCUMENT {
            return Err(ArchiveError::TooLarge { name: name.to_owned() });
        }
        let mut bytes = Vec::new();
        let read = self.source.seek(SeekFrom::Start(place.offset));
        let read = read.and_then(|_| (&mut self.source).take(place.size).read_to_end(&mut bytes));
        read.map_err(|source| ArchiveError::Read {
            name: name.to_owned(),
            source,
        })?;
        Ok(bytes)
    }
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|source| ArchiveError::Document {
        name: name.to_owned(),
        source,
    })
}

/// Where a layout has a blob.
fn blob_name(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// What says nothing of its platform is taken as it is.
fn fits(platform: Option<&Platform>, arch: &str) -> bool {
    platform.is_none_or(|platform| platform.os == "linux" && platform.architecture == arch)
}

/// An architecture as Go names it.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tar<N: AsRef<str>>(members: &[(N, Vec<u8>)]) -> Source {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            let name: &str = name.as_ref();
            builder.append_data(&mut header, name, &**bytes).unwrap();
        }
        Box::new(io::Cursor::new(builder.into_inner().unwrap()))
    }

    fn digest(bytes: &[u8]) -> String {
        format!("sha256:{}", hex(&Sha256::digest(bytes)))
    }

    fn read(archive: &mut Archive, place: Place) -> Vec<u8> {
        let mut bytes = Vec::new();
        archive.source.seek(SeekFrom::Start(place.offset)).unwrap();
        (&mut archive.source).take(place.size).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn picks_this_machines_image_out_of_a_layout() {
        let (config, layer) = (b"{}".to_vec(), b"layer".to_vec());
        let manifest = json!({
            "schemaVersion": 2,
            "config": {"mediaType": "c", "digest": digest(&config), "size": 2},
            "layers": [{"mediaType": "l", "digest": digest(&layer), "size": 5}],
        });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let inner = json!({"manifests": [
            {"mediaType": OCI_MANIFEST, "digest": "sha256:0", "size": 1, "platform": {"os": "linux", "architecture": "arm64"}},
            {"mediaType": OCI_MANIFEST, "digest": digest(&manifest), "size": manifest.len(),
             "platform": {"os": "linux", "architecture": "amd64"}},
        ]});
        let inner = serde_json::to_vec(&inner).unwrap();
        let index = json!({"manifests": [{"mediaType": OCI_INDEX, "digest": digest(&inner), "size": inner.len()}]});
        let members = [
            ("./index.json".to_owned(), serde_json::to_vec(&index).unwrap()),
            (blob_name(&digest(&inner)), inner.clone()),
            (blob_name(&digest(&manifest)), manifest.clone()),
            (blob_name(&digest(&config)), config),
            (blob_name(&digest(&layer)), layer),
        ];
        let mut archive = Archive::read(tar(&members)).unwrap();
        let picked = archive.pick("x86_64").unwrap();
        assert_eq!((&picked.digest, &*picked.manifest), (&digest(&manifest), &*manifest));
        assert_eq!(picked.blobs.len(), 2);
        assert_eq!(read(&mut archive, picked.blobs[1].place), b"layer");
        let refused = archive.pick("riscv64").unwrap_err();
        assert_eq!(refused.to_string(), "it has no image for linux/riscv64");
    }

    #[test]
    fn makes_the_manifest_that_docker_save_leaves_out() {
        let saved = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["1/layer.tar"]}]);
        let members = [
            ("manifest.json", serde_json::to_vec(&saved).unwrap()),
            ("c.json", b"{}".to_vec()),
            ("1/layer.tar", b"layer".to_vec()),
        ];
        let picked = Archive::read(tar(&members)).unwrap().pick("x86_64").unwrap();
        let manifest: Manifest = serde_json::from_slice(&picked.manifest).unwrap();
        assert_eq!(manifest.layers[0].digest, digest(b"layer"));
        assert_eq!(picked.digest, digest(&picked.manifest));
        assert_eq!(picked.blobs[0].digest, digest(b"{}"));
    }

    #[test]
    fn says_what_is_wrong_with_an_archive() {
        let unknown = Archive::read(tar(&[("a", vec![])]))
            .unwrap()
            .pick("x86_64")
            .unwrap_err();
        assert!(matches!(unknown, ArchiveError::Unknown));
        let saved = json!([{"Config": "c.json", "Layers": []}]);
        let members = [("manifest.json", serde_json::to_vec(&saved).unwrap())];
        let lacks = Archive::read(tar(&members)).unwrap().pick("x86_64").unwrap_err();
        assert_eq!(lacks.to_string(), "it lacks \"c.json\"");
        assert!(Archive::read(Box::new(io::Cursor::new(vec![7; 2048]))).is_err());
    }
}
