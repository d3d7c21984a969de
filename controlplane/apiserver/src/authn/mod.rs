//! Who is asking: a client certificate, a bearer token, an in-process identity, or nobody known.

pub mod certificate;
pub mod oidc;
pub(crate) mod outside;
pub mod webhook;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use tokio::sync::watch;

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

/// Where somebody may come who shows no credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    #[default]
    Everywhere,
    Nowhere,
    /// To these paths alone.
    At(Vec<String>),
}

/// How callers are recognised beside the cluster's own credentials.
pub struct Config {
    /// What the operator has configured, as it changes.
    pub settings: watch::Receiver<Arc<oidc::config::Settings>>,
    /// A program that is asked about tokens that nobody else knows.
    pub webhook: Option<webhook::Config>,
}

impl Config {
    /// That never changes.
    pub fn fixed(settings: oidc::config::Settings) -> Self {
        Config {
            settings: watch::channel(Arc::new(settings)).1,
            webhook: None,
        }
    }
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

/// Who a request is from: by certificate, else by bearer token, else nobody known, where that `may_be_anyone`. Fails with
/// 401 for credentials that are not valid.
pub(crate) async fn authenticate(
    certified: &Certified,
    headers: &HeaderMap,
    tokens: Option<&dyn TokenAuthenticator>,
    may_be_anyone: impl FnOnce() -> bool,
) -> Result<Arc<UserInfo>, Status> {
    if let Certified::As(user) = certified {
        return Ok(user.clone());
    }
    match (bearer(headers)?, tokens) {
        (Some(token), Some(tokens)) => {
            let user = tokens.authenticate(&token).await?;
            user.map(Arc::new).ok_or_else(Status::unauthorized)
        }
        (Some(_), None) => Err(Status::unauthorized()),
        (None, _) if matches!(certified, Certified::Refused) => Err(Status::unauthorized()),
        (None, _) if !may_be_anyone() => Err(Status::unauthorized()),
        (None, _) => Ok(Arc::new(anonymous())),
    }
}

/// The token of a request: of its header, or, for browsers, which cannot set that on a WebSocket, of a subprotocol.
fn bearer(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, Status> {
    if let Some(value) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok())
        && let Some((scheme, token)) = value.split_once(' ')
        && scheme.eq_ignore_ascii_case("bearer")
    {
        return Ok(Some(token.trim().into()));
    }
    match headers.contains_key(SEC_WEBSOCKET_PROTOCOL) && headers.contains_key(UPGRADE) {
        true => of_subprotocol(headers),
        false => Ok(None),
    }
}

/// The token that a subprotocol spells; there must be one such, and another subprotocol to speak.
fn of_subprotocol(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, Status> {
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let offered = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let offered = offered
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let (tokens, others): (Vec<&str>, Vec<&str>) = offered.partition(|name| name.starts_with(PREFIX));
    match (tokens.as_slice(), others.is_empty()) {
        ([], _) => Ok(None),
        ([token], false) => {
            let token = token
                .strip_prefix(PREFIX)
                .and_then(|token| URL_SAFE_NO_PAD.decode(token).ok());
            let token = token
                .and_then(|token| String::from_utf8(token).ok())
                .ok_or_else(Status::unauthorized)?;
            Ok(Some(token.into()))
        }
        _ => Err(Status::unauthorized()),
    }
}

fn anonymous() -> UserInfo {
    UserInfo {
        username: "system:anonymous".to_owned(),
        groups: vec![UNAUTHENTICATED.to_owned()],
        ..UserInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(headers: &[(&'static str, &str)]) -> Result<Option<String>, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header"));
        }
        bearer(&map)
            .map(|token| token.map(Cow::into_owned))
            .map_err(|status| status.code)
    }

    #[test]
    fn tokens_come_in_the_header_or_in_a_subprotocol() {
        let (name, upgrade) = ("sec-websocket-protocol", ("upgrade", "websocket"));
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(token(&[("authorization", "Bearer abc")]), some("abc"));
        assert_eq!(token(&[("authorization", "Basic abc")]), Ok(None));
        let spelt = "base64url.bearer.authorization.k8s.io.YWJj";
        let with = format!("{spelt}, v5.channel.k8s.io");
        assert_eq!(token(&[upgrade, (name, &with)]), some("abc"));
        assert_eq!(
            token(&[upgrade, (name, spelt), (name, "v4.channel.k8s.io")]),
            some("abc")
        );
        assert_eq!(token(&[(name, &with)]), Ok(None), "it is no WebSocket");
        assert_eq!(token(&[upgrade, (name, "v4.channel.k8s.io")]), Ok(None));
        assert_eq!(token(&[upgrade, (name, spelt)]), Err(401), "nothing to speak");
        assert_eq!(
            token(&[upgrade, (name, &format!("{with}, {spelt}"))]),
            Err(401),
            "two tokens"
        );
        let broken = "base64url.bearer.authorization.k8s.io.Y!, v4.channel.k8s.io";
        assert_eq!(token(&[upgrade, (name, broken)]), Err(401));
    }
}
