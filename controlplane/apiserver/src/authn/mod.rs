//! Who is asking: a client certificate, a bearer token, an in-process identity, or nobody known.

pub mod certificate;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use async_trait::async_trait;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The user of a request, as Kubernetes' `user.Info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub username: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Groups that the server itself hands out.
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// May do everything, whatever the authorizers say.
pub const MASTERS: &str = "system:masters";

/// Recognises bearer tokens.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync + 'static {
    /// The user a token stands for; `None` when the token is not valid, `Err` when that could not be found out.
    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>, Status>;
}

/// Several authenticators, asked in their order; the first that recognises a token decides.
pub(crate) struct FirstOf(pub(crate) Vec<Arc<dyn TokenAuthenticator>>);

#[async_trait]
impl TokenAuthenticator for FirstOf {
    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>, Status> {
        let mut failed = None;
        for authenticator in &self.0 {
            match authenticator.authenticate(token).await {
                Ok(None) => {}
                Ok(user) => return Ok(user),
                // Another may still know the token; only if none does, this one is missed.
                Err(status) => failed = failed.or(Some(status)),
            }
        }
        failed.map_or(Ok(None), Err)
    }
}

/// What is known of a caller before its request is looked at.
#[derive(Clone, Debug)]
pub(crate) enum Certified {
    /// It showed no certificate.
    No,
    /// It showed one that is not to be believed.
    Refused,
    As(Arc<UserInfo>),
}

/// Who a request is from: by certificate, else by bearer token, else nobody known. Fails with 401 for credentials that
/// are not valid.
pub(crate) async fn authenticate(
    certified: &Certified,
    headers: &HeaderMap,
    tokens: Option<&dyn TokenAuthenticator>,
) -> Result<Arc<UserInfo>, Status> {
    if let Certified::As(user) = certified {
        return Ok(user.clone());
    }
    match (bearer(headers), tokens) {
        (Some(token), Some(tokens)) => {
            let user = tokens.authenticate(token).await?;
            user.map(Arc::new).ok_or_else(Status::unauthorized)
        }
        (Some(_), None) => Err(Status::unauthorized()),
        (None, _) if matches!(certified, Certified::Refused) => Err(Status::unauthorized()),
        (None, _) => Ok(Arc::new(anonymous())),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn anonymous() -> UserInfo {
    UserInfo {
        username: "system:anonymous".to_owned(),
        groups: vec![UNAUTHENTICATED.to_owned()],
        ..UserInfo::default()
    }
}
