//! A conversation about one repository: its endpoints in turn, and the right to ask them.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};
use parking_lot::Mutex;

use super::{
    error::{RegistryError, of_status, printable},
    hosts::{self, Capabilities, Endpoint},
    limits::Limits,
    transport::{Answer, Outgoing, Transport, is_error, retry_after},
};
use crate::images::{Digest, MANIFESTS, MAX_DOCUMENT, Reference};

/// The most of an error's document that is read.
const MAX_COMPLAINT: u64 = 64 << 10;

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Holds `<registry>/hosts.toml`.
    pub(crate) hosts: Option<PathBuf>,
    /// Speak without TLS to registries that have no file.
    pub(crate) plain_http: bool,
    pub(crate) limits: Limits,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// One conversation. Tokens that it is given live as long as it does.
#[derive(Debug)]
pub(crate) struct Session {
    /// `library/hello`
    pub(super) repository: String,
    /// `docker.io`
    domain: String,
    pub(super) access: Access,
    pub(super) credentials: Option<cri::RegistryAuth>,
    peers: Vec<Peer>,
    pub(super) limits: Limits,
}

/// An endpoint we speak with.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
    /// What it accepted last.
    pub(super) authorization: Mutex<Option<HeaderValue>>,
}

/// A manifest or an index as it was served.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Bytes,
    /// Of the bytes.
    pub(crate) digest: Digest,
}

impl Session {
    /// Reads how the registry of `name` is reached.
    pub(crate) fn open(
        settings: &Settings,
        name: &Reference,
        credentials: Option<cri::RegistryAuth>,
        access: Access,
    ) -> Result<Self, RegistryError> {
        let (domain, repository) = name.parts();
        let mut endpoints = hosts::load(settings.hosts.as_deref(), domain)?;
        if settings.plain_http {
            endpoints.iter_mut().for_each(|endpoint| endpoint.tls = false);
        }
        let peer = |endpoint: Endpoint| {
            Ok(Peer {
                transport: Transport::new(&endpoint, &settings.limits)?,
                endpoint,
                authorization: Mutex::default(),
            })
        };
        Ok(Self {
            repository: repository.to_owned(),
            domain: domain.to_owned(),
            access,
            credentials: credentials.filter(|known| *known != cri::RegistryAuth::default()),
            peers: endpoints.into_iter().map(peer).collect::<Result<_, RegistryError>>()?,
            limits: settings.limits.clone(),
        })
    }

    /// The endpoints that may be asked this, mirrors first.
    pub(super) fn peers(
        &self,
        verb: &'static str,
        may: impl Fn(&Capabilities) -> bool,
    ) -> Result<Vec<&Peer>, RegistryError> {
        let able: Vec<_> = self.peers.iter().filter(|peer| may(&peer.endpoint.can)).collect();
        if able.is_empty() {
            return Err(RegistryError::NoEndpoint { verb });
        }
        Ok(able)
    }

    /// What a tag or a digest names. The registry itself is asked last, so its refusal is the one that is told.
    pub(crate) async fn manifest(&self, target: &str) -> Result<Document, RegistryError> {
        let expected: Option<Digest> = target.parse().ok();
        let peers = match expected {
            Some(_) => self.peers("pull", |can| can.pull)?,
            None => self.peers("resolve tags", |can| can.resolve)?,
        };
        let mut refusal = RegistryError::NotFound;
        for peer in peers {
            match self.manifest_from(peer, target, expected.as_ref()).await {
                Ok(document) => return Ok(document),
                Err(error) => {
                    tracing::debug!(endpoint = peer.endpoint.authority, %error, "no manifest from this endpoint");
                    refusal = error;
                }
            }
        }
        Err(refusal)
    }

    async fn manifest_from(
        &self,
        peer: &Peer,
        target: &str,
        expected: Option<&Digest>,
    ) -> Result<Document, RegistryError> {
        let mut failures = 0;
        loop {
            let error = match self.manifest_once(peer, target, expected).await {
                Err(error) if error.is_passing() => error,
                settled => return settled,
            };
            failures += 1;
            self.pause(failures, error).await?;
        }
    }

    async fn manifest_once(
        &self,
        peer: &Peer,
        target: &str,
        expected: Option<&Digest>,
    ) -> Result<Document, RegistryError> {
        let mut outgoing = Outgoing::get(self.uri(peer, &format!("manifests/{target}"))?);
        let accepted =
            HeaderValue::from_str(&MANIFESTS.join(", ")).map_err(|_| wrong(peer, "no manifest is accepted"))?;
        outgoing.headers.insert(header::ACCEPT, accepted);
        let answer = self.ask(peer, outgoing).await?;
        let (url, headers) = (answer.url.clone(), answer.response.headers().clone());
        let bytes = peer.transport.read(answer, MAX_DOCUMENT).await?;
        check_type(&url, &headers, &bytes)?;
        let digest = Digest::of(&bytes);
        let announced = headers
            .get("docker-content-digest")
            .and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        match expected.or(announced.as_ref()).filter(|expected| **expected != digest) {
            None => Ok(Document { bytes, digest }),
            Some(expected) => Err(RegistryError::Digest {
                url,
                expected: expected.to_string(),
                found: digest.to_string(),
            }),
        }
    }

