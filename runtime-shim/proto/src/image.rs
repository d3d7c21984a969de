//! Images, their filesystems, and what a pull needs.

use base64::{Engine, engine::general_purpose::STANDARD};
use cri::{Content, Error, Filesystem, FilesystemUsage, Image, ImageUser, PullImage, RegistryAuth};

use crate::{invalid, linux::int64, stats::count, v1};

impl From<Image> for v1::Image {
    fn from(image: Image) -> Self {
        let (uid, username) = match image.user {
            Some(ImageUser::Id(id)) => (Some(int64(id)), String::new()),
            Some(ImageUser::Name(name)) => (None, name),
            None => (None, String::new()),
        };
        Self {
            id: image.id,
            repo_tags: image.tags,
            repo_digests: image.digests,
            size: image.size,
            uid,
            username,
            spec: None,
            pinned: image.pinned,
        }
    }
}

/// What speaks CRI elsewhere runs Linux containers, so the content is theirs.
impl From<v1::Image> for Image {
    fn from(image: v1::Image) -> Self {
        let named = Some(image.username).filter(|name| !name.is_empty());
        Self {
            id: image.id,
            tags: image.repo_tags,
            digests: image.repo_digests,
            size: image.size,
            pinned: image.pinned,
            content: Content::Linux,
            user: image
                .uid
                .map(|id| ImageUser::Id(id.value))
                .or_else(|| named.map(ImageUser::Name)),
        }
    }
}

impl From<PullImage> for v1::PullImageRequest {
    fn from(pull: PullImage) -> Self {
        let of_pod = |uid| v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                uid,
                ..v1::PodSandboxMetadata::default()
            }),
            ..v1::PodSandboxConfig::default()
        };
        Self {
            image: Some(v1::ImageSpec {
                image: pull.reference,
                ..v1::ImageSpec::default()
            }),
            auth: pull.auth.map(Into::into),
            sandbox_config: Some(pull.pod_uid).filter(|uid| !uid.is_empty()).map(of_pod),
        }
    }
}

impl TryFrom<v1::PullImageRequest> for PullImage {
    type Error = Error;

    fn try_from(request: v1::PullImageRequest) -> Result<Self, Error> {
        let metadata = request.sandbox_config.and_then(|config| config.metadata);
        Ok(Self {
            reference: request.image.unwrap_or_default().image,
            auth: request.auth.map(TryInto::try_into).transpose()?,
            pod_uid: metadata.unwrap_or_default().uid,
        })
    }
}

impl From<RegistryAuth> for v1::AuthConfig {
    fn from(auth: RegistryAuth) -> Self {
        Self {
            username: auth.username,
            password: auth.password,
            auth: String::new(),
            server_address: String::new(),
            identity_token: auth.identity_token,
            registry_token: auth.registry_token,
        }
    }
}

impl TryFrom<v1::AuthConfig> for RegistryAuth {
    type Error = Error;

    fn try_from(auth: v1::AuthConfig) -> Result<Self, Error> {
        let (username, password) = match auth.username.is_empty() && !auth.auth.is_empty() {
            true => basic(&auth.auth)?,
            false => (auth.username, auth.password),
        };
        Ok(Self {
            username,
            password,
            identity_token: auth.identity_token,
            registry_token: auth.registry_token,
        })
    }
}

/// `user:password` in base64, as in a Docker configuration, where zero bytes may follow.
fn basic(auth: &str) -> Result<(String, String), Error> {
    let refused = || invalid("the registry credentials are not user:password in base64");
    let text = STANDARD.decode(auth).map_err(|_| refused())?;
    let text = String::from_utf8(text).map_err(|_| refused())?;
    let (user, password) = text.split_once(':').ok_or_else(refused)?;
    Ok((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

impl From<Filesystem> for v1::FilesystemUsage {
    fn from(filesystem: Filesystem) -> Self {
        let mountpoint = filesystem.mountpoint.to_string_lossy().into_owned();
        Self {
            timestamp: filesystem.timestamp,
            fs_id: (!mountpoint.is_empty()).then_some(v1::FilesystemIdentifier { mountpoint }),
            used_bytes: count(filesystem.usage.used_bytes),
            inodes_used: count(filesystem.usage.inodes_used),
        }
    }
}

impl From<v1::FilesystemUsage> for Filesystem {
    fn from(usage: v1::FilesystemUsage) -> Self {
        Self {
            mountpoint: usage.fs_id.unwrap_or_default().mountpoint.into(),
            timestamp: usage.timestamp,
            usage: FilesystemUsage {
                used_bytes: usage.used_bytes.unwrap_or_default().value,
                inodes_used: usage.inodes_used.unwrap_or_default().value,
            },
        }
    }
}
