//! Frames over a unix stream socket, descriptors by `SCM_RIGHTS`.
//!
//! [`Sender::send`] and [`Receiver::recv`] are not safe to cancel in the middle of a frame: each belongs to one task.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

use super::frame::{self, Decoder, Frame, FrameError, MAX_FDS};

/// Bytes of one read.
const READ: usize = 64 * 1024;

/// The connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("the peer broke the framing")]
    Frame(#[from] FrameError),
    #[error("the peer sent a message that cannot be read")]
    Message(#[source] serde_json::Error),
    #[error("the message cannot be encoded")]
    Encode(#[source] serde_json::Error),
    #[error("the connection ended in the middle of a message")]
    CutOff,
    #[error("descriptors were lost on the way")]
    DescriptorsLost,
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// Splits a connection into its two directions.
pub fn split(stream: UnixStream) -> (Sender, Receiver) {
    let stream = Arc::new(stream);
    let receiver = Receiver {
        stream: Arc::clone(&stream),
        decoder: Decoder::default(),
        buffer: vec![0; READ].into_boxed_slice(),
    };
    (Sender { stream }, receiver)
}

/// The sending direction.
#[derive(Debug)]
pub struct Sender {
    stream: Arc<UnixStream>,
}

impl Sender {
    /// Sends one message with its descriptors.
    pub async fn send(&mut self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let payload = serde_json::to_vec(message).map_err(ChannelError::Encode)?;
        let bytes = frame::encode(&payload, fds.len())?;
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            // The kernel attaches the descriptors to the first byte it takes.
            let fds = if sent == 0 { fds } else { &[] };
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || send_once(&self.stream, rest, fds))
                .await?;
        }
        Ok(())
    }
}

fn send_once(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut ancillary, flags)?)
}

/// The receiving direction.
#[derive(Debug)]
pub struct Receiver {
    stream: Arc<UnixStream>,
    decoder: Decoder<OwnedFd>,
    buffer: Box<[u8]>,
}

impl Receiver {
    /// Receives one message with its descriptors; `None`: the peer closed the connection between two messages.
    pub async fn recv<M: DeserializeOwned>(&mut self) -> Result<Option<(M, Vec<OwnedFd>)>, ChannelError> {
        let Some(Frame { payload, fds }) = self.frame().await? else {
            return Ok(None);
        };
        let message = serde_json::from_slice(&payload).map_err(ChannelError::Message)?;
        Ok(Some((message, fds)))
    }

    async fn frame(&mut self) -> Result<Option<Frame<OwnedFd>>, ChannelError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return if self.decoder.is_empty() {
                    Ok(None)
                } else {
                    Err(ChannelError::CutOff)
                };
            }
        }
    }

    /// Reads once; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool, ChannelError> {
        let Self {
            stream,
            decoder,
            buffer,
        } = self;
        let mut fds = Vec::new();
        let (read, lost) = stream
            .async_io(Interest::READABLE, || recv_once(stream, buffer, &mut fds))
            .await?;
        if lost {
            return Err(ChannelError::DescriptorsLost);
        }
        decoder.push(buffer.get(..read).unwrap_or_default(), fds)?;
        Ok(read > 0)
    }
}

/// One `recvmsg`: bytes read, and whether the kernel dropped descriptors for want of room.
fn recv_once(stream: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<(usize, bool)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, received.flags.contains(ReturnFlags::CTRUNC)))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Seek, Write},
    };

    use super::*;

    fn pair() -> ((Sender, Receiver), (Sender, Receiver)) {
        let (left, right) = UnixStream::pair().unwrap();
        (split(left), split(right))
    }

    fn file(content: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    #[tokio::test]
    async fn messages_arrive_with_their_descriptors() {
        let ((mut sender, _), (_, mut receiver)) = pair();
        let (first, second) = (file("first"), file("second"));
        sender.send(&"none", &[]).await.unwrap();
        sender.send(&"two", &[first.as_fd(), second.as_fd()]).await.unwrap();
        sender.send(&"one", &[second.as_fd()]).await.unwrap();
        for (message, contents) in [("none", vec![]), ("two", vec!["first", "second"]), ("one", vec![""])] {
            let (received, fds) = receiver.recv::<String>().await.unwrap().unwrap();
            let read = |fd| {
                let mut text = String::new();
                File::from(fd).read_to_string(&mut text).unwrap();
                text
            };
            assert_eq!(
                (received.as_str(), fds.into_iter().map(read).collect::<Vec<_>>()),
                (message, contents.iter().map(|s: &&str| (*s).to_owned()).collect())
            );
        }
    }

    #[tokio::test]
    async fn the_most_descriptors_arrive() {
        let ((mut sender, _), (_, mut receiver)) = pair();
        let file = file("");
        let fds = vec![file.as_fd(); MAX_FDS];
        let sent = async {
            for _ in 0..3 {
                sender.send(&(), &fds).await.unwrap();
            }
        };
        let received = async {
            for _ in 0..3 {
                assert_eq!(receiver.recv::<()>().await.unwrap().unwrap().1.len(), MAX_FDS);
            }
        };
        tokio::join!(sent, received);
    }

    #[tokio::test]
    async fn messages_larger_than_the_sockets_buffer_arrive() {
        let ((mut sender, _), (_, mut receiver)) = pair();
        let (text, file) = ("x".repeat(3 << 20), file("with"));
        let fds = [file.as_fd()];
        let (sent, received) = tokio::join!(sender.send(&text, &fds), receiver.recv::<String>());
        sent.unwrap();
        let (message, fds) = received.unwrap().unwrap();
        assert!(message == text && fds.len() == 1);
    }

    #[tokio::test]
    async fn a_closed_connection_is_told_from_a_broken_one() {
        let ((sender, left), (_, mut receiver)) = pair();
        drop((sender, left));
        assert!(receiver.recv::<()>().await.unwrap().is_none());

        let (mut left, right) = UnixStream::pair().unwrap();
        let (_sender, mut receiver) = split(right);
        tokio::io::AsyncWriteExt::write_all(&mut left, &[5, 0, 0])
            .await
            .unwrap();
        drop(left);
        assert!(matches!(receiver.recv::<()>().await, Err(ChannelError::CutOff)));
    }

    #[tokio::test]
    async fn nonsense_is_an_error() {
        let ((mut sender, _), (_, mut receiver)) = pair();
        sender.send(&7, &[]).await.unwrap();
        assert!(matches!(receiver.recv::<String>().await, Err(ChannelError::Message(_))));
    }
}
