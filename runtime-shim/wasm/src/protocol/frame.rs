//! Frames: how messages and the descriptors that belong to them are cut out of a byte stream. Pure.
//!
//! A frame is a header of eight bytes (length of the payload `u32`, number of descriptors `u16`, zero `u16`; little
//! endian) and the payload. The descriptors are sent with the frame's first byte, so they have arrived when it has.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest payload.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// The most descriptors of one frame; the kernel's limit for one `sendmsg` is 253.
pub const MAX_FDS: usize = 250;
/// Bytes of a header.
pub const HEADER: usize = 8;

/// A payload with its descriptors, of type `F` so that tests need no real ones.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<F> {
    pub payload: Bytes,
    pub fds: Vec<F>,
}

/// The peer does not keep to the framing; the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {length} bytes is longer than the {MAX_PAYLOAD} that are allowed")]
    TooLong { length: usize },
    #[error("a frame with {count} descriptors has more than the {MAX_FDS} that are allowed")]
    TooManyFds { count: usize },
    #[error("a frame's header is malformed")]
    Malformed,
    #[error("a frame announced {announced} descriptors, {arrived} arrived")]
    MissingFds { announced: usize, arrived: usize },
    #[error("descriptors arrived that no frame announced")]
    SurplusFds,
}

/// Encodes a frame around a payload; the descriptors themselves travel beside it.
pub fn encode(payload: &[u8], fds: usize) -> Result<BytesMut, FrameError> {
    check(payload.len(), fds)?;
    let mut frame = BytesMut::with_capacity(HEADER + payload.len());
    frame.put_u32_le(u32::try_from(payload.len()).map_err(|_| FrameError::Malformed)?);
    frame.put_u16_le(u16::try_from(fds).map_err(|_| FrameError::Malformed)?);
    frame.put_u16_le(0);
    frame.put_slice(payload);
    Ok(frame)
}

fn check(length: usize, fds: usize) -> Result<(), FrameError> {
    if length > MAX_PAYLOAD {
        return Err(FrameError::TooLong { length });
    }
    if fds > MAX_FDS {
        return Err(FrameError::TooManyFds { count: fds });
    }
    Ok(())
}

/// Collects what arrives and cuts frames out of it.
#[derive(Debug)]
pub struct Decoder<F> {
    bytes: BytesMut,
    fds: VecDeque<F>,
}

impl<F> Default for Decoder<F> {
    fn default() -> Self {
        Self {
            bytes: BytesMut::new(),
            fds: VecDeque::new(),
        }
    }
}

impl<F> Decoder<F> {
    /// Adds what one read brought.
    pub fn push(&mut self, bytes: &[u8], fds: impl IntoIterator<Item = F>) -> Result<(), FrameError> {
        self.bytes.extend_from_slice(bytes);
        self.fds.extend(fds);
        match self.fds.len() {
            // Those of the frame that is incomplete, and those of the one whose beginning came with its end.
            count if count <= 2 * MAX_FDS => Ok(()),
            _ => Err(FrameError::SurplusFds),
        }
    }

    /// Takes the next whole frame, if it is there.
    pub fn next_frame(&mut self) -> Result<Option<Frame<F>>, FrameError> {
        let Some((length, count)) = self.header()? else {
            let orphaned = self.bytes.is_empty() && !self.fds.is_empty();
            return if orphaned {
                Err(FrameError::SurplusFds)
            } else {
                Ok(None)
            };
        };
        if self.fds.len() < count {
            return Err(FrameError::MissingFds {
                announced: count,
                arrived: self.fds.len(),
            });
        }
        if self.bytes.len() < HEADER + length {
            return Ok(None);
        }
        self.bytes.advance(HEADER);
        let payload = self.bytes.split_to(length).freeze();
        Ok(Some(Frame {
            payload,
            fds: self.fds.drain(..count).collect(),
        }))
    }

    /// Whether the stream may end here: no part of a frame is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.fds.is_empty()
    }

    fn header(&self) -> Result<Option<(usize, usize)>, FrameError> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let mut header = header.as_slice();
        let (length, count) = (header.get_u32_le() as usize, usize::from(header.get_u16_le()));
        if header.get_u16_le() != 0 {
            return Err(FrameError::Malformed);
        }
        check(length, count)?;
        Ok(Some((length, count)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_out_of_bounds() {
        assert_eq!(
            encode(&[], MAX_FDS + 1),
            Err(FrameError::TooManyFds { count: MAX_FDS + 1 })
        );
        for (header, expected) in [
            (
                [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
                FrameError::TooLong { length: 0xffff_ffff },
            ),
            ([0, 0, 0, 0, 0xff, 0xff, 0, 0], FrameError::TooManyFds { count: 0xffff }),
            ([0, 0, 0, 0, 0, 0, 1, 0], FrameError::Malformed),
            (
                [0, 0, 0, 0, 1, 0, 0, 0],
                FrameError::MissingFds {
                    announced: 1,
                    arrived: 0,
                },
            ),
        ] {
            let mut decoder = Decoder::<u8>::default();
            decoder.push(&header, []).unwrap();
            assert_eq!(decoder.next_frame(), Err(expected));
        }
    }

    #[test]
    fn descriptors_without_a_frame_are_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&[], [1]).unwrap();
        assert_eq!(decoder.next_frame(), Err(FrameError::SurplusFds));
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(&[1], 0..=2 * MAX_FDS), Err(FrameError::SurplusFds));
    }

    proptest! {
        /// However the stream is cut into reads, the frames come out as they went in, descriptors in order.
        #[test]
        fn frames_survive_any_cutting(
            frames in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..64), 0usize..4), 1..8),
            cuts in proptest::collection::vec(1usize..32, 1..64),
        ) {
            let (mut stream, mut starts, mut next_fd) = (Vec::new(), Vec::new(), 0u32);
            for (payload, count) in &frames {
                let count_fds = u32::try_from(*count).unwrap();
                starts.push((stream.len(), (next_fd..next_fd + count_fds).collect::<Vec<_>>()));
                next_fd += count_fds;
                stream.extend_from_slice(&encode(payload, *count).unwrap());
            }
            let (mut decoder, mut out, mut at) = (Decoder::default(), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(stream.len());
                // As the kernel does: with the first byte of their frame.
                let fds = starts.iter().filter(|(start, _)| (at..end).contains(start)).flat_map(|(_, fds)| fds.clone());
                decoder.push(&stream[at..end], fds).unwrap();
                while let Some(frame) = decoder.next_frame().unwrap() {
                    out.push((frame.payload.to_vec(), frame.fds));
                }
                at = end;
                if at == stream.len() { break; }
            }
            prop_assert!(decoder.is_empty());
            let expected: Vec<_> = frames.iter().zip(&starts).map(|((p, _), (_, fds))| (p.clone(), fds.clone())).collect();
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(reads in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..32), 0usize..3), 0..16,
        )) {
            let mut decoder = Decoder::default();
            for (bytes, fds) in reads {
                if decoder.push(&bytes, vec![(); fds]).is_err() { break; }
                while let Ok(Some(_)) = decoder.next_frame() {}
            }
        }
    }
}
