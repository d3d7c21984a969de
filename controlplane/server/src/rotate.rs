//! Replacing the key that Secrets are sealed with, while they are used.
//!
//! The new key is first one that opens, and only then the one that seals: where several control planes share a store, each
//! follows the keys in it, and has the new one by the time that another seals with it. Then everything is sealed anew.
//! Older keys stay, for what history and backups hold.

use std::{error::Error as StdError, sync::atomic::Ordering, time::Duration};

use futures::StreamExt;
use store::{Backend, Signal};
use zeroize::Zeroizing;

use crate::{
    Error, SECRETS, identity,
    keys::{self, File},
    kms::Kms,
    stores::{Medium, Stores},
};

/// How long other control planes have to take in a new key before it seals. One that has not by then cannot reach the
/// store, and has it before it reads the first value that is sealed with it.
const TAKE_IN: Duration = Duration::from_secs(3);
/// How long to wait before following the keys again after that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the plugin is asked for its key, as Kubernetes does.
const KMS_EVERY: Duration = Duration::from_secs(60);
/// How often it is asked whether it is well, while it is and while it is not.
const KMS_WELL: Duration = Duration::from_secs(20);
const KMS_UNWELL: Duration = Duration::from_secs(3);

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rotated {
    /// The name of the key that seals now.
    pub(crate) key: String,
    /// How many Secrets were sealed anew.
    pub(crate) resealed: usize,
}

impl Stores {
    /// Makes a new key, seals with it from now on, and seals every Secret anew.
    pub(crate) async fn rotate(&self) -> Result<Rotated, Error> {
        let key = self.replace_key().await?;
        let resealed = self.encrypted.reseal(SECRETS).await.map_err(Error::Reseal)?;
        tracing::info!(key, resealed, "Secrets are sealed with a new key");
        Ok(Rotated { key, resealed })
    }

    async fn replace_key(&self) -> Result<String, Error> {
        let _rotating = self.rotating.lock().await;
        let (with_new, name) = self.read().await?.with_new_key(self.kms.as_ref()).await?;
        self.write(&with_new).await?;
        if self.is_shared() {
            tokio::time::sleep(TAKE_IN).await;
        }
        self.write(&self.read().await?.sealing_with(&name)).await?;
        Ok(name)
    }

    /// The keys as they are kept.
    async fn read(&self) -> Result<File, Error> {
        let directory = self.data_dir.join("keys");
        match &self.medium {
            Medium::Redb(_) => Ok(keys::ensure(&directory, true)?),
            Medium::Etcd(etcd, token) => {
                let (files, _) = identity::stored(etcd, token).await?.ok_or(identity::Error::Damaged)?;
                Ok(File::parse(identity::keys_of(&files)?, &directory)?)
            }
        }
    }

    /// Keeps and uses these keys.
    async fn write(&self, file: &File) -> Result<(), Error> {
        // What cannot be opened is not kept.
        let keys = file.open(self.kms.as_ref()).await?;
        if let Medium::Etcd(etcd, token) = &self.medium {
            let stored = identity::stored(etcd, token).await?.ok_or(identity::Error::Damaged)?;
            let text = Zeroizing::new(file.text().to_string());
            if !identity::replace_keys(etcd, token, stored, text).await? {
                return Err(Error::Rotating);
            }
        }
        file.save(&self.data_dir.join("keys"))?;
        self.keyring.replace(keys);
        Ok(())
    }

    /// Takes in the keys that other control planes make. Never returns.
    pub(crate) async fn follow_keys(&self) {
        loop {
            if let Err(error) = self.follow_keys_once().await {
                tracing::warn!(
                    error = &error as &dyn StdError,
                    "the cluster's encryption keys are not followed"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow_keys_once(&self) -> Result<(), Error> {
        let Medium::Etcd(etcd, _) = &self.medium else {
            return Ok(());
        };
        let from = etcd.revision().await.map_err(identity::Error::Store)?;
        let mut watch = etcd.watch(identity::KEY, from).await.map_err(identity::Error::Store)?;
        self.take_in().await?;
        while let Some(signal) = watch.next().await {
            if let Signal::Change(_) = signal.map_err(identity::Error::Store)? {
                self.take_in().await?;
            }
        }
        Ok(())
    }

    async fn take_in(&self) -> Result<(), Error> {
        let file = self.read().await?;
        let keys = file.open(self.kms.as_ref()).await?;
        file.save(&self.data_dir.join("keys"))?;
        self.keyring.replace(keys);
        Ok(())
    }

    /// Sees to it that the key that seals is wrapped with the key that the plugin has now.
    pub(crate) async fn follow_kms(&self) -> Result<(), Error> {
        let Some(kms) = &self.kms else { return Ok(()) };
        let key_id = kms.key_id().await.map_err(keys::Error::Kms)?;
        if self.read().await?.is_wrapped_with(&key_id) {
            return Ok(());
        }
        let key = self.replace_key().await?;
        tracing::info!(key, key_id, "Secrets are sealed with a key that the KMS plugin wrapped");
        Ok(())
    }

    /// Asks the plugin whether it is well, as often as Kubernetes does: more often while it is not. Never returns.
    pub(crate) async fn keep_asking_kms(&self) {
        while let Some(kms) = &self.kms {
            let pause = match self.ask_kms(kms).await {
                true => KMS_WELL,
                false => KMS_UNWELL,
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask_kms(&self, kms: &Kms) -> bool {
        let is_well = kms.key_id().await.is_ok();
        self.kms_is_well.store(is_well, Ordering::Relaxed);
        is_well
    }

    /// Follows the plugin's key. Never returns.
    pub(crate) async fn keep_following_kms(&self) {
        loop {
            tokio::time::sleep(KMS_EVERY).await;
            if let Err(error) = self.follow_kms().await {
                tracing::warn!(error = &error as &dyn StdError, "the KMS plugin is of no use");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use client::Clock;

    use super::*;
    use crate::{kms::tests::Plugin, stores::Store};

    #[tokio::test]
    async fn health_tells_whether_the_plugin_is_well() {
        let directory = tempfile::tempdir().unwrap();
        let plugin = Plugin::start(directory.path());
        let store = Store::Redb(directory.path().join("store.redb"));
        let endpoint = Some(plugin.endpoint.as_str());
        let stores = Stores::open(&store, endpoint, directory.path(), &Clock::system())
            .await
            .unwrap();
        let check = stores.check().expect("there is a plugin");
        let kms = stores.kms.as_ref().unwrap();
        assert!(check.live && (check.passes)());
        plugin.state.lock().healthz = "sick".to_owned();
        assert!(!stores.ask_kms(kms).await && !(check.passes)());
        plugin.state.lock().healthz = "ok".to_owned();
        assert!(stores.ask_kms(kms).await && (check.passes)());
        plugin.stop();
        stores.close().await;
    }
}
