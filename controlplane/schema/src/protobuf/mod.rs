//! Kubernetes' protobuf, in both directions, for every built-in kind.
//!
//! The wire form of an object is `k8s\0` and a `runtime.Unknown` that names the kind and holds its message. What the
//! messages are stands in `facts/protobuf.txt`. Decoding gives the tree that Go would write as JSON; encoding reads JSON
//! text and gives the bytes that Go would write. Kinds that are defined at run time have no messages.

mod backward;
mod decode;
mod encode;
mod json;
mod list;
mod table;
#[cfg(test)]
mod tests;
mod watch;
mod when;
mod wire;

use serde_json::Value;

pub use encode::Encoder;
pub use list::{LIST_END, item_length, list_head, put_item};
pub use watch::event_head;

const MAGIC: &[u8] = b"k8s\0";
/// The empty contentEncoding and contentType behind the content of an envelope.
const ENVELOPE_END: [u8; 4] = [3 << 3 | 2, 0, 4 << 3 | 2, 0];
/// The beginning of the year 1, in seconds from 1970: a time that is not set.
const NO_TIME: i64 = -62_135_596_800;
/// How deep messages may nest.
const MAX_DEPTH: usize = 100;

/// The message of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message(u16);

impl Message {
    /// By `apiVersion` and kind; `None` for kinds that are not built in.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<Self> {
        table::of_kind(api_version, kind).map(Message)
    }
}

/// Decodes an object in its envelope to the JSON tree it stands for.
///
/// # Errors
/// When the bytes are no envelope, its kind is not known, or its content is not of that kind.
pub fn decode(body: &[u8]) -> Result<Value, DecodeError> {
    decode::envelope(body)
}

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Envelope,
    #[error("unexpected EOF")]
    Short,
    #[error("a field has a shape that no message has")]
    Shape,
    #[error("a field's value is not of its type")]
    Type,
    #[error("a text is not UTF-8")]
    Text,
    #[error("an embedded object is not JSON")]
    Embedded,
    #[error("it nests too deep")]
    TooDeep,
    #[error("no kind {kind:?} is known in version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
}

/// Why an object cannot be written as protobuf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("it is not JSON")]
    Json,
    #[error("kind {kind:?} of version {api_version:?} has no protobuf message")]
    UnknownKind { api_version: String, kind: String },
    #[error("the value of field {field:?} is not of its type")]
    Value { field: &'static str },
}
