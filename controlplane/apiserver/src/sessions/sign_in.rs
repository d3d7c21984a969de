//! Signing in at an OpenID Connect issuer: the authorization code flow with PKCE (RFC 6749, RFC 7636), done here, so that the
//! page never sees a secret or a token.
//!
//! What binds a sign-in to the browser that began it (state, nonce and verifier) is sealed in a strict cookie of that browser.
//! The ID token that comes of it is believed only as far as the API server believes the issuer's tokens anyway: keys, audience,
//! claims and rules are those of its own authentication. It is then the session, asked after at every request.
//!
//! Deliberately absent: the userinfo endpoint, encrypted ID tokens, pushed authorization requests.

use std::sync::Arc;
use std::time::Duration;

use api::Status;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet,
    ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, Scope,
    StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::seal;
use crate::authn::TokenAuthenticator;
use crate::authn::oidc::jwt::Token;
use crate::authn::oidc::keys::Source;
use crate::authn::outside::Outside;
use crate::webhook;
use crate::webhook::connect::{Connector, Kept, Way, collect, why};

/// How long somebody may take at the issuer.
pub(super) const PATIENCE: SignedDuration = SignedDuration::from_mins(15);
/// How long the issuer may take for an answer, and how long that may be.
const FETCH: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1 << 20;
/// How long what the issuer says of its endpoints counts.
const KNOWN: Duration = Duration::from_secs(600);
/// What comes back from the issuer is short.
const MAX_CODE: usize = 4096;

/// How people sign in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The issuer, where several are believed.
    pub issuer: Option<String>,
    pub client_id: String,
    /// Of a confidential client.
    pub client_secret: Option<Secret>,
    /// Where the issuer sends browsers back to: the dashboard's own address.
    pub redirect_url: String,
    pub scopes: Vec<String>,
}

/// A text that is not printed.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// A sign-in that has begun, as its browser's cookie holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    state: String,
    nonce: String,
    verifier: String,
    issuer: String,
    pub(super) ends: Timestamp,
}

/// By what a session is renewed, as a cookie holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refresh {
    pub(super) token: String,
    /// Whose session it is: a renewed one must be the same person's.
    pub(super) subject: String,
    pub(super) issuer: String,
    /// When the session is over, however often it is renewed.
    pub(super) ends: Timestamp,
}

/// What the issuer has given.
pub(super) struct Given {
    pub(super) id_token: String,
    pub(super) refresh: Option<String>,
    pub(super) subject: String,
    pub(super) issuer: String,
    /// When the ID token ends.
    pub(super) expires: Timestamp,
}

/// What a token endpoint says beside OAuth.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Extra {
    #[serde(default)]
    id_token: Option<String>,
}

impl ExtraTokenFields for Extra {}

type Answer = StandardTokenResponse<Extra, BasicTokenType>;
type OAuth = Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// What an issuer says of its endpoints.
#[derive(Clone, Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(default)]
    end_session_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// Has people sign in.
pub(crate) struct SignIn {
    config: Config,
    outside: Arc<Outside>,
    known: Mutex<Option<Known>>,
}

/// An issuer that has been asked.
#[derive(Clone)]
struct Known {
    source: Source,
    metadata: Metadata,
    client: Kept<Full<Bytes>>,
    since: Instant,
}

/// An answer did not come.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unanswered(String);

impl SignIn {
    pub(crate) fn new(config: Config, outside: Arc<Outside>) -> Self {
        SignIn {
            config,
            outside,
            known: Mutex::new(None),
        }
    }

    /// The issuer at which people sign in now; `None` while none is believed that makes tokens for this client.
    pub(super) fn issuer(&self) -> Option<String> {
        Some(self.source()?.issuer)
    }

    fn source(&self) -> Option<Source> {
        self.outside
            .signs_in(self.config.issuer.as_deref(), &self.config.client_id)
    }

