//! Carrying out the actions of a plan. Each is a future that ends with an [`Effect`] or a [`Failed`]; none decides.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use api::NamespacedName;
use client::{DeleteOptions, OptionalExt, Patch, kinds};
use cri::{ContainerId, SandboxId};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Reported, failed::Failed, hooks, image};
use crate::{
    dns,
    env::Facts,
    events::PodEvents,
    make,
    objects::{Held, Id, read_all},
    pod::Pod,
    probes::Target,
    shared::Shared,
    status::PodStatus,
    volumes::{self, Claimed, Tokens},
};

/// What a finished action leaves in the worker's memory.
pub(super) enum Effect {
    None,
    /// A container's image is on the node.
    Pulled {
        name: String,
        image: Box<cri::Image>,
    },
    Mounted {
        tokens: Tokens,
        claims: BTreeMap<String, Claimed>,
    },
    Unmounted,
    /// The container has these limits now.
    Resized {
        name: String,
        id: ContainerId,
        limits: cri::Resources,
    },
    SandboxStopped(SandboxId),
    Finished,
    Purged,
    /// A report arrived: what was sent, what the API holds now, and at which resource version.
    Reported(Box<Reported>),
}

/// The handler of sandboxes for Wasm alone, and what the names of such handlers begin with.
const WASM: &str = "wasm";

/// Containers get at least this long to end, as upstream grants them.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// What actions work on: one pod at one moment.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Arc<Pod>,
    pub(super) facts: Facts,
    /// Cancelled when the pod is on its way out: what is only preparation then ends early.
    pub(super) ending: CancellationToken,
}

