//! `sessions` of `ui.wherry.dev`: creating one signs a browser in, deleting `current` signs it out, and getting `current` says
//! who is in and how one gets in. RBAC decides, as of everything; the default roles let everybody try.

use std::sync::Arc;

use api::names::GroupResource;
use api::{Object, Status};
use async_trait::async_trait;
use http::header::{AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cookie::{self, Held};
use super::sign_in::{Back, Given, Refresh, SignIn};
use super::{Holder, LASTS, MAX_TOKEN, PENDING, REFRESH, Sessions, after};
use crate::registry::virtuals::{
    Passing, Request, Response, Virtual, VirtualContext, VirtualRoute, read_object, reply,
};

const GROUP: &str = "ui.wherry.dev";
const RESOURCE: &str = "sessions";
/// The name of whichever session a request is made in.
const CURRENT: &str = "current";

struct Endpoint {
    sessions: Arc<Sessions>,
    /// At an issuer, where one is configured.
    sign_in: Option<Arc<SignIn>>,
}

/// Where sessions stand.
pub(crate) fn routes(sessions: Arc<Sessions>, sign_in: Option<Arc<SignIn>>) -> VirtualRoute {
    VirtualRoute {
        group: GROUP,
        version: "v1",
        resource: RESOURCE,
        subresource: None,
        namespaced: false,
        kind: "Session",
        kind_group_version: None,
        definition: None,
        verbs: &["create", "delete", "get"],
        passing: Passing::Unseen,
        handler: Arc::new(Endpoint { sessions, sign_in }),
    }
}

#[async_trait]
impl Virtual for Endpoint {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let headers = request.headers().clone();
        let own = cookie::of_own_page(&headers, request.uri());
        if cx.verb == "get" {
            return self.show(&cx, &headers, own);
        }
        // Another site must neither sign a browser in as somebody of its choice nor sign it out.
        if !own {
            let resource = GroupResource::new(GROUP, RESOURCE);
            return Err(Status::forbidden(
                &resource,
                &cx.name,
                "sessions are made and ended by the dashboard's own page",
            ));
        }
        match cx.verb {
            "delete" => self.end(&cx, &headers).await,
            _ => self.begin(&cx, &headers, read_object(request).await?).await,
        }
    }
}

impl Endpoint {
    async fn begin(&self, cx: &VirtualContext, headers: &HeaderMap, asked: Object) -> Result<Response, Status> {
        let spec = asked.map_at("spec");
        let spec = |field: &str| spec.and_then(|spec| spec.get(field));
        if let Some(asked) = spec("oidc") {
            return match Back::read(asked) {
                Some(back) => self.finish(cx, headers, &back).await,
                None => self.lead_away(cx).await,
            };
        }
        if spec("renew").and_then(Value::as_bool) == Some(true) {
            return self.renew(cx, headers).await;
        }
        let code = spec("code").and_then(Value::as_str);
        let holder = match (code, bearer(headers)) {
            (Some(code), _) => self.sessions.redeem(code, cx.now).ok_or_else(used)?,
            (None, Some(token)) if token.len() <= MAX_TOKEN => Holder::Token(token.to_owned()),
            (None, Some(_)) => return Err(too_long()),
            (None, None) => return Err(Status::bad_request("a code or a bearer token is needed".to_owned())),
        };
        let ends = after(cx.now, LASTS);
        let value = self.sessions.open(holder, ends).ok_or_else(unsealed)?;
        let cookies = [
            cookie::set(Held::Session, &value, LASTS.as_secs()),
            cookie::set(Held::Refresh, "", 0),
        ];
        answer(
            StatusCode::CREATED,
            &cookies,
            json!({"expirationTimestamp": ends.to_string()}),
        )
    }

    /// Begins a sign-in at the issuer.
    async fn lead_away(&self, cx: &VirtualContext) -> Result<Response, Status> {
        let (url, pending) = self.sign_in()?.begin(cx.now).await?;
        let value = self.sessions.close(PENDING, &pending).ok_or_else(unsealed)?;
        let cookies = [cookie::set(Held::Pending, &value, super::sign_in::PATIENCE.as_secs())];
        answer(StatusCode::CREATED, &cookies, json!({"authorizationURL": url}))
    }

    /// Ends a sign-in that has come back from the issuer.
    async fn finish(&self, cx: &VirtualContext, headers: &HeaderMap, back: &Back) -> Result<Response, Status> {
        let pending = self.sessions.pending(headers, cx.now).ok_or_else(|| {
            let mut status = Status::unauthorized();
            status.message = "no sign-in was begun in this browser, or too long ago; begin again".to_owned();
            status
        })?;
        let given = self.sign_in()?.finish(&pending, back).await?;
        let mut cookies = self.cookies(given, after(cx.now, LASTS), cx.now)?;
        cookies.1.push(cookie::set(Held::Pending, "", 0));
        answer(StatusCode::CREATED, &cookies.1, cookies.0)
    }

