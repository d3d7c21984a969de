//! What the scheduler writes: bindings, and why a pod has no node.

use std::{error::Error as _, sync::Arc};

use api::NamespacedName;
use client::{
    Client, Clock, Error, Patch,
    events::{ObjectRef, Recorder, Type},
    kinds,
};
use serde_json::json;

use crate::view::Pod;

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
}

impl Writer {
    /// Binds the pod, this very one by its uid, to the node.
    pub(crate) async fn bind(self: Arc<Self>, pod: Arc<Pod>, node: Box<str>) -> Outcome {
        let key = pod.key();
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
