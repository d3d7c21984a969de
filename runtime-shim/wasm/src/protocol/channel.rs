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
    let receiver =
        Receiver { stream: Arc::clone(&stream), decoder: Decoder::default(), buffer: vec![0; READ].into_boxed_slice() };
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
            sent += self.stream.async_io(Interest::WRITABLE, || send_once(&self.stream, rest, fds)).await?;
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
        let Some(Frame { payload, fds }) = self.frame().await? else { return Ok(None) };
        let message = serde_json::from_slice(&payload).map_err(ChannelError::Message)?;
        Ok(Some((message, fds)))
    }

    async fn frame(&mut self) -> Result<Option<Frame<OwnedFd>>, ChannelError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return if self.decoder.is_empty() { Ok(None) } else { Err(ChannelError::CutOff) };
            }
        }
    }

    /// Reads once; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool, ChannelError> {
        let Self { stream, decoder, buffer } = self;
        let mut fds = Vec::new();
        let (read, lost) = stream.async_io(Interest::READABLE, || recv_once(stream, buffer, &mut fds)).await?;
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
