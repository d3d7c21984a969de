//! The part of the sidecars for a driver that has none: where a driver's object `CSIDriver` names this node, its kubelet asks
//! the driver's controller service for volumes, and to attach them. It is the administrator who says so, by the annotation and
//! by giving the node the rights of the ClusterRole `wherry:csi-controller`; nothing here works without both.
//!
//! What to ask is decided in [`plan`]. Deliberately absent: the controller's secrets (no node may read them), snapshots.

mod plan;
mod view;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ::csi::{
    Link,
    v1::{
        CapacityRange, ControllerExpandVolumeRequest, ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest,
        DeleteVolumeRequest, Topology,
    },
};
use api::{NamespacedName, Quantity};
use client::{
    DeleteOptions, Informer, Meta, MetaObject, OptionalExt, Patch, Scope,
    events::{ObjectRef, Type},
    kinds,
};
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use self::{
    plan::{State, Step},
    view::{Attachment, Claim, Class, CsiNode, Volume},
};
use super::{
    Driver,
    request::capability,
    source::{DriverObject, Source},
};
use crate::shared::Shared;

/// The node whose kubelet is to ask the driver's controller service.
const ANNOTATION: &str = "wherry.dev/controller-node";
/// How long the driver may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Calls at a time.
const AT_ONCE: usize = 4;
/// The least time between two looks, and the most.
const PACE: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(30);
/// The pause after a failure doubles from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Why something was not done; the text is for the events.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Driver(#[from] ::csi::Error),
    #[error(transparent)]
    Api(#[from] client::Error),
    #[error("{0}")]
    Refused(String),
}

/// What is read while there is a driver to serve.
struct Views {
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    classes: Informer<Class>,
    attachments: Informer<Attachment>,
}

/// Serves the drivers of this node that name it, until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    shutdown.run_until_cancelled(serve(&shared)).await;
}

