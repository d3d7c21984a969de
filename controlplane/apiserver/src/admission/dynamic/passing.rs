//! What is not stored: objects that an endpoint takes and answers by itself, such as a TokenRequest, and requests that
//! connect to something, with the options that their query holds.

use api::{Object, Status};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value, json};

use super::{KindName, Request, Subject, admit_passing};
use crate::http::body::Body;
use crate::http::query::Query;
use crate::http::route::Route;
use crate::registry::verbs::write_options;
use crate::registry::virtuals::{Passing, VirtualRoute, read_object};

const FLAGS: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];

/// Asks about a request, which may be changed; gives warnings.
pub(crate) async fn admit(
    route: Route<'_>,
    found: &VirtualRoute,
    request: http::Request<Body>,
) -> Result<(http::Request<Body>, Vec<String>), Status> {
    let mut warnings = Vec::new();
    if found.passing == Passing::Unseen {
        return Ok((request, warnings));
    }
    let plans = route.server.dynamic.plans().await?;
    if !plans.mutates() && !plans.validates() {
        return Ok((request, warnings));
    }
    let (group, version) = found.kind_group_version.unwrap_or((found.group, found.version));
    let kind = KindName::new(group, version, found.kind);
    if found.passing == Passing::Connect {
        let mut object = match found.subresource {
            Some("proxy") => proxied(found, route.parts.uri.path()),
            _ => options(found.kind, route.query),
        };
        let asked = asked(route, kind, "CONNECT", Value::Null);
        Box::pin(admit_passing(&plans, &asked, &mut object, &mut warnings)).await?;
        return Ok((request, warnings));
    }
    let (mut parts, body) = request.into_parts();
    let mut object = read_object(http::Request::from_parts(parts.clone(), body)).await?;
    let mut asked = asked(route, kind, "CREATE", write_options(route.query, "CreateOptions"));
    if asked.name.is_empty() {
        asked.name = object.name().to_owned();
    }
    Box::pin(admit_passing(&plans, &asked, &mut object, &mut warnings)).await?;
    parts.headers.remove(CONTENT_LENGTH);
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = Body::from(object.to_vec());
    Ok((http::Request::from_parts(parts, body), warnings))
}

fn asked<'r>(route: Route<'r>, kind: KindName, operation: &'static str, options: Value) -> Request<'r> {
    let info = route.info;
    Request {
        server: route.server,
        user: route.user,
        subject: Subject::Passing(kind),
        operation,
        group: info.group,
        version: info.version,
        resource: info.resource,
        subresource: info.subresource,
        namespace: &info.namespace,
        name: info.name.clone().into_owned(),
        old: None,
        dry_run: route.query.get("dryRun") == Some("All"),
        options,
    }
}

/// What a request that is passed on asks for: the path behind `proxy`.
fn proxied(found: &VirtualRoute, path: &str) -> Object {
    let segments = if found.namespaced { 7 } else { 5 };
    let rest: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).skip(segments).collect();
    let options = json!({"kind": found.kind, "apiVersion": "v1", "path": format!("/{}", rest.join("/"))});
    Object::from_value(options).unwrap_or_default()
}

/// What a request that connects asks for in its query.
fn options(kind: &str, query: &Query<'_>) -> Object {
    let mut map = Map::new();
    map.insert("kind".to_owned(), kind.into());
    map.insert("apiVersion".to_owned(), "v1".into());
    for flag in FLAGS.into_iter().filter(|flag| query.flag(flag)) {
        map.insert(flag.to_owned(), true.into());
    }
    if let Some(container) = query.get("container") {
        map.insert("container".to_owned(), container.into());
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
