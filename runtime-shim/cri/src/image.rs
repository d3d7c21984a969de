//! Images: what is on the node and how it gets there.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// An image on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of the image's configuration or, for an artifact, its manifest: `sha256:…`.
    pub id: String,
    /// `name:tag` forms.
    pub tags: Vec<String>,
    /// `name@sha256:…` forms.
    pub digests: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// In use by a pinned part of the node; never collected.
    pub pinned: bool,
    /// What runs it.
    #[serde(default)]
    pub content: Content,
    /// The user the image itself asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<ImageUser>,
}

/// What an image holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// A Wasm program.
    #[default]
    Wasm,
    /// The root filesystem of a Linux container.
    Linux,
}

/// Who an image's program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageUser {
    Id(i64),
    Name(String),
}

/// Which image to bring, and the credentials for its registry.
#[derive(Clone, Debug, Default)]
pub struct PullImage {
    pub reference: String,
    pub auth: Option<RegistryAuth>,
    /// The pod it is for, for progress events.
    pub pod_uid: String,
}

/// Credentials for one registry. Does not print its secrets.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
    /// A token by which the registry's token service knows the user, instead of the two.
    pub identity_token: String,
    /// A bearer token that stands instead of all of them.
    pub registry_token: String,
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// An image that was pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PulledImage {
    pub image: Image,
    /// How long the pull took, waiting for other pulls not included.
    pub took: Duration,
}

/// An image that was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub image: Image,
    /// Why containers of it will not run on this node, if that is known already.
    pub warning: Option<String>,
}

/// Content of an image to import.
#[derive(Clone, Debug)]
pub enum ImportContent {
    /// A file of this node: `.wasm`, or a tar of an OCI image layout; told apart by content.
    File(PathBuf),
    /// The same in memory.
    Bytes(bytes::Bytes),
}

/// Space a filesystem's part takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemUsage {
    pub used_bytes: u64,
    pub inodes_used: u64,
}

/// A filesystem that holds images or what containers write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// A directory on it.
    pub mountpoint: PathBuf,
    /// Nanoseconds since the epoch, of this reading; 0: now.
    pub timestamp: i64,
    pub usage: FilesystemUsage,
}
