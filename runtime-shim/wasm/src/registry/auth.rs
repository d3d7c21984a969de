//! Answering a registry's challenge: a token from its token service, or name and password.
//!
//! Credentials belong to the registry that an image's name says. A mirror gets none of them (its own go into its table of
//! `hosts.toml`, as a header), and a registry behind TLS cannot have them sent in the clear.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use cri::RegistryAuth;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde::Deserialize;

use super::{
    challenge::{self, Challenge},
    error::{RegistryError, printable},
    session::{Access, Peer, Session, refused},
    transport::{Outgoing, is_error, place},
};

/// The most of a token service's answer that is read.
const MAX_TOKEN: u64 = 1 << 20;
/// How we name ourselves to token services.
const CLIENT: &str = "wherry";

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Session {
    /// The `Authorization` that answers a refusal; `None`: we have none to offer.
    pub(super) async fn authorize(
        &self,
        peer: &Peer,
        refusal: &HeaderMap,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let mine = self.credentials.as_ref().filter(|_| !peer.endpoint.mirror);
        if let Some(token) = mine.map(|mine| &mine.registry_token).filter(|token| !token.is_empty()) {
            return Ok(secret(&format!("Bearer {token}")));
        }
        let headers = refusal.get_all(header::WWW_AUTHENTICATE).iter();
        let challenges = headers
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse);
        for challenge in challenges {
            match (challenge, mine) {
                (Challenge::Bearer { realm, service, scope }, mine) => {
                    return self.token(peer, &realm, &service, &scope, mine).await.map(Some);
                }
                (Challenge::Basic, Some(mine)) => return Ok(basic(mine)),
                (Challenge::Basic | Challenge::Other(_), _) => {}
            }
        }
        Ok(None)
    }

    async fn token(
        &self,
        peer: &Peer,
        realm: &str,
        service: &str,
        scope: &str,
        mine: Option<&RegistryAuth>,
    ) -> Result<HeaderValue, RegistryError> {
        let wrong = |what: String| RegistryError::Wrong {
            url: peer.endpoint.authority.clone(),
            what,
        };
        let realm: Uri = realm
            .parse()
            .ok()
            .filter(|realm: &Uri| matches!(realm.scheme_str(), Some("http" | "https")) && realm.authority().is_some())
            .ok_or_else(|| wrong(format!("its token service \"{}\" is no address", printable(realm))))?;
        if peer.endpoint.tls && realm.scheme_str() != Some("https") {
            return Err(wrong(format!("its token service {} is without TLS", place(&realm))));
        }
        let default_scope = self.scope();
        let scope = if scope.is_empty() { &default_scope } else { scope };
        let outgoing = token_request(&realm, service, scope, mine).ok_or_else(|| wrong("its challenge".to_owned()))?;
        let answer = peer.transport.send(outgoing).await?;
        if is_error(answer.response.status()) {
            return Err(match (refused(peer, answer).await, mine) {
                // A service that knows no such repository or user refuses so.
                (RegistryError::Status { status, words, .. }, _) if status == StatusCode::BAD_REQUEST => {
                    RegistryError::Unauthorized { words }
                }
                (error, _) => error,
            });
        }
        let url = answer.url.clone();
        let body = peer.transport.read(answer, MAX_TOKEN).await?;
        let token = serde_json::from_slice::<Token>(&body)
            .ok()
            .map(|answer| match answer.token.as_str() {
                "" => answer.access_token,
                _ => answer.token,
            });
        token
            .filter(|token| !token.is_empty())
            .and_then(|token| secret(&format!("Bearer {token}")))
            .ok_or(RegistryError::Wrong {
                url,
                what: "its token service gives no token".to_owned(),
            })
    }

    fn scope(&self) -> String {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        format!("repository:{}:{actions}", self.repository)
    }
}

/// A request for a token: by name and password, by a token of identity (OAuth 2), or of nobody.
fn token_request(realm: &Uri, service: &str, scope: &str, mine: Option<&RegistryAuth>) -> Option<Outgoing> {
    let identity = mine
        .map(|mine| mine.identity_token.as_str())
        .filter(|token| !token.is_empty());
    if let Some(identity) = identity {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT),
            ("service", service),
            ("scope", scope),
            ("refresh_token", identity),
        ];
        let mut outgoing = Outgoing::get(realm.clone());
        outgoing.method = Method::POST;
        outgoing.body = Bytes::from(form_encoded(&form));
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        outgoing.headers.insert(header::CONTENT_TYPE, form_type);
        return Some(outgoing);
    }
    let separator = if realm.query().is_some() { '&' } else { '?' };
    let query = form_encoded(&[("service", service), ("scope", scope)]);
    let mut outgoing = Outgoing::get(format!("{realm}{separator}{query}").parse().ok()?);
    if let Some(authorization) = mine.and_then(basic) {
        outgoing.headers.insert(header::AUTHORIZATION, authorization);
    }
    Some(outgoing)
}

fn basic(mine: &RegistryAuth) -> Option<HeaderValue> {
    if mine.username.is_empty() && mine.password.is_empty() {
        return None;
    }
    secret(&format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", mine.username, mine.password))
    ))
}

/// A header value that is never printed.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn form_encoded(pairs: &[(&str, &str)]) -> String {
    let encoded = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", percent_encoded(value)));
    encoded.collect::<Vec<_>>().join("&")
}

/// RFC 3986: everything but unreserved characters.
pub(super) fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
