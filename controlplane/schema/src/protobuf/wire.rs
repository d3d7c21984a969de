//! Protobuf's wire format: numbered fields of four shapes.

use super::DecodeError;

/// The value of a field, before its type is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// No message of the table has one.
    Fixed32,
}

/// How a field's value is written: the low bits of its tag.
pub(super) mod kind {
    pub(in super::super) const VARINT: u64 = 0;
    pub(in super::super) const FIXED64: u64 = 1;
    pub(in super::super) const BYTES: u64 = 2;
}

/// The fields of a message in their order; ends after the first error.
pub(super) fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<(u32, Wire<'_>), DecodeError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Wire<'a>), DecodeError> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).map_err(|_| DecodeError::Shape)?;
    let wire = match tag & 7 {
        kind::VARINT => Wire::Varint(varint(rest)?),
        kind::FIXED64 => Wire::Fixed64(u64::from_le_bytes(array(rest)?)),
        kind::BYTES => {
            let length = usize::try_from(varint(rest)?).map_err(|_| DecodeError::Short)?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Wire::Fixed32)?,
        _ => return Err(DecodeError::Shape),
    };
    Ok((number, wire))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, after) = rest.split_at_checked(length).ok_or(DecodeError::Short)?;
    *rest = after;
    Ok(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    take(rest, N)?.try_into().map_err(|_| DecodeError::Short)
}

/// Reads a variable-length number of at most 64 bits.
pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(DecodeError::Short)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::Shape)
}

/// The text of a field.
pub(super) fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Text)
}

/// The content of a field that is a text or a message.
pub(super) fn bytes(wire: Wire<'_>) -> Result<&[u8], DecodeError> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(DecodeError::Type),
    }
}

/// Writes a variable-length number.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes a variable-length number takes.
pub(super) fn varint_length(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back_as_they_were(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_length(value));
            prop_assert_eq!(varint(&mut out.as_slice()).unwrap(), value);
        }
    }
}
