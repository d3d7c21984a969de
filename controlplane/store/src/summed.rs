//! Streams that end with the SHA-256 of what went through them: what backups are made of.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// A stream with the sum of what went through it.
pub struct Summed<T> {
    stream: T,
    sum: Sha256,
}

/// What is wrong with what was read.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It ends too early.
    #[error("cut short")]
    Cut,
    /// It is not what was written.
    #[error("a checksum is wrong")]
    Sum,
    /// A length that nothing has.
    #[error("a length is beyond belief")]
    Length,
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<T> Summed<T> {
    /// Begins with the sum of nothing.
    pub fn new(stream: T) -> Self {
        Summed {
            stream,
            sum: Sha256::new(),
        }
    }
}

impl<T: Write> Summed<T> {
    /// Writes all of the parts.
    pub fn all(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.sum.update(part);
            self.stream.write_all(part)?;
        }
        Ok(())
    }

    /// Writes bytes behind their length, a `u32`.
    pub fn put_sized(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.all(&[&length.to_be_bytes(), bytes])
    }

    /// Writes the sum.
    pub fn seal(mut self) -> io::Result<()> {
        let sum = self.sum.finalize();
        self.stream.write_all(&sum)?;
        self.stream.flush()
    }
}

impl<T: Read> Summed<T> {
    /// Reads so many bytes; fewer only at the end.
    pub fn at_most(&mut self, length: usize) -> Result<Vec<u8>, Damage> {
        // Grows as bytes come, whatever length is claimed.
        let mut bytes = Vec::new();
        let limit = u64::try_from(length).unwrap_or(u64::MAX);
        (&mut self.stream).take(limit).read_to_end(&mut bytes)?;
        self.sum.update(&bytes);
        Ok(bytes)
    }

    /// Reads so many bytes.
    pub fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Damage> {
        let bytes = self.at_most(length)?;
        match bytes.len() == length {
            true => Ok(bytes),
            false => Err(Damage::Cut),
        }
    }

    /// Reads a `u64`.
    pub fn number(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_be_bytes(self.exactly(8)?.try_into().unwrap_or_default()))
    }

    /// Reads bytes behind their length, of which more than `longest` is not believed.
    pub fn sized(&mut self, longest: u32) -> Result<Vec<u8>, Damage> {
        let length = u32::from_be_bytes(self.exactly(4)?.try_into().unwrap_or_default());
        match usize::try_from(length) {
            Ok(bytes) if length <= longest => self.exactly(bytes),
            _ => Err(Damage::Length),
        }
    }

    /// Reads the sum, which must be that of what was read before it.
    pub fn finish(&mut self) -> Result<(), Damage> {
        let sum = self.sum.clone().finalize();
        match self.exactly(sum.len())? == sum.as_slice() {
            true => Ok(()),
            false => Err(Damage::Sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = Summed::new(&mut bytes);
        out.put_sized(b"text").unwrap();
        out.all(&[&7u64.to_be_bytes()]).unwrap();
        out.seal().unwrap();
        bytes
    }

    fn read(bytes: &[u8], longest: u32) -> Result<(Vec<u8>, u64), Damage> {
        let mut input = Summed::new(bytes);
        let found = (input.sized(longest)?, input.number()?);
        input.finish()?;
        Ok(found)
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is_believed() {
        let bytes = written();
        assert_eq!(read(&bytes, 4).unwrap(), (b"text".to_vec(), 7));
        assert!(matches!(read(&bytes, 3), Err(Damage::Length)));
        for end in 0..bytes.len() {
            assert!(matches!(read(bytes.get(..end).unwrap(), 4), Err(Damage::Cut)), "{end}");
        }
        let mut other = bytes;
        *other.get_mut(5).unwrap() ^= 1;
        assert!(matches!(read(&other, 4), Err(Damage::Sum)));
    }
}
