//! Starting one container: image, environment, mounts, create, start, postStart hook.

use std::{path::Path, sync::Arc};

use cri::{ContainerId, SandboxId};
use tokio_util::sync::CancellationToken;

use super::{failed::Failed, hooks, image, progress};
use crate::{
    env::{self, Facts},
    events::PodEvents,
    make,
    objects::{Held, read_all},
    plan::Reason,
    pod::{Container, Pod},
    shared::Shared,
    volumes,
};

/// What to start, and with what.
pub(super) struct Start {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Arc<Pod>,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) sandbox: SandboxId,
    pub(super) facts: Facts,
    pub(super) held: Vec<(crate::objects::Id, Held)>,
    /// Cancelled when the pod is on its way out; a pull then ends early.
    pub(super) ending: CancellationToken,
}

impl Start {
    /// Runs the steps; each may be repeated after a failure, since the runtime's calls are idempotent.
    pub(super) async fn run(self) -> Result<(), Failed> {
        let Some((_, spec)) = self.pod.container(&self.name) else {
            return Ok(());
        };
        let outcome = self.steps(spec).await;
        self.shared.observer.fresh().await;
        if let Err(failed) = &outcome {
            let note = match failed.reason {
                Reason::ErrImagePull
                | Reason::ErrImageNeverPull
                | Reason::InvalidImageName
                | Reason::ImageInspectError => format!("Error: {}", failed.reason.as_str()),
                _ => format!("Error: {}", failed.message),
            };
            if failed.reason != Reason::PostStartHookError && !self.ending.is_cancelled() {
                self.events().warning(Some(&self.name), "Failed", note);
            }
        }
        outcome
    }

    fn events(&self) -> PodEvents<'_> {
        PodEvents {
            recorder: &self.shared.recorder,
            pod: &self.pod,
        }
    }

    async fn steps(&self, spec: &Container) -> Result<(), Failed> {
        let runtime = &self.shared.runtime;
        let image = image::ensure(&self.shared, &self.pod, spec);
        let Some(image) = self.ending.run_until_cancelled(image).await else {
            return Err(Failed::sync("the pod is being terminated"));
        };
        let image_id = image?.id;
        let Some(config) = self.ending.run_until_cancelled(self.config(spec, image_id)).await else {
            return Err(Failed::sync("the pod is being terminated"));
        };
        let config = config?;
        // Of an image that is there, the runtime may still have to compile the code.
        let create = runtime.create_container(&self.sandbox, config);
        let id = progress::told(&self.shared, &self.events(), spec, "Compiling", create)
            .await
            .map_err(|e| Failed::create(&e))?;
        self.events()
            .normal(Some(&spec.name), "Created", format!("Created container: {}", spec.name));
        let started = runtime.start_container(&id).await;
        started.map_err(|e| Failed::new(Reason::RunContainerError, e.chain()))?;
        self.events()
            .normal(Some(&spec.name), "Started", format!("Started container {}", spec.name));
        self.post_start(spec, &id).await
    }

    async fn config(&self, spec: &Container, image_id: String) -> Result<cri::ContainerConfig, Failed> {
        let wrong = |message: String| Failed::new(Reason::CreateContainerConfigError, message);
        let needed = env::needs(&self.pod, spec);
        let held = self.held.iter().filter(|(id, _)| needed.contains(id));
        let objects = read_all(held).await.map_err(|e| wrong(e.to_string()))?;
        self.shared.services.synced().await;
        let services = self.shared.services.list();
        let links = self.pod.spec.enable_service_links.unwrap_or(true);
        let services = env::service_variables(services.iter().map(|(_, s)| &**s), &self.pod.metadata.namespace, links);
        let env = env::make(&self.pod, spec, &objects, &services, &self.facts).map_err(|e| wrong(e.to_string()))?;
        let (pod, name, data_dir) = (self.pod.clone(), spec.name.clone(), self.shared.data_dir.clone());
        let variables = env.clone();
        let mounts = crate::blocking::run(move || mounts(&pod, &name, &variables, &data_dir)).await;
        let mounts = mounts.unwrap_or_else(|e| Err(e.to_string())).map_err(wrong)?;
        Ok(make::container(
            &self.pod,
            spec,
            make::Parts {
                attempt: self.attempt,
                image_id,
                env,
                mounts,
            },
        ))
    }

    /// A failing postStart hook ends the container, which is then restarted by its policy.
    async fn post_start(&self, spec: &Container, id: &ContainerId) -> Result<(), Failed> {
        let Some(hook) = spec.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let ip = self.facts.pod_ips.first().copied();
        let Err(why) = hooks::run(hook, spec, ip).await else {
            return Ok(());
        };
        let message = format!("PostStartHook failed: {why}");
        self.events()
            .warning(Some(&spec.name), "FailedPostStartHook", message.clone());
        self.events().normal(Some(&spec.name), "Killing", "FailedPostStartHook");
        let grace = u64::try_from(self.pod.grace_seconds()).unwrap_or(0);
        let stopped = self
            .shared
            .runtime
            .stop_container(id, std::time::Duration::from_secs(grace))
            .await;
        stopped.map_err(|e| Failed::sync(e.chain()))?;
        Err(Failed::new(Reason::PostStartHookError, message))
    }
}

/// The container's mounts, with every `subPath` resolved. Blocking.
fn mounts(pod: &Pod, name: &str, env: &[(String, String)], data_dir: &Path) -> Result<Vec<cri::Mount>, String> {
    let Some((_, spec)) = pod.container(name) else {
        return Ok(Vec::new());
    };
    let mut out = Vec::with_capacity(spec.volume_mounts.len());
    for mount in &spec.volume_mounts {
        let volume = pod.spec.volumes.iter().find(|v| v.name == mount.name);
        let root = volume.and_then(|v| volumes::path(data_dir, &pod.metadata.uid, v));
        let root = root.ok_or_else(|| format!("volume \"{}\" not found", mount.name))?;
        let lookup = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let sub_path = match &*mount.sub_path_expr {
            "" => mount.sub_path.clone(),
            expression => env::expand(expression, lookup),
        };
        let host = if sub_path.is_empty() {
            root
        } else {
            let failed = |e| {
                format!(
                    "failed to prepare subPath for volumeMount \"{}\" of container \"{name}\": {e}",
                    mount.name
                )
            };
            volumes::resolve_sub_path(&root, &sub_path).map_err(failed)?
        };
        out.push(cri::Mount {
            host_path: host.to_string_lossy().into_owned(),
            container_path: mount.mount_path.clone(),
            readonly: mount.read_only || volume.is_some_and(|v| v.empty_dir.is_none() && v.host_path.is_none()),
            ..cri::Mount::default()
        });
    }
    Ok(out)
}
