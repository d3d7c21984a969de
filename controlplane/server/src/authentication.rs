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
    /// How people sign in to the dashboard at one of the issuers.
    pub sign_in: Option<SignIn>,
}

/// A sign-in at an issuer, as OpenID Connect's clients are configured.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// The issuer, where several are believed.
    pub issuer: Option<String>,
    pub client_id: String,
    /// Holds the secret of a confidential client.
    pub client_secret_file: Option<PathBuf>,
    /// The dashboard's address, as the issuer knows it.
    pub redirect_url: String,
    pub scopes: Vec<String>,
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
            sign_in: None,
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
    #[error("{} cannot be read for the dashboard's client secret", path.display())]
    Secret {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("--ui-oidc-redirect-url {0} must be the dashboard's https address, such as https://HOST:6443/ui/")]
    Redirect(String),
    #[error(
        "people cannot sign in at an issuer while none is believed; see --oidc-issuer-url and --authentication-config"
    )]
    NoIssuer,
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

    /// How people sign in, with the secret that its file holds.
    pub(crate) fn sign_in(&self) -> Result<Option<apiserver::sign_in::Config>, Error> {
        let Some(asked) = &self.sign_in else {
            return Ok(None);
        };
        if matches!(self.issuers, Issuers::None) {
            return Err(Error::NoIssuer);
        }
        // The issuer sends browsers there, and the page must be the one that goes on.
        let url = &asked.redirect_url;
        if !(url.starts_with("https://") && url.ends_with("/ui/")) {
            return Err(Error::Redirect(url.clone()));
        }
        let secret = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Secret {
                path: path.clone(),
                source,
            })?;
            Ok(apiserver::sign_in::Secret(text.trim().to_owned()))
        };
        Ok(Some(apiserver::sign_in::Config {
            issuer: asked.issuer.clone(),
            client_id: asked.client_id.clone(),
            client_secret: asked.client_secret_file.as_ref().map(secret).transpose()?,
            redirect_url: url.clone(),
            scopes: asked.scopes.clone(),
        }))
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