impl Context {
    fn events(&self) -> PodEvents<'_> {
        PodEvents {
            recorder: &self.shared.recorder,
            pod: &self.pod,
        }
    }

    fn at(&self) -> NamespacedName {
        NamespacedName::new(&self.pod.metadata.namespace, &self.pod.metadata.name)
    }

    /// `stand`: what stands already.
    pub(super) async fn mount(
        self,
        held: Vec<(Id, Held)>,
        mut tokens: Tokens,
        stand: Arc<BTreeMap<String, Claimed>>,
    ) -> Result<Effect, Failed> {
        let now = self.shared.clock.now();
        let outcome = async {
            let renewed = tokens.renew(&self.shared.client, &self.pod, now);
            let read = async { Ok(read_all(held.iter()).await?) };
            let claims = async {
                let claims = volumes::resolve_claims(&self.shared.client, &self.pod).await;
                claims.map_err(|(volume, source)| volumes::Error::Claim { volume, source })
            };
            let ((), objects, mut claims) = tokio::try_join!(renewed, read, claims)?;
            self.mount_by_drivers(&mut claims, &stand).await?;
            let known = claims.clone();
            let (data_dir, pod, facts, texts) = (
                self.shared.data_dir.clone(),
                self.pod.clone(),
                self.facts.clone(),
                tokens.texts(),
            );
            let work = move || volumes::prepare(&data_dir, &pod, &objects, &texts, &known, &facts, now);
            match crate::blocking::run(work).await {
                Ok(done) => done.map(|()| claims),
                Err(ended) => Err(volumes::Error::Io {
                    volume: String::new(),
                    source: std::io::Error::other(ended),
                }),
            }
        };
        match self.ending.run_until_cancelled(outcome).await {
            None => Err(Failed::sync("the pod is being terminated")),
            Some(Ok(claims)) => Ok(Effect::Mounted { tokens, claims }),
            Some(Err(error)) => {
                let message = error.to_string();
                self.events().warning(None, "FailedMount", message.clone());
                Err(Failed::sync(message))
            }
        }
    }

    /// Has drivers mount their volumes, all at the same time, but not those that stand and are to be left alone.
    async fn mount_by_drivers(
        &self,
        claims: &mut BTreeMap<String, Claimed>,
        stand: &BTreeMap<String, Claimed>,
    ) -> Result<(), volumes::Error> {
        let uid = &self.pod.metadata.uid;
        let mounts = claims.iter_mut().map(async |(name, claim)| {
            let Some(source) = claim.csi.clone() else { return Ok(()) };
            if let Some(standing) = stand.get(name).filter(|other| other.csi == claim.csi && !other.again) {
                *claim = standing.clone();
                return Ok(());
            }
            let mounted = self.shared.csi.mount(&self.shared, &self.pod, &source).await?;
            claim.path = self.shared.csi.target(uid, &source);
            (claim.shares, claim.again, claim.expands) = (mounted.shares, mounted.again, mounted.expands);
            Ok(())
        });
        let done: Vec<Result<(), crate::csi::Error>> = futures::future::join_all(mounts).await;
        Ok(done.into_iter().collect::<Result<(), _>>()?)
    }

    /// Has drivers take their volumes back: nothing of the pod is removed before.
    async fn unmount_by_drivers(&self) -> Result<(), Failed> {
        let unmounted = self.shared.csi.unmount(&self.pod.metadata.uid).await;
        unmounted.map_err(|error| {
            let message = error.to_string();
            self.events().warning(None, "FailedUnMount", message.clone());
            Failed::sync(message)
        })
    }

    pub(super) async fn unmount(self) -> Result<Effect, Failed> {
        self.unmount_by_drivers().await?;
        let (data_dir, uid) = (self.shared.data_dir.clone(), self.pod.metadata.uid.clone());
        let cgroups = self.shared.cgroups.clone();
        let work = move || {
            if let Some(Err(error)) = cgroups.map(|cgroups| cgroups.remove(&uid)) {
                tracing::debug!(%error, "cannot remove a cgroup yet: the next sweep does");
            }
            volumes::remove(&data_dir, &uid)
        };
        blocking(work).await?;
        Ok(Effect::Unmounted)
    }

    pub(super) async fn pull(self, name: String) -> Result<Effect, Failed> {
        let Some((_, spec)) = self.pod.container(&name) else {
            return Ok(Effect::None);
        };
        let pulled = image::ensure(&self.shared, &self.pod, image::Wanted::from(spec));
        let Some(pulled) = self.ending.run_until_cancelled(pulled).await else {
            return Err(Failed::sync("the pod is being terminated"));
        };
        if let Err(failed) = &pulled {
            failed.tell(&self.events(), &name);
        }
        let image = Box::new(pulled?);
        Ok(Effect::Pulled { name, image })
    }

    pub(super) async fn run_sandbox(self, attempt: u32, content: cri::Content) -> Result<Effect, Failed> {
        if attempt > 0 {
            let note = "Pod sandbox changed, it will be killed and re-created.";
            self.events().normal(None, "SandboxChanged", note);
        }
        let outcome = async {
            let handler = self.handler(content).await?;
            let is_linux = !handler.starts_with(WASM);
            let dns = dns::make(&self.pod, &self.shared.dns);
            for note in dns.notes {
                self.events().warning(None, "DNSConfigForming", note);
            }
            let (domain, data_dir) = (&self.shared.dns.domain, &self.shared.data_dir);
            let linux = match is_linux {
                true => Some(make::LinuxParts {
                    user: self.users().await?,
                }),
                false => None,
            };
            let mut config =
                make::sandbox(&self.pod, attempt, dns.config, domain, data_dir, linux).map_err(Failed::sync)?;
            if let (Some(linux), Some(cgroups)) = (&mut config.linux, &self.shared.cgroups) {
                linux.cgroup_parent = cgroups.parent(&self.pod);
                let (cgroups, pod) = (cgroups.clone(), self.pod.clone());
                blocking(move || cgroups.make(&pod)).await.map_err(|failed| {
                    let why = failed.message;
                    Failed::sync(format!(
                        "failed to ensure that the pod's cgroups exist and are correctly applied: {why}"
                    ))
                })?;
            }
            let logs: Vec<PathBuf> = self
                .pod
                .lasting_containers()
                .map(|(_, c)| PathBuf::from(&config.log_directory).join(&c.name))
                .collect();
            blocking(move || logs.iter().try_for_each(std::fs::create_dir_all)).await?;
            self.shared
                .runtime
                .run_sandbox(config, &handler)
                .await
                .map_err(|e| Failed::sync(e.chain()))
        };
        let outcome = outcome.await;
        self.shared.observer.fresh().await;
        if let Err(failed) = &outcome {
            let note = format!("Failed to create pod sandbox: {}", failed.message);
            self.events().warning(None, "FailedCreatePodSandBox", note);
        }
        outcome.map(|_sandbox| Effect::None)
    }

    /// The users that the pod has on this node, where they are its own.
    async fn users(&self) -> Result<Option<cri::UserNamespace>, Failed> {
        if self.pod.spec.host_users != Some(false) {
            return Ok(None);
        }
        let (shared, uid) = (self.shared.clone(), self.pod.metadata.uid.clone());
        blocking(move || shared.users.claim(&shared.data_dir, &uid))
            .await
            .map(Some)
    }

    /// The runtime handler that the pod's RuntimeClass names or, without one, that of what its images hold.
    async fn handler(&self, content: cri::Content) -> Result<String, Failed> {
        let Some(name) = &self.pod.spec.runtime_class_name else {
            return Ok(match content {
                cri::Content::Wasm => WASM.to_owned(),
                cri::Content::Linux => String::new(),
            });
        };
        if self
            .ending
            .run_until_cancelled(self.shared.classes.synced())
            .await
            .is_none()
        {
            return Err(Failed::sync("the pod is being terminated"));
        }
        let class = self.shared.classes.get(&NamespacedName::cluster(name));
        let class = class.ok_or_else(|| Failed::sync(format!("RuntimeClass \"{name}\" not found")))?;
        Ok(class.handler.clone())
    }

    pub(super) async fn stop(self, name: String, id: ContainerId, grace: i64, why: String) -> Result<Effect, Failed> {
        self.events().normal(Some(&name), "Killing", why);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let begun = tokio::time::Instant::now();
        if !grace.is_zero() {
            self.pre_stop(&name, &id, grace).await;
        }
        let left = if grace.is_zero() {
            grace
        } else {
            grace.saturating_sub(begun.elapsed()).max(LEAST_GRACE.min(grace))
        };
        let stopped = self.shared.runtime.stop_container(&id, left).await;
        self.shared.observer.fresh().await;
        match stopped {
            Ok(()) if self.runs(&id) => Err(Failed::sync(format!(
                "container {name} still runs after it was stopped"
            ))),
            Ok(()) | Err(cri::Error::NotFound { .. }) => Ok(Effect::None),
            Err(error) => {
                let message = format!("error killing pod: failed to stop container {name}: {}", error.chain());
                self.events().warning(Some(&name), "FailedKillPod", message.clone());
                Err(Failed::sync(message))
            }
        }
    }

    fn runs(&self, id: &ContainerId) -> bool {
        let pod = self.shared.observer.pod(&self.pod.metadata.uid);
        pod.containers.iter().any(|c| c.id == *id && c.is_running())
    }

    async fn pre_stop(&self, name: &str, id: &ContainerId, grace: Duration) {
        let Some((_, spec)) = self.pod.container(name) else {
            return;
        };
        let Some(hook) = spec.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else {
            return;
        };
        let target = Target {
            runtime: self.shared.runtime.clone(),
            id: id.clone(),
            ip: self.facts.pod_ips.first().copied(),
        };
        let failure = match tokio::time::timeout(grace, hooks::run(hook, spec, &target, grace)).await {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_elapsed) => format!("did not finish within the grace period of {}s", grace.as_secs()),
        };
        self.events().warning(
            Some(name),
            "FailedPreStopHook",
            format!("PreStopHook failed: {failure}"),
        );
    }

    pub(super) async fn resize(self, name: String, id: ContainerId, limits: cri::Resources) -> Result<Effect, Failed> {
        if let Some(cgroups) = self.shared.cgroups.clone() {
            let pod = self.pod.clone();
            blocking(move || cgroups.update(&pod)).await?;
        }
        match self.shared.runtime.update_container_resources(&id, limits).await {
            Ok(()) => Ok(Effect::Resized { name, id, limits }),
            Err(cri::Error::NotFound { .. }) => Ok(Effect::None),
            Err(error) => {
                let why = error.chain();
                let note = format!("failed to resize container {name}: {why}");
                self.events().warning(Some(&name), "ResizeError", note);
                Err(Failed::sync(why))
            }
        }
    }

    pub(super) async fn stop_sandbox(self, id: SandboxId) -> Result<Effect, Failed> {
        let stopped = self.shared.runtime.stop_sandbox(&id).await;
        self.shared.observer.fresh().await;
        absent_is_fine(stopped).map(|()| Effect::SandboxStopped(id))
    }

    pub(super) async fn remove_sandbox(self, id: SandboxId) -> Result<Effect, Failed> {
        let removed = self.shared.runtime.remove_sandbox(&id).await;
        self.shared.observer.fresh().await;
        absent_is_fine(removed).map(|()| Effect::None)
    }

    pub(super) async fn remove_container(self, id: ContainerId, name: String, attempt: u32) -> Result<Effect, Failed> {
        let removed = self.shared.runtime.remove_container(&id).await;
        self.shared.observer.fresh().await;
        absent_is_fine(removed)?;
        let directory = make::log_directory(&self.shared.data_dir, &self.pod);
        blocking(move || crate::logs::remove(&directory.join(name), attempt)).await?;
        Ok(Effect::None)
    }

    pub(super) async fn finish(self) -> Result<Effect, Failed> {
        let options = DeleteOptions {
            grace: Some(0),
            ..DeleteOptions::of_uid(&self.pod.metadata.uid)
        };
        match self
            .shared
            .client
            .delete(&kinds::POD, &self.at(), &options)
            .await
            .optional()
        {
            Ok(_) => Ok(Effect::Finished),
            // Also a conflict: if another pod has the name now, the watch will say that this one is gone.
            Err(error) => Err(Failed::sync(error.to_string())),
        }
    }

    pub(super) async fn purge(self) -> Result<Effect, Failed> {
        self.unmount_by_drivers().await?;
        let logs = make::log_directory(&self.shared.data_dir, &self.pod);
        let (data_dir, uid) = (self.shared.data_dir.clone(), self.pod.metadata.uid.clone());
        blocking(move || {
            volumes::remove(&data_dir, &uid)?;
            match std::fs::remove_dir_all(logs) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .await?;
        Ok(Effect::Purged)
    }

    pub(super) async fn report(self, mut patch: Value, sent: Arc<PodStatus>) -> Result<Effect, Failed> {
        if self.pod.is_static() {
            // The API knows the pod by its mirror.
            let mirror = self.shared.pods.get(&self.at());
            let mirror = mirror.filter(|mirror| mirror.mirrors() == Some(&*self.pod.metadata.uid));
            let mirror = mirror.ok_or_else(|| Failed::sync("the pod has no mirror yet"))?;
            if let Some(uid) = patch.pointer_mut("/metadata/uid") {
                *uid = json!(mirror.metadata.uid);
            }
        }
        let patched = self
            .shared
            .client
            .patch(&kinds::POD, &self.at(), Some("status"), Patch::Strategic(patch))
            .await;
        match patched {
            Ok(mut object) => {
                let version = object.resource_version().unwrap_or_default().to_owned();
                let stored: PodStatus = object
                    .remove("status")
                    .and_then(|s| serde_json::from_value(s).ok())
                    .unwrap_or_default();
                Ok(Effect::Reported(Box::new(Reported {
                    sent,
                    stored: Arc::new(stored),
                    version,
                })))
            }
            Err(error) => Err(Failed::sync(error.to_string())),
        }
    }
}

fn absent_is_fine(result: Result<(), cri::Error>) -> Result<(), Failed> {
    match result {
        Ok(()) | Err(cri::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(Failed::sync(error.chain())),
    }
}

/// File system work on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failed> {
    match crate::blocking::run(work).await {
        Ok(done) => done.map_err(|e| Failed::sync(e.to_string())),
        Err(ended) => Err(Failed::sync(ended.to_string())),
    }
}

/// What of the pod and the node is not in the pod's spec.
pub(super) fn facts(shared: &Shared, pod: &Pod, observed: &crate::observed::Observed) -> Facts {
    let ips = observed
        .latest_sandbox()
        .filter(|s| s.ready)
        .map(|s| s.ips.clone())
        .unwrap_or_default();
    Facts {
        hostname: if pod.spec.host_network {
            shared.node_name.clone()
        } else {
            // A name that is too long fails the sandbox, which comes before any container.
            pod.kernel_host_name(&shared.dns.domain).unwrap_or_default()
        },
        pod_ips: if pod.spec.host_network {
            shared.node.host_ips.clone()
        } else {
            ips
        },
        host_ips: shared.node.host_ips.clone(),
        capacity: shared.capacity,
    }
}
