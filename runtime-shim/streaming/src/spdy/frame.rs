//! The frames of SPDY/3.1, and the numbers they are known by on the wire.

/// Of control frames, set in the first byte.
pub(super) const CONTROL: u8 = 0x80;
/// The version whose frames these are.
pub(super) const VERSION: u16 = 3;
/// Of frames that end the sender's half of a stream.
pub(super) const FLAG_FIN: u8 = 0x01;
/// Of SYN_STREAM, where the other half is closed from the start.
pub(super) const FLAG_UNIDIRECTIONAL: u8 = 0x02;

pub(super) mod kind {
    pub(in crate::spdy) const SYN_STREAM: u16 = 1;
    pub(in crate::spdy) const SYN_REPLY: u16 = 2;
    pub(in crate::spdy) const RST_STREAM: u16 = 3;
    pub(in crate::spdy) const SETTINGS: u16 = 4;
    pub(in crate::spdy) const PING: u16 = 6;
    pub(in crate::spdy) const GOAWAY: u16 = 7;
    pub(in crate::spdy) const HEADERS: u16 = 8;
    pub(in crate::spdy) const WINDOW_UPDATE: u16 = 9;
}

/// Names, in lower case, and values of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The value of a header; names are not case-sensitive.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A stream begins.
    SynStream {
        stream: u32,
        headers: Headers,
        /// The sender will write nothing.
        fin: bool,
        /// The receiver is to write nothing.
        unidirectional: bool,
    },
    /// The other side takes the stream.
    SynReply { stream: u32, headers: Headers, fin: bool },
    /// The stream ends at once, in both directions.
    RstStream { stream: u32, status: u32 },
    /// Advice about the connection; nothing here depends on it.
    Settings(Vec<Setting>),
    /// To be answered by the same, if its number is one of the sender's.
    Ping(u32),
    /// No further stream will be taken.
    GoAway { last_stream: u32, status: u32 },
    /// More headers of a stream.
    Headers { stream: u32, headers: Headers, fin: bool },
    /// Room for more bytes of a stream; stream 0 is the connection.
    WindowUpdate { stream: u32, delta: u32 },
    /// A frame that this version does not know, to be passed over.
    Unknown(u16),
}

/// An entry of SETTINGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub flags: u8,
    /// 24 bits.
    pub id: u32,
    pub value: u32,
}

/// Why a stream is ended at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResetReason {
    ProtocolError = 1,
    RefusedStream = 3,
    Cancel = 5,
}

/// What is wrong with a connection; it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the peer does not speak SPDY/3.1: {0}")]
    Protocol(&'static str),
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    #[error("nothing was sent either way for {0:?}")]
    Idle(std::time::Duration),
}
