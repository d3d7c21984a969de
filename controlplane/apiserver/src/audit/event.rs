//! One event, as audit.k8s.io/v1 writes it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::HeaderMap;
use http::request::Parts;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::annotations::Sent;
use super::policy::{Level, Stage};
use crate::authn::UserInfo;
use crate::http::info::RequestInfo;

/// Bytes of a user agent that are written down.
const MAX_AGENT: usize = 1024;

/// An event; [`Event::line`] writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    kind: &'static str,
    api_version: &'static str,
    level: Level,
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: &'static str,
    user: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) impersonated_user: Option<Value>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_object: Option<Value>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<Cow<'static, str>, String>,
}

/// What a request is about.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

impl ObjectReference {
    fn of(info: &RequestInfo<'_>) -> Self {
        Self {
            resource: info.resource.to_owned(),
            namespace: info.namespace.clone().into_owned(),
            name: info.name.clone().into_owned(),
            uid: String::new(),
            api_group: info.group.to_owned(),
            api_version: info.version.to_owned(),
            resource_version: String::new(),
            subresource: info.subresource.to_owned(),
        }
    }

    /// Adds what the sent object says of itself.
    pub(super) fn complete(&mut self, sent: Sent) {
        for (part, said) in [
            (&mut self.namespace, sent.namespace),
            (&mut self.name, sent.name),
            (&mut self.uid, sent.uid),
            (&mut self.resource_version, sent.resource_version),
        ] {
            if part.is_empty() {
                *part = said;
            }
        }
    }
}

impl Event {
    pub(super) fn new(
        level: Level,
        id: &str,
        parts: &Parts,
        info: &RequestInfo<'_>,
        user: Option<&UserInfo>,
        source: Option<std::net::IpAddr>,
        received: Timestamp,
    ) -> Self {
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id: id.to_owned(),
            stage: Stage::RequestReceived,
            request_uri: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            verb: info.verb,
            user: user.map_or_else(|| json!({}), crate::authz::review::user_json),
            impersonated_user: None,
            source_ips: sources(&parts.headers, source),
            user_agent: agent(&parts.headers),
            object_ref: info.is_resource.then(|| ObjectReference::of(info)),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: api::time::micro(received),
            stage_timestamp: String::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// The event as it stands at a stage: a line.
    pub(super) fn line(
        &mut self,
        stage: Stage,
        now: Timestamp,
        annotations: BTreeMap<Cow<'static, str>, String>,
    ) -> Vec<u8> {
        self.stage = stage;
        self.stage_timestamp = api::time::micro(now);
        self.annotations = annotations;
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Where a request comes from: whom proxies name, then who is connected.
fn sources(headers: &HeaderMap, peer: Option<std::net::IpAddr>) -> Vec<String> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let forwarded = text("x-forwarded-for").split(',').chain([text("x-real-ip")]);
    let named = forwarded.filter_map(|part| part.trim().parse::<std::net::IpAddr>().ok());
    let mut all: Vec<String> = Vec::new();
    for address in named.chain(peer) {
        let address = address.to_string();
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

fn agent(headers: &HeaderMap) -> String {
    let agent = headers
        .get(http::header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    match agent.get(..MAX_AGENT) {
        Some(start) if agent.len() > MAX_AGENT => format!("{start}...TRUNCATED"),
        _ => agent.to_owned(),
    }
}
