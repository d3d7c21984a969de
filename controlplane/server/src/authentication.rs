//! Whom the API server believes beside the cluster itself, as the operator says it: by flags, or by a file that is read
//! again when it changes. What it means is checked in `apiserver`; a file that cannot be used any more leaves what was.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use apiserver::authn::{
    self,
    oidc::config::{Configuration, Error as Unusable, Jwt, Settings},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{ISSUER, asked, files};

/// Who may come, beside those with the cluster's own credentials.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// Whether requests without credentials are anybody's, where the file does not say.
    pub anonymous: bool,
    pub issuers: Issuers,
    pub webhook: Option<TokenWebhook>,
}

/// A program that is asked about tokens that nobody else knows.
#[derive(Clone, Debug)]
pub struct TokenWebhook {
    /// A kubeconfig file.
    pub file: PathBuf,
    /// Of the TokenReview it is sent: `v1` or `v1beta1`.
    pub version: &'static str,
    /// How long an answer counts.
    pub ttl: Duration,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            anonymous: true,
            issuers: Issuers::default(),
            webhook: None,
        }
    }
}

/// Which issuers of tokens are believed.
#[derive(Clone, Debug, Default)]
pub enum Issuers {
    #[default]
    None,
    /// One, described by flags.
    Flags(Box<Jwt>),
    /// Those of an AuthenticationConfiguration.
    File(PathBuf),
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} cannot be used for authentication", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: Unusable,
    },
    #[error("the authentication webhook cannot be asked")]
    Webhook(#[source] asked::Error),
    #[error("the issuer of the --oidc flags cannot be used")]
    Flags(#[source] Unusable),
}

impl Authentication {
    /// Reads the configuration, and follows its file from now on.
    pub(crate) fn start(&self, tasks: &TaskTracker, shutdown: &CancellationToken) -> Result<authn::Config, Error> {
        let settings = match &self.issuers {
            Issuers::None => self.fixed(Vec::new())?,
            Issuers::Flags(jwt) => self.fixed(vec![(**jwt).clone()])?,
            Issuers::File(path) => follow(path.clone(), self.anonymous, tasks, shutdown)?,
        };
        let webhook = match &self.webhook {
            None => None,
            Some(webhook) => Some(authn::webhook::Config {
                endpoint: asked::open(&webhook.file).map_err(Error::Webhook)?,
                version: webhook.version,
                ttl: webhook.ttl,
            }),
        };
        Ok(authn::Config { settings, webhook })
    }

    fn fixed(&self, jwt: Vec<Jwt>) -> Result<watch::Receiver<Arc<Settings>>, Error> {
        let configuration = Configuration {
            jwt,
            ..Configuration::default()
        };
        let settings = compile(configuration, self.anonymous).map_err(Error::Flags)?;
        Ok(watch::channel(Arc::new(settings)).1)
    }
}

fn follow(
    path: PathBuf,
    anonymous: bool,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<watch::Receiver<Arc<Settings>>, Error> {
    let followed = files::Followed::open(path.clone()).map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })?;
    let settings = parse(followed.text(), anonymous).map_err(|source| Error::File {
        path: path.clone(),
        source,
    })?;
    let (tell, settings) = watch::channel(Arc::new(settings));
    let take = move |text: &str| match parse(text, anonymous) {
        Ok(settings) => drop(tell.send(Arc::new(settings))),
        Err(error) => unusable(&path, &error),
    };
    tasks.spawn(shutdown.clone().run_until_cancelled_owned(followed.follow(take)));
    Ok(settings)
}

fn unusable(path: &Path, error: &Unusable) {
    tracing::error!(
        file = %path.display(),
        error = error as &dyn std::error::Error,
        "the authentication configuration cannot be used; the one before stays in force"
    );
}

fn parse(text: &str, anonymous: bool) -> Result<Settings, Unusable> {
    compile(Configuration::parse(text)?, anonymous)
}

fn compile(configuration: Configuration, anonymous: bool) -> Result<Settings, Unusable> {
    configuration.compile(&[ISSUER.to_owned()], anonymous)
}
