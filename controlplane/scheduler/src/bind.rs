//! What the scheduler writes: bindings, and why a pod has no node.

use std::{error::Error as _, sync::Arc, time::Duration};

use api::NamespacedName;
use client::{
    Client, Clock, Error, Informer, Patch,
    events::{ObjectRef, Recorder, Type},
    kinds,
};
use serde_json::json;

use crate::view::{Claim, Pod, SELECTED_NODE};

/// How a write ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Bound {
        key: NamespacedName,
    },
    /// The pod still has no node, or is gone.
    NotBound {
        key: NamespacedName,
        uid: Box<str>,
        gone: bool,
    },
    Reported,
}

pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) claims: Informer<Claim>,
}

/// How long a claim may take to be bound on the node that was chosen, before the pod is looked at anew.
const PATIENCE: Duration = Duration::from_secs(120);

impl Writer {
    /// Binds the pod, this very one by its uid, to the node, and before it the claims that wait for a node.
    pub(crate) async fn bind(self: Arc<Self>, pod: Arc<Pod>, node: Box<str>, waiting: Vec<NamespacedName>) -> Outcome {
        let key = pod.key();
        for claim in waiting {
            if let Err(why) = self.bind_claim(&claim, &node).await {
                self.recorder
                    .event(&reference(&pod), Type::Warning, "FailedScheduling", "Scheduling", why);
                let uid = pod.uid.clone();
                return Outcome::NotBound { key, uid, gone: false };
            }
        }
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        match self.client.create_sub(&kinds::POD, &key, "binding", &binding).await {
            Ok(_) => {
                let note = format!("Successfully assigned {key} to {node}");
                self.recorder
                    .event(&reference(&pod), Type::Normal, "Scheduled", "Binding", note);
                Outcome::Bound { key }
            }
            Err(error) => {
                let gone = error.is_not_found();
                if !gone {
                    tracing::debug!(pod = %key, node = %node, error = &error as &dyn std::error::Error, "binding failed");
                    let note = format!("binding rejected: {}", cause(&error));
                    self.recorder
                        .event(&reference(&pod), Type::Warning, "FailedScheduling", "Scheduling", note);
                }
                Outcome::NotBound {
                    key,
                    uid: pod.uid.clone(),
                    gone,
                }
            }
        }
    }

    /// Says on which node a claim is to be bound, and waits until it is.
    async fn bind_claim(&self, at: &NamespacedName, node: &str) -> Result<(), String> {
        let Some(claim) = self.claims.get(at) else {
            return Err(format!("persistentvolumeclaim \"{}\" not found", at.name));
        };
        if claim.selected_node() != Some(node) {
            let annotations = json!({SELECTED_NODE: node});
            let patch = Patch::Merge(json!({"metadata": {"uid": claim.metadata.uid, "annotations": annotations}}));
            let patched = self
                .client
                .patch(&kinds::PERSISTENT_VOLUME_CLAIM, at, None, patch)
                .await;
            let patched = patched.map_err(|error| format!("binding volumes: {}", cause(&error)))?;
            let seen = self.claims.wait_written(&patched);
            let _ = tokio::time::timeout(PATIENCE, seen).await; // what follows has a time of its own
        }
        let settled = self.claims.wait_until(at, |claim| {
            claim.is_none_or(|claim| claim.is_bound() || claim.selected_node() != Some(node))
        });
        match tokio::time::timeout(PATIENCE, settled).await {
            // Who makes the volume could not on this node, and takes the choice back.
            Ok(()) if self.claims.get(at).is_some_and(|claim| !claim.is_bound()) => {
                Err(format!("binding volumes: provisioning failed for PVC \"{}\"", at.name))
            }
            Ok(()) => Ok(()),
            Err(_elapsed) => Err(format!(
                "binding volumes: persistentvolumeclaim \"{}\" is not bound after {}s",
                at.name,
                PATIENCE.as_secs()
            )),
        }
    }

    /// Says in the pod's status and in an event why it has no node.
    pub(crate) async fn report(self: Arc<Self>, pod: Arc<Pod>, why: String) -> Outcome {
        self.recorder.event(
            &reference(&pod),
            Type::Warning,
            "FailedScheduling",
            "Scheduling",
            why.clone(),
        );
        if pod.unscheduled_message.as_deref() == Some(why.as_str()) {
            return Outcome::Reported;
        }
        let now = api::time::rfc3339(self.clock.now());
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
            "lastProbeTime": null, "lastTransitionTime": now,
        });
        let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}});
        match self
            .client
            .patch(&kinds::POD, &pod.key(), Some("status"), Patch::Strategic(patch))
            .await
        {
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(pod = %pod.key(), error = &error as &dyn std::error::Error, "cannot report on pod");
            }
        }
        Outcome::Reported
    }
}

fn cause(error: &Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn reference(pod: &Pod) -> ObjectRef {
    ObjectRef {
        kind: "Pod".into(),
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        api_version: "v1".into(),
        resource_version: pod.resource_version.to_string(),
        field_path: String::new(),
    }
}