    /// Where the browser is to go, and what it must bring back.
    pub(super) async fn begin(&self, now: Timestamp) -> Result<(String, Pending), Status> {
        let known = self.known().await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let nonce = seal::random();
        let oauth = self.oauth(&known.metadata)?;
        let mut request = oauth
            .authorize_url(|| CsrfToken::new(seal::random()))
            .set_pkce_challenge(challenge)
            .add_extra_param("nonce", nonce.clone());
        for scope in &self.config.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, state) = request.url();
        let pending = Pending {
            state: state.into_secret(),
            nonce,
            verifier: verifier.into_secret(),
            issuer: known.metadata.issuer,
            ends: super::after(now, PATIENCE),
        };
        Ok((url.to_string(), pending))
    }

    /// Takes what the browser has brought back to the issuer.
    pub(super) async fn finish(&self, pending: &Pending, back: &Back) -> Result<Given, Status> {
        back.check(pending).map_err(|why| refused(&why))?;
        let known = self.known().await?;
        if known.metadata.issuer != pending.issuer {
            return Err(refused("the issuer has been replaced meanwhile"));
        }
        let oauth = self.oauth(&known.metadata)?;
        let answer = oauth
            .exchange_code(AuthorizationCode::new(back.code.clone()))
            .set_pkce_verifier(PkceCodeVerifier::new(pending.verifier.clone()))
            .request_async(&|request| exchange(known.client.clone(), request))
            .await;
        self.given(answer.map_err(|error| unexchanged(&error))?, Some(&pending.nonce))
            .await
    }

    /// Exchanges what renews a session.
    pub(super) async fn renew(&self, refresh: &Refresh) -> Result<Given, Status> {
        let known = self.known().await?;
        let oauth = self.oauth(&known.metadata)?;
        let token = RefreshToken::new(refresh.token.clone());
        let request = oauth.exchange_refresh_token(&token);
        let answer = request
            .request_async(&|request| exchange(known.client.clone(), request))
            .await;
        let mut given = self.given(answer.map_err(|error| unexchanged(&error))?, None).await?;
        if (&given.subject, &given.issuer) != (&refresh.subject, &refresh.issuer) {
            return Err(refused("the issuer has given somebody else's token"));
        }
        // What is not replaced goes on being good.
        given.refresh.get_or_insert_with(|| refresh.token.clone());
        Ok(given)
    }

    /// Where one also signs out of the issuer.
    pub(super) async fn end(&self) -> Option<String> {
        let known = self.known().await.ok()?;
        let endpoint = known
            .metadata
            .end_session_endpoint
            .filter(|url| url.starts_with("https://"))?;
        let pairs = [
            ("client_id", self.config.client_id.as_str()),
            ("post_logout_redirect_uri", self.config.redirect_url.as_str()),
        ];
        let mut url = oauth2::url::Url::parse(&endpoint).ok()?;
        url.query_pairs_mut().extend_pairs(pairs);
        Some(url.to_string())
    }

    /// What an answer gives, if the API server believes it.
    async fn given(&self, answer: Answer, nonce: Option<&str>) -> Result<Given, Status> {
        let id_token = answer.extra_fields().id_token.clone();
        let id_token =
            id_token.ok_or_else(|| refused("the issuer gave no ID token; is the scope openid asked for?"))?;
        let (subject, issuer, expires) = claims(&id_token, nonce).map_err(|why| refused(&why))?;
        if self.outside.authenticate(&id_token).await?.is_none() {
            return Err(refused(
                "the issuer's ID token is not one that this cluster believes; the server's log has more",
            ));
        }
        Ok(Given {
            refresh: answer.refresh_token().map(|token| token.secret().clone()),
            id_token,
            subject,
            issuer,
            expires,
        })
    }

    fn oauth(&self, metadata: &Metadata) -> Result<OAuth, Status> {
        let wrong = |error: oauth2::url::ParseError| away(&format!("an address of the issuer cannot be used: {error}"));
        let client = Client::new(ClientId::new(self.config.client_id.clone()))
            .set_auth_uri(AuthUrl::new(metadata.authorization_endpoint.clone()).map_err(wrong)?)
            .set_token_uri(TokenUrl::new(metadata.token_endpoint.clone()).map_err(wrong)?)
            .set_redirect_uri(RedirectUrl::new(self.config.redirect_url.clone()).map_err(wrong)?)
            .set_auth_type(metadata.auth_type());
        Ok(match &self.config.client_secret {
            Some(Secret(secret)) => client.set_client_secret(ClientSecret::new(secret.clone())),
            None => client,
        })
    }

    /// The issuer's endpoints, asked for where they are not known, or not any more.
    async fn known(&self) -> Result<Known, Status> {
        let source = self.source().ok_or_else(|| {
            away("no issuer is believed whose tokens are for this dashboard; see --oidc-issuer-url and --ui-oidc-client-id")
        })?;
        let known = self.known.lock().clone();
        if let Some(known) = known.filter(|known| known.source == source && known.since.elapsed() < KNOWN) {
            return Ok(known);
        }
        let tls = webhook::client_config(source.authorities.as_bytes());
        let tls = tls.map_err(|error| away(&error.to_string()))?;
        let client = Connector::new(Way::Direct, tls, None).client();
        let metadata = discover(&client, &source).await.map_err(|why| away(&why))?;
        let known = Known {
            source,
            metadata,
            client,
            since: Instant::now(),
        };
        *self.known.lock() = Some(known.clone());
        Ok(known)
    }
}

impl Metadata {
    /// As OpenID Connect Discovery has it, the name and password of HTTP, where nothing else is said.
    fn auth_type(&self) -> AuthType {
        let methods = &self.token_endpoint_auth_methods_supported;
        let has = |name: &str| methods.iter().any(|method| method == name);
        match has("client_secret_post") && !has("client_secret_basic") {
            true => AuthType::RequestBody,
            false => AuthType::BasicAuth,
        }
    }

