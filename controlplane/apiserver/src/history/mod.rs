//! `runtime.wherry.dev/v1`: what nodes know of what runs on them and Kubernetes has no API for. The last hour of CPU, memory
//! and Wasm of a node, a namespace, a pod and the cluster; and what the Wasm programs of a pod say of themselves.
//!
//! Nothing is sampled here: each kubelet keeps an hour of its own (`kubelet/src/history`), and is asked when somebody asks, once
//! for all who do ([`gather`]). What comes of several nodes is added up ([`merge`]). RBAC decides, by the usual rules; `view` may read all of it.

mod ask;
mod gather;
mod merge;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::names::GroupResource;
use api::{Object, Status, time};
use async_trait::async_trait;
use http::StatusCode;
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::ask::Kubelets;
use self::gather::{Gathered, Gatherer};
use self::merge::{Told, sum};
use crate::http::dial::Dialer;
use crate::http::query::Query;
use crate::registry::virtuals::{Passing, Request, Response, Virtual, VirtualContext, VirtualRoute};

const GROUP: &str = "runtime.wherry.dev";
const VERSION: &str = "v1";
/// The one cluster.
const CURRENT: &str = "current";
/// Seconds that are kept.
const HOUR: i64 = 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Cluster,
    Node,
    Namespace,
    Pod,
}

impl Of {
    const ALL: [Of; 4] = [Of::Cluster, Of::Node, Of::Namespace, Of::Pod];

    fn plural(self) -> &'static str {
        match self {
            Of::Cluster => "clusters",
            Of::Node => "nodes",
            Of::Namespace => "namespaces",
            Of::Pod => "pods",
        }
    }
}

struct History {
    of: Of,
    kubelets: Kubelets,
    gatherer: Gatherer,
}

struct Programs {
    kubelets: Kubelets,
}

/// The routes; kubelets are asked through the dialer by tasks of `tasks`, until `shutdown`.
pub fn routes(dialer: &Arc<dyn Dialer>, tasks: &TaskTracker, shutdown: &CancellationToken) -> Vec<VirtualRoute> {
    let kubelets = Kubelets::new(dialer.clone(), tasks.clone());
    let route = |resource, subresource, namespaced, kind, handler| VirtualRoute {
        group: GROUP,
        version: VERSION,
        resource,
        subresource,
        namespaced,
        kind,
        kind_group_version: None,
        definition: None,
        verbs: &["get"],
        passing: Passing::Unseen,
        handler,
    };
    let gatherer = Gatherer::new(Arc::new(kubelets.clone()), tasks.clone(), shutdown.clone());
    let histories = Of::ALL.map(|of| {
        let namespaced = matches!(of, Of::Namespace | Of::Pod);
        let (kubelets, gatherer) = (kubelets.clone(), gatherer.clone());
        route(
            of.plural(),
            None,
            namespaced,
            "History",
            Arc::new(History { of, kubelets, gatherer }),
        )
    });
    let programs = Arc::new(Programs {
        kubelets: kubelets.clone(),
    });
    let mut routes: Vec<VirtualRoute> = histories.into();
    routes.push(route(Of::Pod.plural(), Some("programs"), true, "Programs", programs));
    routes
}

#[async_trait]
impl Virtual for History {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let seconds = query.int("rangeSeconds")?.unwrap_or(HOUR);
        if !(1..=HOUR).contains(&seconds) {
            return Err(Status::bad_request(format!(
                "rangeSeconds must be between 1 and {HOUR}: that is what is kept"
            )));
        }
        let namespace = cx.namespace.as_deref().unwrap_or_default();
        let (nodes, place) = match self.of {
            Of::Cluster if cx.name == CURRENT => (all_nodes(&cx), String::new()),
            Of::Namespace if cx.name == namespace => (all_nodes(&cx), format!("/{namespace}")),
            Of::Node => {
                let kind = GroupResource::new("", "nodes");
                let node = cx.reader.get_fresh(&kind, None, &cx.name).await?;
                node.ok_or_else(|| self.missing(&cx))?;
                (BTreeSet::from([cx.name.clone()]), String::new())
            }
            Of::Pod => (
                node_of(&cx).await?.into_iter().collect(),
                format!("/{namespace}/{}", cx.name),
            ),
            _ => return Err(self.missing(&cx)),
        };
        let path = format!("/history{place}?seconds={seconds}");
        let Gathered { told, silent } = match (self.of, nodes.first()) {
            // Of a single node that does not answer there is nothing to tell.
            (Of::Node | Of::Pod, Some(node)) => Gathered {
                told: self.kubelets.get(node, &path).await?.into_iter().collect(),
                silent: Vec::new(),
            },
            _ => self.gatherer.gather(&nodes, &path).await,
        };
        let now = u64::try_from(cx.now.as_second()).unwrap_or_default();
        answer("History", &cx, status(sum(told, now), &silent))
    }
}

impl History {
    fn missing(&self, cx: &VirtualContext) -> Status {
        Status::not_found(&GroupResource::new(GROUP, self.of.plural()), &cx.name)
    }
}

#[async_trait]
impl Virtual for Programs {
    async fn call(&self, cx: VirtualContext, _: Request) -> Result<Response, Status> {
        let found: Option<Value> = match node_of(&cx).await? {
            Some(node) => {
                let namespace = cx.namespace.as_deref().unwrap_or_default();
                let path = format!("/programs/{namespace}/{}", cx.name);
                self.kubelets.get(&node, &path).await?
            }
            None => None,
        };
        let status = found.unwrap_or_else(|| json!({"containers": []}));
        answer("Programs", &cx, status)
    }
}

/// The node that a pod is bound to.
async fn node_of(cx: &VirtualContext) -> Result<Option<String>, Status> {
    let pods = GroupResource::new("", "pods");
    let pod = cx.reader.get_fresh(&pods, cx.namespace.as_deref(), &cx.name).await?;
    let pod = pod.ok_or_else(|| Status::not_found(&pods, &cx.name))?;
    let node = pod.str_at("spec.nodeName").filter(|node| !node.is_empty());
    Ok(node.map(str::to_owned))
}

fn all_nodes(cx: &VirtualContext) -> BTreeSet<String> {
    let nodes = cx.reader.list(&GroupResource::new("", "nodes"), None);
    nodes.iter().map(|node| node.name().to_owned()).collect()
}

/// What is told, as the status of an object.
fn status(told: Option<Told>, silent: &[String]) -> Value {
    let Some(told) = told else {
        return json!({"series": [], "silentNodes": silent});
    };
    let at = |seconds: u64| {
        let at = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| api::Timestamp::from_second(seconds).ok());
        at.map(time::rfc3339)
    };
    let series: Vec<Value> = told
        .series
        .iter()
        .map(|named| json!({"name": named.name, "values": merge::metrics(&named.columns)}))
        .collect();
    json!({
        "since": at(told.since),
        "end": told.end,
        "stepSeconds": told.step,
        "series": series,
        "silentNodes": silent,
    })
}

fn answer(kind: &str, cx: &VirtualContext, status: Value) -> Result<Response, Status> {
    let mut metadata = json!({"name": cx.name});
    if let (Some(namespace), Some(fields)) = (&cx.namespace, metadata.as_object_mut()) {
        fields.insert("namespace".to_owned(), namespace.as_str().into());
    }
    let object = json!({
        "kind": kind,
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": metadata,
        "status": status,
    });
    let object = Object::from_value(object).map_err(|_| Status::internal("no object was made"))?;
    Ok(crate::registry::virtuals::reply(StatusCode::OK, &object))
}

#[cfg(test)]
mod tests;
