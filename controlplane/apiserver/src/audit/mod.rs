//! The audit log: who asked what, and what became of it, as far as a policy wants it (audit.k8s.io/v1).
//!
//! An [`Entry`] goes with a request from the moment it is known who asks, and writes an event at each stage. Without a
//! policy there is none, and nothing is done. Bodies are only read where the policy wants them; an entry that is dropped
//! before its end writes that end.

pub(crate) mod annotations;
mod event;
pub mod log;
pub mod policy;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::annotations::Annotations;
use self::event::Event;
use self::log::Log;
use self::policy::{Level, Policy, Stage, Wanted};
use crate::authn::UserInfo;
use crate::http::body::{Body, BodyError};
use crate::http::decode::{Media, parse, read};
use crate::http::info::RequestInfo;
use crate::server::Clock;

/// What is written down, and where.
#[derive(Clone, Debug)]
pub struct Config {
    pub policy: Policy,
    pub output: log::Output,
}

/// Writes down what its policy wants.
pub(crate) struct Audit {
    pub(crate) policy: Policy,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
}

/// One request that is written down.
pub(crate) struct Entry {
    audit: Arc<Audit>,
    wanted: Wanted,
    event: Mutex<Event>,
    annotations: Annotations,
    ended: bool,
}

impl Audit {
    /// Begins to write down a request; `None` where the policy does not want it.
    pub(crate) fn begin(
        self: &Arc<Self>,
        id: &str,
        parts: &Parts,
        info: &RequestInfo<'_>,
        user: &UserInfo,
        source: Option<IpAddr>,
    ) -> Option<Entry> {
        let wanted = self.policy.evaluate(info, Some(user))?;
        let event = Event::new(wanted.level, id, parts, info, Some(user), source, (self.clock)());
        let entry = Entry {
            audit: self.clone(),
            wanted,
            event: Mutex::new(event),
            annotations: Annotations::default(),
            ended: false,
        };
        entry.write(Stage::RequestReceived);
        Some(entry)
    }

    /// Writes down a request of somebody whose credentials are not valid.
    pub(crate) fn unauthenticated(
        self: &Arc<Self>,
        id: &str,
        parts: &Parts,
        info: &RequestInfo<'_>,
        source: Option<IpAddr>,
    ) {
        let Some(wanted) = self.policy.evaluate(info, None) else {
            return;
        };
        if wanted.omit_stages.contains(&Stage::ResponseStarted) {
            return;
        }
        let now = (self.clock)();
        let mut event = Event::new(wanted.level, id, parts, info, None, source, now);
        event.response_status = Some(json!({"metadata": {}, "status": "Failure", "code": 401,
            "message": "Authentication failed, attempted: bearer", "reason": "Unauthorized"}));
        self.log
            .send(event.line(Stage::ResponseStarted, now, Default::default()));
    }
}

impl Entry {
    /// Where the request's steps say what is added to the event.
    pub(crate) fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    /// Whom the request acts as.
    pub(crate) fn impersonates(&self, user: &UserInfo) {
        self.event.lock().impersonated_user = Some(crate::authz::review::user_json(user));
    }

    /// Notes what is sent, where that is wanted; gives the body back.
    pub(crate) async fn request(
        &self,
        info: &RequestInfo<'_>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Body, api::Status> {
        let sends = matches!(info.verb, "create" | "update" | "patch" | "delete" | "deletecollection");
        if self.wanted.level < Level::Request || !sends || !info.is_resource || info.is_long_running() {
            return Ok(body);
        }
        let bytes = read(body).await?;
        if let Some(mut object) = tree(headers, &bytes) {
            self.trim(&mut object);
            self.event.lock().request_object = Some(object);
        }
        Ok(bytes.into())
    }

