//! From an authorized request to the verb, endpoint or document that answers it.

use std::sync::Arc;

use api::names::{GroupResource, is_path_segment_name};
use api::{Object, Status};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::accept::{Encoding, Form, Include};
use super::body::Body;
use super::decode::{Media, content, content_of, content_type, content_without_protobuf, parse, read};
use super::info::RequestInfo;
use super::metrics::Target;
use super::negotiate::{accepted, accepted_virtual, is_built_in};
use super::query::Query;
use super::{health, pipeline, respond};
use crate::admission::dynamic::passing;
use crate::aggregation::{self, Remote};
use crate::authn::UserInfo;
use crate::flowcontrol;
use crate::images;
use crate::registry::catalog::Endpoint;
use crate::registry::render;
use crate::registry::resource::Subresource;
use crate::registry::verbs::{self, Answer, Call, DeleteOptions, Flavour, PatchType, Reply};
use crate::registry::virtuals::{VirtualContext, VirtualRoute};
use crate::server::Shared;

/// One authorized request.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) server: &'a Arc<Shared>,
    pub(crate) user: &'a Arc<UserInfo>,
    pub(crate) parts: &'a Parts,
    pub(crate) info: &'a RequestInfo<'a>,
    pub(crate) query: &'a Query<'a>,
    /// Whether the admission that users bring along has had its say, on the way by which the request came here.
    pub(crate) admitted: bool,
}

pub(super) async fn dispatch(route: Route<'_>, body: Body) -> Result<Response<Body>, Status> {
    if !route.info.is_resource {
        return document(route, body).await;
    }
    if let Some(remote) = route.server.aggregator.remote(route.info.group, route.info.version) {
        return Ok(pass_on(route, &remote, body).await);
    }
    if let Some(found) = virtual_route(route.server, route.info) {
        return call_virtual(route, found, body).await;
    }
    let info = route.info;
    let endpoint = route.server.registry.endpoint(info.group, info.version, info.resource);
    let endpoint = endpoint
        .filter(|endpoint| in_scope(endpoint, info))
        .ok_or_else(Status::no_such_path)?;
    let endpoint = &endpoint;
    check_name(info)?;
    let subresource = match info.subresource {
        "" => None,
        name => Some(endpoint.subresource(name).ok_or_else(Status::no_such_path)?),
    };
    // What is refused while a definition goes is refused by its verbs, in words of their own.
    let verbs = subresource.map_or(endpoint.resource().verbs, Subresource::verbs);
    let nameless = info.name.is_empty() && matches!(info.verb, "update" | "patch");
    if nameless || !verbs.contains(&info.verb) {
        return Err(Status::method_not_supported(&endpoint.group_resource(), info.verb));
    }
    let accepted = accepted(route, endpoint, subresource)?;
    let agent = route.parts.headers.get(http::header::USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok());
    let manager = verbs::manager(route.query.get("fieldManager"), agent);
    let call = Call {
        server: route.server,
        endpoint,
        info,
        user: route.user,
        query: route.query,
        accepted,
        manager: &manager,
        extended: !route.admitted,
        now: route.server.now(),
    };
    let mut response = match subresource {
        None => Box::pin(whole(call, route, body)).await,
        Some(subresource) => Box::pin(part(call, route, subresource, body)).await,
    }?;
    let by_version = endpoint
        .served()
        .view
        .as_ref()
        .and_then(|view| view.deprecated.as_deref());
    if let Some(words) = endpoint.resource().deprecated.or(by_version) {
        respond::warn(response.headers_mut(), &[words.to_owned()]);
    }
    Ok(response)
}

/// What a request is counted as.
pub(super) fn target(server: &Shared, info: &RequestInfo<'_>) -> Target {
    if let Some(found) = virtual_route(server, info) {
        return Target {
            group: found.group.into(),
            version: found.version.into(),
            resource: found.resource.into(),
            subresource: found.subresource.unwrap_or_default(),
        };
    }
    let endpoint = server.registry.endpoint(info.group, info.version, info.resource);
    let stored = endpoint.and_then(|endpoint| {
        let subresource = match info.subresource {
            "" => "",
            name => endpoint.subresource(name)?.name(),
        };
        Some(Target {
            group: endpoint.served().group.clone(),
            version: endpoint.served().version.clone(),
            resource: endpoint.resource().plural.clone(),
            subresource,
        })
    });
    stored.unwrap_or_default()
}

