//! Follows the FlowSchemas and priority levels: what they say is in force at once, who refers to a level that does not
//! exist is told so in its status, and what every cluster must have is made again when it is gone.

use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::names::GroupResource;
use api::time::rfc3339;
use futures::{StreamExt, stream};
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use crate::bootstrap;
use crate::own;
use crate::server::Shared;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// How often the levels' seats are shared out anew.
const ADJUST: Duration = Duration::from_secs(10);
/// How often it is looked whether what must be there is.
const ENSURE: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 16;

/// Keeps flow control up to date until the server ends.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let follow = async {
        shared.registry.ready().await;
        follow(&shared).await;
    };
    tokio::select! {
        () = follow => {}
        () = shutdown.cancelled() => {}
    }
}

async fn follow(shared: &Arc<Shared>) {
    let (levels, schemas) = (kind("prioritylevelconfigurations"), kind("flowschemas"));
    let (mut levels_changed, mut schemas_changed) = (shared.reader.changes(&levels), shared.reader.changes(&schemas));
    let mut adjust = interval_at(Instant::now() + ADJUST, ADJUST);
    let mut ensure = interval_at(Instant::now() + ENSURE, ENSURE);
    let mut touched = false;
    sync(shared).await;
    loop {
        tokio::select! {
            changed = levels_changed.changed() => if changed.is_err() { return },
            changed = schemas_changed.changed() => if changed.is_err() { return },
            _ = adjust.tick() => {
                match shared.flow_control.has_idle_remains() {
                    true => sync(shared).await,
                    false => shared.flow_control.adjust(),
                }
                continue;
            }
            _ = ensure.tick() => {
                if std::mem::take(&mut touched) {
                    ensure_standard(shared).await;
                }
                continue;
            }
        }
        touched = true;
        sync(shared).await;
    }
}

fn kind(plural: &str) -> GroupResource {
    GroupResource::new(GROUP, plural)
}

async fn ensure_standard(shared: &Arc<Shared>) {
    let client = own::client(shared);
    if let Err(error) = bootstrap::flow_control(&client).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "the standard objects of flow control could not be written");
    }
}

/// Puts in force what is stored, and says whose level is missing.
pub(crate) async fn sync(shared: &Arc<Shared>) {
    let levels = shared.reader.list(&kind("prioritylevelconfigurations"), None);
    let schemas = shared.reader.list(&kind("flowschemas"), None);
    shared.flow_control.digest(&levels, &schemas);
    let changes = schemas.iter().filter_map(|schema| {
        let condition = dangling(schema, &levels, rfc3339(shared.now()))?;
        let path = format!("/apis/{GROUP}/v1/flowschemas/{}/status", schema.name());
        let others = schema.list_at("status.conditions").iter();
        let others = others.filter(|other| other.get("type") != condition.get("type"));
        let conditions: Vec<&Value> = others.chain([&condition]).collect();
        Some((
            path,
            json!({"metadata": {"uid": schema.uid()}, "status": {"conditions": conditions}}),
        ))
    });
    let changes: Vec<(String, Value)> = changes.collect();
    stream::iter(changes)
        .for_each_concurrent(AT_ONCE, |(path, patch)| async move {
            own::send(shared, Method::PATCH, &path, &patch).await;
        })
        .await;
}

/// The `Dangling` condition of a schema, where it has to be another.
fn dangling(schema: &Object, levels: &[Arc<Object>], now: String) -> Option<Value> {
    let name = schema
        .str_at("spec.priorityLevelConfiguration.name")
        .unwrap_or_default();
    let exists = levels.iter().any(|level| level.name() == name);
    let about = format!("This FlowSchema references the PriorityLevelConfiguration object named {name:?}");
    let (status, reason, message) = match exists {
        true => ("False", "Found", format!("{about} and it exists")),
        false => ("True", "NotFound", format!("{about} but there is no such object")),
    };
    let wanted = [("status", status), ("reason", reason), ("message", &message)];
    let same = |condition: &&Value| {
        condition.get("type").and_then(Value::as_str) == Some("Dangling")
            && wanted
                .iter()
                .all(|(field, text)| condition.get(*field).and_then(Value::as_str) == Some(*text))
    };
    if schema
        .list_at("status.conditions")
        .iter()
        .any(|condition| same(&condition))
    {
        return None;
    }
    Some(json!({"type": "Dangling", "status": status, "reason": reason, "message": message, "lastTransitionTime": now}))
}