    /// Notes the answer, and ends with it; of an answer that lasts, with its last byte. What an answer says is noted where
    /// it is in memory: a stream, of another server perhaps, goes on unread.
    pub(crate) fn answered(mut self, lasts: bool, response: Response<Body>) -> Response<Body> {
        let (parts, mut body) = response.into_parts();
        let failed = parts.status.is_client_error() || parts.status.is_server_error();
        let mut object = None;
        if !lasts && (failed || self.wanted.level >= Level::RequestResponse) {
            body = match body.into_chunks() {
                Ok(chunks) => {
                    let bytes = whole(chunks);
                    object = tree(&parts.headers, &bytes);
                    bytes.into()
                }
                Err(body) => body,
            };
        }
        self.event.lock().response_status = Some(status(parts.status, object.as_ref()));
        if lasts {
            self.write(Stage::ResponseStarted);
            return Response::from_parts(parts, Body::wrap(Lasting { body, _entry: self }));
        }
        if let Some(mut object) = object.filter(|_| self.wanted.level >= Level::RequestResponse) {
            self.trim(&mut object);
            self.event.lock().response_object = Some(object);
        }
        self.ended = true;
        self.write(Stage::ResponseComplete);
        Response::from_parts(parts, body)
    }

    fn write(&self, stage: Stage) {
        if self.wanted.omit_stages.contains(&stage) {
            return;
        }
        let now = (self.audit.clock)();
        let mut event = self.event.lock();
        if let (Some(reference), Some(sent)) = (&mut event.object_ref, self.annotations.sent()) {
            reference.complete(sent);
        }
        let line = event.line(stage, now, self.annotations.said());
        drop(event);
        self.audit.log.send(line);
    }

    /// Removes the books of field managers, where the policy does not want them.
    fn trim(&self, object: &mut Value) {
        if !self.wanted.omit_managed_fields {
            return;
        }
        remove_managed_fields(object);
        for (list, inner) in [("items", ""), ("rows", "/object")] {
            let entries = object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            entries
                .filter_map(|entry| entry.pointer_mut(inner))
                .for_each(remove_managed_fields);
        }
    }
}

fn remove_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut event = self.event.lock();
        let stage = match std::thread::panicking() {
            true => {
                event.response_status = Some(json!({"metadata": {}, "status": "Failure", "code": 500,
                    "reason": "InternalError", "message": "APIServer panic'd"}));
                Stage::Panic
            }
            false => {
                event.response_status.get_or_insert_with(
                    || json!({"metadata": {}, "status": "Success", "code": 200, "message": "Connection closed early"}),
                );
                Stage::ResponseComplete
            }
        };
        drop(event);
        self.write(stage);
    }
}

/// A body as a tree, whatever it is written in; `None` for what is none, such as logs.
fn tree(headers: &HeaderMap, bytes: &Bytes) -> Option<Value> {
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|media| media.to_str().ok())
        .unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default();
    if bytes.is_empty() {
        return None;
    }
    match media {
        "application/vnd.kubernetes.protobuf" => schema::protobuf::decode(bytes).ok(),
        "application/yaml" | "application/apply-patch+yaml" => {
            parse(bytes, Media::Yaml).ok().map(api::Object::into_value)
        }
        "" | "application/json" => serde_json::from_slice(bytes).ok(),
        patch if patch.ends_with("+json") => serde_json::from_slice(bytes).ok(),
        _ => None,
    }
}

/// `responseStatus`: the code, and what a Status says more.
fn status(code: StatusCode, object: Option<&Value>) -> Value {
    let mut status = json!({"metadata": {}, "code": code.as_u16()});
    if let Some(said) = object.filter(|object| object.get("kind").is_some_and(|kind| kind == "Status")) {
        for field in ["status", "message", "reason", "details"] {
            if let (Some(value), Some(status)) = (said.get(field), status.as_object_mut()) {
                status.insert(field.to_owned(), value.clone());
            }
        }
    }
    status
}

fn whole(chunks: impl Iterator<Item = Bytes>) -> Bytes {
    let mut all = BytesMut::new();
    chunks.for_each(|chunk| all.extend_from_slice(&chunk));
    all.freeze()
}

/// A body whose entry ends with it.
struct Lasting {
    body: Body,
    _entry: Entry,
}

impl HttpBody for Lasting {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
