//! `sessions` of `ui.wherry.dev`: creating one signs a browser in, deleting `current` signs it out. RBAC decides, as of
//! everything; the default roles let everybody try.

use std::sync::Arc;

use api::names::GroupResource;
use api::{Object, Status};
use async_trait::async_trait;
use http::header::{AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use super::{Holder, LASTS, MAX_TOKEN, Sessions, cookie};
use crate::registry::virtuals::{
    Passing, Request, Response, Virtual, VirtualContext, VirtualRoute, read_object, reply,
};

const GROUP: &str = "ui.wherry.dev";
const RESOURCE: &str = "sessions";
/// The name of whichever session a request is made in.
const CURRENT: &str = "current";

struct Endpoint(Arc<Sessions>);

/// Where sessions stand.
pub(crate) fn routes(sessions: Arc<Sessions>) -> VirtualRoute {
    VirtualRoute {
        group: GROUP,
        version: "v1",
        resource: RESOURCE,
        subresource: None,
        namespaced: false,
        kind: "Session",
        kind_group_version: None,
        definition: None,
        verbs: &["create", "delete"],
        passing: Passing::Unseen,
        handler: Arc::new(Endpoint(sessions)),
    }
}

#[async_trait]
impl Virtual for Endpoint {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let headers = request.headers().clone();
        // Another site must neither sign a browser in as somebody of its choice nor sign it out.
        if !cookie::of_own_page(&headers, request.uri()) {
            let resource = GroupResource::new(GROUP, RESOURCE);
            return Err(Status::forbidden(
                &resource,
                &cx.name,
                "sessions are made and ended by the dashboard's own page",
            ));
        }
        match cx.verb {
            "delete" => self.end(&cx, &headers),
            _ => self.begin(&cx, &headers, read_object(request).await?),
        }
    }
}

impl Endpoint {
    fn begin(&self, cx: &VirtualContext, headers: &HeaderMap, asked: Object) -> Result<Response, Status> {
        let code = asked
            .map_at("spec")
            .and_then(|spec| spec.get("code"))
            .and_then(|code| code.as_str());
        let holder = match (code, bearer(headers)) {
            (Some(code), _) => self.0.redeem(code, cx.now).ok_or_else(used)?,
            (None, Some(token)) if token.len() <= MAX_TOKEN => Holder::Token(token.to_owned()),
            (None, Some(_)) => return Err(Status::bad_request("the token is too long for a cookie".to_owned())),
            (None, None) => return Err(Status::bad_request("a code or a bearer token is needed".to_owned())),
        };
        let made = self.0.open(holder, cx.now);
        let (value, ends) = made.ok_or_else(|| Status::internal("the session could not be sealed"))?;
        answer(
            StatusCode::CREATED,
            &cookie::set(&value, LASTS.as_secs()),
            &ends.to_string(),
        )
    }

    fn end(&self, cx: &VirtualContext, headers: &HeaderMap) -> Result<Response, Status> {
        if cx.name != CURRENT {
            return Err(Status::not_found(&GroupResource::new(GROUP, RESOURCE), &cx.name));
        }
        if let Some(session) = cookie::value(headers).and_then(|value| self.0.find(value, cx.now)) {
            self.0.end(session, cx.now);
        }
        answer(StatusCode::OK, &cookie::set("", 0), &cx.now.to_string())
    }
}

fn used() -> Status {
    let mut status = Status::unauthorized();
    status.message = "the link was used before or is too old".to_owned();
    status
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn answer(code: StatusCode, cookie: &str, ends: &str) -> Result<Response, Status> {
    let session = json!({
        "kind": "Session",
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": {"name": CURRENT},
        "status": {"expirationTimestamp": ends},
    });
    let session = Object::from_value(session).map_err(|_| Status::internal("no object was made"))?;
    let mut response = reply(code, &session);
    let cookie = HeaderValue::from_str(cookie).map_err(|_| Status::internal("the cookie is no header"))?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}
