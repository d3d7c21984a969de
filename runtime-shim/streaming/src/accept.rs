//! Upgrades: which protocol a client asks for, and the answer after which the connection speaks it.

use std::future::Future;

use cri::{Error, Session, Streams};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{
    Kind, Patience, Target, port_forward,
    remote_command::{self, Version},
    websocket::{Encoding, Tunnel},
};

/// By which SPDY's clients name the protocols they know, and the server the one it takes.
pub(crate) const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
/// By which the server names what it would have taken.
const ACCEPTED_PROTOCOLS: &str = "x-accepted-stream-protocol-versions";

/// What an endpoint serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Exec and attach.
    RemoteCommand,
    PortForward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    SpdyCommand(Version),
    WebSocketCommand(Version, Encoding),
    SpdyForward,
    TunnelledForward,
    WebSocketForward(Encoding),
}

const SPDY_COMMAND: [(&str, Protocol); 4] = [
    ("v4.channel.k8s.io", Protocol::SpdyCommand(Version::V4)),
    ("v3.channel.k8s.io", Protocol::SpdyCommand(Version::V3)),
    ("v2.channel.k8s.io", Protocol::SpdyCommand(Version::V2)),
    ("channel.k8s.io", Protocol::SpdyCommand(Version::V1)),
];
const SPDY_FORWARD: [(&str, Protocol); 1] = [("portforward.k8s.io", Protocol::SpdyForward)];
const WEBSOCKET_COMMAND: [(&str, Protocol); 5] = [
    (
        "v5.channel.k8s.io",
        Protocol::WebSocketCommand(Version::V5, Encoding::Binary),
    ),
    (
        "v4.channel.k8s.io",
        Protocol::WebSocketCommand(Version::V4, Encoding::Binary),
    ),
    (
        "v4.base64.channel.k8s.io",
        Protocol::WebSocketCommand(Version::V4, Encoding::Base64),
    ),
    (
        "channel.k8s.io",
        Protocol::WebSocketCommand(Version::V1, Encoding::Binary),
    ),
    (
        "base64.channel.k8s.io",
        Protocol::WebSocketCommand(Version::V1, Encoding::Base64),
    ),
];
const WEBSOCKET_FORWARD: [(&str, Protocol); 3] = [
    ("SPDY/3.1+portforward.k8s.io", Protocol::TunnelledForward),
    ("v4.channel.k8s.io", Protocol::WebSocketForward(Encoding::Binary)),
    ("v4.base64.channel.k8s.io", Protocol::WebSocketForward(Encoding::Base64)),
];

/// Why a request is not upgraded; nothing has been sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub code: StatusCode,
    pub message: String,
    /// What would have been taken, for the answer's headers.
    pub accepted: Vec<&'static str>,
}

impl Refused {
    fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            accepted: Vec::new(),
        }
    }

    /// The answer, with the message as its body.
    pub fn response<B: From<String>>(self) -> Response<B> {
        let mut response = Response::new(B::from(self.message));
        *response.status_mut() = self.code;
        for protocol in self.accepted {
            response
                .headers_mut()
                .append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(protocol));
        }
        response
    }
}

/// A connection that has been agreed on, and begins when the answer has been sent.
#[derive(Debug)]
pub struct Accepted {
    upgrade: OnUpgrade,
    protocol: Protocol,
}

impl Offer {
    /// Agrees on a protocol; the response is what the client waits for.
    ///
    /// # Errors
    /// The request is no upgrade, or to nothing that is offered.
    pub fn accept<A, B: Default>(self, request: &mut Request<A>) -> Result<(Response<B>, Accepted), Refused> {
        let (mut response, protocol) = self.agree(request.headers())?;
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let upgrade = upgrade.ok_or_else(|| {
            let message = "unable to upgrade: the connection does not speak HTTP/1.1";
            Refused::new(StatusCode::BAD_REQUEST, message)
        })?;
        Ok((response, Accepted { upgrade, protocol }))
    }

