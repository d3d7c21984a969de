//! CONNECT: requests that reach into something, such as exec, with the options that their query holds.

use api::{Object, Status};
use serde_json::{Map, Value};

use super::{KindName, Request, Subject, admit_passing};
use crate::authn::UserInfo;
use crate::http::info::RequestInfo;
use crate::http::query::Query;
use crate::server::Shared;

/// Resources and parts that are connected to, with the kind of their options.
const KINDS: [(&str, &str, &str); 6] = [
    ("pods", "attach", "PodAttachOptions"),
    ("pods", "exec", "PodExecOptions"),
    ("pods", "portforward", "PodPortForwardOptions"),
    ("pods", "proxy", "PodProxyOptions"),
    ("services", "proxy", "ServiceProxyOptions"),
    ("nodes", "proxy", "NodeProxyOptions"),
];
const FLAGS: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];

/// The kind of the options with which a request connects, if it does.
fn kind(info: &RequestInfo<'_>) -> Option<&'static str> {
    let found = KINDS
        .iter()
        .find(|(resource, part, _)| (*resource, *part) == (info.resource, info.subresource));
    found.filter(|_| info.group.is_empty()).map(|(_, _, kind)| *kind)
}

/// Asks about a request that connects, if it does; gives warnings.
pub(crate) async fn admit(
    server: &std::sync::Arc<Shared>,
    user: &UserInfo,
    info: &RequestInfo<'_>,
    query: &Query<'_>,
) -> Result<Vec<String>, Status> {
    let mut warnings = Vec::new();
    let Some(kind) = kind(info) else { return Ok(warnings) };
    let plans = server.dynamic.plans().await?;
    if !plans.mutates() && !plans.validates() {
        return Ok(warnings);
    }
    let request = Request {
        server,
        user,
        subject: Subject::Passing(KindName::new("", "v1", kind)),
        operation: "CONNECT",
        group: info.group,
        version: info.version,
        resource: info.resource,
        subresource: info.subresource,
        namespace: &info.namespace,
        name: info.name.clone().into_owned(),
        old: None,
        dry_run: false,
        options: Value::Null,
    };
    let mut object = options(kind, query);
    Box::pin(admit_passing(&plans, &request, &mut object, &mut warnings)).await?;
    Ok(warnings)
}

fn options(kind: &str, query: &Query<'_>) -> Object {
    let mut map = Map::new();
    map.insert("kind".to_owned(), kind.into());
    map.insert("apiVersion".to_owned(), "v1".into());
    for flag in FLAGS.into_iter().filter(|flag| query.flag(flag)) {
        map.insert(flag.to_owned(), true.into());
    }
    for name in ["container", "path"] {
        if let Some(text) = query.get(name) {
            map.insert(name.to_owned(), text.into());
        }
    }
    let command: Vec<Value> = query.all("command").map(Value::from).collect();
    if !command.is_empty() {
        map.insert("command".to_owned(), command.into());
    }
    let ports: Vec<Value> = query
        .all("ports")
        .flat_map(|ports| ports.split(','))
        .filter_map(|port| port.parse::<u16>().ok().map(Value::from))
        .collect();
    if !ports.is_empty() {
        map.insert("ports".to_owned(), ports.into());
    }
    Object::from_value(Value::Object(map)).unwrap_or_default()
}
