//! Channels: each message begins with the number of its channel, as a byte or, where messages are text, as a digit before
//! base64. Version 5 of the remote command protocol adds a message by which a channel ends.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream as Messages, StreamExt, stream::SplitSink};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::mux::{CHUNK, OUTGOING, Outgoing, Remote, Stream};

/// The channel by which a client ends another one.
const CLOSE: u8 = 255;
/// Between signs of life. A client that is not read from gets no answer to its pings; kubectl gives up after a minute.
const ALIVE: Duration = Duration::from_secs(15);
/// After the farewell, for the peer to answer it.
const LINGER: Duration = Duration::from_secs(5);

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Binary,
    Base64,
}

/// The future of a WebSocket; nothing moves unless it runs.
pub(crate) struct Channels<T> {
    io: T,
    encoding: Encoding,
    remotes: Vec<Remote>,
    outgoing: mpsc::Receiver<Outgoing>,
    idle: Duration,
}

/// `count` channels, numbered from 0.
pub(crate) fn channels<T>(io: T, encoding: Encoding, count: u32, idle: Duration) -> (Channels<T>, Vec<Stream>) {
    let (sender, outgoing) = mpsc::channel(OUTGOING);
    let (streams, remotes) = (0..count)
        .map(|id| Stream::new(id, sender.clone(), Arc::default()))
        .unzip();
    let channels = Channels {
        io,
        encoding,
        remotes,
        outgoing,
        idle,
    };
    (channels, streams)
}

impl<T: AsyncRead + AsyncWrite + Unpin> Channels<T> {
    /// Moves messages until every stream has been dropped, the client leaves, or nothing moves for too long.
    pub(crate) async fn run(self) -> Result<(), tungstenite::Error> {
        let Self {
            io,
            encoding,
            mut remotes,
            outgoing,
            idle,
        } = self;
        let (sink, source) = super::open(io).await.split();
        let moved = Mutex::new(Instant::now());
        let broken: Vec<_> = remotes.iter().map(|remote| remote.broken.clone()).collect();
        let result = {
            let reading = read(source, encoding, &mut remotes, &moved);
            tokio::pin!(reading);
            tokio::select! {
                result = &mut reading => result,
                result = write(sink, encoding, outgoing, &moved) => match result {
                    Ok(()) => timeout(LINGER, reading).await.unwrap_or(Ok(())),
                    Err(error) => Err(error),
                },
                () = idles(&moved, idle) => Err(tungstenite::Error::ConnectionClosed),
            }
        };
        broken.iter().for_each(|broken| broken.cancel());
        result
    }
}

async fn idles(moved: &Mutex<Instant>, limit: Duration) {
    loop {
        let end = *moved.lock() + limit;
        if end <= Instant::now() {
            return;
        }
        sleep_until(end).await;
    }
}

async fn read(
    mut source: impl Messages<Item = Result<Message, tungstenite::Error>> + Unpin,
    encoding: Encoding,
    remotes: &mut [Remote],
    moved: &Mutex<Instant>,
) -> Result<(), tungstenite::Error> {
    while let Some(message) = source.next().await {
        let said = match message? {
            Message::Binary(bytes) => split(bytes),
            Message::Text(text) if encoding == Encoding::Base64 => split_text(text.as_ref()),
            Message::Close(_) => return Ok(()),
            // Pings are answered by the library.
            _ => continue,
        };
        *moved.lock() = Instant::now();
        match said {
            Some((CLOSE, ends)) => {
                if let Some(remote) = ends.first().and_then(|id| remotes.get_mut(usize::from(*id))) {
                    remote.incoming = None;
                }
            }
            Some((id, bytes)) => pass(remotes.get(usize::from(id)), bytes).await,
            None => {}
        }
    }
    Ok(())
}

/// Hands a message to its channel, in pieces; channels that nobody reads take everything.
async fn pass(remote: Option<&Remote>, mut bytes: Bytes) {
    let Some(incoming) = remote.and_then(|remote| remote.incoming.as_ref()) else {
        return;
    };
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(CHUNK));
        if incoming.send(piece).await.is_err() {
            return;
        }
    }
}

fn split(mut bytes: Bytes) -> Option<(u8, Bytes)> {
    let id = *bytes.first()?;
    Some((id, bytes.split_off(1)))
}

/// Channels in text are digits.
fn split_text(text: &[u8]) -> Option<(u8, Bytes)> {
    let (digit, encoded) = text.split_first()?;
    let bytes = STANDARD.decode(encoded).ok()?;
    Some((digit.checked_sub(b'0')?, bytes.into()))
}

async fn write<T: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<T>, Message>,
    encoding: Encoding,
    mut outgoing: mpsc::Receiver<Outgoing>,
    moved: &Mutex<Instant>,
) -> Result<(), tungstenite::Error>
where
    SplitSink<WebSocketStream<T>, Message>: Sink<Message, Error = tungstenite::Error>,
{
    let mut alive = interval_at(Instant::now() + ALIVE, ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let item = tokio::select! {
            item = outgoing.recv() => item,
            _ = alive.tick() => {
                sink.send(Message::Pong(Bytes::new())).await?;
                continue;
            }
        };
        match item {
            Some(Outgoing::Data { id, bytes }) => sink.send(message(encoding, id, &bytes)).await?,
            // The protocol has no words for these: a client sees them when the connection ends.
            Some(Outgoing::End { .. } | Outgoing::Open { .. }) => continue,
            None => break,
        }
        *moved.lock() = Instant::now();
    }
    let done = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    sink.send(Message::Close(Some(done))).await
}

fn message(encoding: Encoding, id: u32, bytes: &[u8]) -> Message {
    let id = u8::try_from(id).unwrap_or(CLOSE);
    match encoding {
        Encoding::Binary => {
            let mut message = BytesMut::with_capacity(bytes.len() + 1);
            message.put_u8(id);
            message.put_slice(bytes);
            Message::Binary(message.freeze())
        }
        Encoding::Base64 => {
            let mut text = String::with_capacity(bytes.len() / 3 * 4 + 8);
            text.push(char::from(b'0'.saturating_add(id)));
            STANDARD.encode_string(bytes, &mut text);
            Message::Text(text.into())
        }
    }
}