    fn agree<B: Default>(self, headers: &HeaderMap) -> Result<(Response<B>, Protocol), Refused> {
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let answer = response.headers_mut();
        if !has(headers, &CONNECTION, "upgrade") {
            let message = "unable to upgrade: missing upgrade headers in request";
            return Err(Refused::new(StatusCode::BAD_REQUEST, message));
        }
        if has(headers, &UPGRADE, "websocket") {
            answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
            answer.insert(SEC_WEBSOCKET_ACCEPT, answer_to_key(headers)?);
            let known: &[(&str, Protocol)] = match self {
                Offer::RemoteCommand => &WEBSOCKET_COMMAND,
                Offer::PortForward => &WEBSOCKET_FORWARD,
            };
            let unnamed = match self {
                Offer::RemoteCommand => Protocol::WebSocketCommand(Version::V1, Encoding::Binary),
                Offer::PortForward => Protocol::WebSocketForward(Encoding::Binary),
            };
            let (name, protocol) = choose(headers, &SEC_WEBSOCKET_PROTOCOL, known, unnamed)?;
            if let Some(name) = name {
                answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
            }
            return Ok((response, protocol));
        }
        if has(headers, &UPGRADE, "spdy/3.1") {
            answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            let header = HeaderName::from_static(STREAM_PROTOCOL);
            let (known, unnamed): (&[(&str, Protocol)], _) = match self {
                Offer::RemoteCommand => (&SPDY_COMMAND, Protocol::SpdyCommand(Version::V1)),
                Offer::PortForward => (&SPDY_FORWARD, Protocol::SpdyForward),
            };
            let (name, protocol) = choose(headers, &header, known, unnamed)?;
            if let Some(name) = name {
                answer.insert(header, HeaderValue::from_static(name));
            }
            return Ok((response, protocol));
        }
        let message = "unable to upgrade: the request asks for neither SPDY/3.1 nor a WebSocket";
        Err(Refused::new(StatusCode::BAD_REQUEST, message))
    }
}

