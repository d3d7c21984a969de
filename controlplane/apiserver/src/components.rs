//! `componentstatuses`: whether the parts of the control plane are up. Long deprecated, and still what some ask for; nothing
//! of it is stored.

use std::sync::Arc;
use std::time::Duration;

use api::names::GroupResource;
use api::table::{Column, Row, Table};
use api::{FieldSelector, LabelSelector, Object, Status};
use async_trait::async_trait;
use http::StatusCode;
use http::header::ACCEPT;
use k8s_openapi::api::core::v1::ComponentStatus;
use schema::openapi::schema_json;
use serde_json::{Value, json};
use store::Backend;

use crate::http::health::Check;
use crate::http::query::Query;
use crate::http::{accept, respond};
use crate::registry::virtuals::{Passing, Request, Response, Virtual, VirtualContext, VirtualRoute, reply};

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
const STORE: &str = "etcd-0";
const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";

/// Answers for the store and for components that somebody else runs.
struct Components {
    backend: Arc<dyn Backend>,
    others: Vec<Check>,
}

/// Where it stands; `others` are the components beside the store.
pub fn route(backend: Arc<dyn Backend>, others: Vec<Check>) -> VirtualRoute {
    VirtualRoute {
        group: "",
        version: "v1",
        resource: "componentstatuses",
        subresource: None,
        namespaced: false,
        kind: "ComponentStatus",
        kind_group_version: None,
        definition: Some(("io.k8s.api.core.v1.ComponentStatus", schema_json::<ComponentStatus>)),
        verbs: &["get", "list"],
        passing: Passing::Unseen,
        handler: Arc::new(Components { backend, others }),
    }
}

#[async_trait]
impl Virtual for Components {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let found = match cx.verb {
            "get" => vec![self.one(&cx.name).await?],
            _ => self.selected(request.uri().query().unwrap_or_default()).await?,
        };
        let accepted = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
        let form = accept::negotiate(accepted, || true)?.form;
        let answer = if form == accept::Form::Table {
            table(&found)
        } else if cx.verb == "get" {
            found.into_iter().next().map(whole).unwrap_or_default()
        } else {
            json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": found})
        };
        let answer = Object::from_value(answer).map_err(|_| Status::internal("no object was made"))?;
        let mut response = reply(StatusCode::OK, &answer);
        respond::warn(response.headers_mut(), &[DEPRECATED.to_owned()]);
        Ok(response)
    }

    fn short_names(&self) -> &'static [&'static str] {
        &["cs"]
    }
}

impl Components {
    async fn one(&self, name: &str) -> Result<Value, Status> {
        if name == STORE {
            return Ok(status(name, self.store().await));
        }
        let component = self.others.iter().find(|component| component.name == name);
        let component = component.ok_or_else(|| Status::not_found(&GroupResource::new("", "componentstatus"), name))?;
        Ok(status(name, running(component)))
    }

    async fn selected(&self, query: &str) -> Result<Vec<Value>, Status> {
        let query = Query::parse(query);
        let labels =
            LabelSelector::parse(query.get("labelSelector").unwrap_or_default()).map_err(Status::bad_request)?;
        let fields =
            FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).map_err(Status::bad_request)?;
        let mut found = vec![(STORE, self.store().await)];
        found.extend(self.others.iter().map(|component| (component.name, running(component))));
        found.sort_by_key(|(name, _)| *name);
        found.retain(|(name, _)| {
            labels.matches(|_| None) && fields.matches(|field| (field == "metadata.name").then_some(*name))
        });
        Ok(found.into_iter().map(|(name, state)| status(name, state)).collect())
    }

    async fn store(&self) -> Result<(), &'static str> {
        match tokio::time::timeout(PATIENCE, self.backend.revision()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("the store fails"),
            Err(_) => Err("the store does not answer"),
        }
    }
}

fn running(component: &Check) -> Result<(), &'static str> {
    match (component.passes)() {
        true => Ok(()),
        false => Err("not running"),
    }
}

fn status(name: &str, state: Result<(), &str>) -> Value {
    let condition = match state {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(error) => json!({"type": "Healthy", "status": "False", "error": error}),
    };
    json!({"metadata": {"name": name}, "conditions": [condition]})
}

fn whole(mut status: Value) -> Value {
    if let Some(map) = status.as_object_mut() {
        map.insert("kind".to_owned(), "ComponentStatus".into());
        map.insert("apiVersion".to_owned(), "v1".into());
    }
    status
}

fn table(statuses: &[Value]) -> Value {
    let column = |name, description| Column::new(name, "string", description);
    let row = |status: &Value| {
        let text = |pointer: &str| {
            status
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let state = match text("/conditions/0/status").as_str() {
            "True" => "Healthy",
            _ => "Unhealthy",
        };
        let metadata = status.get("metadata").cloned().unwrap_or_default();
        Row {
            cells: vec![
                text("/metadata/name").into(),
                state.into(),
                text("/conditions/0/message").into(),
                text("/conditions/0/error").into(),
            ],
            object: json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
        }
    };
    let table = Table {
        columns: vec![
            Column::name(),
            column("Status", "Whether the component is up."),
            column("Message", "What it says."),
            column("Error", "What is wrong with it."),
        ],
        rows: statuses.iter().map(row).collect(),
        ..Table::default()
    };
    table.to_json()
}
