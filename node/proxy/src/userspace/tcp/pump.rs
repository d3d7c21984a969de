//! Two connections made one: bytes go both ways, and each side's end is passed on by itself.
//!
//! Bytes are read into a buffer of the worker thread and written at once, so that a connection that waits holds no
//! memory. Only what the other side does not take is kept by the connection, and nothing more is read meanwhile.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Fits into the second cache, and is more than one read gives on most connections.
const BUFFER: usize = 64 << 10;

thread_local! {
    static PASSING: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Carries bytes until both sides have ended, or one is broken; then both are reset.
pub(super) async fn join(mut a: TcpStream, mut b: TcpStream) -> io::Result<()> {
    let joined = {
        let ((mut from_a, mut to_a), (mut from_b, mut to_b)) = (a.split(), b.split());
        let (mut there, mut back) = (Way::default(), Way::default());
        poll_fn(|context| {
            let there = there.poll(&mut from_a, &mut to_b, context)?;
            let back = back.poll(&mut from_b, &mut to_a, context)?;
            match there.is_ready() && back.is_ready() {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        })
        .await
    };
    if joined.is_err() {
        super::reset(&a);
        super::reset(&b);
    }
    joined
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// What was read and not taken yet.
    kept: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    read_all: bool,
    ended: bool,
}

impl Way {
    /// Carries on as far as both sides let it; ready when this direction has ended.
    fn poll<R, W>(&mut self, from: &mut R, to: &mut W, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.write_kept(to, context))?;
            if self.read_all {
                ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                self.ended = true;
                continue;
            }
            ready!(self.pass(from, to, context))?;
        }
    }

    fn write_kept<W>(&mut self, to: &mut W, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while let Some(rest @ [_, ..]) = self.kept.get(self.taken..) {
            let taken = ready!(Pin::new(&mut *to).poll_write(context, rest))?;
            self.taken += written(taken)?;
        }
        (self.kept, self.taken) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes what it can of it.
    fn pass<R, W>(&mut self, from: &mut R, to: &mut W, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        PASSING.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(from).poll_read(context, &mut read))?;
            let bytes = read.filled();
            if bytes.is_empty() {
                self.read_all = true;
                return Poll::Ready(Ok(()));
            }
            let taken = match Pin::new(to).poll_write(context, bytes)? {
                Poll::Ready(taken) => written(taken)?,
                Poll::Pending => 0,
            };
            self.kept.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            Poll::Ready(Ok(()))
        })
    }
}

fn written(taken: usize) -> io::Result<usize> {
    match taken {
        0 => Err(io::ErrorKind::WriteZero.into()),
        taken => Ok(taken),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Carries `bytes` through two pipes of these sizes, the last of which is read in small pieces.
    async fn carried(bytes: Vec<u8>, first: usize, second: usize) -> Vec<u8> {
        let (mut writer, mut from) = duplex(first);
        let (mut to, mut reader) = duplex(second);
        let writing = async {
            writer.write_all(&bytes).await.unwrap();
            drop(writer);
        };
        let carrying = async {
            let mut way = Way::default();
            poll_fn(|context| way.poll(&mut from, &mut to, context)).await.unwrap();
            drop(to);
        };
        let reading = async {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).await.unwrap();
            all
        };
        tokio::join!(writing, carrying, reading).2
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_byte_arrives_in_order(length in 0usize..200_000, first in 1usize..100_000, second in 1usize..100_000) {
            let bytes: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(carried(bytes.clone(), first, second)), bytes);
        }
    }
}
