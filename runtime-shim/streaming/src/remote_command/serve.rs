//! Between the streams of a connection and those of a session.

use std::future::Future;

use cri::{Error, Session, TerminalSize, Writer};
use futures::future::pending;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use super::{Kind, Version, Wires, outcome};
use crate::mux::Stream;

/// The largest text of one terminal size.
const SIZE: usize = 4096;

/// Serves a WebSocket, whose client waits for a first, empty message before it believes in the connection.
pub(super) async fn greet_and_serve(
    mut wires: Wires,
    version: Version,
    kind: Kind,
    begin: impl Future<Output = Result<Session, Error>>,
) {
    let first = [&mut wires.stdout, &mut wires.stderr, &mut wires.error];
    if let Some(stream) = first.into_iter().find_map(Option::as_mut)
        && stream.write(&[]).await.is_err()
    {
        return;
    }
    serve(wires, version, kind, begin).await;
}

/// Begins the session, and returns when it has ended and everything it said is on its way.
pub(super) async fn serve(
    wires: Wires,
    version: Version,
    kind: Kind,
    begin: impl Future<Output = Result<Session, Error>>,
) {
    let Wires {
        stdin,
        stdout,
        stderr,
        error,
        resize,
    } = wires;
    let outcome = match begin.await {
        Ok(session) => {
            let incoming = async {
                tokio::join!(input(stdin, session.stdin), sizes(resize, session.resize));
                pending::<()>().await
            };
            let outgoing = async {
                let (_, _, outcome) = tokio::join!(
                    output(session.stdout, stdout),
                    output(session.stderr, stderr),
                    session.ended
                );
                outcome
            };
            tokio::select! {
                outcome = outgoing => outcome,
                () = incoming => Ok(0), // never: it is pending
            }
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &outcome {
        tracing::debug!(error = error as &dyn std::error::Error, ?kind, "a session failed");
    }
    let Some(mut stream) = error else {
        return;
    };
    let text = outcome::text(version, kind, &outcome);
    // Whether the client hears it is its own affair.
    let _ = stream.write_all(&text).await;
    let _ = stream.shutdown().await;
}

/// What the client says, to the end; when the program no longer listens, it goes nowhere, so that it does not hold up
/// what else the client says.
async fn input(from: Option<Stream>, to: Option<Writer>) {
    let Some(mut from) = from else {
        return;
    };
    if let Some(mut to) = to {
        match tokio::io::copy(&mut from, &mut to).await {
            Ok(_) => {
                let _ = to.shutdown().await; // a program that has ended needs no end of file
            }
            Err(error) => tracing::debug!(%error, "stdin was cut short"),
        }
    }
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await; // until the client is done or gone
}

async fn output(from: Option<cri::Reader>, to: Option<Stream>) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return;
    };
    let mut buffer = vec![0; crate::mux::CHUNK];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => {
                tracing::debug!(%error, "output was cut short");
                break;
            }
        };
        if to.write_all(buffer.get(..length).unwrap_or_default()).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await; // the client may be gone
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Size {
    width: u16,
    height: u16,
}

/// Sizes come as JSON objects, one after the other.
async fn sizes(from: Option<Stream>, to: Option<mpsc::Sender<TerminalSize>>) {
    let (Some(mut from), Some(to)) = (from, to) else {
        return;
    };
    let mut text = Vec::new();
    while read_some(&mut from, &mut text).await {
        let mut parser = serde_json::Deserializer::from_slice(&text).into_iter::<Size>();
        let mut last = None;
        while let Some(Ok(size)) = parser.next() {
            last = Some(size);
        }
        let parsed = parser.byte_offset();
        text.drain(..parsed.min(text.len()));
        if text.len() > SIZE {
            tracing::debug!("a client sends something else than terminal sizes");
            return;
        }
        if let Some(Size { width, height }) = last {
            let _ = to.try_send(TerminalSize { width, height }); // a full queue drops the size
        }
    }
}

async fn read_some(from: &mut (impl AsyncRead + Unpin), text: &mut Vec<u8>) -> bool {
    matches!(from.read_buf(text).await, Ok(1..))
}
