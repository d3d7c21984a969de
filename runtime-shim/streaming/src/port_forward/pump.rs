//! Bytes between a connection and a stream, each way to its own end.

use std::io;

use cri::Connection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::mux::{CHUNK, Stream};

/// Until both ways have ended, or the client breaks the stream off.
///
/// # Errors
/// What the runtime says about the connection, if it was never there. A connection that breaks breaks the stream.
pub(super) async fn pump(connection: Connection, stream: Stream) -> io::Result<()> {
    let broken = stream.broken();
    let (mut from_pod, mut to_pod) = tokio::io::split(connection);
    let (mut from_client, mut to_client) = tokio::io::split(stream);
    let up = async {
        // A pod that no longer listens may still have something to say.
        if copy(&mut from_client, &mut to_pod).await.is_ok() {
            let _ = to_pod.shutdown().await;
        }
        Ok(())
    };
    let down = async {
        copy(&mut from_pod, &mut to_client).await?;
        to_client.shutdown().await
    };
    let both = async { tokio::try_join!(up, down) };
    match broken.run_until_cancelled(both).await {
        Some(Err(error)) if error.kind() == io::ErrorKind::Other => Err(error),
        _ => Ok(()),
    }
}

async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..length).unwrap_or_default()).await?;
        to.flush().await?;
    }
}
