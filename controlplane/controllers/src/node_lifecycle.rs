//! Nodes that fall silent: their conditions become Unknown, they are tainted, their pods are marked not ready and, when
//! their tolerations run out, evicted.
//!
//! A node is judged by when *this* process last saw its Lease or its conditions move, so that neither clocks nor a control
//! plane that was away count against it. Fail static: when every node looks dead it is more likely that we are cut off:
//! nothing is evicted, and pods stay as ready as they last said they were.

mod evict;
mod health;

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use api::NamespacedName;
use client::{
    Client, Error, Informer, Meta, OptionalExt, Patch, Scope,
    events::{ObjectRef, Recorder, Type},
    kinds,
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use self::evict::FirstSeen;
use self::health::{Observed, Verdict};
use crate::{
    Context, pods,
    view::{Node, Pod},
};

/// Nodes are looked at this often, and when they change.
const PERIOD: Duration = Duration::from_secs(5);
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Writes under way at once.
const WRITES: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lease {
    #[serde(rename = "metadata")]
    _metadata: Meta,
    spec: LeaseSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeaseSpec {
    renew_time: Option<Box<str>>,
}

pub(crate) async fn run(context: Context) {
    let shell = Shell {
        nodes: context.informers.get(&kinds::NODE, Scope::All),
        pods: context.informers.get(&kinds::POD, Scope::All),
        leases: context
            .informers
            .get(&kinds::LEASE, Scope::Namespace(LEASE_NAMESPACE.to_owned())),
        client: context.client.clone(),
        recorder: context.recorder.clone(),
        clock: context.config.clock.clone(),
    };
    shell.nodes.synced().await;
    shell.pods.synced().await;
    shell.leases.synced().await;
    match shell.watch_over().await {}
}

struct Shell {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    leases: Informer<Lease>,
    client: Client,
    recorder: Recorder,
    clock: client::Clock,
}

impl Shell {
    async fn watch_over(&self) -> Infallible {
        let mut observed: BTreeMap<Box<str>, Observed> = BTreeMap::new();
        let mut tainted_since = FirstSeen::new();
        let (mut nodes_changed, mut pods_changed) = (self.nodes.version(), self.pods.version());
        loop {
            nodes_changed.mark_unchanged();
            pods_changed.mark_unchanged();
            let next_eviction = self.pass(&mut observed, &mut tainted_since).await;
            // pods change all the time: only one that sits on a tainted node can matter
            let tainted = self.nodes.snapshot().iter().any(|(_, node)| evict::is_tainted(node));
            let wake = next_eviction.map_or(Instant::now() + PERIOD, |at| at.min(Instant::now() + PERIOD));
            tokio::select! {
                _ = nodes_changed.changed() => {}
                _ = pods_changed.changed(), if tainted => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Judges every node, writes what follows, and gives the time of the next eviction.
    async fn pass(
        &self,
        observed: &mut BTreeMap<Box<str>, Observed>,
        tainted_since: &mut FirstSeen,
    ) -> Option<Instant> {
        let (now, wall) = (Instant::now(), self.clock.now());
        let nodes: Vec<Arc<Node>> = self.nodes.snapshot().iter().map(|(_, node)| node.clone()).collect();
        observed.retain(|name, _| nodes.iter().any(|node| node.metadata.name == *name));
        let mut verdicts = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let lease = self
                .leases
                .get(&NamespacedName::new(LEASE_NAMESPACE, &node.metadata.name));
            let renewed = lease.and_then(|lease| lease.spec.renew_time.clone());
            let seen = observed
                .entry(node.metadata.name.clone())
                .or_insert_with(|| Observed::new(now));
            seen.update(node, renewed, now);
            verdicts.push((node.clone(), health::judge(node, seen, now)));
        }
        let cut_off = health::all_dead(verdicts.iter().map(|(_, verdict)| *verdict));
        let writes: Vec<_> = verdicts
            .iter()
            .map(|(node, verdict)| self.tend(node, *verdict, cut_off, wall))
            .collect();
        let results: Vec<Result<(), Error>> = stream::iter(writes).buffer_unordered(WRITES).collect().await;
        for error in results.into_iter().filter_map(Result::err) {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "cannot tend node; will try again"
            );
        }
        self.mark_pods(&verdicts, observed, cut_off, wall).await;
        if cut_off {
            return None;
        }
        self.evict(&nodes, wall, tainted_since).await
    }

    /// Writes what the verdict asks for, as far as it is not so already.
    async fn tend(&self, node: &Node, verdict: Verdict, cut_off: bool, now: Timestamp) -> Result<(), Error> {
        let reference = ObjectRef::of(&kinds::NODE, &node.metadata);
        let at = node.metadata.key();
        if let Some(conditions) = health::conditions(node, verdict, now) {
            let note = format!("Node {} status is now: NodeNotReady", node.metadata.name);
            self.recorder.event(&reference, Type::Normal, "NodeNotReady", "", note);
            let patch = json!({"metadata": {"uid": node.metadata.uid}, "status": {"conditions": conditions}});
            let patched = self
                .client
                .patch(&kinds::NODE, &at, Some("status"), Patch::Strategic(patch))
                .await;
            if let Some(patched) = patched.optional()? {
                self.nodes.wait_written(&patched).await;
            }
        }
        if let Some(taints) = health::taints(node, verdict, cut_off, now) {
            let patch = json!({"metadata": {"uid": node.metadata.uid, "resourceVersion": self.version_of(&at)},
                "spec": {"taints": taints}});
            match self.client.patch(&kinds::NODE, &at, None, Patch::Merge(patch)).await {
                Ok(patched) => self.nodes.wait_written(&patched).await,
                Err(error) if error.is_not_found() || error.is_conflict() => {} // the node changed: the next pass sees it
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Marks the pods of nodes that have fallen silent; a node that speaks reports on its pods itself.
    async fn mark_pods(
        &self,
        verdicts: &[(Arc<Node>, Verdict)],
        observed: &mut BTreeMap<Box<str>, Observed>,
        cut_off: bool,
        now: Timestamp,
    ) {
        for (node, verdict) in verdicts {
            let name = &node.metadata.name;
            let Some(seen) = observed.get_mut(name) else {
                continue;
            };
            if !seen.owes_marks(*verdict, cut_off) {
                continue;
            }
            match self.mark_pods_not_ready(name, now).await {
                Ok(()) => seen.pods_are_marked(),
                Err(error) => tracing::debug!(
                    node = %name,
                    error = &error as &dyn std::error::Error,
                    "cannot mark the pods of a silent node; will try again"
                ),
            }
        }
    }

    fn version_of(&self, node: &NamespacedName) -> Option<Box<str>> {
        self.nodes.get(node).map(|node| node.metadata.resource_version.clone())
    }

    async fn mark_pods_not_ready(&self, node: &str, now: Timestamp) -> Result<(), Error> {
        let ready: Vec<Arc<Pod>> = {
            let snapshot = self.pods.snapshot();
            let on_node = snapshot
                .iter()
                .filter(|(_, pod)| &*pod.spec.node_name == node && pod.is_ready());
            on_node.map(|(_, pod)| pod.clone()).collect()
        };
        for pod in ready {
            let condition: Value =
                json!({"type": "Ready", "status": "False", "lastTransitionTime": api::time::rfc3339(now)});
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
            let at = pod.metadata.key();
            let patched = self
                .client
                .patch(&kinds::POD, &at, Some("status"), Patch::Strategic(patch))
                .await;
            if let Some(patched) = patched.optional()? {
                self.pods.wait_written(&patched).await;
            }
            let reference = ObjectRef::of(&kinds::POD, &pod.metadata);
            self.recorder
                .event(&reference, Type::Warning, "NodeNotReady", "", "Node is not ready");
        }
        Ok(())
    }

    async fn evict(&self, nodes: &[Arc<Node>], now: Timestamp, since: &mut FirstSeen) -> Option<Instant> {
        let pods: Vec<Arc<Pod>> = self.pods.snapshot().iter().map(|(_, pod)| pod.clone()).collect();
        let plan = evict::plan(nodes, &pods, now, since);
        for pod in plan.now {
            match pods::delete(&self.client, &pod.metadata).await {
                Ok(()) => {
                    let reference = ObjectRef::of(&kinds::POD, &pod.metadata);
                    let note = format!("Marking for deletion Pod {}", pod.metadata.key());
                    self.recorder
                        .event(&reference, Type::Normal, "TaintManagerEviction", "", note);
                    pods::wait_deleted(&self.pods, &pod.metadata).await;
                }
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "cannot evict; will try again"),
            }
        }
        plan.next.map(|at| {
            let left = at.duration_since(now).max(jiff::SignedDuration::from_secs(1));
            Instant::now() + Duration::try_from(left).unwrap_or(PERIOD)
        })
    }
}
