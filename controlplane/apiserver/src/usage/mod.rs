//! `metrics.k8s.io/v1beta1`: what nodes and pods use now, as metrics-server serves it, for `kubectl top` and for those who
//! scale by it.
//!
//! Kubelets are asked for their counters ([`sampler`]), two readings of which make a rate ([`history`]). They are asked four
//! times a minute while somebody wants to know and once a minute otherwise; an answer is at most twenty seconds old all the
//! same, since who comes late has them asked at once. Nothing is stored, and there is no watch.
//!
//! There is no APIService for the group: its name is free for a metrics-server, or whatever else a cluster's administrator
//! has answer for it, which then answers instead.

mod history;
mod metrics;
mod reading;
mod sampler;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::names::GroupResource;
use api::{FieldSelector, LabelSelector, NamespacedName, Object, Status};
use async_trait::async_trait;
use http::StatusCode;
use http::header::ACCEPT;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::history::History;
use self::sampler::Sampler;
use crate::http::accept::{self, Form};
use crate::http::dial::Dialer;
use crate::http::query::Query;
use crate::registry::reader::{Reader, Selected};
use crate::registry::virtuals::{Passing, Request, Response, Virtual, VirtualContext, VirtualRoute, reply};
use crate::server::Clock;

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
/// Seconds after which there may be something to tell.
const RETRY_AFTER: u32 = 5;
const API_VERSION: &str = "metrics.k8s.io/v1beta1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Nodes,
    Pods,
}

impl Of {
    fn plural(self) -> &'static str {
        match self {
            Of::Nodes => "nodes",
            Of::Pods => "pods",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Of::Nodes => "NodeMetrics",
            Of::Pods => "PodMetrics",
        }
    }

    /// Those that are measured.
    fn objects(self) -> GroupResource {
        GroupResource::new("", self.plural())
    }

    /// As metrics-server names what it has no figures of.
    fn missing(self, name: &str) -> Status {
        let plural = match self {
            Of::Nodes => "nodemetrics",
            Of::Pods => "podmetrics",
        };
        Status::not_found(&GroupResource::new(GROUP, plural), name)
    }
}

struct Usage {
    of: Of,
    sampler: Arc<Sampler>,
}

/// The routes; kubelets are asked through the dialer, by tasks of `tasks`, until `shutdown`.
pub fn routes(
    reader: &Arc<dyn Reader>,
    dialer: &Arc<dyn Dialer>,
    clock: Clock,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> Vec<VirtualRoute> {
    let sampler = Arc::new(Sampler::new(reader.clone(), dialer.clone(), tasks.clone(), clock));
    tasks.spawn(sampler.clone().run(shutdown));
    let route = |of: Of, definition| VirtualRoute {
        group: GROUP,
        version: VERSION,
        resource: of.plural(),
        subresource: None,
        namespaced: of == Of::Pods,
        kind: of.kind(),
        kind_group_version: None,
        definition: Some(definition),
        verbs: &["get", "list"],
        passing: Passing::Unseen,
        handler: Arc::new(Usage {
            of,
            sampler: sampler.clone(),
        }),
    };
    vec![
        route(
            Of::Nodes,
            (
                "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
                metrics::node_schema,
            ),
        ),
        route(
            Of::Pods,
            (
                "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
                metrics::pod_schema,
            ),
        ),
    ]
}

#[async_trait]
impl Virtual for Usage {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let namespace = cx.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let picked = match cx.verb {
            "get" => vec![self.one(&cx, namespace)?],
            _ => self.selected(&cx, namespace, request.uri().query().unwrap_or_default())?,
        };
        self.sampler.fresh().await;
        let items = self.sampler.read(|history| self.items(history, &picked, &cx))?;
        let accepted = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
        let form = accept::negotiate(accepted, || false)?.form;
        let answer = match (form, cx.verb) {
            (Form::Table, _) => metrics::table(&items).to_json(),
            (_, "get") => items.into_iter().next().unwrap_or_default(),
            _ => {
                json!({"kind": format!("{}List", self.of.kind()), "apiVersion": API_VERSION, "metadata": {}, "items": items})
            }
        };
        let answer = Object::from_value(answer).map_err(|_| Status::internal("no object was made"))?;
        Ok(reply(StatusCode::OK, &answer))
    }
}

/// What is looked at of each pod beside its labels.
const FIELDS: [&str; 2] = ["spec.nodeName", "status.phase"];

impl Usage {
    fn one(&self, cx: &VirtualContext, namespace: Option<&str>) -> Result<Selected, Status> {
        let kind = self.of.objects();
        let found = cx.reader.get(&kind, namespace, &cx.name);
        let found = found.ok_or_else(|| Status::not_found(&kind, &cx.name))?;
        Ok(Selected::of(&found, &FIELDS))
    }

    fn selected(&self, cx: &VirtualContext, namespace: Option<&str>, query: &str) -> Result<Vec<Selected>, Status> {
        let query = Query::parse(query);
        let labels =
            LabelSelector::parse(query.get("labelSelector").unwrap_or_default()).map_err(Status::bad_request)?;
        let fields =
            FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).map_err(Status::bad_request)?;
        let known = |field: &str| field == "metadata.name" || (field == "metadata.namespace" && self.of == Of::Pods);
        if let Some(wrong) = fields.requirements().iter().find(|r| !known(&r.field)) {
            let field = &wrong.field;
            return Err(Status::bad_request(format!("field label not supported: {field}")));
        }
        let wanted: &[&str] = match self.of {
            Of::Nodes => &[],
            Of::Pods => &FIELDS,
        };
        let mut found = cx.reader.select(&self.of.objects(), namespace, &labels, wanted);
        found.retain(|one| {
            fields.matches(|field| match field {
                "metadata.name" => Some(&*one.name.name),
                _ => Some(one.name.namespace.as_deref().unwrap_or_default()),
            })
        });
        Ok(found)
    }

    /// What is known of those that were picked, in their order.
    fn items(&self, history: &History, picked: &[Selected], cx: &VirtualContext) -> Result<Vec<Value>, Status> {
        let is_measured = |one: &Selected| self.of == Of::Nodes || runs_on(one).is_some();
        if picked.iter().any(is_measured) && !history.can_tell() {
            // As of a metrics-server that is not ready yet. Clients come back by themselves.
            let what = format!("{} {}.{GROUP}", cx.verb, self.of.plural());
            let why =
                format!("the server is currently unable to handle the request ({what}): nothing has been measured yet");
            let mut status = Status::service_unavailable(why);
            status.details.get_or_insert_default().retry_after_seconds = RETRY_AFTER;
            return Err(status);
        }
        let item = |one: &Selected| match self.of {
            Of::Nodes => Some(metrics::node(one, history.node(&one.name.name)?, cx.now)),
            Of::Pods => metrics::pod(one, &history.pod(runs_on(one)?, &one.name), cx.now),
        };
        let items: Vec<Value> = picked.iter().filter_map(item).collect();
        match (cx.verb, picked) {
            ("get", [one]) if items.is_empty() => Err(self.of.missing(&named(&one.name))),
            _ => Ok(items),
        }
    }
}

/// The node of a pod that runs.
fn runs_on(pod: &Selected) -> Option<&str> {
    match pod.fields.as_slice() {
        [node, phase] => (phase == "Running").then_some(node),
        _ => None,
    }
}

fn named(name: &NamespacedName) -> String {
    match &name.namespace {
        Some(namespace) => format!("{namespace}/{}", name.name),
        None => name.name.to_string(),
    }
}
