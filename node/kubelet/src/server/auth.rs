//! Who calls the kubelet API, and who may.
//!
//! A caller is known by a client certificate of the cluster, or by a token that the API server vouches for (TokenReview).
//! `system:masters` and the API server's own identity may do everything; of everybody else the API server is asked
//! whether they may use that part of the node ([`super::rights`]). Without it they may not.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use api::Object;
use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use client::{Client, Kind};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::rights;

static TOKEN_REVIEW: Kind = Kind::cluster("authentication.k8s.io", "v1", "TokenReview", "tokenreviews");
static ACCESS_REVIEW: Kind = Kind::cluster(
    "authorization.k8s.io",
    "v1",
    "SubjectAccessReview",
    "subjectaccessreviews",
);

/// How long an answer holds: the kubelet's own defaults.
pub(super) const TOKEN: Duration = Duration::from_secs(2 * 60);
pub(super) const ALLOWED: Duration = Duration::from_secs(5 * 60);
pub(super) const DENIED: Duration = Duration::from_secs(30);
/// Answers that are kept.
const KEPT: usize = 1024;

/// A caller, as the API server knows users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Peer {
    #[serde(rename = "username")]
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Peer {
    /// Reads the subject of a verified certificate (DER): common name and organisations, Kubernetes' user and groups.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject
            .iter_organization()
            .filter_map(|o| o.as_str().ok().map(str::to_owned))
            .chain(["system:authenticated".to_owned()])
            .collect();
        Some(Self {
            name,
            groups,
            ..Self::default()
        })
    }
}

/// Answers that hold for a while.
struct Cache<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: std::hash::Hash + Eq, V: Clone> Cache<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        let kept = self.0.lock();
        let (until, value) = kept.get(key)?;
        (*until > Instant::now()).then(|| value.clone())
    }

    fn keep(&self, key: K, value: V, lasts: Duration) {
        let now = Instant::now();
        let mut kept = self.0.lock();
        if kept.len() >= KEPT {
            kept.retain(|_, (until, _)| *until > now);
        }
        // All of it holds yet: the newest answer is asked for again.
        if kept.len() < KEPT {
            kept.insert(key, (now + lasts, value));
        }
    }
}

/// Who is let in.
pub(super) struct Allowed {
    /// Users that may do everything, beside `system:masters`.
    pub(super) names: Vec<String>,
    client: Client,
    node: String,
    tokens: Cache<String, Peer>,
    decisions: Cache<(Peer, &'static str, &'static str), Result<(), String>>,
}

type Refusal = (StatusCode, String);

impl Allowed {
    pub(super) fn new(names: Vec<String>, client: Client, node: String) -> Self {
        Self {
            names,
            client,
            node,
            tokens: Cache::new(),
            decisions: Cache::new(),
        }
    }

    /// May do everything, whatever the API server says.
    fn is_trusted(&self, peer: &Peer) -> bool {
        peer.groups.iter().any(|group| group == "system:masters") || self.names.contains(&peer.name)
    }

