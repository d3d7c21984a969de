//! CRI's log lines: `2026-11-20T11:26:41.123456789Z stdout F text`. Pure.

use jiff::Timestamp;

/// One line of a log file, without its line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) time: &'a str,
    pub(crate) stream: &'a str,
    /// The text goes on in the next line of the same stream.
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

/// Reads a line; `None` if it is not in the format.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?)
        .ok()
        .filter(|s| matches!(*s, "stdout" | "stderr"))?;
    let tags = parts.next()?;
    let partial = tags.split(|byte| *byte == b':').next()? == b"P";
    Some(Line {
        time,
        stream,
        partial,
        text: parts.next().unwrap_or_default(),
    })
}

impl Line<'_> {
    /// The line was written at `since` or later; one without a readable time counts as such.
    pub(crate) fn is_since(&self, since: Timestamp) -> bool {
        self.time.parse::<Timestamp>().map_or(true, |at| at >= since)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_full_partial_and_empty_lines_and_refuses_others() {
        let time = "2026-11-20T11:26:41.5Z";
        let line = |stream, partial, text| {
            Some(Line {
                time,
                stream,
                partial,
                text,
            })
        };
        let cases: [(&[u8], _); 6] = [
            (
                b"2026-11-20T11:26:41.5Z stdout F hello  world",
                line("stdout", false, &b"hello  world"[..]),
            ),
            (b"2026-11-20T11:26:41.5Z stderr P half", line("stderr", true, b"half")),
            (b"2026-11-20T11:26:41.5Z stdout F ", line("stdout", false, b"")),
            (b"2026-11-20T11:26:41.5Z stdout F", line("stdout", false, b"")),
            (b"2026-11-20T11:26:41.5Z stdin F x", None),
            (b"garbage", None),
        ];
        for (bytes, want) in cases {
            assert_eq!(parse(bytes), want);
        }
    }

    proptest! {
        #[test]
        fn text_comes_back_byte_for_byte(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = b"2026-11-20T11:26:41Z stderr F ".to_vec();
            bytes.extend(&text);
            prop_assert_eq!(parse(&bytes).map(|l| l.text.to_vec()), Some(text));
        }
    }
}
