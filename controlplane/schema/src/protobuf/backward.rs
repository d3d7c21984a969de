//! A buffer that is filled from its end: a message is written before its length, which is then known.

use super::wire;

/// Bytes that grow towards the front.
#[derive(Default)]
pub(super) struct Backward {
    bytes: Vec<u8>,
    /// Where the written part begins.
    start: usize,
}

impl Backward {
    pub(super) fn clear(&mut self) {
        self.start = self.bytes.len();
    }

    pub(super) fn written(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Writes bytes in front of what is there.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if self.start < bytes.len() {
            self.grow(bytes.len());
        }
        let start = self.start - bytes.len();
        if let Some(place) = self.bytes.get_mut(start..self.start) {
            place.copy_from_slice(bytes);
        }
        self.start = start;
    }

    pub(super) fn put_byte(&mut self, byte: u8) {
        if self.start == 0 {
            self.grow(1);
        }
        self.start -= 1;
        if let Some(place) = self.bytes.get_mut(self.start) {
            *place = byte;
        }
    }

    pub(super) fn put_varint(&mut self, mut value: u64) {
        if value < 0x80 {
            return self.put_byte(value as u8);
        }
        // The groups of seven bits stand in the order of their weight, each but the last with its high bit set.
        let groups = wire::varint_length(value);
        let mut bytes = [0u8; 10];
        let mut left = groups;
        for byte in &mut bytes {
            left = left.saturating_sub(1);
            *byte = value as u8 & 0x7f | if left > 0 { 0x80 } else { 0 };
            value >>= 7;
        }
        self.put(bytes.get(..groups).unwrap_or_default());
    }

    pub(super) fn put_tag(&mut self, number: u16, kind: u64) {
        self.put_varint(u64::from(number) << 3 | kind);
    }

    /// Puts the length of what has been written since `from` in front of it, and the tag of its field.
    pub(super) fn close(&mut self, number: u16, from: usize) {
        self.put_varint((self.len() - from) as u64);
        self.put_tag(number, wire::kind::BYTES);
    }

    /// A field of bytes or text.
    pub(super) fn put_field(&mut self, number: u16, content: &[u8]) {
        let from = self.len();
        self.put(content);
        self.close(number, from);
    }

    /// Makes room for `more` bytes in front.
    fn grow(&mut self, more: usize) {
        let (old, used) = (self.bytes.len(), self.len());
        let size = (old * 2).max(used + more).max(1024);
        self.bytes.resize(size, 0);
        self.bytes.copy_within(old - used..old, size - used);
        self.start = size - used;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_last_stands_first(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 0..8)) {
            let mut out = Backward::default();
            parts.iter().for_each(|part| out.put(part));
            let expected: Vec<u8> = parts.iter().rev().flatten().copied().collect();
            prop_assert_eq!(out.written(), expected.as_slice());
            out.clear();
            prop_assert_eq!(out.written(), b"");
        }

        #[test]
        fn numbers_are_written_as_they_are_read(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Backward::default();
            out.put_varint(value);
            prop_assert_eq!(wire::varint(&mut out.written()).unwrap(), value);
        }
    }
}
