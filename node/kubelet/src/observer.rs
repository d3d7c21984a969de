//! Keeps what the runtime says, per pod, and wakes the workers whose pods changed.
//!
//! The runtime lists everything or nothing, so one task lists for all pods: after each burst of events, on request, and
//! on a period, since an event may be lost. A worker that has acted asks for a listing that began after its action
//! ([`Observer::fresh`]), so it never decides on a state older than its own deeds.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cri::Event;
use futures::StreamExt;
use parking_lot::RwLock;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::observed::{Observed, group};

/// Between listings that nothing asked for.
const PERIOD: Duration = Duration::from_secs(10);
/// Between listings when the runtime does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// The shared view of the runtime.
pub(crate) struct Observer {
    runtime: Arc<dyn cri::Runtime>,
    pods: RwLock<HashMap<Arc<str>, Arc<Observed>>>,
    asked: AtomicU64,
    ask: Notify,
    answered: watch::Sender<u64>,
    /// UIDs of pods whose state changed; the receiver is the pod set. Bounded by coalescing in the set.
    changed: mpsc::UnboundedSender<Arc<str>>,
    images: tokio::sync::broadcast::Sender<(String, String)>,
}

impl Observer {
    /// The observer and the UIDs of pods that change.
    pub(crate) fn new(runtime: Arc<dyn cri::Runtime>) -> (Arc<Self>, mpsc::UnboundedReceiver<Arc<str>>) {
        let (changed, changes) = mpsc::unbounded_channel();
        let observer = Self {
            runtime,
            pods: RwLock::default(),
            asked: AtomicU64::new(0),
            ask: Notify::new(),
            answered: watch::Sender::new(0),
            changed,
            images: tokio::sync::broadcast::channel(64).0,
        };
        (Arc::new(observer), changes)
    }

    /// The pod as last listed.
    pub(crate) fn pod(&self, uid: &str) -> Arc<Observed> {
        self.pods.read().get(uid).cloned().unwrap_or_default()
    }

    /// Has a pod looked at, for a reason that is not the runtime's.
    pub(crate) fn touch(&self, uid: Arc<str>) {
        let _ = self.changed.send(uid); // the set may be shutting down
    }

    /// UIDs of all pods the runtime knows.
    pub(crate) fn uids(&self) -> Vec<Arc<str>> {
        self.pods.read().keys().cloned().collect()
    }

    /// All pods as last listed.
    pub(crate) fn all(&self) -> Vec<(Arc<str>, Arc<Observed>)> {
        self.pods
            .read()
            .iter()
            .map(|(uid, pod)| (uid.clone(), pod.clone()))
            .collect()
    }

    /// Progress of preparing images: reference and message. A slow reader misses some.
    pub(crate) fn images(&self) -> tokio::sync::broadcast::Receiver<(String, String)> {
        self.images.subscribe()
    }

    /// Waits for a listing that began after this call.
    pub(crate) async fn fresh(&self) {
        let mut answered = self.answered.subscribe();
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.ask.notify_one();
        if answered.wait_for(|done| *done >= ticket).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// As [`Self::fresh`], or until `quit`.
    pub(crate) async fn fresh_or(&self, quit: &CancellationToken) {
        quit.run_until_cancelled(self.fresh()).await;
    }

    /// Lists until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut events = self.runtime.events();
        let mut open = true;
        loop {
            let pause = if self.list().await { PERIOD } else { RETRY };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.ask.notified() => {}
                event = events.next(), if open => match event {
                    Some(event) => self.hear(event),
                    None => open = false,
                },
                () = tokio::time::sleep(pause) => {}
            }
            while let Some(Some(event)) = open.then(|| futures::FutureExt::now_or_never(events.next())).flatten() {
                self.hear(event);
            }
            if !open {
                (events, open) = (self.runtime.events(), true);
            }
        }
    }

    fn hear(&self, event: Event) {
        if let Event::Image { reference, message } = event {
            let _ = self.images.send((reference, message)); // nobody may be listening
        }
    }

    /// One listing; `false` if the runtime did not answer.
    async fn list(&self) -> bool {
        let ticket = self.asked.load(Ordering::SeqCst);
        let listed = async {
            Ok::<_, cri::Error>((
                self.runtime.list_sandboxes().await?,
                self.runtime.list_containers().await?,
            ))
        };
        match listed.await {
            Ok((sandboxes, containers)) => {
                self.publish(group(sandboxes, containers));
                self.answered.send_replace(ticket);
                true
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the runtime does not list its containers"
                );
                false
            }
        }
    }

    fn publish(&self, listed: HashMap<Arc<str>, Observed>) {
        let mut pods = self.pods.write();
        let gone: Vec<Arc<str>> = pods.keys().filter(|uid| !listed.contains_key(*uid)).cloned().collect();
        for uid in gone {
            pods.remove(&uid);
            let _ = self.changed.send(uid); // the set may be shutting down
        }
        for (uid, observed) in listed {
            if pods.get(&uid).is_none_or(|known| **known != observed) {
                pods.insert(uid.clone(), Arc::new(observed));
                let _ = self.changed.send(uid); // the set may be shutting down
            }
        }
    }
}
