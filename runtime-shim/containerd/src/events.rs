//! What happens to sandboxes and containers, found by comparing lists.
//!
//! CRI's own stream of events is there from containerd 1.7 on; containerd's general one in every version, and what is of
//! interest in it is only that something happened: then it is listed, and what differs is told. The CRI part of containerd
//! learns of an end by that same stream, so its lists may be behind for a moment; therefore they are looked at again. In
//! between it is listed on a period, slowly while the stream stands and every second where there is none.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cri::{Container, ContainerId, ContainerState, Event, Sandbox, SandboxId, SandboxState};
use futures::{StreamExt, stream::BoxStream};
use tokio::{sync::broadcast, time::Instant};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use crate::{
    link::Health,
    runtime::Shared,
    services::events::{Envelope, SubscribeRequest, events_client::EventsClient},
};

/// Events a subscriber may be behind before it must list.
const EVENTS: usize = 4096;
/// Looks after containerd has told that something happened.
const LOOKS: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(60),
    Duration::from_millis(250),
    Duration::from_millis(1000),
];
/// Between looks that nothing asked for.
const PERIOD: Duration = Duration::from_secs(10);
/// The same without a stream.
const PERIOD_WITHOUT_STREAM: Duration = Duration::from_secs(1);

/// Whom changes are told.
#[derive(Debug)]
pub(crate) struct Events(broadcast::Sender<Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(EVENTS).0)
    }

    pub(crate) fn subscribe(&self) -> BoxStream<'static, Event> {
        let events = BroadcastStream::new(self.0.subscribe());
        // The only error is that some were dropped.
        events.map(|event| event.unwrap_or(Event::Lost)).boxed()
    }

    pub(crate) fn tell(&self, event: Event) {
        let _ = self.0.send(event); // an error means that nobody listens
    }
}

/// What was there at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    sandboxes: HashMap<SandboxId, (SandboxState, String)>,
    containers: HashMap<ContainerId, (ContainerState, String)>,
}

impl Seen {
    pub(crate) fn of(sandboxes: &[Sandbox], containers: &[Container]) -> Self {
        Self {
            sandboxes: sandboxes
                .iter()
                .map(|sandbox| (sandbox.id.clone(), (sandbox.state, sandbox.config.uid.clone())))
                .collect(),
            containers: containers
                .iter()
                .map(|container| (container.id.clone(), (container.state, container.pod_uid.clone())))
                .collect(),
        }
    }

    /// What happened from then to now.
    fn changes(&self, now: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        for (id, (state, pod_uid)) in &now.sandboxes {
            if self.sandboxes.get(id).is_none_or(|(before, _)| before != state) {
                events.push(sandbox(id, pod_uid));
            }
        }
        for (id, (state, pod_uid)) in &now.containers {
            if self.containers.get(id).is_none_or(|(before, _)| before != state) {
                events.push(container(id, pod_uid, *state));
            }
        }
        for (id, (_, pod_uid)) in &self.containers {
            if !now.containers.contains_key(id) {
                events.push(container(id, pod_uid, ContainerState::Exited));
            }
        }
        for (id, (_, pod_uid)) in &self.sandboxes {
            if !now.sandboxes.contains_key(id) {
                events.push(sandbox(id, pod_uid));
            }
        }
        events
    }
}

fn sandbox(id: &SandboxId, pod_uid: &str) -> Event {
    Event::Sandbox {
        id: id.clone(),
        pod_uid: pod_uid.to_owned(),
    }
}

fn container(id: &ContainerId, pod_uid: &str, state: ContainerState) -> Event {
    Event::Container {
        id: id.clone(),
        pod_uid: pod_uid.to_owned(),
        state,
    }
}

/// Follows what happens until `quit`.
pub(crate) async fn follow(shared: Arc<Shared>, quit: CancellationToken) {
    let mut seen = None;
    let mut health = shared.link.health_changes();
    while !quit.is_cancelled() {
        let up = health.wait_for(|health| matches!(health, Health::Up(_)));
        match quit.run_until_cancelled(up).await {
            Some(Ok(_)) => {}
            _ => return,
        }
        // Whatever happened meanwhile; and where containerd was away, others have missed what it does not tell twice.
        let was_away = seen.is_some();
        look(&shared, &mut seen).await;
        if was_away {
            shared.events.tell(Event::Lost);
        }
        let stream = subscribe(&shared).await;
        if quit
            .run_until_cancelled(listen(&shared, stream, &mut seen))
            .await
            .is_none()
        {
            return;
        }
    }
}

