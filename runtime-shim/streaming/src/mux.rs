//! One stream of many that share a connection: bytes both ways, each way bounded and ended on its own.
//!
//! A transport (SPDY, WebSocket channels) moves the bytes. It ends when every stream of it has been dropped.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, mpsc},
};
use tokio_util::sync::{CancellationToken, PollSender};

/// The largest piece that is moved at once.
pub(crate) const CHUNK: usize = 32 * 1024;
/// Pieces that wait in a stream for its reader.
pub(crate) const INCOMING: usize = 4;
/// Pieces of all streams that wait for the connection.
pub(crate) const OUTGOING: usize = 8;

/// What streams have for their connection, in order.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// The stream begins; only for transports whose streams are opened.
    Open {
        id: u32,
        headers: Vec<(String, String)>,
    },
    Data {
        id: u32,
        bytes: Bytes,
    },
    /// No more will be written.
    End {
        id: u32,
    },
}

/// Streams that were dropped, for the transport to forget.
#[derive(Default)]
pub(crate) struct Abandoned {
    streams: Mutex<Vec<(u32, bool)>>,
    pub(crate) wake: Notify,
}

impl Abandoned {
    /// Ids of streams that were dropped since, and whether they had been ended before.
    pub(crate) fn take(&self) -> Vec<(u32, bool)> {
        std::mem::take(&mut *self.streams.lock())
    }
}

/// The transport's end of a stream.
pub(crate) struct Remote {
    pub(crate) incoming: Option<mpsc::Sender<Bytes>>,
    /// Cancelled when the stream broke off.
    pub(crate) broken: CancellationToken,
}

/// A stream.
pub(crate) struct Stream {
    id: u32,
    incoming: mpsc::Receiver<Bytes>,
    rest: Bytes,
    outgoing: PollSender<Outgoing>,
    broken: CancellationToken,
    ended: bool,
    abandoned: Arc<Abandoned>,
}

impl Stream {
    /// A stream and what its transport keeps of it.
    pub(crate) fn new(id: u32, outgoing: mpsc::Sender<Outgoing>, abandoned: Arc<Abandoned>) -> (Self, Remote) {
        let (sender, incoming) = mpsc::channel(INCOMING);
        let broken = CancellationToken::new();
        let stream = Self {
            id,
            incoming,
            rest: Bytes::new(),
            outgoing: PollSender::new(outgoing),
            broken: broken.clone(),
            ended: false,
            abandoned,
        };
        let remote = Remote {
            incoming: Some(sender),
            broken,
        };
        (stream, remote)
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Cancelled when the peer breaks the stream off, or the connection goes.
    pub(crate) fn broken(&self) -> CancellationToken {
        self.broken.clone()
    }

    fn poll_reserve(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended || self.broken.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let reserved = ready!(self.outgoing.poll_reserve(cx));
        Poll::Ready(reserved.map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn send(&mut self, item: Outgoing) -> io::Result<()> {
        let sent = self.outgoing.send_item(item);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(this.incoming.poll_recv(cx)) {
                Some(bytes) => this.rest = bytes,
                None if this.broken.is_cancelled() => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = this.rest.len().min(into.remaining());
        into.put_slice(this.rest.get(..length).unwrap_or_default());
        this.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_reserve(cx))?;
        let piece = bytes.get(..CHUNK).unwrap_or(bytes);
        this.send(Outgoing::Data {
            id: this.id,
            bytes: Bytes::copy_from_slice(piece),
        })?;
        Poll::Ready(Ok(piece.len()))
    }

    /// What was written is on its way by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_reserve(cx))?;
        this.send(Outgoing::End { id: this.id })?;
        this.ended = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.abandoned.streams.lock().push((self.id, self.ended));
        self.abandoned.wake.notify_one();
    }
}