    fn check(&self, source: &Source) -> Result<(), String> {
        if self.issuer != source.issuer {
            return Err(format!(
                "the issuer calls itself {:?}, not {:?}",
                self.issuer, source.issuer
            ));
        }
        for url in [&self.authorization_endpoint, &self.token_endpoint] {
            if !url.starts_with("https://") {
                return Err(format!("the issuer's endpoint {url:?} is no https URL"));
            }
        }
        Ok(())
    }
}

/// What the browser has brought back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Back {
    pub(super) code: String,
    pub(super) state: String,
    /// Who sent it, where the issuer says so (RFC 9207).
    pub(super) issuer: Option<String>,
}

impl Back {
    pub(super) fn read(asked: &Value) -> Option<Self> {
        let text = |field: &str| {
            asked
                .get(field)?
                .as_str()
                .filter(|text| text.len() <= MAX_CODE)
                .map(str::to_owned)
        };
        Some(Back {
            code: text("code")?,
            state: text("state")?,
            issuer: text("iss"),
        })
    }

    fn check(&self, pending: &Pending) -> Result<(), String> {
        let (sent, kept) = (self.state.as_bytes(), pending.state.as_bytes());
        if aws_lc_rs::constant_time::verify_slices_are_equal(sent, kept).is_err() {
            return Err("it is another sign-in that comes back than the one that was begun here".to_owned());
        }
        match &self.issuer {
            Some(issuer) if *issuer != pending.issuer => Err("it comes back from another issuer".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Subject, issuer and end of an ID token, if it answers this nonce. Whether it is to be believed is another question.
fn claims(id_token: &str, nonce: Option<&str>) -> Result<(String, String, Timestamp), String> {
    let token = Token::read(id_token).ok_or("the issuer's ID token cannot be read")?;
    let claims = token.claims().ok_or("the issuer's ID token says nothing")?;
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str).map(str::to_owned);
    if nonce.is_some() && text("nonce").as_deref() != nonce {
        return Err("the issuer's ID token answers another sign-in".to_owned());
    }
    let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
    let expires = Timestamp::from_second(expires as i64).map_err(|error| error.to_string())?;
    let subject = text("sub").ok_or("the issuer's ID token names nobody")?;
    Ok((subject, text("iss").unwrap_or_default(), expires))
}

async fn discover(client: &Kept<Full<Bytes>>, source: &Source) -> Result<Metadata, String> {
    let request = Request::get(source.discovery()).header(ACCEPT, HeaderValue::from_static("application/json"));
    let request = request.body(Vec::new()).map_err(|error| error.to_string())?;
    let answer = exchange(client.clone(), request)
        .await
        .map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("{}: {}", source.discovery(), answer.status()));
    }
    let metadata: Metadata = serde_json::from_slice(answer.body()).map_err(|error| error.to_string())?;
    metadata.check(source).map(|()| metadata)
}

/// One request to the issuer; redirects are not followed.
async fn exchange(client: Kept<Full<Bytes>>, request: HttpRequest) -> Result<HttpResponse, Unanswered> {
    let place = place(request.uri());
    let exchange = async {
        let response = client.request(request.map(|body| Full::new(body.into()))).await;
        let response = response.map_err(|error| why(&error))?;
        let headers = response.headers().clone();
        let (code, body) = collect(response, MAX_ANSWER).await?;
        let mut answer = http::Response::new(body.to_vec());
        *answer.status_mut() = code;
        *answer.headers_mut() = headers;
        Ok(answer)
    };
    let answer = tokio::time::timeout(FETCH, exchange).await;
    let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    answer.map_err(|why: String| Unanswered(format!("{place}: {why}")))
}

/// An address without what may be secret in it.
fn place(uri: &Uri) -> String {
    format!("https://{}{}", uri.authority().map_or("", |a| a.as_str()), uri.path())
}

/// The issuer is away: nothing is known against the person.
fn away(why: &str) -> Status {
    Status::service_unavailable(format!("one cannot sign in at the issuer now: {why}"))
}

fn refused(why: &str) -> Status {
    let mut status = Status::unauthorized();
    status.message = format!("the sign-in was not accepted: {why}");
    status
}

type Unexchanged = oauth2::RequestTokenError<Unanswered, BasicErrorResponse>;

fn unexchanged(error: &Unexchanged) -> Status {
    match error {
        Unexchanged::ServerResponse(said) => refused(&said.to_string()),
        Unexchanged::Request(unanswered) => away(&unanswered.to_string()),
        other => away(&other.to_string()),
    }
}

#[cfg(test)]
#[path = "sign_in_tests.rs"]
mod tests;
