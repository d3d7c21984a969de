//! Mounting a volume for a pod: attached by others, staged on the node, published to the pod. Every step may be repeated.

use std::{collections::BTreeMap, io, path::Path, sync::Arc, time::Duration};

use ::csi::Link;
use api::NamespacedName;
use client::{Patch, Scope, kinds};
use serde::Deserialize;
use serde_json::json;

use super::{
    Csi, Driver, place,
    record::{self, Record},
    request::{self, Given},
    source::{self, DriverObject, SecretReference, Source},
};
use crate::{
    node::Node,
    objects::Secret,
    pod::Pod,
    shared::Shared,
    volumes::{TokenKey, request_token},
};

/// How long a driver may take over a volume, as upstream has it.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How long a volume may take to be attached before the pod is told.
const ATTACHMENT: Duration = Duration::from_secs(120);

/// A volume could not be mounted; what the event says of it.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.{step} failed for volume \"{volume}\" : {source}")]
pub(crate) struct Error {
    step: Step,
    volume: String,
    source: Box<Failure>,
}

/// The part of mounting, as upstream names it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Attach,
    Stage,
    Publish,
    Expand,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Attach => "WaitForAttach",
            Self::Stage => "MountDevice",
            Self::Publish => "SetUp",
            Self::Expand => "NodeExpandVolume",
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(
        "kubernetes.io/csi: {part} failed to {attempt}: driver name {driver} not found in the list of registered CSI drivers"
    )]
    NotRegistered {
        part: &'static str,
        attempt: &'static str,
        driver: String,
    },
    #[error("kubernetes.io/csi: mounter.SetUpAt failed to check volume lifecycle mode: {0}")]
    Lifecycle(String),
    #[error("volumeMode Block is not supported on this node")]
    Block,
    #[error("timed out waiting for the volume to be attached to the node")]
    NotAttached,
    #[error("{0}")]
    Attachment(String),
    #[error("fetching {what} {namespace}/{name} failed: {source}")]
    Secret {
        what: &'static str,
        namespace: String,
        name: String,
        source: Box<client::Error>,
    },
    #[error("secret {namespace}/{name} holds {key:?}, which is no text and cannot be given to a driver")]
    NoText {
        namespace: String,
        name: String,
        key: String,
    },
    #[error("failed to get service account token attributes: {0}")]
    Token(#[source] client::Error),
    #[error("cannot read the API: {0}")]
    Unread(#[source] client::Error),
    #[error(transparent)]
    Driver(#[from] ::csi::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A volume stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// The kubelet is to give it to the pod's group.
    pub(crate) shares: bool,
    /// The driver wants to be called again from time to time.
    pub(crate) again: bool,
    /// The volume may grow.
    pub(crate) expands: bool,
}

/// `VolumeAttachment`, as far as it says how to find the volume on the node.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Attachment {
    status: AttachmentStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AttachmentStatus {
    attached: bool,
    attachment_metadata: BTreeMap<String, String>,
    attach_error: Option<AttachError>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AttachError {
    message: String,
}

impl Csi {
    /// Makes the volume stand at [`Csi::target`].
    ///
    /// # Errors
    /// The first step that failed; what was done stays, and is taken back with the pod.
    pub(crate) async fn mount(&self, shared: &Shared, pod: &Pod, source: &Source) -> Result<Mounted, Error> {
        let failed = |step, failure| Error {
            step,
            volume: source.name.clone(),
            source: Box::new(failure),
        };
        let (driver, object, attachment) = self
            .look(shared, source)
            .await
            .map_err(|(step, failure)| failed(step, failure))?;
        let object = object.as_ref();
        let group = pod.spec.security_context.as_ref().and_then(|context| context.fs_group);
        let group = group.filter(|_| driver.takes_groups).map(|group| group.to_string());
        let mounted = Mounted {
            shares: group.is_none() && source::is_shared(source, object),
            again: object.is_some_and(|object| object.spec.requires_republish),
            expands: driver.expands && !source.ephemeral,
        };
        let directory = place::of_pod(&self.root, &pod.metadata.uid).join(&source.name);
        let record = Record {
            name: source.name.clone(),
            volume_handle: source.handle.clone(),
            driver_name: source.driver.clone(),
            node_name: shared.node_name.clone(),
            attachment: attachment.clone().unwrap_or_default(),
            volume_lifecycle_mode: source.lifecycle_mode().to_owned(),
        };
        // From here on somebody else may find it half done.
        let _alone = self.lock(&source.driver, &source.handle).await;
        let stands = self
            .begin(&directory, &record)
            .await
            .map_err(|e| failed(Step::Publish, e.into()))?;
        if stands && !mounted.again {
            let grown = self.expand(shared, &driver, source, &directory).await;
            return grown.map(|()| mounted).map_err(|failure| failed(Step::Expand, failure));
        }
        let mut given = Given {
            group,
            ..Given::default()
        };
        if let Some(attachment) = &attachment {
            let found = attached(shared, source, attachment).await;
            given.publish_context = found.map_err(|failure| failed(Step::Attach, failure))?;
        }
        let mut staged = None;
        if driver.stages && !source.ephemeral {
            let path = self.stage(shared, &driver, source, (&record, stands), &mut given).await;
            staged = Some(path.map_err(|failure| failed(Step::Stage, failure))?);
        }
        let published = async {
            given.publish_secrets = secrets(shared, "NodePublishSecretRef", source.publish_secret.as_ref()).await?;
            given.tokens = tokens(shared, pod, object).await?;
            let target = path_text(&directory.join(place::MOUNT))?;
            let message = request::publish(source, (&driver, object), pod, &given, (staged.as_deref(), &target));
            let mut node = driver.link.node();
            let call = node.node_publish_volume(Link::request(message, PATIENCE));
            driver.link.call(PATIENCE, call).await?;
            Ok(())
        };
        published.await.map_err(|failure| failed(Step::Publish, failure))?;
        tracing::debug!(pod = %pod.key(), volume = source.name, driver = source.driver, "published a volume");
        let grown = self.expand(shared, &driver, source, &directory).await;
        grown.map_err(|failure| failed(Step::Expand, failure))?;
        Ok(mounted)
    }

    /// Has the file system grow, where the volume has, and says so on its claim.
    async fn expand(&self, shared: &Shared, driver: &Driver, source: &Source, directory: &Path) -> Result<(), Failure> {
        let claim = source.claim.as_ref().filter(|_| driver.expands && !source.read_only);
        let Some((claim, bytes)) = claim.and_then(|claim| Some((claim, claim.growth()?))) else {
            return Ok(());
        };
        let secrets = secrets(shared, "NodeExpandSecretRef", source.expand_secret.as_ref()).await?;
        let staged = place::device(&self.root, &source.driver, &source.handle).join(place::GLOBAL_MOUNT);
        let staged = driver.stages.then(|| path_text(&staged)).transpose()?;
        let target = path_text(&directory.join(place::MOUNT))?;
        let message = request::expand(source, driver, bytes, secrets, (staged.as_deref(), &target));
        let mut node = driver.link.node();
        let call = node.node_expand_volume(Link::request(message, PATIENCE));
        driver.link.call(PATIENCE, call).await?;
        let at = NamespacedName::new(&claim.namespace, &claim.name);
        let said = Patch::Merge(claim.grown());
        let written = shared
            .client
            .patch(&kinds::PERSISTENT_VOLUME_CLAIM, &at, Some("status"), said)
            .await;
        written.map(drop).map_err(Failure::Unread)
    }

    /// What has to be known before anything is begun: the driver, what the cluster says of it, and the attachment's name.
    async fn look(
        &self,
        shared: &Shared,
        source: &Source,
    ) -> Result<(Arc<Driver>, Option<DriverObject>, Option<String>), (Step, Failure)> {
        let first = if source.ephemeral { Step::Publish } else { Step::Stage };
        if source.block {
            return Err((Step::Stage, Failure::Block));
        }
        let at = NamespacedName::cluster(&source.driver);
        let object = shared.client.get_opt::<DriverObject>(&kinds::CSI_DRIVER, &at).await;
        let object = object.map_err(|error| (first, Failure::Unread(error)))?;
        if let Some(why) = source::lifecycle_refusal(source, object.as_ref()) {
            return Err((Step::Publish, Failure::Lifecycle(why)));
        }
        let attachment = source::needs_attachment(source, object.as_ref())
            .then(|| place::attachment(&source.handle, &source.driver, &shared.node_name));
        if attachment.is_some() {
            let waited = await_attachment(shared, source).await;
            waited.map_err(|failure| (Step::Attach, failure))?;
        }
        let driver = self.driver(&source.driver).ok_or_else(|| {
            let (part, attempt) = match source.ephemeral {
                true => ("mounter.SetUpAt", "get CSI client"),
                false => ("attacher.MountDevice", "create newCsiDriverClient"),
            };
            let driver = source.driver.clone();
            (first, Failure::NotRegistered { part, attempt, driver })
        })?;
        Ok((driver, object, attachment))
    }

    /// Writes down what is about to be done; whether it has been done already.
    async fn begin(&self, directory: &Path, record: &Record) -> io::Result<bool> {
        let (directory, record) = (directory.to_owned(), record.clone());
        blocking(move || {
            let known =
                record::read(&directory).is_some_and(|known| known.is_of(&record.driver_name, &record.volume_handle));
            let stands = known && record::is_mounted(&directory.join(place::MOUNT))?;
            record::write(&directory, &record)?;
            Ok(stands)
        })
        .await
    }

    /// Where the volume is staged, after it is.
    async fn stage(
        &self,
        shared: &Shared,
        driver: &Driver,
        source: &Source,
        (record, stands): (&Record, bool),
        given: &mut Given,
    ) -> Result<String, Failure> {
        let device = place::device(&self.root, &source.driver, &source.handle);
        let path = device.join(place::GLOBAL_MOUNT);
        let text = path_text(&path)?;
        if stands {
            return Ok(text);
        }
        given.stage_secrets = secrets(shared, "NodeStageSecretRef", source.stage_secret.as_ref()).await?;
        let record = record.clone();
        blocking(move || {
            record::write(&device, &record)?;
            std::fs::create_dir_all(path)
        })
        .await?;
        let message = request::stage(source, driver, given, &text);
        let mut node = driver.link.node();
        let call = node.node_stage_volume(Link::request(message, PATIENCE));
        driver.link.call(PATIENCE, call).await?;
        Ok(text)
    }
}

/// Waits until the node's status says that the volume is attached, as those say who attach.
async fn await_attachment(shared: &Shared, source: &Source) -> Result<(), Failure> {
    let at = NamespacedName::cluster(&shared.node_name);
    let node = shared.informers.get::<Node>(&kinds::NODE, Scope::Object(at.clone()));
    let name = place::unique_name(&source.driver, &source.handle);
    let attached = node.wait_until(&at, |node| node.is_some_and(|node| node.has_attached(&name)));
    if tokio::time::timeout(ATTACHMENT, attached).await.is_ok() {
        return Ok(());
    }
    let attachment = place::attachment(&source.handle, &source.driver, &shared.node_name);
    let found = shared
        .client
        .get_opt::<Attachment>(&kinds::VOLUME_ATTACHMENT, &NamespacedName::cluster(&attachment))
        .await;
    match found.ok().flatten().and_then(|found| found.status.attach_error) {
        Some(error) => Err(Failure::Attachment(error.message)),
        None => Err(Failure::NotAttached),
    }
}

/// What the driver's controller left to be told to its part on the node.
async fn attached(shared: &Shared, source: &Source, name: &str) -> Result<BTreeMap<String, String>, Failure> {
    let at = NamespacedName::cluster(name);
    let found = shared
        .client
        .get_opt::<Attachment>(&kinds::VOLUME_ATTACHMENT, &at)
        .await;
    let Some(found) = found.map_err(Failure::Unread)? else {
        return Err(Failure::Attachment(format!(
            "volume attachment {name} of volume {} not found",
            source.handle
        )));
    };
    match found.status {
        AttachmentStatus {
            attached: true,
            attachment_metadata,
            ..
        } => Ok(attachment_metadata),
        AttachmentStatus {
            attach_error: Some(error),
            ..
        } => Err(Failure::Attachment(error.message)),
        AttachmentStatus { .. } => Err(Failure::NotAttached),
    }
}

async fn secrets(
    shared: &Shared,
    what: &'static str,
    of: Option<&SecretReference>,
) -> Result<BTreeMap<String, String>, Failure> {
    let Some(SecretReference { name, namespace }) = of else {
        return Ok(BTreeMap::new());
    };
    let at = NamespacedName::new(namespace, name);
    let secret: Secret = shared
        .client
        .get(&kinds::SECRET, &at)
        .await
        .map_err(|source| Failure::Secret {
            what,
            namespace: namespace.clone(),
            name: name.clone(),
            source: Box::new(source),
        })?;
    let pairs = secret
        .content()
        .iter()
        .map(|(key, value)| match std::str::from_utf8(value) {
            Ok(text) => Ok((key.to_owned(), text.to_owned())),
            Err(_) => Err(Failure::NoText {
                namespace: namespace.clone(),
                name: name.clone(),
                key: key.to_owned(),
            }),
        });
    pairs.collect()
}

/// The tokens that the driver asks for, as it reads them.
async fn tokens(shared: &Shared, pod: &Pod, object: Option<&DriverObject>) -> Result<Option<String>, Failure> {
    let wanted = object.map(|object| &*object.spec.token_requests).unwrap_or_default();
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut all = serde_json::Map::new();
    for request in wanted {
        let key = TokenKey {
            audience: request.audience.clone(),
            seconds: request.expiration_seconds.unwrap_or(3600),
        };
        let (token, expires) = request_token(&shared.client, pod, &key).await.map_err(Failure::Token)?;
        let expires = expires.map(api::time::rfc3339);
        all.insert(key.audience, json!({"token": token, "expirationTimestamp": expires}));
    }
    Ok(Some(serde_json::Value::Object(all).to_string()))
}

pub(super) fn path_text(path: &Path) -> io::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no text", path.display())))
}

/// File system work on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    crate::blocking::run(work)
        .await
        .unwrap_or_else(|ended| Err(io::Error::other(ended)))
}