/// Whether path and kind agree about the namespace.
fn in_scope(endpoint: &Endpoint, info: &RequestInfo<'_>) -> bool {
    let collection =
        matches!(info.verb, "list" | "watch" | "deletecollection" | "create") && info.subresource.is_empty();
    match (endpoint.resource().is_namespaced(), info.namespace.is_empty()) {
        _ if info.trailing => false,
        (true, true) => collection,
        (true, false) | (false, true) => true,
        // The namespace of a Namespace is itself.
        (false, false) => info.resource == "namespaces",
    }
}

fn check_name(info: &RequestInfo<'_>) -> Result<(), Status> {
    for (what, text) in [("Name", &info.name), ("Namespace", &info.namespace)] {
        if let Some(problem) = is_path_segment_name(text).first() {
            return Err(Status::bad_request(format!(
                "{what} parameter invalid: {text:?}: {problem}"
            )));
        }
    }
    Ok(())
}

/// The verbs on whole objects and collections.
async fn whole(call: Call<'_>, route: Route<'_>, body: Body) -> Result<Response<Body>, Status> {
    let include = include(call.query)?;
    match call.info.verb {
        "get" => {
            let item = verbs::get(&call).await?;
            let bytes = match call.accepted.form {
                Form::Table => {
                    let shown = render::shown(call.endpoint, &item);
                    render::table(call.endpoint, include, &shown, call.now, true)
                }
                form => render::cached(call.endpoint, form, &item),
            };
            Ok(respond::document(
                StatusCode::OK,
                bytes,
                call.accepted.encoding,
                call.accepted.pretty,
            ))
        }
        "list" => {
            let list = verbs::list(&call, include).await?;
            collection(call, list).await
        }
        "watch" => {
            let stream = verbs::watch(&call, include).await?;
            let media = match call.accepted.encoding {
                Encoding::Protobuf => respond::PROTOBUF_STREAM,
                Encoding::Json | Encoding::Yaml => respond::JSON,
            };
            Ok(respond::with_type(StatusCode::OK, media, stream))
        }
        "create" => {
            if call.endpoint.resource().is_namespaced() && call.namespace().is_none() {
                return Err(Status::method_not_supported(&call.endpoint.group_resource(), "create"));
            }
            let (bytes, media) = own_content(&call, &route.parts.headers, body).await?;
            finish(&call, include, verbs::create(&call, &bytes, media).await?)
        }
        "update" => {
            let (bytes, media) = own_content(&call, &route.parts.headers, body).await?;
            finish(
                &call,
                include,
                verbs::update(&call, Flavour::Whole, &bytes, media).await?,
            )
        }
        "patch" => {
            let patch_type = patch_type(&call, content_type(&route.parts.headers))?;
            let bytes = read(body).await?;
            finish(
                &call,
                include,
                verbs::patch(&call, Flavour::Whole, patch_type, &bytes).await?,
            )
        }
        "delete" => {
            let options = delete_options(&call, route.parts, body).await?;
            match verbs::delete(&call, &options).await? {
                Answer::Object(reply) => finish(&call, include, reply),
                Answer::Status(status, warnings) => {
                    let bytes = status.to_vec().into();
                    let code = StatusCode::OK;
                    as_it_is(&call, Reply { code, bytes, warnings })
                }
            }
        }
        "deletecollection" => {
            let options = delete_options(&call, route.parts, body).await?;
            let list = verbs::delete_collection(&call, &options).await?;
            Ok(respond::document(
                StatusCode::OK,
                list,
                call.accepted.encoding,
                call.accepted.pretty,
            ))
        }
        other => Err(Status::method_not_supported(&call.endpoint.group_resource(), other)),
    }
}

