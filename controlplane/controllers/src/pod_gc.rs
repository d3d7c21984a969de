//! Removes pods that nobody else will: those of nodes that are gone, those deleted before they got a node, and, beyond a
//! threshold, those that ended longest ago.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use api::NamespacedName;
use client::{Client, DeleteOptions, Error, Informer, MetaObject, OptionalExt, Patch, Scope, kinds};
use serde_json::json;
use tokio::time::Instant;

use crate::{Context, view::Pod};

const PERIOD: Duration = Duration::from_secs(20);
/// A node has to be missing for this long before its pods are taken for orphans.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Ended pods that may stay.
const THRESHOLD: usize = 12_500;

pub(crate) async fn run(context: Context) {
    let pods: Informer<Pod> = context.informers.get(&kinds::POD, Scope::All);
    let nodes = context.informers.get_metadata(&kinds::NODE, Scope::All);
    pods.synced().await;
    nodes.synced().await;
    match collect_for_ever(&context.client, &pods, &nodes, &context.config.clock).await {}
}

async fn collect_for_ever(
    client: &Client,
    pods: &Informer<Pod>,
    nodes: &Informer<MetaObject>,
    clock: &client::Clock,
) -> Infallible {
    let mut missing: HashMap<Box<str>, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        let all: Vec<Arc<Pod>> = pods.snapshot().iter().map(|(_, pod)| pod.clone()).collect();
        let known: HashSet<Box<str>> = nodes
            .snapshot()
            .iter()
            .map(|(key, _)| key.name.as_ref().into())
            .collect();
        let gone = gone_nodes(&mut missing, &all, &known, Instant::now());
        for pod in plan(&all, &gone, THRESHOLD) {
            if let Err(error) = remove(client, pod, &gone, clock).await {
                tracing::debug!(pod = %pod.metadata.key(), error = &error as &dyn std::error::Error, "cannot collect pod");
            }
        }
    }
}

/// Nodes that pods name and that have been missing for the whole quarantine.
fn gone_nodes(
    missing: &mut HashMap<Box<str>, Instant>,
    pods: &[Arc<Pod>],
    known: &HashSet<Box<str>>,
    now: Instant,
) -> HashSet<Box<str>> {
    let named: HashSet<&Box<str>> = pods
        .iter()
        .map(|pod| &pod.spec.node_name)
        .filter(|name| !name.is_empty() && !known.contains(*name))
        .collect();
    missing.retain(|name, _| named.contains(name));
    for name in named {
        missing.entry(name.clone()).or_insert(now);
    }
    missing
        .iter()
        .filter(|(_, since)| now >= **since + QUARANTINE)
        .map(|(name, _)| name.clone())
        .collect()
}

/// Which pods to remove.
fn plan<'a>(pods: &'a [Arc<Pod>], gone: &HashSet<Box<str>>, threshold: usize) -> Vec<&'a Pod> {
    let lost =
        |pod: &Pod| gone.contains(&pod.spec.node_name) || (pod.metadata.is_deleting() && pod.spec.node_name.is_empty());
    let mut remove: Vec<&Pod> = pods.iter().map(|pod| &**pod).filter(|pod| lost(pod)).collect();
    let mut ended: Vec<&Pod> = pods
        .iter()
        .map(|pod| &**pod)
        .filter(|pod| pod.is_finished() && !lost(pod) && !pod.metadata.is_deleting())
        .collect();
    ended.sort_by_key(|pod| (pod.metadata.creation_timestamp, pod.metadata.name.clone()));
    let surplus = ended.len().saturating_sub(threshold);
    remove.extend(ended.into_iter().take(surplus));
    remove
}

async fn remove(client: &Client, pod: &Pod, gone: &HashSet<Box<str>>, clock: &client::Clock) -> Result<(), Error> {
    let at = pod.metadata.key();
    if gone.contains(&pod.spec.node_name) {
        let node = NamespacedName::cluster(&pod.spec.node_name);
        if client.get_opt::<MetaObject>(&kinds::NODE, &node).await?.is_some() {
            return Ok(()); // the informer is behind
        }
        if !pod.is_finished() {
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": api::time::rfc3339(clock.now())});
            let patch = json!({"metadata": {"uid": pod.metadata.uid},
                "status": {"phase": "Failed", "conditions": [condition]}});
            client
                .patch(&kinds::POD, &at, Some("status"), Patch::Strategic(patch))
                .await
                .optional()?;
        }
    }
    let options = DeleteOptions {
        grace: Some(0),
        ..DeleteOptions::of_uid(&pod.metadata.uid)
    };
    client.delete(&kinds::POD, &at, &options).await.optional().map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn pod(name: &str, node: &str, phase: &str, more: Value) -> Arc<Pod> {
        let mut value = json!({"metadata": {"name": name}, "spec": {"nodeName": node}, "status": {"phase": phase}});
        for (key, part) in more.as_object().unwrap() {
            value["metadata"][key] = part.clone();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn names(pods: Vec<&Pod>) -> Vec<&str> {
        pods.into_iter().map(|pod| &*pod.metadata.name).collect()
    }

    #[test]
    fn a_node_is_gone_only_after_the_quarantine() {
        let (pods, now) = ([pod("a", "n", "Running", json!({}))], Instant::now());
        let (mut missing, none) = (HashMap::new(), HashSet::new());
        assert!(gone_nodes(&mut missing, &pods, &none, now).is_empty());
        assert!(gone_nodes(&mut missing, &pods, &none, now + QUARANTINE / 2).is_empty());
        assert_eq!(gone_nodes(&mut missing, &pods, &none, now + QUARANTINE).len(), 1);
        assert!(gone_nodes(&mut missing, &pods, &HashSet::from(["n".into()]), now + QUARANTINE).is_empty());
        assert!(
            gone_nodes(&mut missing, &pods, &none, now + QUARANTINE).is_empty(),
            "it came back: count anew"
        );
    }

    #[test]
    fn orphans_and_the_oldest_ended_go() {
        let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let pods = [
            pod("orphan", "gone", "Running", json!({})),
            pod("fine", "n", "Running", json!({})),
            pod("homeless", "", "Pending", deleted.clone()),
            pod("terminating", "n", "Running", deleted),
            pod(
                "young",
                "n",
                "Failed",
                json!({"creationTimestamp": "2026-01-02T00:00:00Z"}),
            ),
            pod(
                "old",
                "n",
                "Succeeded",
                json!({"creationTimestamp": "2026-01-01T00:00:00Z"}),
            ),
        ];
        let gone = HashSet::from(["gone".into()]);
        assert_eq!(names(plan(&pods, &gone, 1)), ["orphan", "homeless", "old"]);
        assert_eq!(names(plan(&pods, &gone, 2)), ["orphan", "homeless"]);
    }
}
