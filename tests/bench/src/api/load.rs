//! The loads of the API server, inside the cluster's network namespace.

use std::path::Path;

use bytes::Bytes;
use clap::ValueEnum;
use serde_json::json;

use super::watchers::{self, Other, Pace};
use crate::{
    connection::Access,
    creates::{COLLECTION, config_map},
    fan,
};

/// Objects that single requests go to in turn.
const OBJECTS: usize = 1000;
/// Nodes that bound pods are spread over; nobody runs them.
pub(super) const NODES: usize = 100;
const PODS: &str = "/api/v1/namespaces/load/pods";

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    Create,
    Get,
    Update,
    CreatePods,
    List,
    Paced,
    Queued,
    Beside,
    Stalled,
}

impl Load {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::Update => "update",
            Self::CreatePods => "create-pods",
            Self::List => "list",
            Self::Paced => "paced",
            Self::Queued => "queued",
            Self::Beside => "beside",
            Self::Stalled => "stalled",
        }
    }
}

/// Runs a load and prints its figures; `server` is the process of the API server.
pub(crate) async fn load(
    what: Load,
    kubeconfig: &Path,
    server: u32,
    clients: usize,
    count: usize,
) -> anyhow::Result<()> {
    let access = Access::from_kubeconfig(kubeconfig)?;
    let one = |index: usize| format!("{COLLECTION}/load-{:06}", index % OBJECTS);
    match what {
        Load::Create => {
            let create = |index| ("POST", COLLECTION.to_owned(), body(&config_map(index, "")));
            fan::send(&access, clients, count, create).await
        }
        Load::Get => fan::send(&access, clients, count, move |index| ("GET", one(index), Bytes::new())).await,
        Load::Update => {
            let update = move |index: usize| {
                let changed = config_map(index % OBJECTS, &index.to_string());
                ("PUT", one(index), body(&changed))
            };
            fan::send(&access, clients, count, update).await
        }
        Load::CreatePods => {
            let create = |index| ("POST", PODS.to_owned(), body(&bound_pod(index)));
            fan::send(&access, clients, count, create).await
        }
        Load::List => fan::send(&access, clients, count, |_| ("GET", PODS.to_owned(), Bytes::new())).await,
        Load::Paced => watchers::run(&access, server, clients, count, Pace::OneAtATime, Other::None).await,
        Load::Queued => watchers::run(&access, server, clients, count, Pace::TenAtOnce, Other::None).await,
        Load::Beside => watchers::run(&access, server, clients, count, Pace::OneAtATime, Other::Reads).await,
        Load::Stalled => watchers::run(&access, server, clients, count, Pace::OneAtATime, Other::Stalls).await,
    }
}

fn body(object: &serde_json::Value) -> Bytes {
    Bytes::from(object.to_string())
}

/// The name of one of the nodes.
pub(super) fn node_name(nth: usize) -> String {
    format!("absent-{nth:04}")
}

fn bound_pod(index: usize) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("load-{index:06}"), "labels": {"load": "1", "app": "load"}},
        "spec": {
            "nodeName": node_name(index % NODES),
            "terminationGracePeriodSeconds": 0,
            // Its node has no kubelet, and nobody is to evict it for that.
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "c",
                "image": "registry.k8s.io/pause:3.10.2",
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            }],
        },
    })
}
