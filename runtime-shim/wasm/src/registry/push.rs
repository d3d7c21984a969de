//! Pushing one Wasm binary as an artifact: two blobs and a manifest, what is there already not again.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderValue, Method, header};

use super::{
    auth::percent_encoded,
    error::{RegistryError, printable},
    session::{Access, Peer, Session, Settings},
    transport::{Outgoing, absolute},
};
use crate::{
    images::{Digest, OCI_MANIFEST, Reference, Target, artifact},
    inspect::inspect,
    protocol::compiled::Refusal,
};

/// What is pushed, and whither.
#[derive(Clone, Debug)]
pub struct Push {
    /// `registry.example/team/hello:1`
    pub name: String,
    /// A component or module.
    pub binary: Bytes,
    /// What the binary's file is called.
    pub file: String,
    /// RFC 3339.
    pub created: String,
    pub credentials: Option<cri::RegistryAuth>,
    /// Holds `<registry>/hosts.toml`.
    pub hosts: Option<PathBuf>,
    /// Speak without TLS.
    pub plain_http: bool,
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// With its defaults filled in.
    pub name: String,
    /// Of the manifest.
    pub digest: String,
}

/// Why nothing was pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("couldn't parse image name \"{name}\": {reason}")]
    Name { name: String, reason: String },
    #[error("image name \"{name}\" is a digest; name a tag")]
    Untagged { name: String },
    #[error("it is not fit to be pushed")]
    Binary(#[source] Refusal),
    #[error("its configuration cannot be written")]
    Config(#[source] serde_json::Error),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Pushes a binary.
///
/// # Errors
/// It is not Wasm, or the registry does not take it; what it has taken of it stays there.
pub async fn push(push: Push) -> Result<Pushed, PushError> {
    let name: Reference = push
        .name
        .parse()
        .map_err(|reason: crate::images::ReferenceError| PushError::Name {
            name: push.name.clone(),
            reason: reason.to_string(),
        })?;
    let Target::Tag(tag) = &name.target else {
        return Err(PushError::Untagged { name: push.name });
    };
    let binary = inspect(&push.binary).map_err(PushError::Binary)?;
    let artifact =
        artifact::artifact(&binary, Digest::of(&push.binary), &push.created, &push.file).map_err(PushError::Config)?;
    let settings = Settings {
        hosts: push.hosts,
        plain_http: push.plain_http,
        ..Settings::default()
    };
    let session = Session::open(&settings, &name, push.credentials, Access::Push)?;
    for blob in [push.binary, artifact.config.into()] {
        session.upload(blob).await?;
    }
    let digest = session.put_manifest(tag, artifact.manifest.into()).await?;
    Ok(Pushed {
        name: name.to_string(),
        digest: digest.to_string(),
    })
}

impl Session {
    /// The registry itself: a mirror is no place to push to.
    fn target(&self) -> Result<&Peer, RegistryError> {
        let verb = "push to";
        let last = self.peers(verb, |can| can.push)?.pop();
        last.filter(|peer| !peer.endpoint.mirror)
            .ok_or(RegistryError::NoEndpoint { verb })
    }

    async fn upload(&self, blob: Bytes) -> Result<(), RegistryError> {
        let (peer, digest) = (self.target()?, Digest::of(&blob));
        let mut head = Outgoing::get(self.uri(peer, &format!("blobs/{digest}"))?);
        head.method = Method::HEAD;
        match self.ask(peer, head).await {
            Ok(_there) => return Ok(()),
            Err(RegistryError::NotFound) => {}
            Err(error) => return Err(error),
        }
        let mut begin = Outgoing::get(self.uri(peer, "blobs/uploads/")?);
        begin.method = Method::POST;
        let base = begin.uri.clone();
        let begun = self.ask(peer, begin).await?;
        let location = begun.response.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let separator = if location.contains('?') { '&' } else { '?' };
        let whole = format!("{location}{separator}digest={}", percent_encoded(digest.as_str()));
        let Some(uri) = absolute(&base, &whole) else {
            return Err(RegistryError::Wrong {
                url: begun.url,
                what: format!("it wants content at \"{}\"", printable(location)),
            });
        };
        let mut put = Outgoing::get(uri);
        put.method = Method::PUT;
        put.body = blob;
        let octets = HeaderValue::from_static("application/octet-stream");
        put.headers.insert(header::CONTENT_TYPE, octets);
        self.ask(peer, put).await.map(drop)
    }

    async fn put_manifest(&self, tag: &str, manifest: Bytes) -> Result<Digest, RegistryError> {
        let (peer, digest) = (self.target()?, Digest::of(&manifest));
        let mut put = Outgoing::get(self.uri(peer, &format!("manifests/{tag}"))?);
        put.method = Method::PUT;
        put.body = manifest;
        let media_type = HeaderValue::from_static(OCI_MANIFEST);
        put.headers.insert(header::CONTENT_TYPE, media_type);
        self.ask(peer, put).await?;
        Ok(digest)
    }
}
