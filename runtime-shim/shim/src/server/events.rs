//! What happened to containers and sandboxes, as a client hears it: the steps between two lists.
//!
//! The runtime's own events only say when to look. So no event is lost when some of them are, and several that come at
//! once cost one list.

use std::collections::{BTreeMap, VecDeque};

use cri::{Container, ContainerState, Event, Sandbox, SandboxState};
use futures::{Stream, StreamExt, stream};
use proto::v1::{self, ContainerEventType};
use tonic::Status;

use super::{Service, failed, now};

/// Events of the runtime that are answered by one list.
const AT_ONCE: usize = 1024;

/// As much of a list as the next one is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// With what identifies their pods.
    sandboxes: BTreeMap<String, (SandboxState, v1::PodSandboxMetadata)>,
    /// With their sandboxes.
    containers: BTreeMap<String, (ContainerState, String)>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Of a container, or of a sandbox: CRI tells both alike.
    pub(super) id: String,
    pub(super) sandbox: String,
    pub(super) kind: ContainerEventType,
}

impl Known {
    pub(super) fn of(sandboxes: &[Sandbox], containers: &[Container]) -> Self {
        let sandbox = |sandbox: &Sandbox| {
            let config = &sandbox.config;
            let metadata = v1::PodSandboxMetadata {
                name: config.name.clone(),
                uid: config.uid.clone(),
                namespace: config.namespace.clone(),
                attempt: config.attempt,
            };
            (sandbox.id.0.clone(), (sandbox.state, metadata))
        };
        let container =
            |container: &Container| (container.id.0.clone(), (container.state, container.sandbox.0.clone()));
        Self {
            sandboxes: sandboxes.iter().map(sandbox).collect(),
            containers: containers.iter().map(container).collect(),
        }
    }

    /// What happened from this list to a later one: sandboxes begin before their containers, and end after them.
    pub(super) fn steps_to(&self, later: &Self) -> Vec<Step> {
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for (id, (state, _)) in &later.sandboxes {
            let before = self.sandboxes.get(id).map(|(state, _)| *state);
            for kind in sandbox_steps(before, *state) {
                let step = Step {
                    id: id.clone(),
                    sandbox: id.clone(),
                    kind,
                };
                match kind {
                    ContainerEventType::ContainerStoppedEvent => ended.push(step),
                    _ => begun.push(step),
                }
            }
        }
        for id in self.sandboxes.keys().filter(|id| !later.sandboxes.contains_key(*id)) {
            ended.push(Step {
                id: id.clone(),
                sandbox: id.clone(),
                kind: ContainerEventType::ContainerDeletedEvent,
            });
        }
        begun.extend(self.container_steps_to(later));
        begun.append(&mut ended);
        begun
    }

    fn container_steps_to(&self, later: &Self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (id, (state, sandbox)) in &later.containers {
            let before = self.containers.get(id).map(|(state, _)| *state);
            steps.extend(container_steps(before, *state).into_iter().map(|kind| Step {
                id: id.clone(),
                sandbox: sandbox.clone(),
                kind,
            }));
        }
        let gone = self
            .containers
            .iter()
            .filter(|(id, _)| !later.containers.contains_key(*id));
        steps.extend(gone.map(|(id, (_, sandbox))| Step {
            id: id.clone(),
            sandbox: sandbox.clone(),
            kind: ContainerEventType::ContainerDeletedEvent,
        }));
        steps
    }
}

/// The steps of a container's life, from before it was or from a state, to a state.
fn container_steps(before: Option<ContainerState>, state: ContainerState) -> Vec<ContainerEventType> {
    let reached = |state: ContainerState| match state {
        ContainerState::Created => 1,
        ContainerState::Running => 2,
        ContainerState::Exited | ContainerState::Unknown => 3,
    };
    let all = [
        ContainerEventType::ContainerCreatedEvent,
        ContainerEventType::ContainerStartedEvent,
        ContainerEventType::ContainerStoppedEvent,
    ];
    let passed = before.map_or(0, reached);
    all.into_iter().take(reached(state)).skip(passed).collect()
}

/// A sandbox that is ready has been created and started.
fn sandbox_steps(before: Option<SandboxState>, now: SandboxState) -> Vec<ContainerEventType> {
    let alike = |state: SandboxState| match state {
        SandboxState::Ready => ContainerState::Running,
        SandboxState::NotReady => ContainerState::Exited,
    };
    container_steps(before.map(alike), alike(now))
}

/// A stream of events that follows the runtime.
struct Follower {
    service: Service,
    wakes: stream::ReadyChunks<stream::BoxStream<'static, Event>>,
    known: Known,
    told: VecDeque<v1::ContainerEventResponse>,
}

/// Everything that happens from now on. It ends with an error when the runtime cannot be listed.
pub(super) async fn follow(
    service: Service,
) -> Result<impl Stream<Item = Result<v1::ContainerEventResponse, Status>>, Status> {
    let mut follower = Follower {
        // Before the first list, so that nothing falls between.
        wakes: service.runtime.events().ready_chunks(AT_ONCE),
        known: Known::default(),
        told: VecDeque::new(),
        service,
    };
    follower.look().await?;
    follower.told.clear(); // what was there before
    Ok(stream::unfold(follower, |mut follower| async move {
        let next = follower.next().await.transpose()?;
        Some((next, follower))
    }))
}