/// The verbs on a part of an object.
async fn part(
    call: Call<'_>,
    route: Route<'_>,
    subresource: &Subresource,
    body: Body,
) -> Result<Response<Body>, Status> {
    let headers = &route.parts.headers;
    let include = include(call.query)?;
    let flavour = match subresource {
        Subresource::Finalize => Flavour::Finalizers,
        Subresource::EphemeralContainers | Subresource::Resize => Flavour::Whole,
        _ => Flavour::Status,
    };
    match (subresource, call.info.verb) {
        (Subresource::Scale { .. }, "get") => {
            let scale = verbs::get_scale(&call, include).await?;
            Ok(respond::document(
                StatusCode::OK,
                scale,
                call.accepted.encoding,
                call.accepted.pretty,
            ))
        }
        (Subresource::Scale { .. }, "update") => {
            let (bytes, media) = content(headers, body).await?;
            as_it_is(&call, verbs::update_scale(&call, &bytes, media).await?)
        }
        (Subresource::Scale { .. }, _) => {
            let patch_type = patch_type(&call, content_type(headers))?;
            let bytes = read(body).await?;
            as_it_is(&call, verbs::patch_scale(&call, patch_type, &bytes).await?)
        }
        (Subresource::Binding, _) => {
            let (status, warnings) = crate::pods::bind(&call, object(route.parts, body).await?).await?;
            let (code, bytes) = (StatusCode::CREATED, status.to_vec().into());
            as_it_is(&call, Reply { code, bytes, warnings })
        }
        (Subresource::Eviction, _) => {
            let (status, warnings) = crate::pods::evict(&call, object(route.parts, body).await?).await?;
            let (code, bytes) = (StatusCode::CREATED, status.to_vec().into());
            as_it_is(&call, Reply { code, bytes, warnings })
        }
        (_, "get") => {
            let item = verbs::get(&call).await?;
            let shown = render::shown(call.endpoint, &item);
            let bytes = render::object(call.endpoint, call.accepted.form, include, &shown, call.now);
            Ok(respond::document(
                StatusCode::OK,
                bytes,
                call.accepted.encoding,
                call.accepted.pretty,
            ))
        }
        (_, "update") => {
            let (bytes, media) = own_content(&call, headers, body).await?;
            finish(&call, include, verbs::update(&call, flavour, &bytes, media).await?)
        }
        _ => {
            let patch_type = patch_type(&call, content_type(headers))?;
            let bytes = read(body).await?;
            finish(&call, include, verbs::patch(&call, flavour, patch_type, &bytes).await?)
        }
    }
}

/// The content of a body that holds an object of the call's own kind.
async fn own_content(call: &Call<'_>, headers: &http::HeaderMap, body: Body) -> Result<(Bytes, Media), Status> {
    let served = call.endpoint.served();
    let kind = &call.endpoint.resource().kind;
    let usual = matches!(
        content_type(headers),
        None | Some("" | "application/json" | "application/yaml")
    );
    match usual || is_built_in(call.endpoint) {
        true => content_of(headers, body, &served.version, kind).await,
        false => content_without_protobuf(headers, body).await,
    }
}

/// Custom resources have no strategic merge patch: nothing is known of how their lists merge but what apply is told.
fn patch_type(call: &Call<'_>, content_type: Option<&str>) -> Result<PatchType, Status> {
    const CUSTOM: [&str; 3] = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    ];
    match (PatchType::parse(content_type), &call.endpoint.kind.custom) {
        (Ok(PatchType::Strategic) | Err(_), Some(_)) => Err(Status::unsupported_media_type(&CUSTOM)),
        (parsed, _) => parsed,
    }
}

async fn object(parts: &Parts, body: Body) -> Result<Object, Status> {
    let (bytes, media) = content(&parts.headers, body).await?;
    parse(&bytes, media)
}

async fn delete_options(call: &Call<'_>, parts: &Parts, body: Body) -> Result<DeleteOptions, Status> {
    if body.is_end_stream() {
        return DeleteOptions::parse(call.query, None);
    }
    let (bytes, media) = content(&parts.headers, body).await?;
    if bytes.is_empty() {
        return DeleteOptions::parse(call.query, None);
    }
    let body = parse(&bytes, media)?;
    DeleteOptions::parse(call.query, Some(&body))
}

/// An object in the form, version and encoding that were asked for.
fn finish(call: &Call<'_>, include: Include, reply: Reply) -> Result<Response<Body>, Status> {
    let bytes = render::object(call.endpoint, call.accepted.form, include, &reply.bytes, call.now);
    as_it_is(call, Reply { bytes, ..reply })
}

fn as_it_is(call: &Call<'_>, reply: Reply) -> Result<Response<Body>, Status> {
    let mut response = respond::document(reply.code, reply.bytes, call.accepted.encoding, call.accepted.pretty);
    respond::warn(response.headers_mut(), &reply.warnings);
    Ok(response)
}

