//! Starting one container: image, environment, mounts, create, start, postStart hook.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cri::{ContainerId, Content, SandboxId};
use tokio_util::sync::CancellationToken;

use super::{
    actions::blocking,
    failed::Failed,
    hooks,
    image::{self, Wanted},
    progress,
};
use crate::{
    env::{self, Facts},
    events::PodEvents,
    hosts, make, mounts,
    objects::{Held, read_all},
    plan::Reason,
    pod::{Container, Pod},
    probes::Target,
    shared::Shared,
    user_namespaces,
    volumes::Claimed,
};

/// What to start, and with what.
pub(super) struct Start {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Arc<Pod>,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) sandbox: SandboxId,
    /// The image, where it was brought before the sandbox was made.
    pub(super) image: Option<Box<cri::Image>>,
    pub(super) claims: Arc<BTreeMap<String, Claimed>>,
    /// The running container that an ephemeral one joins.
    pub(super) target: Option<ContainerId>,
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
        if let Err(failed) = &outcome
            && !self.ending.is_cancelled()
        {
            failed.tell(&self.events(), &self.name);
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
        let prepared = async {
            let image = match self.image.as_deref() {
                Some(image) => image.clone(),
                None => image::ensure(&self.shared, &self.pod, Wanted::from(spec)).await?,
            };
            let volumes = self.image_volumes(spec).await?;
            self.config(spec, image, volumes).await
        };
        let Some(config) = self.ending.run_until_cancelled(prepared).await else {
            return Err(Failed::sync("the pod is being terminated"));
        };
        let config = config?;
        if self
            .pod
            .lasting_containers()
            .all(|(_, lasting)| lasting.name != spec.name)
        {
            // The sandbox was made before anybody asked for this one.
            let logs = make::log_directory(&self.shared.data_dir, &self.pod).join(&*spec.name);
            blocking(move || std::fs::create_dir_all(logs)).await?;
        }
        // Of an image that is there, the runtime may still have to compile the code.
        let create = runtime.create_container(&self.sandbox, config);
        let id = progress::told(
            &self.shared,
            &self.events(),
            &spec.name,
            &spec.image,
            "Compiling",
            create,
        )
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

    /// Brings the images that the container mounts; their ids, by volume.
    async fn image_volumes(&self, spec: &Container) -> Result<BTreeMap<String, String>, Failed> {
        let mut found = BTreeMap::new();
        for volume in &self.pod.spec.volumes {
            let Some(source) = &volume.image else { continue };
            if !spec.volume_mounts.iter().any(|mount| mount.name == volume.name) {
                continue;
            }
            let wanted = Wanted {
                container: &spec.name,
                image: &source.reference,
                policy: source.pull_policy,
            };
            let image = image::ensure(&self.shared, &self.pod, wanted).await?;
            found.insert(volume.name.clone(), image.id);
        }
        Ok(found)
    }

    async fn config(
        &self,
        spec: &Container,
        image: cri::Image,
        images: BTreeMap<String, String>,
    ) -> Result<cri::ContainerConfig, Failed> {
        let wrong = |message: String| Failed::new(Reason::CreateContainerConfigError, message);
        let needed = env::needs(&self.pod, spec);
        let held = self.held.iter().filter(|(id, _)| needed.contains(id));
        let objects = read_all(held).await.map_err(|e| wrong(e.to_string()))?;
        self.shared.services.synced().await;
        let services = self.shared.services.list();
        let links = self.pod.spec.enable_service_links.unwrap_or(true);
        let services = env::service_variables(services.iter().map(|(_, s)| &**s), &self.pod.metadata.namespace, links);
        let env = env::make(&self.pod, spec, &objects, &services, &self.facts).map_err(|e| wrong(e.to_string()))?;
        let is_linux = image.content == Content::Linux;
        let mounts = self.mounts(spec, &env, images, is_linux).await.map_err(wrong)?;
        let user = match is_linux {
            true => {
                user_namespaces::of(&self.shared.data_dir, &self.pod.metadata.uid).map_err(|e| wrong(e.to_string()))?
            }
            false => None,
        };
        let given = make::Given {
            user,
            platform: &self.shared.node.platform,
            data_dir: &self.shared.data_dir,
            image_user: image.user.as_ref(),
            target: self.target.clone(),
        };
        let parts = make::Parts {
            attempt: self.attempt,
            image_id: image.id.clone(),
            env,
            mounts,
        };
        make::container(&self.pod, spec, parts, is_linux.then_some(&given)).map_err(|e| wrong(e.to_string()))
    }

    async fn mounts(
        &self,
        spec: &Container,
        env: &[(String, String)],
        images: BTreeMap<String, String>,
        is_linux: bool,
    ) -> Result<Vec<cri::Mount>, String> {
        let (pod, name, data_dir) = (self.pod.clone(), spec.name.clone(), self.shared.data_dir.clone());
        let (env, claims, attempt) = (env.to_vec(), self.claims.clone(), self.attempt);
        let recursive_readonly = is_linux && self.shared.node.platform.recursive_readonly;
        let (ips, domain) = (self.facts.pod_ips.clone(), self.shared.dns.domain.clone());
        let made = crate::blocking::run(move || {
            let (_, spec) = pod.container(&name).ok_or_else(|| format!("no container \"{name}\""))?;
            let hosts = || {
                let of_node = std::fs::read_to_string(hosts::OF_NODE).unwrap_or_default();
                hosts::content(&pod, &ips, &domain, &of_node)
            };
            let files = is_linux.then(|| mounts::Files {
                hosts: (!ips.is_empty()).then(hosts),
                attempt,
            });
            let given = mounts::Given {
                recursive_readonly,
                data_dir: &data_dir,
                env: &env,
                claims: &claims,
                images: &images,
                files,
            };
            mounts::make(&pod, spec, &given)
        });
        made.await.unwrap_or_else(|e| Err(e.to_string()))
    }

    /// A failing postStart hook ends the container, which is then restarted by its policy.
    async fn post_start(&self, spec: &Container, id: &ContainerId) -> Result<(), Failed> {
        let Some(hook) = spec.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let target = Target {
            runtime: self.shared.runtime.clone(),
            id: id.clone(),
            ip: self.facts.pod_ips.first().copied(),
        };
        let Err(why) = hooks::run(hook, spec, &target, Duration::MAX).await else {
            return Ok(());
        };
        let message = format!("PostStartHook failed: {why}");
        self.events()
            .warning(Some(&spec.name), "FailedPostStartHook", message.clone());
        self.events().normal(Some(&spec.name), "Killing", "FailedPostStartHook");
        let grace = u64::try_from(self.pod.grace_seconds()).unwrap_or(0);
        let stopped = self.shared.runtime.stop_container(id, Duration::from_secs(grace)).await;
        stopped.map_err(|e| Failed::sync(e.chain()))?;
        Err(Failed::new(Reason::PostStartHookError, message))
    }
}
