//! What all parts of the agent's side share: configuration, model, events, clocks.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cri::Event;
use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::{sync::broadcast, time::Instant};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Config,
    addresses::Addresses,
    directory::LOOPBACKS,
    model::{Model, Origin, Seen},
};
use crate::{aot::Target, protocol::Change};

/// Events a subscriber may be behind before it must list.
const EVENTS: usize = 4096;

/// Shared by all parts.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// What this process compiles for.
    pub(crate) target: Target,
    pub(crate) model: Mutex<Model>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    events: broadcast::Sender<Event>,
    started: Instant,
}

impl Shared {
    pub(crate) fn new(config: Config, target: Target, tasks: TaskTracker, shutdown: CancellationToken) -> Arc<Self> {
        let (first, prefix) = LOOPBACKS;
        let loopbacks = Addresses::of(ipnet::Ipv4Net::new_assert(first, prefix));
        let mut model = Model::new(loopbacks);
        if let Some(range) = config.pod_range {
            model.set_node_range(range);
        }
        let (events, _) = broadcast::channel(EVENTS);
        Arc::new(Self {
            config,
            target,
            model: Mutex::new(model),
            tasks,
            shutdown,
            events,
            started: Instant::now(),
        })
    }

    /// Nanoseconds since the epoch.
    pub(crate) fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    /// A clock that does not go back.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes over what a host told, and tells the subscribers.
    pub(crate) fn apply(&self, origin: &Origin, changes: impl IntoIterator<Item = Change>) {
        let now = self.uptime();
        for change in changes {
            let applied = self.model.lock().apply(origin, change, now);
            match applied {
                Ok(event) => event.into_iter().for_each(|event| self.tell(event)),
                Err(untrue) => tracing::error!(error = &untrue as &dyn std::error::Error, "not believed"),
            }
        }
    }

    /// Forgets what a snapshot of a host has not shown.
    pub(crate) fn sweep(&self, origin: &Origin, seen: &Seen) {
        let events = self.model.lock().sweep(origin, seen, self.uptime());
        events.into_iter().for_each(|event| self.tell(event));
    }

    /// Forgets what was removed.
    pub(crate) fn forget(&self, removed: Change) {
        let event = self.model.lock().forget(removed, self.uptime());
        event.into_iter().for_each(|event| self.tell(event));
    }

    /// Tells the subscribers.
    pub(crate) fn tell(&self, event: Event) {
        // An error means that nobody listens.
        let _ = self.events.send(event);
    }

    /// Everything that happens from now on.
    pub(crate) fn events(&self) -> BoxStream<'static, Event> {
        let events = BroadcastStream::new(self.events.subscribe());
        // The only error is that some were dropped.
        events.map(|event| event.unwrap_or(Event::Lost)).boxed()
    }
}
