//! Scheduler and controllers, of which one runs at a time however many control planes share a store: each waits for its
//! Lease in `kube-system`, with Kubernetes' times (15 s, 10 s, 2 s), and stops when it loses it.
//!
//! A control plane that has its store for itself has nobody to agree with, and runs them at once: no lease is read or
//! renewed then.

use api::names::NamespacedName;
use client::{Client, Clock, lease};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How a component comes to run.
pub(crate) enum Turn {
    /// At once, until the end.
    Alone,
    /// Whenever it is this process's turn.
    Elected(Box<lease::Election>, Client),
}

impl Turn {
    /// Takes part in the election for the Lease `name`, writing it as `client`.
    pub(crate) fn elected(name: &'static str, identity: &str, client: Client) -> Self {
        let at = NamespacedName::new("kube-system", name);
        Turn::Elected(Box::new(lease::Election::new(at, identity.to_owned())), client)
    }

    /// Runs `component` when it is its turn, with tasks of its own that end with each term, until `shutdown`.
    pub(crate) async fn run<Fut>(
        self,
        clock: &Clock,
        shutdown: CancellationToken,
        component: impl Fn(TaskTracker, CancellationToken) -> Fut,
    ) where
        Fut: Future<Output = ()>,
    {
        let component = &component;
        let term = |end: CancellationToken| async move {
            let tasks = TaskTracker::new();
            component(tasks.clone(), end.clone()).await;
            // It may end by itself, and what it reads through must end as well.
            end.cancel();
            tasks.close();
            tasks.wait().await;
        };
        match self {
            Turn::Alone => term(shutdown).await,
            Turn::Elected(election, client) => lease::lead(&client, &election, clock, &shutdown, term).await,
        }
    }
}

/// A name that no other process has: the machine's, as people look for it, and a random part.
pub(crate) fn identity(host: &str) -> String {
    format!("{host}_{}", uuid::Uuid::new_v4())
}
