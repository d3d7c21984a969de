//! Frames to bytes.

use bytes::{BufMut, BytesMut};

use super::{
    frame::{CONTROL, FLAG_FIN, FLAG_UNIDIRECTIONAL, Frame, VERSION, kind},
    headers::Deflater,
};

/// Writes the frames of one direction of a connection.
pub struct Encoder {
    deflater: Deflater,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            deflater: Deflater::new(),
        }
    }
}

impl Encoder {
    /// Appends a control frame; of [`Frame::Unknown`], nothing.
    pub fn control(&mut self, frame: &Frame, into: &mut BytesMut) {
        match frame {
            Frame::SynStream {
                stream,
                headers,
                fin,
                unidirectional,
            } => {
                let block = self.deflater.block(headers);
                let flags = flag(*fin, FLAG_FIN) | flag(*unidirectional, FLAG_UNIDIRECTIONAL);
                head(kind::SYN_STREAM, flags, 10 + block.len(), into);
                into.put_u32(*stream);
                into.put_u32(0); // associated with no other stream
                into.put_u16(0); // of the highest priority, in no slot
                into.put_slice(&block);
            }
            Frame::SynReply { stream, headers, fin } => {
                let block = self.deflater.block(headers);
                head(kind::SYN_REPLY, flag(*fin, FLAG_FIN), 4 + block.len(), into);
                into.put_u32(*stream);
                into.put_slice(&block);
            }
            Frame::Headers { stream, headers, fin } => {
                let block = self.deflater.block(headers);
                head(kind::HEADERS, flag(*fin, FLAG_FIN), 4 + block.len(), into);
                into.put_u32(*stream);
                into.put_slice(&block);
            }
            Frame::RstStream { stream, status } => pair(kind::RST_STREAM, *stream, *status, into),
            Frame::GoAway { last_stream, status } => pair(kind::GOAWAY, *last_stream, *status, into),
            Frame::WindowUpdate { stream, delta } => pair(kind::WINDOW_UPDATE, *stream, *delta, into),
            Frame::Ping(id) => {
                head(kind::PING, 0, 4, into);
                into.put_u32(*id);
            }
            Frame::Settings(settings) => {
                head(kind::SETTINGS, 0, 4 + 8 * settings.len(), into);
                into.put_u32(u32::try_from(settings.len()).unwrap_or(u32::MAX));
                for setting in settings {
                    into.put_u8(setting.flags);
                    put_u24(setting.id, into);
                    into.put_u32(setting.value);
                }
            }
            Frame::Unknown(_) => {}
        }
    }

    /// Appends data of a stream; `bytes` are less than 16 MiB.
    pub fn data(&mut self, stream: u32, bytes: &[u8], fin: bool, into: &mut BytesMut) {
        into.put_u32(stream);
        into.put_u8(flag(fin, FLAG_FIN));
        put_u24(u32::try_from(bytes.len()).unwrap_or(u32::MAX), into);
        into.put_slice(bytes);
    }
}

fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}

fn head(kind: u16, flags: u8, length: usize, into: &mut BytesMut) {
    into.put_u16(u16::from(CONTROL) << 8 | VERSION);
    into.put_u16(kind);
    into.put_u8(flags);
    put_u24(u32::try_from(length).unwrap_or(u32::MAX), into);
}

fn pair(kind: u16, first: u32, second: u32, into: &mut BytesMut) {
    head(kind, 0, 8, into);
    into.put_u32(first);
    into.put_u32(second);
}

fn put_u24(number: u32, into: &mut BytesMut) {
    let [_, bytes @ ..] = number.to_be_bytes();
    into.put_slice(&bytes);
}
