//! What a pod's worker remembers between plans: which actions are under way, which failed, what probes said. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use cri::{ContainerId, SandboxId};
use jiff::Timestamp;

use super::{Key, backoff::Crash};
use crate::{eviction::Eviction, node::Pressure, resize::Pending};

/// The worker's own state beside the pod's object and the runtime.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// When the worker began.
    pub(crate) first_seen: Timestamp,
    pub(crate) ops: Operations,
    pub(crate) volumes: Volumes,
    /// When a token in the volumes is to be renewed.
    pub(crate) renew_at: Option<Timestamp>,
    /// What the images of containers are, by container name.
    pub(crate) images: BTreeMap<String, Resolved>,
    /// What containers that ended left to be told, where that is known.
    pub(crate) last_words: BTreeMap<ContainerId, String>,
    /// Why the pod is not what its spec asks for.
    pub(crate) resize_pending: Option<Pending>,
    /// By container name.
    pub(crate) containers: BTreeMap<String, Health>,
    /// Sandboxes that were stopped on purpose.
    pub(crate) stopped: BTreeSet<SandboxId>,
    /// Why the node ends the pod for its own sake.
    pub(crate) evicted: Option<Arc<Eviction>>,
    /// What the node is short of.
    pub(crate) pressures: Vec<Pressure>,
    /// When the pod was first seen ending.
    pub(crate) ending_since: Option<Timestamp>,
    /// The pod is gone from the API.
    pub(crate) removed: bool,
    /// The API was told that the pod has ended.
    pub(crate) finished: bool,
    /// Directories of the pod are gone.
    pub(crate) purged: bool,
}

/// An image that is on the node.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) content: cri::Content,
    /// For the first start, which need not bring it again.
    pub(crate) image: Option<Box<cri::Image>>,
}

/// Whether the pod's volumes stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Volumes {
    /// Not known to stand; also after a restart of the agent, since preparing them again changes nothing.
    #[default]
    Absent,
    Ready,
    /// They stand, but what they show has changed or is about to expire.
    Stale,
    /// Taken down because the pod ended.
    Removed,
}

/// What is known of one container beyond what the runtime says. It speaks of `id`; of a newer container nothing is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(crate) id: Option<ContainerId>,
    /// The startup probe's verdict.
    pub(crate) started: Option<bool>,
    /// The readiness probe's verdict.
    pub(crate) ready: Option<bool>,
    /// A liveness or startup probe failed: the container must be restarted.
    pub(crate) unhealthy: Option<Unhealthy>,
    /// What its limits were last set to.
    pub(crate) limits: Option<cri::Resources>,
    /// Until when a stop that is under way waits before it uses force.
    pub(crate) stopping_until: Option<Timestamp>,
    /// Outlives the container: how long the next restart waits.
    pub(crate) crash: Option<Crash>,
}

/// Why a running container has to go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unhealthy {
    /// `Container x failed liveness probe, will be restarted`.
    pub(crate) message: String,
    /// The probe's own grace period, seconds.
    pub(crate) grace: Option<i64>,
}

/// Actions under way and actions that failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operations {
    busy: HashSet<Key>,
    failed: HashMap<Key, Failure>,
}

/// The last outcome of an action that keeps failing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// The waiting reason it means for a container.
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// Failures in a row.
    pub(crate) count: u32,
    pub(crate) at: Timestamp,
    /// Not tried again before.
    pub(crate) until: Timestamp,
}

/// Why a container is waiting, as Kubernetes names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    ErrImagePull,
    ErrImageNeverPull,
    InvalidImageName,
    ImageInspectError,
    CreateContainerConfigError,
    CreateContainerError,
    RunContainerError,
    PostStartHookError,
    /// Not of a container: sandbox, volumes, teardown.
    Sync,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ErrImagePull => "ErrImagePull",
            Self::ErrImageNeverPull => "ErrImageNeverPull",
            Self::InvalidImageName => "InvalidImageName",
            Self::ImageInspectError => "ImageInspectError",
            Self::CreateContainerConfigError => "CreateContainerConfigError",
            Self::CreateContainerError => "CreateContainerError",
            Self::RunContainerError => "RunContainerError",
            Self::PostStartHookError => "PostStartHookError",
            Self::Sync => "FailedSync",
        }
    }

    /// How long the next try waits after `count` failures in a row: as upstream for pulls (10 s doubling to 5 min), and
    /// 1 s doubling to 10 s for what usually cures itself when another object appears.
    fn delay(self, count: u32) -> Duration {
        let (first, longest) = match self {
            Self::ErrImagePull | Self::PostStartHookError => (10, 300),
            _ => (1, 10),
        };
        let doubled = 1_u64.checked_shl(count.saturating_sub(1)).unwrap_or(u64::MAX);
        Duration::from_secs(doubled.saturating_mul(first).min(longest))
    }
}

impl Operations {
    /// Marks an action as under way. Its last failure is kept until it succeeds.
    pub(crate) fn begin(&mut self, key: Key) {
        self.busy.insert(key);
    }

    pub(crate) fn succeeded(&mut self, key: &Key) {
        self.busy.remove(key);
        self.failed.remove(key);
    }

    /// Notes a failure and when to try again; `true` if its reason or message is news.
    pub(crate) fn failed(&mut self, key: &Key, reason: Reason, message: String, now: Timestamp) -> bool {
        self.busy.remove(key);
        let last = self.failed.get(key);
        let count = last.map_or(0, |f| f.count).saturating_add(1);
        let news = last.is_none_or(|f| f.reason != reason || f.message != message);
        let until = now + jiff::SignedDuration::try_from(reason.delay(count)).unwrap_or(jiff::SignedDuration::ZERO);
        self.failed.insert(
            key.clone(),
            Failure {
                reason,
                message,
                count,
                at: now,
                until,
            },
        );
        news
    }

    /// Forgets failures that another object may have cured, so that they are tried at once.
    pub(crate) fn retry_configuration(&mut self) {
        let cured = |reason| matches!(reason, Reason::CreateContainerConfigError | Reason::Sync);
        self.failed
            .values_mut()
            .filter(|f| cured(f.reason))
            .for_each(|f| f.until = f.at);
    }

    pub(crate) fn is_busy(&self, key: &Key) -> bool {
        self.busy.contains(key)
    }

    pub(crate) fn any_busy(&self, which: impl Fn(&Key) -> bool) -> bool {
        self.busy.iter().any(which)
    }

    pub(crate) fn failure(&self, key: &Key) -> Option<&Failure> {
        self.failed.get(key)
    }
}

impl Memory {
    /// What is known of the container `id` called `name`.
    pub(crate) fn health(&self, name: &str, id: &ContainerId) -> Option<&Health> {
        self.containers.get(name).filter(|h| h.id.as_ref() == Some(id))
    }

    /// The same, to change it; knowledge of an older container is dropped, all but its back-off.
    pub(crate) fn health_mut(&mut self, name: &str, id: &ContainerId) -> &mut Health {
        let health = self.containers.entry(name.to_owned()).or_default();
        if health.id.as_ref() != Some(id) {
            *health = Health {
                id: Some(id.clone()),
                crash: health.crash,
                ..Health::default()
            };
        }
        health
    }
}
