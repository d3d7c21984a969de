//! OpenID Connect: tokens of issuers that the operator trusts, as kube-apiserver's `--oidc-*` flags and structured
//! authentication (KEP-3331) have it.
//!
//! An issuer's keys are fetched beside the requests ([`keys`]): one that is away keeps nobody waiting but its own users.
//! Deliberately absent: distributed claims, egress selectors, and redirects of an issuer's documents.

pub(crate) mod claims;
pub mod config;
pub mod jwt;
pub(crate) mod keys;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use api::time::Timestamp;

use self::claims::Mapping;
use self::jwt::{Algorithm, Token};
use self::keys::Keyring;
use super::UserInfo;

/// An issuer whose tokens are believed.
pub(super) struct Issuer {
    pub(super) url: String,
    pub(super) audiences: Vec<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) mapping: Arc<Mapping>,
    pub(super) keys: Arc<Keyring>,
}

impl Issuer {
    /// Whom a token stands for that says it is of this issuer.
    pub(super) async fn authenticate(&self, token: &Token<'_>, now: Timestamp) -> Result<UserInfo, String> {
        let verify = |why: String| format!("oidc: verify token: {why}");
        let claims = token.claims().ok_or("oidc: malformed jwt")?;
        jwt::check(claims, &self.url, &self.audiences, now).map_err(verify)?;
        let algorithm = token.algorithm(&self.algorithms).map_err(verify)?;
        self.keys.verify(token, algorithm).await?;
        self.mapping.user(claims)
    }
}
