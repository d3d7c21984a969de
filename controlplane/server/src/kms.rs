//! A key management plugin of the KMS v2 API, over its unix socket.
//!
//! As Kubernetes has it: the plugin wraps a seed, once, and every value is sealed with a key of its own that is derived
//! from that seed, so the plugin is asked at start and when its key changes, not for each write. The plugin says with
//! `key_id` which key it wraps with now; another one calls for a new seed.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use zeroize::Zeroizing;

use v2::{DecryptRequest, EncryptRequest, StatusRequest, key_management_service_client::KeyManagementServiceClient};

/// Generated from `proto/kms.proto`; `tests/kms_proto.rs` proves that it is current.
#[allow(
    unreachable_pub,
    unused_qualifications,
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod v2 {
    include!("kms/v2.rs");
}

/// How long the plugin may take, as Kubernetes' default.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest key id and ciphertext that Kubernetes takes, in bytes.
const LONGEST_KEY_ID: usize = 1024;
const LONGEST_CIPHERTEXT: usize = 1024;
/// The longest annotations in all, in bytes.
const LONGEST_ANNOTATIONS: usize = 32 * 1024;

/// Why the plugin is of no use. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the KMS endpoint \"{0}\" is not unix:///PATH")]
    Endpoint(String),
    #[error("the KMS plugin at {socket} cannot {doing}: {reason}")]
    Plugin {
        socket: String,
        doing: &'static str,
        reason: String,
    },
}

/// A seed as the plugin wrapped it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wrapped {
    ciphertext: String,
    pub(crate) key_id: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// A plugin.
#[derive(Clone, Debug)]
pub(crate) struct Kms {
    socket: String,
    channel: Channel,
}

impl Kms {
    /// The plugin at `unix:///PATH`; it is connected to when it is needed.
    pub(crate) fn at(endpoint: &str) -> Result<Self, Error> {
        let path = endpoint.strip_prefix("unix://").filter(|path| path.starts_with('/'));
        let socket = path.ok_or_else(|| Error::Endpoint(endpoint.to_owned()))?.to_owned();
        let connect = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = connect.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://kms").connect_with_connector_lazy(connector);
        Ok(Kms { socket, channel })
    }

    /// The id of the key that the plugin wraps with now.
    pub(crate) async fn key_id(&self) -> Result<String, Error> {
        let doing = "tell its status";
        let mut client = self.client();
        let status = self.ask(doing, client.status(StatusRequest {})).await?;
        if !matches!(&*status.version, "v2" | "v2beta1") {
            return Err(self.refuse(
                doing,
                format!("it speaks version \"{}\", and v2 is needed", status.version),
            ));
        }
        if status.healthz != "ok" {
            return Err(self.refuse(doing, format!("it says that it is not well: {}", status.healthz)));
        }
        self.checked_id(doing, status.key_id)
    }

    /// Wraps a seed.
    pub(crate) async fn wrap(&self, seed: &[u8; 32]) -> Result<Wrapped, Error> {
        let doing = "encrypt";
        let request = EncryptRequest {
            plaintext: seed.to_vec(),
            uid: uuid::Uuid::new_v4().to_string(),
        };
        let mut client = self.client();
        let answer = self.ask(doing, client.encrypt(request)).await?;
        let annotations: usize = answer
            .annotations
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if answer.ciphertext.is_empty()
            || answer.ciphertext.len() > LONGEST_CIPHERTEXT
            || annotations > LONGEST_ANNOTATIONS
        {
            return Err(self.refuse(doing, "its answer is empty or too long".to_owned()));
        }
        Ok(Wrapped {
            ciphertext: STANDARD.encode(&answer.ciphertext),
            key_id: self.checked_id(doing, answer.key_id)?,
            annotations: answer
                .annotations
                .into_iter()
                .map(|(name, value)| (name, STANDARD.encode(value)))
                .collect(),
        })
    }

    /// Unwraps a seed.
    pub(crate) async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<[u8; 32]>, Error> {
        let doing = "decrypt";
        let damaged = |_| self.refuse(doing, "what it wrapped is damaged here".to_owned());
        let annotations = wrapped
            .annotations
            .iter()
            .map(|(name, value)| Ok((name.clone(), STANDARD.decode(value).map_err(damaged)?)));
        let request = DecryptRequest {
            ciphertext: STANDARD.decode(&wrapped.ciphertext).map_err(damaged)?,
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: wrapped.key_id.clone(),
            annotations: annotations.collect::<Result<_, Error>>()?,
        };
        let mut client = self.client();
        let seed = Zeroizing::new(self.ask(doing, client.decrypt(request)).await?.plaintext);
        let seed = seed.as_slice().try_into();
        seed.map(Zeroizing::new)
            .map_err(|_| self.refuse(doing, "it did not give back what it was given".to_owned()))
    }

    fn client(&self) -> KeyManagementServiceClient<Channel> {
        KeyManagementServiceClient::new(self.channel.clone())
    }

    fn checked_id(&self, doing: &'static str, id: String) -> Result<String, Error> {
        match id.is_empty() || id.len() > LONGEST_KEY_ID {
            true => Err(self.refuse(doing, "it names no key, or by too long a name".to_owned())),
            false => Ok(id),
        }
    }

    async fn ask<R>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    ) -> Result<R, Error> {
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.refuse(doing, status.message().to_owned())),
            Err(_) => Err(self.refuse(doing, "it does not answer".to_owned())),
        }
    }

    fn refuse(&self, doing: &'static str, reason: String) -> Error {
        Error::Plugin {
            socket: self.socket.clone(),
            doing,
            reason,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
