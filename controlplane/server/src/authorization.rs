//! Who is asked whether something may be done, as the operator says it: by flags, or by a file that is read again when it
//! changes. A file that cannot be used any more leaves what was.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use apiserver::authz::{
    self,
    config::{Configuration, Error as Unusable, Settings},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{asked, files, in_full};

/// Who is asked; administrators may do everything before anybody is.
#[derive(Clone, Debug, Default)]
pub enum Authorization {
    /// The node authorizer, then RBAC.
    #[default]
    Usual,
    /// What flags say, written as a configuration.
    Flags(Box<Configuration>),
    /// What an AuthorizationConfiguration says.
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
    #[error("{} cannot be used for authorization", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: Unusable,
    },
    #[error("the --authorization flags cannot be used")]
    Flags(#[source] Unusable),
}

impl Authorization {
    /// Reads the configuration, and follows its file from now on.
    pub(crate) fn start(&self, tasks: &TaskTracker, shutdown: &CancellationToken) -> Result<authz::Config, Error> {
        let path = match self {
            Authorization::Usual => return Ok(authz::Config::fixed(Settings::default())),
            Authorization::Flags(configuration) => {
                return Ok(authz::Config::fixed(compile(configuration).map_err(Error::Flags)?));
            }
            Authorization::File(path) => path.clone(),
        };
        let followed = files::Followed::open(path.clone()).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        let settings = parse(followed.text()).map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
        let (tell, settings) = watch::channel(Arc::new(settings));
        let take = move |text: &str| match parse(text) {
            Ok(settings) => drop(tell.send(Arc::new(settings))),
            Err(error) => tracing::error!(
                file = %path.display(),
                error = &error as &dyn std::error::Error,
                "the authorization configuration cannot be used; the one before stays in force"
            ),
        };
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(followed.follow(take)));
        Ok(authz::Config { settings })
    }
}

fn parse(text: &str) -> Result<Settings, Unusable> {
    compile(&Configuration::parse(text)?)
}

fn compile(configuration: &Configuration) -> Result<Settings, Unusable> {
    configuration.compile(|path| asked::open(Path::new(path)).map_err(|error| in_full(&error)))
}