/// The first of the client's protocols that is known; without any, the one that needs no name.
fn choose(
    headers: &HeaderMap,
    header: &HeaderName,
    known: &[(&'static str, Protocol)],
    unnamed: Protocol,
) -> Result<(Option<&'static str>, Protocol), Refused> {
    let asked: Vec<&str> = words(headers, header).collect();
    if asked.is_empty() {
        return Ok((None, unnamed));
    }
    let found = asked
        .iter()
        .find_map(|asked| known.iter().find(|(name, _)| name.eq_ignore_ascii_case(asked)));
    match found {
        Some((name, protocol)) => Ok((Some(name), *protocol)),
        None => {
            let accepted: Vec<&'static str> = known.iter().map(|(name, _)| *name).collect();
            let message = format!(
                "unable to upgrade: unable to negotiate protocol: client supports {asked:?}, server accepts {accepted:?}"
            );
            Err(Refused {
                accepted,
                ..Refused::new(StatusCode::FORBIDDEN, message)
            })
        }
    }
}

fn answer_to_key(headers: &HeaderMap) -> Result<HeaderValue, Refused> {
    let refused = |why: &str| Refused::new(StatusCode::BAD_REQUEST, format!("unable to upgrade: {why}"));
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(refused("the version of a WebSocket must be 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| refused("a WebSocket needs a Sec-WebSocket-Key"))?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| refused("the key is of no use"))
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn has(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    words(headers, name).any(|word| word.eq_ignore_ascii_case(wanted))
}

impl Accepted {
    /// Serves a command's streams. `begin` is polled once the client has opened them; dropping its session, when the
    /// client leaves, is for the runtime to notice.
    pub async fn remote_command(
        self,
        kind: Kind,
        streams: Streams,
        patience: Patience,
        begin: impl Future<Output = Result<Session, Error>> + Send,
    ) {
        let Some(io) = opened(self.upgrade).await else {
            return;
        };
        let asked = (kind, streams);
        match self.protocol {
            Protocol::SpdyCommand(version) => {
                Box::pin(remote_command::over_spdy(io, version, asked, patience, begin)).await;
            }
            Protocol::WebSocketCommand(version, encoding) => {
                let how = (version, encoding);
                Box::pin(remote_command::over_websocket(io, how, asked, patience, begin)).await;
            }
            _ => tracing::debug!("a command was asked for by a protocol for ports"),
        }
    }

    /// Serves connections to ports; `ports` are those of the request, which only some protocols look at.
    pub async fn port_forward(self, ports: &[u16], target: Target, patience: Patience) {
        let Some(io) = opened(self.upgrade).await else {
            return;
        };
        match self.protocol {
            Protocol::SpdyForward => Box::pin(port_forward::over_spdy(io, &target, patience)).await,
            Protocol::TunnelledForward => {
                let tunnel = Tunnel::new(io).await;
                Box::pin(port_forward::over_spdy(tunnel, &target, patience)).await;
            }
            Protocol::WebSocketForward(encoding) => {
                Box::pin(port_forward::over_websocket(io, encoding, ports, &target, patience)).await;
            }
            _ => tracing::debug!("ports were asked for by a protocol for commands"),
        }
    }

    /// Whether the ports to connect to must be in the request.
    pub fn needs_ports(&self) -> bool {
        matches!(self.protocol, Protocol::WebSocketForward(_))
    }
}

async fn opened(upgrade: OnUpgrade) -> Option<TokioIo<hyper::upgrade::Upgraded>> {
    match upgrade.await {
        Ok(upgraded) => Some(TokioIo::new(upgraded)),
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not come about");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(upgrade: &'static str, protocols: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let name = match upgrade {
            "websocket" => SEC_WEBSOCKET_PROTOCOL,
            _ => HeaderName::from_static(STREAM_PROTOCOL),
        };
        for protocol in protocols {
            headers.append(&name, HeaderValue::from_static(protocol));
        }
        headers
    }

    #[test]
    fn takes_the_first_protocol_of_the_client_that_is_known() {
        use Offer::{PortForward, RemoteCommand};
        let binary = Encoding::Binary;
        let cases: [(Offer, &str, &[&str], Option<Protocol>); 9] = [
            (
                RemoteCommand,
                "websocket",
                &["v5.channel.k8s.io", "v4.channel.k8s.io"],
                Some(Protocol::WebSocketCommand(Version::V5, binary)),
            ),
            (
                RemoteCommand,
                "websocket",
                &["v6.channel.k8s.io, base64.channel.k8s.io"],
                Some(Protocol::WebSocketCommand(Version::V1, Encoding::Base64)),
            ),
            (
                RemoteCommand,
                "websocket",
                &[],
                Some(Protocol::WebSocketCommand(Version::V1, binary)),
            ),
            (RemoteCommand, "websocket", &["v9"], None),
            (
                RemoteCommand,
                "SPDY/3.1",
                &["v4.channel.k8s.io", "v3.channel.k8s.io"],
                Some(Protocol::SpdyCommand(Version::V4)),
            ),
            (RemoteCommand, "SPDY/3.1", &["v5.channel.k8s.io"], None),
            (
                PortForward,
                "SPDY/3.1",
                &["portforward.k8s.io"],
                Some(Protocol::SpdyForward),
            ),
            (
                PortForward,
                "websocket",
                &["SPDY/3.1+portforward.k8s.io"],
                Some(Protocol::TunnelledForward),
            ),
            (PortForward, "h2c", &[], None),
        ];
        for (offer, upgrade, protocols, expected) in cases {
            let agreed = offer.agree::<()>(&asked(upgrade, protocols));
            assert_eq!(
                agreed.ok().map(|(_, protocol)| protocol),
                expected,
                "{upgrade} {protocols:?}"
            );
        }
    }

    #[test]
    fn refuses_in_words() {
        let plain = Offer::RemoteCommand
            .agree::<()>(&HeaderMap::new())
            .expect_err("no upgrade");
        assert_eq!(plain.code, StatusCode::BAD_REQUEST);
        let unknown = Offer::RemoteCommand
            .agree::<()>(&asked("SPDY/3.1", &["v9"]))
            .expect_err("unknown");
        assert_eq!(unknown.code, StatusCode::FORBIDDEN);
        let response: Response<String> = unknown.response();
        assert_eq!(response.headers().get_all(ACCEPTED_PROTOCOLS).iter().count(), 4);
    }

    #[test]
    fn answers_the_websocket_key() {
        let (response, _) = Offer::RemoteCommand
            .agree::<()>(&asked("websocket", &["v4.channel.k8s.io"]))
            .expect("agreed");
        let headers = response.headers();
        assert_eq!(
            headers.get(SEC_WEBSOCKET_ACCEPT).expect("an answer"),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(
            headers.get(SEC_WEBSOCKET_PROTOCOL).expect("a name"),
            "v4.channel.k8s.io"
        );
    }
}