    /// Waits before the next attempt, or gives up with the error.
    pub(super) async fn pause(&self, failures: u32, error: RegistryError) -> Result<(), RegistryError> {
        let asked = match &error {
            RegistryError::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        let Some(pause) = self.limits.pause_after(failures, asked) else {
            return Err(error);
        };
        tracing::debug!(%error, ?pause, "the registry is asked again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The address of something of this repository.
    pub(super) fn uri(&self, peer: &Peer, what: &str) -> Result<Uri, RegistryError> {
        let Endpoint {
            tls, authority, path, ..
        } = &peer.endpoint;
        let scheme = if *tls { "https" } else { "http" };
        let namespace = if peer.endpoint.mirror {
            format!("?ns={}", self.domain)
        } else {
            String::new()
        };
        format!("{scheme}://{authority}{path}/{}/{what}{namespace}", self.repository)
            .parse()
            .map_err(|_| wrong(peer, "its address cannot be made"))
    }

    /// Sends a request, shows who we are if that is asked for, and turns refusals into errors.
    pub(super) async fn ask(&self, peer: &Peer, mut outgoing: Outgoing) -> Result<Answer, RegistryError> {
        if !peer.is_at(&outgoing.uri) {
            // Where a registry sends us to is not told who we are.
            let answer = peer.transport.send(outgoing).await?;
            return accepted(peer, answer).await;
        }
        for (name, value) in &peer.endpoint.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), HeaderValue::from_str(value)) {
                outgoing.headers.append(name, value);
            }
        }
        let known = peer.authorization.lock().clone();
        let mut answer = peer.transport.send(authorized(&outgoing, known)).await?;
        if answer.response.status() == http::StatusCode::UNAUTHORIZED {
            let challenged = answer.response.headers().clone();
            if let Some(authorization) = self.authorize(peer, &challenged).await? {
                answer = peer
                    .transport
                    .send(authorized(&outgoing, Some(authorization.clone())))
                    .await?;
                *peer.authorization.lock() = Some(authorization);
            }
        }
        accepted(peer, answer).await
    }
}

impl Peer {
    fn is_at(&self, uri: &Uri) -> bool {
        let (scheme, default) = if self.endpoint.tls {
            ("https", 443)
        } else {
            ("http", 80)
        };
        let Ok(own) = self.endpoint.authority.parse::<Authority>() else {
            return false;
        };
        let port = |port: Option<u16>| port.unwrap_or(default);
        let same_host = uri.host().is_some_and(|host| host.eq_ignore_ascii_case(own.host()));
        uri.scheme_str() == Some(scheme) && same_host && port(uri.port_u16()) == port(own.port_u16())
    }
}

async fn accepted(peer: &Peer, answer: Answer) -> Result<Answer, RegistryError> {
    match is_error(answer.response.status()) {
        true => Err(refused(peer, answer).await),
        false => Ok(answer),
    }
}

fn authorized(outgoing: &Outgoing, authorization: Option<HeaderValue>) -> Outgoing {
    let mut outgoing = outgoing.clone();
    if let Some(authorization) = authorization {
        outgoing.headers.insert(header::AUTHORIZATION, authorization);
    }
    outgoing
}

/// What an answer with an error status says.
pub(super) async fn refused(peer: &Peer, answer: Answer) -> RegistryError {
    let (url, status) = (answer.url.clone(), answer.response.status());
    let pause = retry_after(answer.response.headers());
    let body = peer.transport.read(answer, MAX_COMPLAINT).await.unwrap_or_default();
    of_status(&url, status, pause, &body)
}

fn wrong(peer: &Peer, what: &str) -> RegistryError {
    RegistryError::Wrong {
        url: peer.endpoint.authority.clone(),
        what: what.to_owned(),
    }
}

/// Refuses what is no manifest: the page of a proxy that wants a login, for one.
fn check_type(url: &str, headers: &HeaderMap, bytes: &[u8]) -> Result<(), RegistryError> {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType", default)]
        media_type: String,
    }
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let declared = declared.unwrap_or_default();
    let declared = declared
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let inside = serde_json::from_slice::<Typed>(bytes).map(|typed| typed.media_type);
    let is_manifest = |kind: &str| MANIFESTS.contains(&kind);
    match inside {
        Ok(inside) if is_manifest(&inside) || (inside.is_empty() && is_manifest(&declared)) => Ok(()),
        Ok(inside) if !inside.is_empty() => Err(RegistryError::Wrong {
            url: url.to_owned(),
            what: format!("a manifest of the type \"{}\" is not supported", printable(&inside)),
        }),
        _ => Err(RegistryError::Wrong {
            url: url.to_owned(),
            what: format!("unexpected media type \"{}\" for a manifest", printable(&declared)),
        }),
    }
}
