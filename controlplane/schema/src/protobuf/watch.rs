//! The frames of a watch: four bytes of length, then a WatchEvent without an envelope, around an object in one.

use super::wire::{put_varint, varint_length};

/// Writes one event. `object` is in its envelope.
pub fn put_event(out: &mut Vec<u8>, type_: &str, object: &[u8]) {
    let field = |length: usize| 1 + varint_length(length as u64) + length;
    let extension = field(object.len());
    let event = field(type_.len()) + field(extension);
    out.reserve(4 + event);
    // An object is at most a few megabytes.
    out.extend_from_slice(&u32::try_from(event).unwrap_or(u32::MAX).to_be_bytes());
    out.push(1 << 3 | 2);
    put_varint(out, type_.len() as u64);
    out.extend_from_slice(type_.as_bytes());
    out.push(2 << 3 | 2);
    put_varint(out, extension as u64);
    out.push(1 << 3 | 2);
    put_varint(out, object.len() as u64);
    out.extend_from_slice(object);
}
