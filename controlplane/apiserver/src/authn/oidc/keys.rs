//! The keys of an issuer: found by OpenID Connect Discovery, fetched in a task of their own, and kept. While the issuer is
//! away the keys stay what they were; an unknown one is asked for at once, but no more often than [`Pace::again`] allows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Uri};
use http_body_util::Empty;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::jwt::{Algorithm, Key, Token, read_keys};
use crate::webhook::connect::{Connector, Kept, Way, collect, why};

/// Bytes of a document, and keys in one.
const MAX_DOCUMENT: usize = 1 << 20;
const MAX_KEYS: usize = 256;
/// How long a document may take.
const FETCH: Duration = Duration::from_secs(10);
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// How often an issuer is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// After it did not answer.
    pub(crate) retry: Duration,
    /// For keys that are not known, at the earliest after the last time.
    pub(crate) again: Duration,
    /// For keys that may have been withdrawn.
    pub(crate) refresh: Duration,
    /// How long a token whose key is not known waits for it.
    pub(crate) patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            retry: Duration::from_secs(10),
            again: Duration::from_secs(10),
            refresh: Duration::from_secs(3600),
            patience: Duration::from_secs(5),
        }
    }
}

/// What leads to an issuer's keys; keys are kept while it stays the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) issuer: String,
    /// Where its configuration is, if not below its own URL.
    pub(crate) discovery: Option<String>,
    /// PEM; empty for the authorities that the system trusts.
    pub(crate) authorities: String,
}

impl Source {
    pub(crate) fn discovery(&self) -> String {
        match &self.discovery {
            Some(url) => url.clone(),
            None => format!("{}{DISCOVERY}", self.issuer.trim_end_matches('/')),
        }
    }
}

/// What is known of an issuer's keys.
#[derive(Clone, Default)]
struct Known {
    keys: Option<Arc<Vec<Key>>>,
    /// When the issuer was last asked, and how often it was.
    asked: Option<Instant>,
    round: u64,
}

/// The keys of one issuer, kept up to date until it is dropped.
pub(crate) struct Keyring {
    pub(crate) source: Source,
    pace: Pace,
    known: watch::Receiver<Known>,
    wanted: Arc<Notify>,
    _end: DropGuard,
}

impl Keyring {
    /// Begins to fetch keys; the task belongs to `tasks`.
    pub(crate) fn start(
        source: Source,
        tls: Arc<ClientConfig>,
        pace: Pace,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let (tell, known) = watch::channel(Known::default());
        let wanted = Arc::new(Notify::new());
        let end = shutdown.child_token();
        let fetcher = Fetcher {
            source: source.clone(),
            client: Connector::new(Way::Direct, tls, None).client(),
            jwks: None,
        };
        tasks.spawn(
            end.clone()
                .run_until_cancelled_owned(keep(fetcher, pace, tell, wanted.clone())),
        );
        Keyring {
            source,
            pace,
            known,
            wanted,
            _end: end.drop_guard(),
        }
    }

    /// Whether the issuer has signed the token.
    pub(crate) async fn verify(&self, token: &Token<'_>, algorithm: Algorithm) -> Result<(), String> {
        const UNSIGNED: &str = "oidc: verify token: failed to verify signature: failed to verify id token signature";
        let known = self.known.borrow().clone();
        let Some(keys) = &known.keys else {
            return Err("oidc: authenticator not initialized".to_owned());
        };
        if signed_by(keys, token, algorithm) {
            return Ok(());
        }
        let is_named = token.names_key() && keys.iter().any(|key| key.fits(token));
        let too_soon = known.asked.is_some_and(|asked| asked.elapsed() < self.pace.again);
        if is_named || too_soon {
            return Err(UNSIGNED.to_owned());
        }
        // The issuer may have changed its keys: whoever is first asks, all wait for the answer.
        let mut later = self.known.clone();
        self.wanted.notify_one();
        let answered = later.wait_for(|later| later.round != known.round);
        let answered = tokio::time::timeout(self.pace.patience, answered).await;
        let keys = match answered {
            Ok(Ok(later)) => later.keys.clone().unwrap_or_default(),
            _ => return Err(UNSIGNED.to_owned()),
        };
        match signed_by(&keys, token, algorithm) {
            true => Ok(()),
            false => Err(UNSIGNED.to_owned()),
        }
    }
}

fn signed_by(keys: &[Key], token: &Token<'_>, algorithm: Algorithm) -> bool {
    keys.iter().any(|key| key.fits(token) && key.verifies(token, algorithm))
}

/// Asks the issuer at first, when somebody wants a key, and now and then.
async fn keep(mut fetcher: Fetcher, pace: Pace, tell: watch::Sender<Known>, wanted: Arc<Notify>) {
    loop {
        let fetched = fetcher.fetch().await;
        let wait = match &fetched {
            Ok(_) => pace.refresh,
            Err(why) => {
                tracing::warn!(issuer = %fetcher.source.issuer, %why, "the keys of a token issuer cannot be fetched");
                pace.retry
            }
        };
        let asked = Instant::now();
        tell.send_modify(|known| {
            if let Ok(keys) = fetched {
                known.keys = Some(Arc::new(keys));
            }
            known.asked = Some(asked);
            known.round += 1;
        });
        let refresh = tokio::time::sleep(wait);
        tokio::pin!(refresh);
        loop {
            tokio::select! {
                () = &mut refresh => {
                    fetcher.jwks = None;
                    break;
                }
                // Who wanted what has just been fetched has it.
                () = wanted.notified() => if asked.elapsed() >= pace.again { break },
            }
        }
    }
}

/// Fetches the documents of an issuer.
struct Fetcher {
    source: Source,
    client: Kept<Empty<Bytes>>,
    /// Where its keys are, once that is known.
    jwks: Option<String>,
}

impl Fetcher {
    async fn fetch(&mut self) -> Result<Vec<Key>, String> {
        let place = match self.jwks.take() {
            Some(place) => place,
            None => self.discover().await?,
        };
        let set = self.get(&place).await?;
        let keys = read_keys(&set, MAX_KEYS);
        if keys.is_empty() {
            return Err(format!("there is no key for signatures at {place}"));
        }
        self.jwks = Some(place);
        Ok(keys)
    }

    async fn discover(&self) -> Result<String, String> {
        let document = self.get(&self.source.discovery()).await?;
        let text = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default();
        let (wanted, found) = (&self.source.issuer, text("issuer"));
        if found != wanted {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {wanted:?} got {found:?}"
            ));
        }
        let place = text("jwks_uri");
        match place.starts_with("https://") {
            true => Ok(place.to_owned()),
            false => Err(format!("the jwks_uri must be an https URL, not {place:?}")),
        }
    }

    async fn get(&self, url: &str) -> Result<Value, String> {
        let failed = |why: String| format!("Get {url:?}: {why}");
        let uri: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
        let request = Request::get(uri)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(Empty::new())
            .map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| why(&error))?;
            collect(response, MAX_DOCUMENT).await
        };
        let (code, body) = match tokio::time::timeout(FETCH, exchange).await {
            Ok(answer) => answer.map_err(failed)?,
            Err(_) => return Err(failed("context deadline exceeded".to_owned())),
        };
        if !code.is_success() {
            return Err(failed(code.to_string()));
        }
        serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
    }
}