    async fn admit(&self, peer: Option<Peer>, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let peer = match (peer, bearer(headers)) {
            (Some(peer), _) => peer,
            (None, Some(token)) => self.review(token).await?,
            (None, None) => return Err(unauthorized()),
        };
        if self.is_trusted(&peer) {
            return Ok(());
        }
        let verb = rights::verb(method, path);
        let mut last = String::new();
        let subresources = rights::subresources(path);
        for subresource in subresources {
            match self.may(&peer, verb, subresource).await {
                Ok(()) => return Ok(()),
                Err(why) => last = why,
            }
        }
        let (name, node) = (&peer.name, &self.node);
        let resource = subresources.join(", ");
        tracing::debug!(user = name, verb, resource, why = last, "the kubelet API refuses");
        let message =
            format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{resource}], node={node})");
        Err((StatusCode::FORBIDDEN, message))
    }

    /// Whose token it is.
    async fn review(&self, token: &str) -> Result<Peer, Refusal> {
        if let Some(peer) = self.tokens.get(&token.to_owned()) {
            return Ok(peer);
        }
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": token},
        });
        let answer = self.client.create(&TOKEN_REVIEW, None, &body).await;
        let answer = answer.map_err(|error| unavailable("whose token it is", &error))?;
        let peer = authenticated(&answer).ok_or_else(unauthorized)?;
        self.tokens.keep(token.to_owned(), peer.clone(), TOKEN);
        Ok(peer)
    }

    /// Whether a user may; why not.
    async fn may(&self, peer: &Peer, verb: &'static str, subresource: &'static str) -> Result<(), String> {
        let key = (peer.clone(), verb, subresource);
        if let Some(decision) = self.decisions.get(&key) {
            return decision;
        }
        let Peer {
            name,
            uid,
            groups,
            extra,
        } = peer;
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {
                "user": name, "uid": uid, "groups": groups, "extra": extra,
                "resourceAttributes": {
                    "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": self.node,
                },
            },
        });
        let answer = self.client.create(&ACCESS_REVIEW, None, &body).await;
        // What was not decided is not kept.
        let answer = answer.map_err(|error| error.to_string())?;
        let allowed = answer.at("status.allowed").and_then(|allowed| allowed.as_bool()) == Some(true);
        let (decision, lasts) = match allowed {
            true => (Ok(()), ALLOWED),
            false => (
                Err(answer.str_at("status.reason").unwrap_or_default().to_owned()),
                DENIED,
            ),
        };
        self.decisions.keep(key, decision.clone(), lasts);
        decision
    }
}

fn authenticated(review: &Object) -> Option<Peer> {
    let status = review.at("status")?;
    if status.get("authenticated")?.as_bool()? {
        return Peer::deserialize(status.get("user")?)
            .ok()
            .filter(|peer| !peer.name.is_empty());
    }
    None
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

fn unauthorized() -> Refusal {
    (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned())
}

fn unavailable(what: &str, error: &client::Error) -> Refusal {
    tracing::debug!(
        error = error as &dyn std::error::Error,
        what,
        "the API server does not say"
    );
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("the API server does not say {what}"),
    )
}

/// Lets a request pass or answers 401 or 403.
pub(super) async fn check(
    State(allowed): State<Arc<Allowed>>,
    Extension(peer): Extension<Option<Peer>>,
    request: Request,
    next: Next,
) -> Response {
    let admitted = allowed.admit(peer, request.method(), request.uri().path(), request.headers());
    match Box::pin(admitted).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use client::fake::Fake;

    use super::*;

    fn peer(name: &str, groups: &[&str]) -> Option<Peer> {
        Some(Peer {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Peer::default()
        })
    }

    #[tokio::test]
    async fn who_is_not_known_or_not_allowed_is_kept_out() {
        let names = vec!["kube-apiserver-kubelet-client".to_owned()];
        let allowed = Allowed::new(names, Fake::new().client(), "n1".to_owned());
        let cases = [
            (None, Some(401)),
            (peer("admin", &["system:masters"]), None),
            (peer("kube-apiserver-kubelet-client", &[]), None),
            (peer("system:node:other", &["system:nodes"]), Some(403)),
        ];
        for (peer, want) in cases {
            let admitted = allowed
                .admit(peer.clone(), &Method::GET, "/pods", &HeaderMap::new())
                .await;
            let refused = admitted.err().map(|(code, _)| code.as_u16());
            assert_eq!(refused, want, "{peer:?}");
        }
    }

    #[test]
    fn tokens_are_of_users_that_the_api_server_names() {
        let review = |status| Object::from_value(json!({"kind": "TokenReview", "status": status})).expect("an object");
        let known = review(json!({"authenticated": true, "user": {"username": "u", "groups": ["g"]}}));
        assert_eq!(authenticated(&known), peer("u", &["g"]));
        for status in [
            json!({}),
            json!({"authenticated": false, "user": {"username": "u"}}),
            json!({"authenticated": true, "user": {}}),
            json!({"authenticated": true}),
        ] {
            assert_eq!(authenticated(&review(status.clone())), None, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_hold_for_a_while() {
        let cache = Cache::new();
        cache.keep("a", 1, Duration::from_secs(30));
        assert_eq!(cache.get(&"a"), Some(1));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(cache.get(&"a"), None);
        for key in 0..2 * KEPT {
            cache.keep(Box::leak(key.to_string().into_boxed_str()), 1, Duration::from_secs(30));
        }
        assert!(cache.0.lock().len() <= KEPT);
    }
}