/// A list goes out as it is made, unless it has to be rewritten as a whole.
async fn collection(call: Call<'_>, list: Body) -> Result<Response<Body>, Status> {
    let answer = |media, body| Ok(respond::with_type(StatusCode::OK, media, body));
    match call.accepted.encoding {
        Encoding::Json if call.accepted.pretty => answer(respond::JSON, respond::indented(list)),
        Encoding::Json => answer(respond::JSON, list),
        Encoding::Protobuf => answer(respond::PROTOBUF_TYPE, list),
        Encoding::Yaml => {
            let joined = list.collect().await;
            let joined = joined.map_err(|error| Status::internal(&error.to_string()))?;
            let joined: Bytes = joined.to_bytes();
            Ok(respond::document(StatusCode::OK, joined, Encoding::Yaml, false))
        }
    }
}

fn include(query: &Query<'_>) -> Result<Include, Status> {
    match query.get("includeObject") {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => Err(Status::bad_request(format!(
            "unrecognized includeObject value: {other:?}"
        ))),
    }
}

fn virtual_route<'s>(server: &'s Shared, info: &RequestInfo<'_>) -> Option<&'s VirtualRoute> {
    server.virtuals.iter().find(|route| {
        route.resource == info.resource
            && route.subresource.unwrap_or_default() == info.subresource
            && route.group == info.group
            && route.version == info.version
    })
}

async fn call_virtual(route: Route<'_>, found: &VirtualRoute, body: Body) -> Result<Response<Body>, Status> {
    let info = route.info;
    let Some(verb) = found.verbs.iter().copied().find(|verb| *verb == info.verb) else {
        return Err(Status::method_not_supported(
            &GroupResource::new(info.group, info.resource),
            info.verb,
        ));
    };
    // A list may be of one name, by its field selector, and of every namespace.
    let named = found.subresource.is_some() || matches!(verb, "get" | "delete");
    let misnamed = named == info.name.is_empty() && !collects(verb) && !images::is_registry(info.path);
    let beyond = info.trailing && found.subresource != Some("proxy");
    let everywhere = collects(verb) && found.subresource.is_none() && info.namespace.is_empty();
    let misplaced = found.namespaced == info.namespace.is_empty() && !(found.namespaced && everywhere);
    if beyond || misplaced || misnamed {
        return Err(Status::no_such_path());
    }
    check_name(info)?;
    if enters_by_get(route) {
        // A browser's WebSocket is a GET; who may only look must not act by it.
        pipeline::authorize_also(route.server, info, route.query, route.user, "create").await?;
    }
    if let Some(part) = found.handler.stands_for() {
        return pass_to_part(route, found, part, body).await;
    }
    let accepted = match accepted_virtual(route, found) {
        // An object has but one form; what is none (a log, a stream) goes out whatever the caller accepts.
        Err(status) if found.definition.is_some() => return Err(status),
        accepted => accepted,
    };
    let context = VirtualContext {
        user: route.user.clone(),
        now: route.server.now(),
        verb,
        namespace: (!info.namespace.is_empty()).then(|| info.namespace.clone().into_owned()),
        name: info.name.clone().into_owned(),
        dry_run: route.query.get("dryRun") == Some("All"),
        reader: route.server.reader.clone(),
        ending: route.server.ending.clone(),
    };
    let mut request = http::Request::new(body);
    *request.method_mut() = route.parts.method.clone();
    *request.uri_mut() = route.parts.uri.clone();
    *request.headers_mut() = route.parts.headers.clone();
    *request.extensions_mut() = route.parts.extensions.clone();
    let (request, warnings) = Box::pin(passing::admit(route, found, request)).await?;
    let mut response = found.handler.call(context, request).await?;
    respond::warn(response.headers_mut(), &warnings);
    Ok(match accepted {
        Ok(accepted) => respond::in_encoding(response, accepted),
        Err(_) => response,
    })
}

fn collects(verb: &str) -> bool {
    matches!(verb, "list" | "watch")
}

