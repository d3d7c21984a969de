//! Messages over a unix stream, with descriptors beside them: four bytes of length (big endian), one that says how many
//! descriptors belong to it, then JSON. Descriptors arrive in order, with the first bytes of their message or earlier.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recv, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The longest message: far more than all listeners or names of a cluster.
const LONGEST: usize = 64 << 20;
/// The most descriptors beside one message; the kernel allows 253.
pub const MOST_DESCRIPTORS: usize = 64;
/// Bytes before the JSON.
const HEAD: usize = 5;
const READ: usize = 64 << 10;

/// One end of a conversation.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Channel {
    /// The end that `stream` is.
    pub fn new(stream: UnixStream) -> Self {
        Channel {
            stream,
            received: Vec::new(),
            descriptors: VecDeque::new(),
        }
    }

    /// Sends a message with at most [`MOST_DESCRIPTORS`].
    pub async fn send(&mut self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        let length = u32::try_from(body.len())
            .ok()
            .filter(|length| usize::try_from(*length).is_ok_and(|length| length <= LONGEST))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"))?;
        let count = u8::try_from(descriptors.len())
            .ok()
            .filter(|count| usize::from(*count) <= MOST_DESCRIPTORS)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"))?;
        let frame = [&length.to_be_bytes()[..], &[count], &body].concat();
        let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let mut rest = &frame[..];
        let mut beside = &raw[..];
        while !rest.is_empty() {
            let sent = self
                .stream
                .async_io(Interest::WRITABLE, || send_some(&self.stream, rest, beside))
                .await?;
            rest = rest.get(sent..).unwrap_or_default();
            beside = &[];
        }
        Ok(())
    }

    /// The next message with the descriptors that came; `None` at the end. Not to be taken up again when dropped.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        loop {
            if let Some((body, count)) = self.complete()? {
                if self.descriptors.len() < count {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing"));
                }
                let message = serde_json::from_slice(&body)?;
                return Ok(Some((message, self.descriptors.drain(..count).collect())));
            }
            let mut buffer = vec![0; READ];
            let (length, descriptors) = self
                .stream
                .async_io(Interest::READABLE, || receive_some(&self.stream, &mut buffer))
                .await?;
            self.descriptors.extend(descriptors);
            match buffer.get(..length) {
                None | Some([]) if self.received.is_empty() => return Ok(None),
                None | Some([]) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(received) => self.received.extend_from_slice(received),
            }
        }
    }

    /// Whether the other end is closed, as far as the system has said so.
    pub fn is_closed(&self) -> bool {
        let mut byte = [0];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(self.stream.as_raw_fd(), &mut byte, flags) {
            Ok(0) => true,
            Ok(_) => false,
            Err(errno) => errno != Errno::EAGAIN,
        }
    }

    /// The same stream once more, to see when it is closed; reading it would take from this channel.
    pub fn watcher(&self) -> io::Result<UnixStream> {
        let descriptor = self.stream.as_fd().try_clone_to_owned()?;
        UnixStream::from_std(descriptor.into())
    }

    /// Takes a message off what was received, if it is all there; with how many descriptors belong to it.
    fn complete(&mut self) -> io::Result<Option<(Vec<u8>, usize)>> {
        let Some(&[a, b, c, d, count]) = self.received.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        let Some(body) = self.received.get(HEAD..HEAD + length).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        self.received.drain(..HEAD + length);
        Ok(Some((body, count.into())))
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], descriptors: &[i32]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    Ok(sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        flags,
        None,
    )?)
}

fn receive_some(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = cmsg_space!([i32; MOST_DESCRIPTORS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for this process, and nobody else knows of them.
            descriptors.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    Ok((message.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use super::*;

    #[tokio::test]
    async fn messages_and_descriptors_arrive_together_and_in_order() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut a, mut b) = (Channel::new(a), Channel::new(b));
        let long = "x".repeat(1 << 20);
        let sending = async {
            for n in 0..3_usize {
                let files: Vec<File> = (0..n)
                    .map(|m| {
                        let mut file = tempfile::tempfile().unwrap();
                        write!(file, "{n}.{m}").unwrap();
                        file
                    })
                    .collect();
                let descriptors: Vec<_> = files.iter().map(AsFd::as_fd).collect();
                a.send(&format!("{n}{long}"), &descriptors).await.unwrap();
            }
            drop(a);
        };
        let receiving = async {
            let mut seen = Vec::new();
            while let Some((message, descriptors)) = b.receive::<String>().await.unwrap() {
                let read = descriptors.into_iter().map(|descriptor| {
                    let mut file = File::from(descriptor);
                    file.rewind().unwrap();
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    text
                });
                seen.push((message.len() - long.len(), read.collect::<Vec<_>>().join(" ")));
            }
            seen
        };
        let ((), seen) = tokio::join!(sending, receiving);
        assert_eq!(seen, [(1, "".into()), (1, "1.0".into()), (1, "2.0 2.1".into())]);
    }

    #[tokio::test]
    async fn an_end_within_a_message_and_a_length_beyond_reason_are_errors() {
        for (bytes, kind) in [
            (&[0, 0, 0, 9, 0, b'1'][..], io::ErrorKind::UnexpectedEof),
            (&[0, 0, 0], io::ErrorKind::UnexpectedEof),
            (&[255, 0, 0, 0, 0], io::ErrorKind::InvalidData),
            (&[0, 0, 0, 1, 0, b'{'], io::ErrorKind::InvalidData),
            (&[0, 0, 0, 1, 2, b'1'], io::ErrorKind::InvalidData),
        ] {
            let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
            (&a).write_all(bytes).unwrap();
            drop(a);
            b.set_nonblocking(true).unwrap();
            let error = Channel::new(UnixStream::from_std(b).unwrap())
                .receive::<u32>()
                .await
                .unwrap_err();
            assert_eq!(error.kind(), kind, "{bytes:?}");
        }
    }
}
