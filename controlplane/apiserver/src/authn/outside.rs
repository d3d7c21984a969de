//! Whom the operator has the API server believe beside the cluster itself: issuers of tokens, and where somebody unknown
//! may come. Replaced as a whole when the operator changes it, while requests are served.

use std::sync::Arc;

use api::Status;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::oidc::Issuer;
use super::oidc::config::{Jwt, Settings};
use super::oidc::jwt::{Algorithm, Token};
use super::oidc::keys::{Keyring, Pace, Source};
use super::{Anonymous, TokenAuthenticator, UserInfo};
use crate::server::Clock;
use crate::webhook;

/// What the operator has configured, now.
pub(crate) struct Outside {
    current: ArcSwap<State>,
    clock: Clock,
    pace: Pace,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

#[derive(Default)]
struct State {
    anonymous: Anonymous,
    issuers: Vec<Issuer>,
}

impl Outside {
    /// With settings; what it starts belongs to `tasks` and ends with `shutdown`.
    pub(crate) fn new(
        settings: &Settings,
        clock: Clock,
        pace: Pace,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let outside = Outside {
            current: ArcSwap::default(),
            clock,
            pace,
            tasks,
            shutdown,
        };
        outside.apply(settings);
        outside
    }

    /// Takes other settings. An issuer that stays keeps its keys.
    pub(crate) fn apply(&self, settings: &Settings) {
        let before = self.current.load();
        let known = |source: &Source| {
            let same = before.issuers.iter().find(|issuer| issuer.keys.source == *source);
            same.map(|issuer| issuer.keys.clone())
        };
        let issuer = |(jwt, mapping): &(Jwt, Arc<_>)| {
            let source = Source {
                issuer: jwt.issuer.url.clone(),
                discovery: (!jwt.issuer.discovery_url.is_empty()).then(|| jwt.issuer.discovery_url.clone()),
                authorities: jwt.issuer.certificate_authority.clone(),
            };
            let keys = match known(&source) {
                Some(keys) => keys,
                None => Arc::new(self.keyring(source)?),
            };
            Some(Issuer {
                url: jwt.issuer.url.clone(),
                audiences: jwt.issuer.audiences.clone(),
                algorithms: match jwt.algorithms.is_empty() {
                    true => Algorithm::ALL.to_vec(),
                    false => jwt.algorithms.clone(),
                },
                mapping: Arc::clone(mapping),
                keys,
            })
        };
        let state = State {
            anonymous: settings.anonymous.clone(),
            issuers: settings.issuers.iter().filter_map(issuer).collect(),
        };
        drop(before);
        self.current.store(Arc::new(state));
    }

    fn keyring(&self, source: Source) -> Option<Keyring> {
        match webhook::client_config(source.authorities.as_bytes()) {
            Ok(tls) => Some(Keyring::start(source, tls, self.pace, &self.tasks, &self.shutdown)),
            Err(error) => {
                // A bundle has been checked; what is left is a system without authorities, which any answer will show.
                tracing::error!(issuer = %source.issuer, error = &error as &dyn std::error::Error, "a token issuer cannot be reached");
                None
            }
        }
    }

    /// Where the issuer is at which people sign in for a client: the one that is named, or the only one whose tokens are for it.
    pub(crate) fn signs_in(&self, url: Option<&str>, client: &str) -> Option<Source> {
        let state = self.current.load();
        let fits = |issuer: &&Issuer| {
            let named = url.is_none_or(|url| url == issuer.url);
            named && issuer.audiences.iter().any(|audience| audience == client)
        };
        let mut fitting = state.issuers.iter().filter(fits);
        let first = fitting.next()?;
        fitting.next().is_none().then(|| first.keys.source.clone())
    }

    /// Whether somebody unknown may ask for a path.
    pub(crate) fn admits_anonymous(&self, path: &str) -> bool {
        match &self.current.load().anonymous {
            Anonymous::Everywhere => true,
            Anonymous::Nowhere => false,
            Anonymous::At(paths) => paths.iter().any(|known| known == path),
        }
    }
}

#[async_trait]
impl TokenAuthenticator for Outside {
    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>, Status> {
        let state = self.current.load_full();
        if state.issuers.is_empty() {
            return Ok(None);
        }
        let Some(token) = Token::read(token) else {
            return Ok(None);
        };
        let made_by = token.issuer();
        let Some(issuer) = state.issuers.iter().find(|issuer| Some(issuer.url.as_str()) == made_by) else {
            return Ok(None);
        };
        match issuer.authenticate(&token, (self.clock)()).await {
            Ok(user) => Ok(Some(user)),
            Err(why) => {
                tracing::debug!(issuer = %issuer.url, %why, "a token is refused");
                Ok(None)
            }
        }
    }
}

/// Follows the operator's settings.
pub(crate) async fn run(
    outside: Arc<Outside>,
    mut settings: watch::Receiver<Arc<Settings>>,
    shutdown: CancellationToken,
) {
    let follow = async {
        while settings.changed().await.is_ok() {
            let now = settings.borrow_and_update().clone();
            outside.apply(&now);
            tracing::info!("the authentication configuration has been replaced");
        }
    };
    let _ = shutdown.run_until_cancelled(follow).await;
}
