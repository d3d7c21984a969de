//! Kubernetes' remote command protocol, versions 1 to 5: a command's stdin, stdout and stderr, the sizes of its terminal,
//! and how it ended. Version 3 added the sizes, 4 the outcome as a Status, 5 the end of stdin in a WebSocket.

mod outcome;
mod serve;

use std::future::Future;

use cri::{Error, Session, Streams};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

pub(crate) use outcome::{exit_code, is_status};

use crate::{
    Patience,
    mux::Stream,
    spdy,
    websocket::{self, Encoding},
};

/// The header of a SPDY stream that says what it carries.
pub(crate) const STREAM_TYPE: &str = "streamType";

/// What the streams belong to; users read it in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Exec,
    Attach,
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V1 = 1,
    V2,
    V3,
    V4,
    V5,
}

/// A connection's streams, those that were asked for.
#[derive(Default)]
struct Wires {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    error: Option<Stream>,
    resize: Option<Stream>,
}

/// Serves over SPDY, to the end of the command or of the connection.
pub(crate) async fn over_spdy(
    io: impl AsyncRead + AsyncWrite,
    version: Version,
    (kind, streams): (Kind, Streams),
    patience: Patience,
    begin: impl Future<Output = Result<Session, Error>>,
) {
    let (driver, mut incoming) = spdy::server(io, patience.idle);
    let work = async {
        match timeout(patience.streams, collect(&mut incoming, version, streams)).await {
            Ok(Some(wires)) => serve::serve(wires, version, kind, begin).await,
            Ok(None) => {}
            Err(_) => tracing::debug!("a client did not open its streams in time"),
        }
        drop(incoming);
    };
    let driving = driver.run();
    tokio::pin!(driving);
    let result = tokio::select! {
        result = &mut driving => result,
        () = work => driving.await,
    };
    if let Err(error) = result {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            ?kind,
            "a SPDY connection ended"
        );
    }
}

/// Waits for the streams that belong to the request.
async fn collect(incoming: &mut spdy::Incoming, version: Version, asked: Streams) -> Option<Wires> {
    let resize = asked.tty && version >= Version::V3;
    let wanted = [true, asked.stdin, asked.stdout, asked.stderr, resize];
    let mut left = wanted.iter().filter(|wanted| **wanted).count();
    let mut wires = Wires::default();
    while left > 0 {
        let (headers, stream) = incoming.next().await?;
        let place = match headers.get(STREAM_TYPE) {
            Some("error") => &mut wires.error,
            Some("stdin") if asked.stdin => &mut wires.stdin,
            Some("stdout") if asked.stdout => &mut wires.stdout,
            Some("stderr") if asked.stderr => &mut wires.stderr,
            Some("resize") if resize => &mut wires.resize,
            other => {
                tracing::debug!(stream = ?other, "a stream that was not asked for");
                continue;
            }
        };
        if place.replace(stream).is_none() {
            left -= 1;
        }
    }
    Some(wires)
}

/// Serves over the channels of a WebSocket, to the end of the command or of the connection.
pub(crate) async fn over_websocket(
    io: impl AsyncRead + AsyncWrite + Unpin,
    (version, encoding): (Version, Encoding),
    (kind, streams): (Kind, Streams),
    patience: Patience,
    begin: impl Future<Output = Result<Session, Error>>,
) {
    let (channels, wires) = websocket::channels(io, encoding, 5, patience.idle);
    let mut wires = wires.into_iter();
    let mut next = |wanted: bool| wires.next().filter(|_| wanted);
    let wires = Wires {
        stdin: next(streams.stdin),
        stdout: next(streams.stdout),
        stderr: next(streams.stderr),
        error: next(true),
        resize: next(streams.tty),
    };
    let driving = channels.run();
    tokio::pin!(driving);
    let result = tokio::select! {
        result = &mut driving => result,
        () = serve::greet_and_serve(wires, version, kind, begin) => driving.await,
    };
    if let Err(error) = result {
        tracing::debug!(error = &error as &dyn std::error::Error, ?kind, "a WebSocket ended");
    }
}
