//! Who calls the kubelet API, by client certificate, and who may.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The subject of a verified client certificate: common name and organisations, Kubernetes' user and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    name: String,
    groups: Vec<String>,
}

impl Peer {
    /// Reads the subject of a certificate (DER).
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject
            .iter_organization()
            .filter_map(|o| o.as_str().ok().map(str::to_owned))
            .collect();
        Some(Self { name, groups })
    }
}

/// Who is let in beside `system:masters`.
pub(super) struct Allowed {
    pub(super) names: Vec<String>,
}

impl Allowed {
    /// # Errors
    /// The answer for somebody who is not let in.
    fn admit(&self, peer: Option<&Peer>) -> Result<(), (StatusCode, String)> {
        let Some(peer) = peer else {
            return Err((StatusCode::UNAUTHORIZED, "Unauthorized".into()));
        };
        let admitted = peer.groups.iter().any(|group| group == "system:masters") || self.names.contains(&peer.name);
        if admitted {
            return Ok(());
        }
        Err((StatusCode::FORBIDDEN, format!("Forbidden (user={})", peer.name)))
    }
}

/// Lets a request pass or answers 401 or 403.
pub(super) async fn check(
    State(allowed): State<Arc<Allowed>>,
    Extension(peer): Extension<Option<Peer>>,
    request: Request,
    next: Next,
) -> Response {
    match allowed.admit(peer.as_ref()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_masters_and_the_api_server_are_let_in() {
        let allowed = Allowed {
            names: vec!["kube-apiserver-kubelet-client".into()],
        };
        let peer = |name: &str, groups: &[&str]| {
            Some(Peer {
                name: name.into(),
                groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            })
        };
        let cases = [
            (None, Some(401)),
            (peer("admin", &["system:masters"]), None),
            (peer("kube-apiserver-kubelet-client", &[]), None),
            (peer("system:node:other", &["system:nodes"]), Some(403)),
        ];
        for (peer, want) in cases {
            let refused = allowed.admit(peer.as_ref()).err().map(|(code, _)| code.as_u16());
            assert_eq!(refused, want, "{peer:?}");
        }
    }
}
