//! Who is asking: a client certificate, a bearer token, an in-process identity, or nobody known.

use std::collections::BTreeMap;

use api::Status;
use async_trait::async_trait;

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