async fn serve(shared: &Shared) {
    let mut registered = shared.csi.drivers.subscribe();
    let controls = |drivers: &super::Drivers| drivers.values().any(|driver| driver.controls);
    loop {
        // Nothing is watched for nothing.
        if registered.wait_for(controls).await.is_err() {
            return;
        }
        let objects = shared.informers.get::<DriverObject>(&kinds::CSI_DRIVER, Scope::All);
        let (mut described, mut views, mut failed) = (objects.version(), None, HashMap::new());
        while controls(&registered.borrow_and_update()) {
            described.mark_unchanged();
            let drivers = chosen(shared, &objects);
            if drivers.is_empty() {
                views = None;
                tokio::select! {
                    _ = registered.changed() => {}
                    _ = described.changed() => {}
                }
                continue;
            }
            let views = views.get_or_insert_with(|| Views::open(shared));
            let changes = views.versions().into_iter().map(WatchStream::from_changes);
            let mut changed = stream::select_all(changes.collect::<Vec<_>>());
            let next = look(shared, &drivers, views, &mut failed).await;
            tokio::time::sleep(PACE.min(next)).await;
            tokio::select! {
                _ = changed.next() => {}
                _ = registered.changed() => {}
                _ = described.changed() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    }
}

/// The drivers that this node is to speak to for the cluster.
fn chosen(shared: &Shared, objects: &Informer<DriverObject>) -> Vec<Arc<Driver>> {
    let names = |driver: &&Arc<Driver>| {
        let object = objects.get(&NamespacedName::cluster(&driver.name));
        object.is_some_and(|object| object.metadata.annotations.get(ANNOTATION) == Some(&shared.node_name))
    };
    let drivers = shared.csi.drivers.borrow();
    drivers
        .values()
        .filter(|driver| driver.controls)
        .filter(names)
        .cloned()
        .collect()
}

impl Views {
    fn open(shared: &Shared) -> Self {
        let informers = &shared.informers;
        Self {
            claims: informers.get(&kinds::PERSISTENT_VOLUME_CLAIM, Scope::All),
            volumes: informers.get(&kinds::PERSISTENT_VOLUME, Scope::All),
            classes: informers.get(&kinds::STORAGE_CLASS, Scope::All),
            attachments: informers.get(&kinds::VOLUME_ATTACHMENT, Scope::All),
        }
    }

    fn versions(&self) -> Vec<watch::Receiver<u64>> {
        vec![
            self.claims.version(),
            self.volumes.version(),
            self.classes.version(),
            self.attachments.version(),
        ]
    }

    fn state(&self) -> Option<State> {
        let synced = self.claims.is_synced()
            && self.volumes.is_synced()
            && self.classes.is_synced()
            && self.attachments.is_synced();
        fn all<T: Send + Sync + 'static>(of: &Informer<T>) -> Vec<Arc<T>> {
            of.list().into_iter().map(|(_, object)| object).collect()
        }
        synced.then(|| State {
            claims: all(&self.claims),
            volumes: all(&self.volumes),
            classes: all(&self.classes),
            attachments: all(&self.attachments),
        })
    }
}

/// Does what is due for all drivers; when to look again at the latest.
async fn look(
    shared: &Shared,
    drivers: &[Arc<Driver>],
    views: &Views,
    failed: &mut HashMap<String, (u32, Instant)>,
) -> Duration {
    let Some(state) = views.state() else { return PACE };
    let now = Instant::now();
    let (mut planned, mut due) = (HashSet::new(), Vec::new());
    for driver in drivers {
        for step in plan::steps(driver, &state) {
            planned.insert(step.key());
            if failed.get(&step.key()).is_none_or(|(_, until)| *until <= now) {
                due.push((driver.clone(), step));
            }
        }
    }
    failed.retain(|key, _| planned.contains(key));
    let work = stream::iter(due).map(async |(driver, step)| {
        let done = obey(shared, &driver, views, &step).await;
        (step, done)
    });
    let done: Vec<(Step, Result<(), Failure>)> = work.buffer_unordered(AT_ONCE).collect().await;
    for (step, done) in done {
        let key = step.key();
        match done {
            Ok(()) => failed.remove(&key),
            Err(failure) => {
                tracing::debug!(
                    step = key,
                    error = &failure as &dyn std::error::Error,
                    "a driver's controller failed"
                );
                let count = failed.get(&key).map_or(0, |(count, _)| *count).saturating_add(1);
                let pause = FIRST_PAUSE.saturating_mul(1 << (count - 1).min(9)).min(LONGEST_PAUSE);
                failed.insert(key, (count, Instant::now() + pause))
            }
        };
    }
    let next = failed
        .values()
        .map(|(_, until)| until.saturating_duration_since(Instant::now()))
        .min();
    next.unwrap_or(PERIOD).min(PERIOD)
}

async fn obey(shared: &Shared, driver: &Driver, views: &Views, step: &Step) -> Result<(), Failure> {
    match step {
        Step::Create(claim, class) => {
            let made = create(shared, driver, views, claim, class).await;
            if let Err(failure) = &made {
                let why = format!(
                    "failed to provision volume with StorageClass \"{}\": {failure}",
                    class.metadata.name
                );
                tell(shared, claim, Type::Warning, "ProvisioningFailed", why);
            }
            made
        }
        Step::Delete(volume) => {
            let deleted = delete(shared, driver, volume).await;
            if let Err(failure) = &deleted {
                let regarding = ObjectRef::of(&kinds::PERSISTENT_VOLUME, &volume.metadata);
                let why = failure.to_string();
                shared
                    .recorder
                    .event(&regarding, Type::Warning, "VolumeFailedDelete", "", why);
            }
            deleted
        }
        Step::Grow(claim, volume) => {
            let grown = grow(shared, driver, views, claim, volume).await;
            if let Err(failure) = &grown {
                let why = format!(
                    "resize volume \"{}\" by resizer failed: {failure}",
                    volume.metadata.name
                );
                tell(shared, claim, Type::Warning, "VolumeResizeFailed", why);
            }
            grown
        }
        Step::Tell(claim, volume) => tell_size(shared, views, claim, &volume.spec.capacity.storage).await,
        Step::Attach(attachment, volume) => {
            let done = attach(shared, driver, views, attachment, volume).await;
            match done {
                Err(Failure::Driver(error)) => {
                    report(shared, attachment, "attachError", &error).await;
                    Err(error.into())
                }
                done => done,
            }
        }
        Step::Detach(attachment, volume) => {
            let done = detach(shared, driver, attachment, volume.as_deref()).await;
            match done {
                Err(Failure::Driver(error)) => {
                    report(shared, attachment, "detachError", &error).await;
                    Err(error.into())
                }
                done => done,
            }
        }
    }
}

fn tell(shared: &Shared, claim: &Claim, type_: Type, reason: &str, note: String) {
    let regarding = ObjectRef::of(&kinds::PERSISTENT_VOLUME_CLAIM, &claim.metadata);
    shared.recorder.event(&regarding, type_, reason, "", note);
}

async fn create(shared: &Shared, driver: &Driver, views: &Views, claim: &Claim, class: &Class) -> Result<(), Failure> {
    if let Some(why) = plan::refusal(claim, class) {
        return Err(Failure::Refused(why));
    }
    let reachable = reachable(shared, driver, plan::selected_node(claim)).await?;
    let asked = plan::request(claim, class, driver, reachable);
    let (key, name) = (claim.metadata.key(), plan::volume_name(claim));
    tell(
        shared,
        claim,
        Type::Normal,
        "Provisioning",
        format!("External provisioner is provisioning volume for claim \"{key}\""),
    );
    let mut controller = driver.link.controller();
    let call = controller.create_volume(Link::request(asked, PATIENCE));
    let made = driver.link.call(PATIENCE, call).await?.volume.unwrap_or_default();
    if made.volume_id.is_empty() {
        return Err(Failure::Refused(
            "the driver has made a volume without a name".to_owned(),
        ));
    }
    let object = plan::object(claim, class, &driver.name, &made);
    match shared.client.create(&kinds::PERSISTENT_VOLUME, None, &object).await {
        Ok(written) => {
            let said = format!("Successfully provisioned volume {name}");
            tell(shared, claim, Type::Normal, "ProvisioningSucceeded", said);
            views.volumes.wait_written(&written).await;
            Ok(())
        }
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// From where a volume for a node has to be reachable; for none, from here.
async fn reachable(shared: &Shared, driver: &Driver, node: Option<&str>) -> Result<Option<Topology>, Failure> {
    let Some(node) = node.filter(|node| **node != *shared.node_name) else {
        let segments = driver.topology.clone();
        return Ok((!segments.is_empty()).then_some(Topology { segments }));
    };
    let at = NamespacedName::cluster(node);
    let known = shared.client.get::<CsiNode>(&kinds::CSI_NODE, &at).await?;
    let keys = known
        .driver(&driver.name)
        .map(|driver| driver.topology_keys.clone())
        .unwrap_or_default();
    let labels = shared
        .client
        .get::<MetaObject>(&kinds::NODE, &at)
        .await?
        .metadata
        .labels;
    let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Ok(plan::place(&keys, &labels))
}

async fn delete(shared: &Shared, driver: &Driver, volume: &Volume) -> Result<(), Failure> {
    let Some(source) = &volume.spec.csi else { return Ok(()) };
    let mut controller = driver.link.controller();
    let message = DeleteVolumeRequest {
        volume_id: source.volume_handle.clone(),
        ..DeleteVolumeRequest::default()
    };
    let call = controller.delete_volume(Link::request(message, PATIENCE));
    driver.link.call(PATIENCE, call).await?;
    let options = DeleteOptions::of_uid(&volume.metadata.uid);
    let deleted = shared
        .client
        .delete(&kinds::PERSISTENT_VOLUME, &volume.metadata.key(), &options)
        .await;
    Ok(deleted.optional().map(drop)?)
}

/// The volume first, then its object, then its claim: what was begun is known by what differs.
async fn grow(shared: &Shared, driver: &Driver, views: &Views, claim: &Claim, volume: &Volume) -> Result<(), Failure> {
    let Some(source) = &volume.spec.csi else { return Ok(()) };
    let wanted = &claim.spec.resources.requests;
    let (mut bytes, mut by_node) = (wanted.bytes(), true);
    if driver.grows {
        let whole = Source {
            access_modes: volume.spec.access_modes.clone(),
            mount_options: volume.spec.mount_options.clone(),
            ..Source::persistent(&volume.metadata.name, source.clone())
        };
        let message = ControllerExpandVolumeRequest {
            volume_id: source.volume_handle.clone(),
            capacity_range: Some(CapacityRange {
                required_bytes: bytes,
                limit_bytes: 0,
            }),
            volume_capability: Some(capability(&whole, driver.tells_writers_apart, None)),
            ..ControllerExpandVolumeRequest::default()
        };
        let mut controller = driver.link.controller();
        let call = controller.controller_expand_volume(Link::request(message, PATIENCE));
        let answer = driver.link.call(PATIENCE, call).await?;
        (bytes, by_node) = (bytes.max(answer.capacity_bytes), answer.node_expansion_required);
    }
    let size = match bytes == wanted.bytes() {
        true => wanted.storage.clone(),
        false => Quantity::from_bytes(bytes).to_string(),
    };
    let change =
        Patch::Merge(json!({"metadata": {"uid": volume.metadata.uid}, "spec": {"capacity": {"storage": size}}}));
    let written = shared
        .client
        .patch(&kinds::PERSISTENT_VOLUME, &volume.metadata.key(), None, change)
        .await?;
    views.volumes.wait_written(&written).await;
    match by_node && driver.expands {
        // The node tells when the file system has grown.
        true => Ok(()),
        false => tell_size(shared, views, claim, &size).await,
    }
}

async fn tell_size(shared: &Shared, views: &Views, claim: &Claim, size: &str) -> Result<(), Failure> {
    let status = json!({"metadata": {"uid": claim.metadata.uid}, "status": {"capacity": {"storage": size}}});
    let (at, status) = (claim.metadata.key(), Patch::Merge(status));
    let written = shared
        .client
        .patch(&kinds::PERSISTENT_VOLUME_CLAIM, &at, Some("status"), status)
        .await?;
    views.claims.wait_written(&written).await;
    let said = "Resize volume succeeded".to_owned();
    tell(shared, claim, Type::Normal, "VolumeResizeSuccessful", said);
    Ok(())
}

async fn attach(
    shared: &Shared,
    driver: &Driver,
    views: &Views,
    attachment: &Attachment,
    volume: &Volume,
) -> Result<(), Failure> {
    let Some(spec) = &volume.spec.csi else { return Ok(()) };
    hold(shared, driver, &attachment.metadata, true).await?;
    let mut context = BTreeMap::new();
    if driver.publishes {
        let source = Source {
            access_modes: volume.spec.access_modes.clone(),
            mount_options: volume.spec.mount_options.clone(),
            ..Source::persistent(&volume.metadata.name, spec.clone())
        };
        let message = ControllerPublishVolumeRequest {
            volume_id: source.handle.clone(),
            node_id: node_id(shared, driver, &attachment.spec.node_name).await?,
            volume_capability: Some(capability(&source, driver.tells_writers_apart, None)),
            readonly: source.read_only,
            volume_context: source.attributes.clone(),
            ..ControllerPublishVolumeRequest::default()
        };
        let mut controller = driver.link.controller();
        let call = controller.controller_publish_volume(Link::request(message, PATIENCE));
        context = driver.link.call(PATIENCE, call).await?.publish_context;
    }
    let status = json!({"status": {"attached": true, "attachmentMetadata": context, "attachError": null}});
    let at = attachment.metadata.key();
    let patch = Patch::Merge(status);
    let written = shared
        .client
        .patch(&kinds::VOLUME_ATTACHMENT, &at, Some("status"), patch)
        .await?;
    views.attachments.wait_written(&written).await;
    Ok(())
}

async fn detach(
    shared: &Shared,
    driver: &Driver,
    attachment: &Attachment,
    volume: Option<&Volume>,
) -> Result<(), Failure> {
    let handle = volume
        .and_then(|volume| volume.spec.csi.as_ref())
        .map(|source| source.volume_handle.clone());
    if let Some(volume_id) = handle.filter(|_| driver.publishes) {
        let message = ControllerUnpublishVolumeRequest {
            volume_id,
            node_id: node_id(shared, driver, &attachment.spec.node_name).await?,
            ..ControllerUnpublishVolumeRequest::default()
        };
        let mut controller = driver.link.controller();
        let call = controller.controller_unpublish_volume(Link::request(message, PATIENCE));
        driver.link.call(PATIENCE, call).await?;
    }
    hold(shared, driver, &attachment.metadata, false).await
}

/// What the driver calls a node.
async fn node_id(shared: &Shared, driver: &Driver, node: &str) -> Result<String, Failure> {
    if *node == *shared.node_name {
        return Ok(driver.node_id.clone());
    }
    let known = shared
        .client
        .get_opt::<CsiNode>(&kinds::CSI_NODE, &NamespacedName::cluster(node))
        .await?;
    let id = known.and_then(|known| known.driver(&driver.name).map(|driver| driver.node_id.clone()));
    id.ok_or_else(|| Failure::Refused(format!("driver {} is not registered on node {node}", driver.name)))
}

/// Keeps the attachment until the driver has let go, or lets it go.
async fn hold(shared: &Shared, driver: &Driver, attachment: &Meta, wanted: bool) -> Result<(), Failure> {
    let own = plan::finalizer(&driver.name);
    let held = attachment.finalizers.iter().any(|finalizer| **finalizer == *own);
    if held == wanted {
        return Ok(());
    }
    let mut finalizers: Vec<&str> = attachment
        .finalizers
        .iter()
        .map(AsRef::as_ref)
        .filter(|f| **f != *own)
        .collect();
    if wanted {
        finalizers.push(&own);
    }
    let change = json!({"metadata": {"resourceVersion": attachment.resource_version, "finalizers": finalizers}});
    let patched = shared
        .client
        .patch(&kinds::VOLUME_ATTACHMENT, &attachment.key(), None, Patch::Merge(change))
        .await;
    Ok(patched.optional().map(drop)?)
}

/// Says on the attachment why the driver could not.
async fn report(shared: &Shared, attachment: &Attachment, field: &str, error: &::csi::Error) {
    let now = api::time::rfc3339(shared.clock.now());
    let change =
        json!({"status": {"attached": attachment.status.attached, field: {"time": now, "message": error.to_string()}}});
    let at = attachment.metadata.key();
    let patched = shared
        .client
        .patch(&kinds::VOLUME_ATTACHMENT, &at, Some("status"), Patch::Merge(change))
        .await;
    if let Err(error) = patched {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "cannot tell why a volume is not attached"
        );
    }
}
