//! `POST serviceaccounts/NAME/token`: TokenRequest of authentication.k8s.io/v1.

use std::sync::Arc;

use api::field::{FieldError, Path};
use api::names::GroupKind;
use api::time::rfc3339;
use api::{Object, Status};
use async_trait::async_trait;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::claims::{Claims, Private, Reference, username};
use super::keys::Signer;
use super::{Config, core};
use crate::authz::node::node_name;
use crate::registry::virtuals::{
    Passing, Request, Response, Virtual, VirtualContext, VirtualRoute, read_object, reply,
};

/// Seconds a token lives that asks for nothing else, and the bounds of what may be asked for.
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

const KIND: &str = "TokenRequest";
const GROUP: &str = "authentication.k8s.io";

/// Answers token requests.
pub(super) struct Requests {
    pub(super) signer: Signer,
    pub(super) config: Config,
}

/// Where it stands.
pub(super) fn route(handler: Requests) -> VirtualRoute {
    VirtualRoute {
        group: "",
        version: "v1",
        resource: "serviceaccounts",
        subresource: Some("token"),
        namespaced: true,
        kind: KIND,
        kind_group_version: Some((GROUP, "v1")),
        definition: None,
        verbs: &["create"],
        passing: Passing::Create,
        handler: Arc::new(handler),
    }
}

#[async_trait]
impl Virtual for Requests {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let mut body = read_object(request).await?;
        let wanted = Wanted::of(&body, &self.config)?;
        let namespace = cx.namespace.clone().unwrap_or_default();
        let account = cx
            .reader
            .get_fresh(&core("serviceaccounts"), Some(&namespace), &cx.name)
            .await?;
        let account = account.ok_or_else(|| Status::not_found(&core("serviceaccounts"), &cx.name))?;
        let private = bind(&cx, &account, wanted.bound.as_ref()).await?;
        if let Some(why) = node_name(&cx.user).and_then(|node| refusal(node, &private)) {
            return Err(Status::forbidden(&core("serviceaccounts"), &cx.name, why));
        }
        let expires = after(cx.now, wanted.seconds);
        let claims = Claims {
            aud: wanted.audiences.clone(),
            exp: expires.as_second(),
            iat: cx.now.as_second(),
            iss: self.config.issuer.clone(),
            jti: crate::random_uuid().to_string(),
            nbf: cx.now.as_second(),
            sub: username(&namespace, &cx.name),
            private,
        };
        let token = self
            .signer
            .sign(&claims)
            .map_err(|e| Status::internal(&format!("cannot sign a token: {e}")))?;
        body.set("apiVersion", format!("{GROUP}/v1"));
        body.set("kind", KIND);
        body.set_name(&cx.name);
        body.set_namespace(Some(&namespace));
        body.set("metadata.creationTimestamp", rfc3339(cx.now));
        body.set("spec.audiences", wanted.audiences);
        body.set("spec.expirationSeconds", wanted.seconds);
        body.set(
            "status",
            json!({"token": token, "expirationTimestamp": rfc3339(expires)}),
        );
        Ok(reply(StatusCode::CREATED, &body))
    }
}

/// What a request asks for, checked.
struct Wanted {
    audiences: Vec<String>,
    seconds: i64,
    bound: Option<Bound>,
}

/// `spec.boundObjectRef`.
struct Bound {
    kind: String,
    name: String,
    uid: Option<String>,
}

impl Wanted {
    fn of(body: &Object, config: &Config) -> Result<Self, Status> {
        let asked = body
            .list_at("spec.audiences")
            .iter()
            .filter_map(|a| a.as_str())
            .map(str::to_owned);
        let mut audiences: Vec<String> = asked.collect();
        if audiences.is_empty() {
            audiences.clone_from(&config.audiences);
        }
        let seconds = body.i64_at("spec.expirationSeconds").unwrap_or(DEFAULT_SECONDS);
        let path = Path::root("spec").child("expirationSeconds");
        let problem = match seconds {
            i64::MIN..MIN_SECONDS => Some("may not specify a duration less than 10 minutes"),
            MIN_SECONDS..=MAX_SECONDS => None,
            _ => Some("may not specify a duration larger than 2^32 seconds"),
        };
        if let Some(problem) = problem {
            let errors = vec![FieldError::invalid(&path, seconds, problem)];
            return Err(Status::invalid(&GroupKind::new(GROUP, KIND), "", errors));
        }
        let text = |path: &str| body.str_at(path).filter(|t| !t.is_empty()).map(str::to_owned);
        let bound = body.map_at("spec.boundObjectRef").map(|_| Bound {
            kind: text("spec.boundObjectRef.kind").unwrap_or_default(),
            name: text("spec.boundObjectRef.name").unwrap_or_default(),
            uid: text("spec.boundObjectRef.uid"),
        });
        Ok(Self {
            audiences,
            seconds,
            bound,
        })
    }
}

/// The private claims of a token for `account`, bound to what it asks to be bound to.
async fn bind(cx: &VirtualContext, account: &Object, bound: Option<&Bound>) -> Result<Private, Status> {
    let mut private = Private {
        namespace: account.namespace().unwrap_or_default().to_owned(),
        serviceaccount: reference(account),
        pod: None,
        node: None,
        secret: None,
    };
    let Some(bound) = bound else { return Ok(private) };
    match bound.kind.as_str() {
        "Pod" => {
            let pod = find(cx, "pods", Some(&private.namespace), bound).await?;
            if pod.str_at("spec.serviceAccountName") != Some(account.name()) {
                let text = format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    account.name()
                );
                return Err(Status::bad_request(text));
            }
            private.node = node_of(cx, &pod);
            private.pod = Some(reference(&pod));
        }
        "Node" => private.node = Some(reference(&*find(cx, "nodes", None, bound).await?)),
        "Secret" => private.secret = Some(reference(&*find(cx, "secrets", Some(&private.namespace), bound).await?)),
        other => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {other}"
            )));
        }
    }
    Ok(private)
}

/// A node gets tokens for the pods that run on it, and no others (NodeRestriction).
pub(super) fn refusal(node: &str, private: &Private) -> Option<&'static str> {
    if private.pod.is_none() {
        return Some("node requested token not bound to a pod");
    }
    let here = private.node.as_ref().is_some_and(|reference| reference.name == node);
    (!here).then_some("node requested token bound to a pod scheduled on a different node")
}

async fn find(
    cx: &VirtualContext,
    resource: &str,
    namespace: Option<&str>,
    bound: &Bound,
) -> Result<Arc<Object>, Status> {
    let kind = core(resource);
    let found = cx.reader.get_fresh(&kind, namespace, &bound.name).await?;
    let found = found.ok_or_else(|| Status::not_found(&kind, &bound.name))?;
    match &bound.uid {
        Some(uid) if uid != found.uid() => {
            let text = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            Err(Status::conflict(&kind, &bound.name, &text))
        }
        _ => Ok(found),
    }
}

/// The node a pod runs on; a node that is gone is named without its UID.
fn node_of(cx: &VirtualContext, pod: &Object) -> Option<Reference> {
    let name = pod.str_at("spec.nodeName").filter(|name| !name.is_empty())?;
    let node = cx.reader.get(&core("nodes"), None, name);
    Some(Reference {
        name: name.to_owned(),
        uid: node.map(|n| n.uid().to_owned()).unwrap_or_default(),
    })
}

fn reference(object: &Object) -> Reference {
    Reference {
        name: object.name().to_owned(),
        uid: object.uid().to_owned(),
    }
}

/// Saturates at the end of time.
fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}
