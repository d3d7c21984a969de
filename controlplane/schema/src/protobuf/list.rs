//! Lists, of which the envelope's length must be known before the first item goes out: the parts around the items.

use super::backward::Backward;
use super::encode::put_type_meta;
use super::wire::{put_varint, varint_length};
use super::{ENVELOPE_END, EncodeError, Encoder, Message};

/// What stands behind the last item of a list.
pub const LIST_END: [u8; 4] = ENVELOPE_END;
/// The tag of a list's items.
const ITEMS: u8 = 2 << 3 | 2;

/// How many bytes an item of a length takes in a list.
pub fn item_length(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

/// Writes an item of a list.
pub fn put_item(out: &mut Vec<u8>, item: &[u8]) {
    out.push(ITEMS);
    put_varint(out, item.len() as u64);
    out.extend_from_slice(item);
}

/// Everything of a list up to its first item; `metadata` is its ListMeta as JSON, `items` the sum of
/// [`item_length`] over all that will follow.
///
/// # Errors
/// When the metadata is not JSON.
pub fn list_head(api_version: &str, kind: &str, metadata: &[u8], items: usize) -> Result<Vec<u8>, EncodeError> {
    let list_meta = Message::of_kind("meta.k8s.io/v1", "ListMeta").ok_or(EncodeError::Json)?;
    let mut encoder = Encoder::default();
    let metadata = encoder.message(list_meta, metadata)?;
    let mut head = Backward::default();
    head.put_field(1, metadata);
    let length = head.len() + items;
    head.put_varint(length as u64);
    head.put_byte(ITEMS);
    put_type_meta(&mut head, api_version, kind);
    Ok(head.written().to_vec())
}
