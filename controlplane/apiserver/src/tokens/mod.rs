//! Service account tokens: bound JSON Web Tokens as Kubernetes issues them (KEP-1205), and who shows one.
//!
//! A token names its service account and the object it is bound to, both with their UIDs: it ends with its time, with the
//! account and with that object, whichever is first. Nothing is stored.

pub(crate) mod bootstrap;
mod claims;
mod keys;
mod request;
mod review;
mod verify;

use std::sync::Arc;

use api::names::GroupResource;
use serde_json::json;

use self::keys::{Keys, Signer};
use crate::authn::TokenAuthenticator;
use crate::http::published::Published;
use crate::registry::Deps;
use crate::registry::reader::Reader;
use crate::registry::virtuals::VirtualRoute;
use crate::server::Clock;

/// How tokens are signed, and for whom.
#[derive(Clone)]
pub struct Config {
    /// The signing key: an EC P-256 private key, PKCS #8 PEM.
    pub key: String,
    /// Public keys of earlier signing keys are not kept: tokens of an earlier key are not accepted.
    pub issuer: String,
    /// Whom tokens are for that name no audience; the API server accepts those only.
    pub audiences: Vec<String>,
    /// Where others find the public key: the URL of `/openid/v1/jwks` on this server.
    pub jwks_uri: String,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("issuer", &self.issuer)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

/// Why tokens cannot be made or checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured key does not parse.
    #[error("the service account key is not an EC P-256 private key: {0}")]
    Key(String),
}

/// Issues and recognises tokens.
pub(crate) struct Tokens {
    keys: Arc<Keys>,
    config: Config,
    reader: Arc<dyn Reader>,
    clock: Clock,
}

/// Makes the issuer and authenticator of a server.
pub(crate) fn start(config: &Config, deps: &Deps, clock: Clock) -> Result<Arc<Tokens>, Error> {
    let keys = Arc::new(Keys::from_pem(&config.key).map_err(Error::Key)?);
    Ok(Arc::new(Tokens {
        keys,
        config: config.clone(),
        reader: deps.reader.clone(),
        clock,
    }))
}

impl Tokens {
    /// The `token` subresource of service accounts, and token reviews, which also ask `others`.
    pub(crate) fn virtuals(self: &Arc<Self>, others: Arc<dyn TokenAuthenticator>) -> Vec<VirtualRoute> {
        let issuer = request::Requests {
            signer: Signer::new(self.keys.clone()),
            config: self.config.clone(),
        };
        vec![request::route(issuer), review::route(self.clone(), others)]
    }

    /// What others need to check tokens themselves: OpenID Connect Discovery 1.0 and the key as RFC 7517 writes it.
    pub(crate) fn published(&self) -> Vec<Published> {
        let configuration = json!({
            "issuer": self.config.issuer,
            "jwks_uri": self.config.jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        vec![
            Published::new("/.well-known/openid-configuration", "application/json", &configuration),
            Published::new(
                "/openid/v1/jwks",
                "application/jwk-set+json",
                &json!({"keys": [self.keys.public()]}),
            ),
        ]
    }
}

fn core(resource: &str) -> GroupResource {
    GroupResource::new("", resource)
}

#[cfg(test)]
mod tests;