async fn subscribe(shared: &Shared) -> Option<tonic::Streaming<Envelope>> {
    let own = shared.link.own().ok()?;
    let request = own.request(SubscribeRequest {
        filters: vec![
            "namespace==k8s.io,topic~=\"^/tasks/\"".to_owned(),
            "namespace==k8s.io,topic~=\"^/containers/delete\"".to_owned(),
        ],
    });
    let mut client = EventsClient::new(own.channel());
    match tokio::time::timeout(Duration::from_secs(5), client.subscribe(request)).await {
        Ok(Ok(stream)) => Some(stream.into_inner()),
        refused => {
            tracing::debug!(?refused, "containerd has no stream of events");
            None
        }
    }
}

/// Looks whenever there is reason to, until containerd goes.
async fn listen(shared: &Shared, mut stream: Option<tonic::Streaming<Envelope>>, seen: &mut Option<Seen>) {
    let mut health = shared.link.health_changes();
    let period = if stream.is_some() {
        PERIOD
    } else {
        PERIOD_WITHOUT_STREAM
    };
    let after = |stage: usize| Instant::now() + LOOKS.get(stage).copied().unwrap_or(period);
    let (mut stage, mut due) = (LOOKS.len(), after(LOOKS.len()));
    loop {
        let message = async {
            match &mut stream {
                Some(stream) => stream.message().await,
                None => std::future::pending().await,
            }
        };
        let away = async {
            let _ = health.wait_for(|health| matches!(health, Health::Away(_))).await;
        };
        tokio::select! {
            () = away => return,
            told = message => match told {
                // Never later than it was: a stream of events does not put the look off.
                Ok(Some(_)) => (stage, due) = (0, due.min(after(0))),
                // It ended: looked for anew once containerd answers.
                Ok(None) | Err(_) => {
                    shared.link.look().await;
                    return;
                }
            },
            () = tokio::time::sleep_until(due) => {
                look(shared, seen).await;
                stage = stage.saturating_add(1);
                due = after(stage);
            }
        }
    }
}

/// Lists, and tells what differs.
async fn look(shared: &Shared, seen: &mut Option<Seen>) {
    let listed = async {
        let sandboxes = shared.sandboxes().await?;
        Ok::<_, cri::Error>((sandboxes, shared.containers().await?))
    };
    match listed.await {
        Ok((sandboxes, containers)) => {
            let now = Seen::of(&sandboxes, &containers);
            match seen.as_ref() {
                Some(before) => before
                    .changes(&now)
                    .into_iter()
                    .for_each(|event| shared.events.tell(event)),
                None => shared.events.tell(Event::Lost),
            }
            *seen = Some(now);
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "containerd does not list");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sandboxes: &[(&str, SandboxState)], containers: &[(&str, ContainerState)]) -> Seen {
        Seen {
            sandboxes: sandboxes
                .iter()
                .map(|(id, state)| (SandboxId((*id).into()), (*state, "u".into())))
                .collect(),
            containers: containers
                .iter()
                .map(|(id, state)| (ContainerId((*id).into()), (*state, "u".into())))
                .collect(),
        }
    }

    #[test]
    fn what_differs_is_told_and_what_does_not_is_not() {
        use ContainerState::{Created, Exited, Running};
        use SandboxState::{NotReady, Ready};
        let before = seen(&[("s", Ready), ("gone", Ready)], &[("c", Running), ("same", Running)]);
        let now = seen(
            &[("s", NotReady)],
            &[("c", Exited), ("same", Running), ("new", Created)],
        );
        let mut told = before.changes(&now);
        told.sort_by_key(|event| format!("{event:?}"));
        let id = |id: &str| ContainerId(id.into());
        assert_eq!(
            told,
            [
                container(&id("c"), "u", Exited),
                container(&id("new"), "u", Created),
                sandbox(&SandboxId("gone".into()), "u"),
                sandbox(&SandboxId("s".into()), "u"),
            ]
        );
        assert!(now.changes(&now).is_empty());
    }
}
