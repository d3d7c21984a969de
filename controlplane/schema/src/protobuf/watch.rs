//! The frames of a watch: four bytes of length, then a WatchEvent without an envelope, around an object in one.

use super::wire::{put_varint, varint_length};

/// What stands before an object of so many bytes, envelope included, in the frame of an event.
pub fn event_head(type_: &str, object: usize) -> Vec<u8> {
    let field = |length: usize| 1 + varint_length(length as u64) + length;
    let extension = field(object);
    let event = field(type_.len()) + field(extension);
    let mut out = Vec::with_capacity(32);
    // An object is at most a few megabytes.
    out.extend_from_slice(&u32::try_from(event).unwrap_or(u32::MAX).to_be_bytes());
    out.push(1 << 3 | 2);
    put_varint(&mut out, type_.len() as u64);
    out.extend_from_slice(type_.as_bytes());
    out.push(2 << 3 | 2);
    put_varint(&mut out, extension as u64);
    out.push(1 << 3 | 2);
    put_varint(&mut out, object as u64);
    out
}