/// Has a part of the object answer that the body names. Admission sees the request as it came.
fn pass_to_part<'a>(
    route: Route<'a>,
    found: &'a VirtualRoute,
    (resource, subresource): (&'static str, &'static str),
    body: Body,
) -> BoxFuture<'a, Result<Response<Body>, Status>> {
    Box::pin(async move {
        let (bytes, media) = content(&route.parts.headers, body).await?;
        let mut parts = route.parts.clone();
        // What came as protobuf has been decoded.
        let media = match media {
            Media::Yaml => "application/yaml",
            Media::Json => "application/json",
        };
        let media = http::HeaderValue::from_static(media);
        parts.headers.insert(http::header::CONTENT_TYPE, media);
        let request = http::Request::from_parts(parts, Body::from(bytes));
        let (request, warnings) = passing::admit(route, found, request).await?;
        let (parts, body) = request.into_parts();
        let (bytes, media) = content(&parts.headers, body).await?;
        let name = parse(&bytes, media)?.name().to_owned();
        if name.is_empty() {
            return Err(Status::bad_request("name is required"));
        }
        let info = RequestInfo {
            resource,
            subresource,
            name: name.into(),
            namespace: route.info.namespace.clone(),
            ..*route.info
        };
        let route = Route {
            info: &info,
            parts: &parts,
            admitted: true,
            ..route
        };
        let mut response = dispatch(route, Body::from(bytes)).await?;
        respond::warn(response.headers_mut(), &warnings);
        Ok(response)
    })
}

/// Whether a GET, such as that of a WebSocket, is to lead into a pod, which otherwise takes a POST.
fn enters_by_get(route: Route<'_>) -> bool {
    let info = route.info;
    let enters = match (info.group, info.resource) {
        ("", "pods") => matches!(info.subresource, "exec" | "attach" | "portforward"),
        // The same, by the way of the kubelet.
        ("", "nodes") => info.subresource == "proxy",
        _ => false,
    };
    enters && info.verb == "get" && route.parts.headers.contains_key(http::header::UPGRADE)
}

/// Has another server answer.
async fn pass_on(route: Route<'_>, remote: &Remote, body: Body) -> Response<Body> {
    let lasts = route.info.is_long_running();
    Box::pin(aggregation::pass(
        route.server,
        remote,
        route.user,
        route.parts,
        body,
        lasts,
    ))
    .await
}

/// The server that describes a group and version, where a path asks for the discovery or the OpenAPI of one.
fn remote_document(route: Route<'_>) -> Option<Arc<Remote>> {
    let path = route.info.path.trim_matches('/');
    let path = path.strip_prefix("openapi/v3/").unwrap_or(path);
    let (group, version) = match path.split_once('/')? {
        ("api", version) => ("", version),
        ("apis", rest) => rest.split_once('/')?,
        _ => return None,
    };
    route.server.aggregator.remote(group, version)
}

/// What is not a resource: discovery, OpenAPI, health, version, metrics.
async fn document(route: Route<'_>, body: Body) -> Result<Response<Body>, Status> {
    let Route {
        server, parts, query, ..
    } = route;
    if let Some(remote) = remote_document(route) {
        return Ok(pass_on(route, &remote, body).await);
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Status::no_such_path());
    }
    let path = parts.uri.path();
    match path.trim_end_matches('/') {
        "/healthz" | "/livez" | "/readyz" => Ok(health::answer(server, path, query).await),
        "/version" => Ok(respond::json(
            StatusCode::OK,
            super::discovery::version(&server.version),
        )),
        "/metrics" => Ok(respond::with_type(
            StatusCode::OK,
            http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
            Body::from(
                (server.metrics.text(&server.registry) + &flowcontrol::metrics(&server.flow_control)).into_bytes(),
            ),
        )),
        "/v2" if server.virtuals.iter().any(|route| route.group == images::GROUP) => Ok(images::there()),
        trimmed => {
            if trimmed == "/openapi/v2" {
                return super::openapi::v2::answer(server, parts).await;
            }
            if let Some(name) = trimmed.strip_prefix("/debug/api_priority_and_fairness/") {
                let text =
                    flowcontrol::dump(&server.flow_control, name, server.now()).ok_or_else(Status::no_such_path)?;
                return Ok(respond::text(StatusCode::OK, text));
            }
            if let Some(rest) = trimmed.strip_prefix("/openapi/v3") {
                return super::openapi::answer(server, rest.trim_start_matches('/'), parts, query).await;
            }
            if let Some(published) = super::published::answer(&server.published, trimmed) {
                return Ok(published);
            }
            if let Some(check) = health::single(trimmed) {
                return health::one(server, check).await.ok_or_else(Status::no_such_path);
            }
            server
                .discovery
                .answer(trimmed, &parts.headers)
                .ok_or_else(Status::no_such_path)
        }
    }
}