    async fn renew(&self, cx: &VirtualContext, headers: &HeaderMap) -> Result<Response, Status> {
        let refresh = self.sessions.refresh(headers, cx.now).ok_or_else(|| {
            let mut status = Status::unauthorized();
            status.message = "the session cannot be renewed; sign in again".to_owned();
            status
        })?;
        let given = self.sign_in()?.renew(&refresh).await?;
        let (status, cookies) = self.cookies(given, refresh.ends, cx.now)?;
        answer(StatusCode::CREATED, &cookies, status)
    }

    /// A session of what the issuer gave, and what renews it; it is over at `ends`.
    fn cookies(&self, given: Given, ends: Timestamp, now: Timestamp) -> Result<(Value, Vec<String>), Status> {
        if given.id_token.len() > MAX_TOKEN {
            return Err(too_long());
        }
        let seconds = ends.as_second().saturating_sub(now.as_second());
        let value = self
            .sessions
            .open(Holder::Token(given.id_token), ends)
            .ok_or_else(unsealed)?;
        // What is too long for a cookie is done without: one signs in again when the token ends.
        let refresh = given
            .refresh
            .filter(|token| token.len() <= MAX_TOKEN)
            .and_then(|token| {
                let refresh = Refresh {
                    token,
                    subject: given.subject,
                    issuer: given.issuer,
                    ends,
                };
                self.sessions.close(REFRESH, &refresh)
            });
        let status = json!({
            "expirationTimestamp": given.expires.min(ends).to_string(),
            "renewable": refresh.is_some(),
        });
        let kept = match refresh {
            Some(value) => cookie::set(Held::Refresh, &value, seconds),
            None => cookie::set(Held::Refresh, "", 0),
        };
        Ok((status, vec![cookie::set(Held::Session, &value, seconds), kept]))
    }

    async fn end(&self, cx: &VirtualContext, headers: &HeaderMap) -> Result<Response, Status> {
        if cx.name != CURRENT {
            return Err(Status::not_found(&GroupResource::new(GROUP, RESOURCE), &cx.name));
        }
        let session = cookie::value(headers, Held::Session).and_then(|value| self.sessions.find(value, cx.now));
        let issuer = self.sign_in.as_ref().and_then(|sign_in| sign_in.issuer());
        let of_issuer = session
            .as_ref()
            .is_some_and(|session| session.holder.is_of(issuer.as_deref()));
        if let Some(session) = session {
            self.sessions.end(session, cx.now);
        }
        let elsewhere = match (&self.sign_in, of_issuer) {
            (Some(sign_in), true) => sign_in.end().await,
            _ => None,
        };
        let mut status = json!({"expirationTimestamp": cx.now.to_string()});
        if let (Some(url), Some(status)) = (elsewhere, status.as_object_mut()) {
            status.insert("endSessionURL".to_owned(), url.into());
        }
        let gone = [Held::Session, Held::Pending, Held::Refresh].map(|held| cookie::set(held, "", 0));
        answer(StatusCode::OK, &gone, status)
    }

    /// Says until when the session of a request is good, and at whose issuer one may sign in.
    fn show(&self, cx: &VirtualContext, headers: &HeaderMap, own: bool) -> Result<Response, Status> {
        if cx.name != CURRENT {
            return Err(Status::not_found(&GroupResource::new(GROUP, RESOURCE), &cx.name));
        }
        let issuer = self.sign_in.as_ref().and_then(|sign_in| sign_in.issuer());
        let offered: Vec<Value> = issuer
            .map(|issuer| json!({"type": "OIDC", "issuer": issuer}))
            .into_iter()
            .collect();
        let mut status = json!({"user": cx.user.username, "signIn": offered});
        let cookie = own.then(|| cookie::value(headers, Held::Session)).flatten();
        let session = cookie.and_then(|value| self.sessions.find(value, cx.now));
        if let (Some(session), Some(status)) = (session, status.as_object_mut()) {
            let ends = session
                .holder
                .ends()
                .map_or(session.ends, |ends| ends.min(session.ends));
            status.insert("expirationTimestamp".to_owned(), ends.to_string().into());
            let renewable = self.sign_in.is_some() && self.sessions.refresh(headers, cx.now).is_some();
            status.insert("renewable".to_owned(), renewable.into());
        }
        answer(StatusCode::OK, &[], status)
    }

    fn sign_in(&self) -> Result<&SignIn, Status> {
        let words = "no issuer is configured at which one could sign in; see --ui-oidc-client-id";
        self.sign_in.as_deref().ok_or_else(|| Status::bad_request(words))
    }
}

fn used() -> Status {
    let mut status = Status::unauthorized();
    status.message = "the link was used before or is too old".to_owned();
    status
}

fn too_long() -> Status {
    Status::bad_request("the token is too long for a cookie; have its issuer put fewer claims, such as groups, into it")
}

fn unsealed() -> Status {
    Status::internal("the session could not be sealed")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn answer(code: StatusCode, cookies: &[String], status: Value) -> Result<Response, Status> {
    let session = json!({
        "kind": "Session",
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": {"name": CURRENT},
        "status": status,
    });
    let session = Object::from_value(session).map_err(|_| Status::internal("no object was made"))?;
    let mut response = reply(code, &session);
    for cookie in cookies {
        let cookie = HeaderValue::from_str(cookie).map_err(|_| Status::internal("the cookie is no header"))?;
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}