impl Follower {
    async fn next(&mut self) -> Result<Option<v1::ContainerEventResponse>, Status> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Ok(Some(event));
            }
            let Some(wakes) = self.wakes.next().await else {
                return Ok(None);
            };
            if wakes.iter().any(|event| !matches!(event, Event::Image { .. })) {
                self.look().await?;
            }
        }
    }

    async fn look(&mut self) -> Result<(), Status> {
        let runtime = &self.service.runtime;
        let sandboxes = runtime.list_sandboxes().await.map_err(failed)?;
        let containers = runtime.list_containers().await.map_err(failed)?;
        let later = Known::of(&sandboxes, &containers);
        let steps = self.known.steps_to(&later);
        self.told
            .extend(responses(steps, &self.known, sandboxes, containers, now()));
        self.known = later;
        Ok(())
    }
}

/// The steps as they are told: each with its sandbox, and the containers that this has.
fn responses(
    steps: Vec<Step>,
    before: &Known,
    sandboxes: Vec<Sandbox>,
    containers: Vec<Container>,
    created_at: i64,
) -> Vec<v1::ContainerEventResponse> {
    let sandboxes: BTreeMap<String, Sandbox> = sandboxes
        .into_iter()
        .map(|sandbox| (sandbox.id.0.clone(), sandbox))
        .collect();
    let mut of_sandbox: BTreeMap<&str, Vec<&Container>> = BTreeMap::new();
    for container in &containers {
        of_sandbox.entry(&container.sandbox.0).or_default().push(container);
    }
    let response = |step: Step| {
        let sandbox = match sandboxes.get(&step.sandbox) {
            Some(sandbox) => Some(sandbox.clone().into()),
            None => before
                .sandboxes
                .get(&step.sandbox)
                .map(|(_, metadata)| v1::PodSandboxStatus {
                    id: step.sandbox.clone(),
                    metadata: Some(metadata.clone()),
                    state: v1::PodSandboxState::SandboxNotready.into(),
                    ..v1::PodSandboxStatus::default()
                }),
        };
        let containers = of_sandbox.get(step.sandbox.as_str()).into_iter().flatten();
        v1::ContainerEventResponse {
            container_id: step.id,
            container_event_type: step.kind.into(),
            created_at,
            pod_sandbox_status: sandbox,
            containers_statuses: containers.map(|container| (*container).clone().into()).collect(),
        }
    };
    steps.into_iter().map(response).collect()
}

#[cfg(test)]
mod tests {
    use ContainerEventType::{
        ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted, ContainerStartedEvent as Started,
        ContainerStoppedEvent as Stopped,
    };

    use super::*;

    fn known(sandboxes: &[(&str, SandboxState)], containers: &[(&str, ContainerState)]) -> Known {
        let metadata = v1::PodSandboxMetadata::default();
        let of = |(id, state): &(&str, SandboxState)| ((*id).to_owned(), (*state, metadata.clone()));
        Known {
            sandboxes: sandboxes.iter().map(of).collect(),
            containers: containers
                .iter()
                .map(|(id, state)| ((*id).to_owned(), (*state, "s".to_owned())))
                .collect(),
        }
    }

    fn told(before: &Known, later: &Known) -> Vec<(String, ContainerEventType)> {
        let steps = before.steps_to(later);
        assert!(steps.iter().all(|step| step.sandbox == "s"));
        steps.into_iter().map(|step| (step.id, step.kind)).collect()
    }

    #[test]
    fn every_step_is_told_also_those_between_two_lists() {
        let (ready, exited) = (SandboxState::Ready, ContainerState::Exited);
        let nothing = Known::default();
        let both = known(&[("s", ready)], &[("c", exited)]);
        let all = [
            ("s", Created),
            ("s", Started),
            ("c", Created),
            ("c", Started),
            ("c", Stopped),
        ];
        assert_eq!(told(&nothing, &both), all.map(|(id, kind)| (id.to_owned(), kind)));
        let begun = known(&[("s", ready)], &[("c", ContainerState::Created)]);
        let rest = [("c", Started), ("c", Stopped)].map(|(id, kind)| (id.to_owned(), kind));
        assert_eq!(told(&begun, &both), rest);
        assert!(told(&both, &both).is_empty());
    }

    #[test]
    fn a_sandbox_ends_after_its_containers() {
        let running = known(&[("s", SandboxState::Ready)], &[("c", ContainerState::Running)]);
        let stopped = known(&[("s", SandboxState::NotReady)], &[("c", ContainerState::Exited)]);
        let both = [("c", Stopped), ("s", Stopped)].map(|(id, kind)| (id.to_owned(), kind));
        assert_eq!(told(&running, &stopped), both);
        let gone = [("c", Deleted), ("s", Deleted)].map(|(id, kind)| (id.to_owned(), kind));
        assert_eq!(told(&stopped, &Known::default()), gone);
    }

    #[test]
    fn a_sandbox_that_is_gone_is_still_told_by_its_pod() {
        let mut before = known(&[("s", SandboxState::Ready)], &[]);
        before
            .sandboxes
            .entry("s".to_owned())
            .and_modify(|(_, metadata)| metadata.uid = "u".to_owned());
        let steps = before.steps_to(&Known::default());
        let [told] = responses(steps, &before, Vec::new(), Vec::new(), 7).try_into().unwrap();
        let sandbox = told.pod_sandbox_status.unwrap();
        assert_eq!(
            (sandbox.id.as_str(), sandbox.metadata.unwrap().uid.as_str()),
            ("s", "u")
        );
        assert_eq!(told.created_at, 7);
    }
}
