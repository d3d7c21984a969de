//! The store of a control plane: opened, with its Secrets encrypted, and what can be done to it while it is used.

use std::{
    path::Path,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use apiserver::http::health::Check;
use client::Clock;
use store::{Backend, encrypt::Encrypted, encrypt::Keyring};
use store_etcd::{Etcd, OpenError};
use store_redb::Redb;
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error, history,
    identity::{self, Token},
    is_sealed, keys,
    kms::Kms,
};

/// Where a control plane keeps its objects.
#[derive(Clone, Debug)]
pub enum Store {
    /// In a file, which it has for itself.
    Redb(PathBuf),
    /// On an etcd cluster, which it shares with others that know the token.
    Etcd { options: store_etcd::Options, token: Token },
}

/// How often history is compacted, as kube-apiserver does.
const COMPACT_EVERY: Duration = Duration::from_secs(300);
/// How long etcd may take until it first answers, and the pauses between attempts.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The medium that an open store is on.
#[derive(Clone)]
pub(crate) enum Medium {
    Redb(Arc<Redb>),
    Etcd(Etcd, Token),
}

impl Medium {
    fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Medium::Redb(redb) => redb.clone(),
            Medium::Etcd(etcd, _) => Arc::new(etcd.clone()),
        }
    }
}

/// An open store.
pub(crate) struct Stores {
    pub(crate) medium: Medium,
    pub(crate) encrypted: Arc<Encrypted<Arc<dyn Backend>>>,
    pub(crate) keyring: Keyring,
    pub(crate) kms: Option<Kms>,
    /// Whether the plugin was well when it was last asked.
    pub(crate) kms_is_well: Arc<AtomicBool>,
    pub(crate) data_dir: PathBuf,
    /// Held while keys are replaced.
    pub(crate) rotating: Mutex<()>,
}

impl Stores {
    /// Opens the store; where it is shared, the data directory holds the cluster's identity afterwards.
    pub(crate) async fn open(
        store: &Store,
        kms_endpoint: Option<&str>,
        data_dir: &Path,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let keys_dir = data_dir.join("keys");
        let kms = kms_endpoint.map(Kms::at).transpose().map_err(keys::Error::Kms)?;
        let (medium, file) = match store {
            Store::Redb(path) => {
                let file = keys::ensure(&keys_dir, path.exists())?;
                (
                    Medium::Redb(Arc::new(Redb::open(path, store_redb::Options::default())?)),
                    file,
                )
            }
            Store::Etcd { options, token } => {
                let etcd = once_it_answers(options).await?;
                identity::ensure(&etcd, token, data_dir, clock.now()).await?;
                (Medium::Etcd(etcd, token.clone()), keys::ensure(&keys_dir, true)?)
            }
        };
        let keyring = Keyring::from(file.open(kms.as_ref()).await?);
        let encrypted = Encrypted::new(medium.backend(), keyring.clone(), is_sealed);
        let stores = Stores {
            medium,
            encrypted: Arc::new(encrypted),
            keyring,
            kms,
            kms_is_well: Arc::new(AtomicBool::new(true)),
            data_dir: data_dir.to_owned(),
            rotating: Mutex::default(),
        };
        stores.follow_kms().await?;
        Ok(stores)
    }

    /// What the API server reads and writes.
    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        self.encrypted.clone()
    }

    /// Whether other control planes use it as well.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.medium, Medium::Etcd(..))
    }

    /// Starts what the store needs while it is used.
    pub(crate) fn keep(self: &Arc<Self>, tasks: &TaskTracker, shutdown: &CancellationToken) {
        match &self.medium {
            Medium::Redb(redb) => {
                let (redb, end) = (redb.clone(), shutdown.clone());
                tasks.spawn(async move {
                    end.run_until_cancelled(history::keep_short(&*redb, COMPACT_EVERY))
                        .await
                });
            }
            Medium::Etcd(etcd, _) => {
                let (etcd, end) = (etcd.clone(), shutdown.clone());
                tasks.spawn(async move { etcd.keep_compacted(COMPACT_EVERY, end).await });
                let (stores, end) = (self.clone(), shutdown.clone());
                tasks.spawn(async move { end.run_until_cancelled(stores.follow_keys()).await });
            }
        }
        if self.kms.is_some() {
            let (stores, end) = (self.clone(), shutdown.clone());
            tasks.spawn(async move { end.run_until_cancelled(stores.keep_following_kms()).await });
            let (stores, end) = (self.clone(), shutdown.clone());
            tasks.spawn(async move { end.run_until_cancelled(stores.keep_asking_kms()).await });
        }
    }

    /// Whether the plugin that wraps keys is well, for `/livez` and `/readyz`; `None` where there is none.
    pub(crate) fn check(&self) -> Option<Check> {
        let well = self.kms_is_well.clone();
        self.kms.as_ref().map(|_| Check {
            name: "kms-providers",
            passes: Arc::new(move || well.load(Ordering::Relaxed)),
            live: true,
        })
    }

    /// Finishes what is under way.
    pub(crate) async fn close(&self) {
        match &self.medium {
            Medium::Redb(redb) => redb.close().await,
            Medium::Etcd(etcd, _) => etcd.close(),
        }
    }
}

/// Connects to etcd, which may be starting as well.
async fn once_it_answers(options: &store_etcd::Options) -> Result<Etcd, OpenError> {
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match Etcd::connect(options.clone()).await {
            Err(error @ OpenError::Away { .. }) if tokio::time::Instant::now() + pause < until => {
                tracing::warn!(%error, ?pause, "waiting for etcd");
            }
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
