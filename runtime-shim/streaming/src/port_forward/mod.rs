//! Kubernetes' port-forward protocol: connections to ports of a pod, each with a stream for its bytes and one for what went
//! wrong.

mod pairs;
mod pump;

use cri::{Connection, Error};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{MissedTickBehavior, interval},
};

use self::{
    pairs::{PORT, Pair, Pairs, REQUEST},
    pump::pump,
};
use crate::{
    Patience,
    mux::Stream,
    remote_command::STREAM_TYPE,
    spdy,
    websocket::{self, Encoding},
};

/// The pod whose ports are connected to.
pub struct Target {
    /// As users know it in errors: name and UID.
    pub pod: String,
    pub uid: String,
    /// Connects to a port.
    pub connect: Box<dyn Fn(u16) -> BoxFuture<'static, Result<Connection, Error>> + Send + Sync>,
}

/// Serves over SPDY, until the client leaves.
pub(crate) async fn over_spdy(io: impl AsyncRead + AsyncWrite, target: &Target, patience: Patience) {
    let (driver, mut incoming) = spdy::server(io, patience.idle);
    let work = async {
        let mut pairs = Pairs::default();
        let mut forwards = FuturesUnordered::new();
        let mut clock = interval(patience.streams / 4);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                stream = incoming.next() => match stream {
                    Some((headers, stream)) => {
                        if let Some(pair) = pairs.add(&headers, stream) {
                            forwards.push(forward(target, pair).boxed());
                        }
                    }
                    None => break,
                },
                Some(()) = forwards.next() => {}
                now = clock.tick() => {
                    for (request, error) in pairs.overdue(now, patience.streams) {
                        forwards.push(complain(error, format!("(request={request}) timed out waiting for streams")).boxed());
                    }
                }
            }
        }
    };
    let result = tokio::select! {
        result = driver.run() => result,
        () = work => Ok(()),
    };
    if let Err(error) = result {
        tracing::debug!(error = &error as &dyn std::error::Error, "a port-forward ended");
    }
}

async fn forward(target: &Target, pair: Pair) {
    let Pair { port, data, error } = pair;
    let Some(port) = port else {
        return complain(Some(error), "the port header is not a port".to_owned()).await;
    };
    let failed = match (target.connect)(port).await {
        Ok(connection) => pump(connection, data).await.err().map(|error| error.to_string()),
        Err(error) => Some(error.chain()),
    };
    match failed {
        Some(why) => complain(Some(error), sentence(target, port, &why)).await,
        None => complain(Some(error), String::new()).await,
    }
}

fn sentence(target: &Target, port: u16, why: &str) -> String {
    let Target { pod, uid, .. } = target;
    format!("error forwarding port {port} to pod {pod}, uid {uid}: {why}")
}

/// Says what went wrong, if anything, and ends the stream.
async fn complain(error: Option<Stream>, text: String) {
    let Some(mut error) = error else {
        return;
    };
    // The client may be gone.
    let _ = error.write_all(text.as_bytes()).await;
    let _ = error.shutdown().await;
}

/// Serves over the channels of a WebSocket: two for each port, which are connected to once and at once.
pub(crate) async fn over_websocket(
    io: impl AsyncRead + AsyncWrite + Unpin,
    encoding: Encoding,
    ports: &[u16],
    target: &Target,
    patience: Patience,
) {
    let count = u32::try_from(ports.len() * 2).unwrap_or(u32::MAX);
    let (channels, streams) = websocket::channels(io, encoding, count, patience.idle);
    let mut streams = streams.into_iter();
    let mut forwards = FuturesUnordered::new();
    for port in ports {
        let (Some(mut data), Some(mut error)) = (streams.next(), streams.next()) else {
            break;
        };
        forwards.push(async move {
            // So that the client knows which channels are whose.
            let number = port.to_le_bytes();
            if data.write_all(&number).await.is_err() || error.write_all(&number).await.is_err() {
                return;
            }
            let port = Some(*port);
            forward(target, Pair { port, data, error }).await;
        });
    }
    let work = async { while forwards.next().await.is_some() {} };
    let driving = channels.run();
    tokio::pin!(driving);
    let result = tokio::select! {
        result = &mut driving => result,
        () = work => driving.await,
    };
    if let Err(error) = result {
        tracing::debug!(error = &error as &dyn std::error::Error, "a port-forward ended");
    }
}

/// Headers of the two streams of a connection to a port.
pub(crate) fn headers(kind: &str, port: u16, request: u32) -> Vec<(String, String)> {
    vec![
        (STREAM_TYPE.to_owned(), kind.to_owned()),
        (PORT.to_owned(), port.to_string()),
        (REQUEST.to_owned(), request.to_string()),
    ]
}
