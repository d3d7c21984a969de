//! Bytes to frames, as far as they have come.
//!
//! A control frame waits until it is whole, and is of bounded size; data is passed on as it comes, so that a frame of 16
//! MiB takes no more memory than one of a kilobyte.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    frame::{CONTROL, Error, FLAG_FIN, FLAG_UNIDIRECTIONAL, Frame, Headers, Setting, VERSION, kind},
    headers::Inflater,
};
use crate::mux::CHUNK;

/// The largest control frame.
const MAX_CONTROL: usize = 64 * 1024;
const HEAD: usize = 8;
const STREAM: u32 = 0x7fff_ffff;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A control frame.
    Frame(Frame),
    /// Some bytes of a stream, or none where it only ends.
    Data { stream: u32, bytes: Bytes, fin: bool },
}

/// Reads the frames of one direction of a connection.
pub struct Decoder {
    inflater: Inflater,
    data: Option<Data>,
}

/// A data frame that has not come whole.
struct Data {
    stream: u32,
    left: usize,
    fin: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            inflater: Inflater::new(),
            data: None,
        }
    }
}

impl Decoder {
    /// Takes the next event off the buffer; nothing, if more bytes are needed for it.
    ///
    /// # Errors
    /// The peer does not speak SPDY/3.1, or sends more than is taken; the decoder is of no further use.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Error> {
        if let Some(data) = self.data.take() {
            return Ok(self.pass(data, buffer));
        }
        let Some((head, rest)) = buffer.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [a, b, c, d, flags, length @ ..] = *head;
        let [high, middle, low] = length.map(usize::from);
        let length = high << 16 | middle << 8 | low;
        if a & CONTROL == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            if stream == 0 {
                return Err(Error::Protocol("it sends data of no stream"));
            }
            buffer.advance(HEAD);
            let fin = flags & FLAG_FIN != 0;
            let left = length;
            return Ok(self.pass(Data { stream, left, fin }, buffer));
        }
        if u16::from_be_bytes([a & !CONTROL, b]) != VERSION {
            return Err(Error::Protocol("a frame is of another version"));
        }
        if length > MAX_CONTROL {
            return Err(Error::Protocol("a control frame is too large"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        buffer.advance(HEAD);
        let payload = buffer.split_to(length);
        let frame = self.control(u16::from_be_bytes([c, d]), flags, &payload)?;
        Ok(Some(Event::Frame(frame)))
    }

    /// Whether no data frame is in the midst of coming.
    #[cfg(test)]
    pub(super) fn between_frames(&self) -> bool {
        self.data.is_none()
    }

    /// Passes on what is there of a data frame.
    fn pass(&mut self, mut data: Data, buffer: &mut BytesMut) -> Option<Event> {
        let length = data.left.min(buffer.len()).min(CHUNK);
        if length == 0 && data.left > 0 {
            self.data = Some(data);
            return None;
        }
        data.left -= length;
        let last = data.left == 0;
        let event = Event::Data {
            stream: data.stream,
            bytes: buffer.split_to(length).freeze(),
            fin: data.fin && last,
        };
        self.data = (!last).then_some(data);
        Some(event)
    }

    fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> Result<Frame, Error> {
        let mut rest = payload;
        let fin = flags & FLAG_FIN != 0;
        let frame = match kind {
            kind::SYN_STREAM => {
                let stream = stream(&mut rest)?;
                skip(&mut rest, 6)?; // the associated stream, the priority and the slot
                Frame::SynStream {
                    stream,
                    headers: self.headers(rest)?,
                    fin,
                    unidirectional: flags & FLAG_UNIDIRECTIONAL != 0,
                }
            }
            kind::SYN_REPLY => Frame::SynReply {
                stream: stream(&mut rest)?,
                headers: self.headers(rest)?,
                fin,
            },
            kind::HEADERS => Frame::Headers {
                stream: stream(&mut rest)?,
                headers: self.headers(rest)?,
                fin,
            },
            kind::RST_STREAM => Frame::RstStream {
                stream: stream(&mut rest)?,
                status: number(&mut rest)?,
            },
            kind::GOAWAY => Frame::GoAway {
                last_stream: number(&mut rest)? & STREAM,
                status: number(&mut rest)?,
            },
            kind::WINDOW_UPDATE => Frame::WindowUpdate {
                stream: number(&mut rest)? & STREAM,
                delta: number(&mut rest)? & STREAM,
            },
            kind::PING => Frame::Ping(number(&mut rest)?),
            kind::SETTINGS => settings(rest)?,
            other => Frame::Unknown(other),
        };
        Ok(frame)
    }

    fn headers(&mut self, block: &[u8]) -> Result<Headers, Error> {
        self.inflater.block(block)
    }
}

fn stream(rest: &mut &[u8]) -> Result<u32, Error> {
    match number(rest)? & STREAM {
        0 => Err(Error::Protocol("a frame is of no stream")),
        stream => Ok(stream),
    }
}

fn number(rest: &mut &[u8]) -> Result<u32, Error> {
    let (number, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    *rest = after;
    Ok(u32::from_be_bytes(*number))
}

fn skip(rest: &mut &[u8], count: usize) -> Result<(), Error> {
    *rest = rest.get(count..).ok_or_else(short)?;
    Ok(())
}

fn settings(mut rest: &[u8]) -> Result<Frame, Error> {
    let count = number(&mut rest)?;
    let mut settings = Vec::new();
    for _ in 0..count {
        let head = number(&mut rest)?;
        let [flags, ..] = head.to_be_bytes();
        settings.push(Setting {
            flags,
            id: head & 0x00ff_ffff,
            value: number(&mut rest)?,
        });
    }
    Ok(Frame::Settings(settings))
}

fn short() -> Error {
    Error::Protocol("a control frame is cut short")
}
