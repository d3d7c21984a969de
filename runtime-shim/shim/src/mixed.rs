//! Pods with containers of both kinds. Pure.
//!
//! Such a pod has a sandbox of containerd's. Its Wasm containers live in a *companion*: a Wasm sandbox that joins the pod's
//! network, and says so in its configuration, which is how it is found again after a restart. Nobody else sees companions:
//! their containers are listed as those of the pod's sandbox, and they go with it. A companion whose pod's sandbox is gone
//! is shown for what it is, so that it is cleaned up.

use std::collections::{HashMap, HashSet};

use cri::{Container, ContainerStats, Event, Join, Sandbox, SandboxConfig, SandboxId, SandboxState, SandboxStats};

/// What sets companions of different attempts of a pod's sandbox apart.
const ATTEMPTS: u32 = 1024;

/// The pods' sandboxes by those of their companions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Companions(HashMap<SandboxId, SandboxId>);

impl Companions {
    /// Those among the Wasm sandboxes.
    pub(crate) fn among(wasm: &[Sandbox]) -> Self {
        let joined = wasm
            .iter()
            .filter_map(|sandbox| Some((sandbox.id.clone(), sandbox.config.join.as_ref()?.sandbox.clone())));
        Self(joined.collect())
    }

    /// The sandbox as others know it.
    pub(crate) fn shown<'a>(&'a self, id: &'a SandboxId) -> &'a SandboxId {
        self.0.get(id).unwrap_or(id)
    }

    /// The companions of a pod's sandbox.
    pub(crate) fn of(&self, pod: &SandboxId) -> Vec<SandboxId> {
        let of_pod = self.0.iter().filter(|(_, joined)| *joined == pod);
        of_pod.map(|(companion, _)| companion.clone()).collect()
    }

    pub(crate) fn containers(&self, mut containers: Vec<Container>) -> Vec<Container> {
        for container in &mut containers {
            container.sandbox = self.shown(&container.sandbox).clone();
        }
        containers
    }

    pub(crate) fn stats(&self, mut stats: Vec<ContainerStats>) -> Vec<ContainerStats> {
        for usage in &mut stats {
            usage.sandbox = self.shown(&usage.sandbox).clone();
        }
        stats
    }

    pub(crate) fn event(&self, event: Event) -> Event {
        match event {
            Event::Sandbox { id, pod_uid } => Event::Sandbox {
                id: self.shown(&id).clone(),
                pod_uid,
            },
            event => event,
        }
    }
}

/// The sandboxes of both, without companions.
pub(crate) fn sandboxes(wasm: Vec<Sandbox>, containers: Vec<Sandbox>) -> Vec<Sandbox> {
    let there: HashSet<SandboxId> = containers.iter().map(|sandbox| sandbox.id.clone()).collect();
    let own = wasm.into_iter().filter_map(|sandbox| match &sandbox.config.join {
        None => Some(sandbox),
        Some(join) if there.contains(&join.sandbox) => None,
        Some(_) => Some(Sandbox {
            state: SandboxState::NotReady,
            ..sandbox
        }),
    });
    own.chain(containers).collect()
}

/// Usage of sandboxes, that of a companion added to its pod's.
pub(crate) fn sandbox_stats(
    companions: &Companions,
    wasm: Vec<SandboxStats>,
    mut containers: Vec<SandboxStats>,
) -> Vec<SandboxStats> {
    let mut own = Vec::new();
    for stats in wasm {
        let id = SandboxId(stats.id.clone());
        match containers
            .iter_mut()
            .find(|of_pod| of_pod.id == companions.shown(&id).0)
        {
            Some(of_pod) => {
                of_pod.cpu_usage_core_nanoseconds += stats.cpu_usage_core_nanoseconds;
                of_pod.memory_working_set_bytes += stats.memory_working_set_bytes;
            }
            None => own.push(SandboxStats {
                id: companions.shown(&id).0.clone(),
                ..stats
            }),
        }
    }
    own.extend(containers);
    own
}

/// What is to be done for a Wasm container of a pod that has a sandbox of containerd's.
#[derive(Debug, PartialEq)]
pub(crate) enum Companion {
    Use(SandboxId),
    Make(Box<SandboxConfig>),
}

