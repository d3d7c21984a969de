//! Header blocks: name and value pairs, compressed by one zlib stream per direction that begins with a dictionary known to
//! both sides (SPDY/3.1, section 2.6.10).
//!
//! What comes out of a block is bounded, whatever goes in.

use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::{Error, Headers};

/// The largest block, before compression.
const MAX_BLOCK: usize = 64 * 1024;
/// The most headers of a stream.
const MAX_HEADERS: usize = 256;

/// Words of the dictionary that stand behind their lengths.
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
/// Texts that follow them.
const TEXTS: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
    Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859\
    -1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dictionary = Vec::with_capacity(1423);
    for word in WORDS {
        put_text(&mut dictionary, word.as_bytes());
    }
    dictionary.extend_from_slice(TEXTS.as_bytes());
    dictionary
});

fn put_text(into: &mut Vec<u8>, text: &[u8]) {
    into.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    into.extend_from_slice(text);
}

/// Compresses blocks, in the order they are sent.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        compress
            .set_dictionary(&DICTIONARY)
            .expect("invariant: a fresh zlib stream takes a dictionary");
        Self(compress)
    }

    pub(super) fn block(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = Vec::new();
        plain.extend_from_slice(&u32::try_from(headers.0.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (name, value) in &headers.0 {
            put_text(&mut plain, name.to_ascii_lowercase().as_bytes());
            put_text(&mut plain, value.as_bytes());
        }
        let mut packed = Vec::with_capacity(plain.len() + 64);
        let begun = self.0.total_in();
        loop {
            let consumed = usize::try_from(self.0.total_in() - begun).unwrap_or(plain.len());
            let left = plain.get(consumed..).unwrap_or_default();
            self.0
                .compress_vec(left, &mut packed, FlushCompress::Sync)
                .expect("invariant: compression to memory does not fail");
            // A flush that had room to spare is complete.
            if packed.len() < packed.capacity() {
                return packed;
            }
            packed.reserve(256);
        }
    }
}

/// Expands blocks, in the order they come.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn block(&mut self, packed: &[u8]) -> Result<Headers, Error> {
        parse(&self.expand(packed)?)
    }

    fn expand(&mut self, packed: &[u8]) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::with_capacity(1024);
        let begun = self.0.total_in();
        loop {
            let consumed = usize::try_from(self.0.total_in() - begun).unwrap_or(packed.len());
            let left = packed.get(consumed..).unwrap_or_default();
            match self.0.decompress_vec(left, &mut plain, FlushDecompress::Sync) {
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(&DICTIONARY);
                    set.map_err(|_| Error::Protocol("its headers need another dictionary"))?;
                }
                Err(_) => return Err(Error::Protocol("its headers are not compressed by zlib")),
                Ok(_) if plain.len() == plain.capacity() => {
                    if plain.len() >= MAX_BLOCK {
                        return Err(Error::Protocol("its headers are too large"));
                    }
                    plain.reserve(plain.len());
                }
                Ok(Status::StreamEnd) => return Err(Error::Protocol("its headers end their compression")),
                Ok(_) if self.0.total_in() - begun < packed.len() as u64 => {
                    return Err(Error::Protocol("its headers are not compressed by zlib"));
                }
                Ok(_) => return Ok(plain),
            }
        }
    }
}

fn parse(mut block: &[u8]) -> Result<Headers, Error> {
    let short = || Error::Protocol("its headers are cut short");
    let count = take_number(&mut block).ok_or_else(short)?;
    if count > MAX_HEADERS {
        return Err(Error::Protocol("it has too many headers"));
    }
    let mut headers = Headers::default();
    for _ in 0..count {
        let name = take_text(&mut block).ok_or_else(short)?;
        let value = take_text(&mut block).ok_or_else(short)?;
        headers.0.push((name, value));
    }
    Ok(headers)
}

fn take_number(block: &mut &[u8]) -> Option<usize> {
    let (number, rest) = block.split_first_chunk::<4>()?;
    *block = rest;
    usize::try_from(u32::from_be_bytes(*number)).ok()
}

fn take_text(block: &mut &[u8]) -> Option<String> {
    let length = take_number(block)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_of_spdy_3() {
        let adler = DICTIONARY.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65_521;
            (a, (b + a) % 65_521)
        });
        assert_eq!((DICTIONARY.len(), adler.1 << 16 | adler.0), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn refuses_what_expands_without_end() {
        let mut deflater = Deflater::new();
        let bomb = Headers(vec![("a".to_owned(), "x".repeat(4 * MAX_BLOCK))]);
        let packed = deflater.block(&bomb);
        assert!(packed.len() < 2048, "a small bomb");
        assert!(matches!(Inflater::new().block(&packed), Err(Error::Protocol(_))));
    }

    #[test]
    fn later_blocks_build_on_earlier_ones() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        let headers = Headers(vec![("streamtype".to_owned(), "error".to_owned())]);
        let sizes: Vec<usize> = (0..3)
            .map(|_| {
                let packed = deflater.block(&headers);
                assert_eq!(inflater.block(&packed).expect("a block"), headers);
                packed.len()
            })
            .collect();
        assert!(sizes[1] < sizes[0], "{sizes:?}");
    }
}