/// The companion that can take a container; where the last one has failed, a further one, since the records of that one's
/// containers are still of interest.
pub(crate) fn companion(pod: &Sandbox, wasm: &[Sandbox]) -> Companion {
    let of_pod = |sandbox: &&Sandbox| sandbox.config.join.as_ref().is_some_and(|join| join.sandbox == pod.id);
    let companions: Vec<&Sandbox> = wasm.iter().filter(of_pod).collect();
    if let Some(ready) = companions.iter().find(|sandbox| sandbox.state == SandboxState::Ready) {
        return Companion::Use(ready.id.clone());
    }
    let number = u32::try_from(companions.len()).unwrap_or(u32::MAX);
    Companion::Make(Box::new(SandboxConfig {
        attempt: pod.config.attempt.saturating_mul(ATTEMPTS).saturating_add(number),
        linux: None,
        join: Some(Box::new(Join {
            sandbox: pod.id.clone(),
            network_namespace: pod.network_namespace.clone(),
            ips: pod.ips.clone(),
        })),
        ..pod.config.clone()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(id: &str, joins: Option<&str>, state: SandboxState) -> Sandbox {
        let join = joins.map(|pod| {
            Box::new(Join {
                sandbox: SandboxId(pod.into()),
                network_namespace: None,
                ips: vec![],
            })
        });
        Sandbox {
            id: SandboxId(id.into()),
            config: SandboxConfig {
                name: "p".into(),
                join,
                ..SandboxConfig::default()
            },
            state,
            ips: vec![],
            created_at: 0,
            handler: String::new(),
            network_namespace: None,
        }
    }

    use SandboxState::{NotReady, Ready};

    #[test]
    fn companions_are_seen_only_without_their_pod() {
        let wasm = vec![
            sandbox("wasm-1", None, Ready),
            sandbox("wasm-2", Some("containerd-1"), Ready),
            sandbox("wasm-3", Some("containerd-gone"), Ready),
        ];
        let companions = Companions::among(&wasm);
        let listed = sandboxes(wasm, vec![sandbox("containerd-1", None, Ready)]);
        let listed: Vec<_> = listed.iter().map(|s| (&*s.id.0, s.state)).collect();
        assert_eq!(
            listed,
            [("wasm-1", Ready), ("wasm-3", NotReady), ("containerd-1", Ready)]
        );
        assert_eq!(
            companions.of(&SandboxId("containerd-1".into())),
            [SandboxId("wasm-2".into())]
        );
        assert_eq!(companions.shown(&SandboxId("wasm-2".into())).0, "containerd-1");
        assert_eq!(companions.shown(&SandboxId("wasm-1".into())).0, "wasm-1");
    }

    #[test]
    fn a_companion_that_failed_is_followed_by_another() {
        let mut pod = sandbox("containerd-1", None, Ready);
        pod.config.attempt = 2;
        pod.network_namespace = Some("/run/netns/x".into());
        let Companion::Make(first) = companion(&pod, &[]) else {
            panic!("there is none yet")
        };
        assert_eq!(first.attempt, 2 * ATTEMPTS);
        assert_eq!(first.join.unwrap().network_namespace, pod.network_namespace);
        let failed = sandbox("wasm-2", Some("containerd-1"), NotReady);
        let Companion::Make(second) = companion(&pod, std::slice::from_ref(&failed)) else {
            panic!("it has failed")
        };
        assert_eq!(second.attempt, 2 * ATTEMPTS + 1);
        let ready = sandbox("wasm-3", Some("containerd-1"), Ready);
        assert_eq!(
            companion(&pod, &[failed, ready]),
            Companion::Use(SandboxId("wasm-3".into()))
        );
    }

    #[test]
    fn a_pods_usage_is_that_of_both_halves() {
        let usage = |id: &str, memory| SandboxStats {
            id: id.into(),
            memory_working_set_bytes: memory,
            ..SandboxStats::default()
        };
        let companions = Companions::among(&[sandbox("wasm-2", Some("containerd-1"), Ready)]);
        let sum = sandbox_stats(
            &companions,
            vec![usage("wasm-1", 1), usage("wasm-2", 2)],
            vec![usage("containerd-1", 10)],
        );
        assert_eq!(sum, [usage("wasm-1", 1), usage("containerd-1", 12)]);
    }
}
