//! What is wrong with text that is not JSON, in the words of Go's decoder, by which people search.
//!
//! It runs only on text that was refused already: a scanner over bytes that keeps the open brackets and nothing else.

/// The first fault of a text, in Go's words; `None` when there is none.
pub(super) fn fault(text: &[u8]) -> Option<String> {
    Scanner { text, at: 0 }.scan().err()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// What may come next.
#[derive(Clone, Copy)]
enum Next {
    Value,
    /// A value, or the end of an array that has none.
    ValueOrEnd,
    Key,
    /// A key, or the end of an object that has none.
    KeyOrEnd,
    /// What follows a value: a comma, a closing bracket, or the end.
    Rest,
}

type Step = Result<Next, String>;

impl Scanner<'_> {
    fn scan(mut self) -> Result<(), String> {
        let mut open: Vec<u8> = Vec::new();
        let mut next = Next::Value;
        loop {
            let Some(byte) = self.skip_space() else {
                return match (next, open.is_empty()) {
                    (Next::Rest, true) => Ok(()),
                    _ => Err(unfinished()),
                };
            };
            next = match (next, byte) {
                (Next::ValueOrEnd, b']') | (Next::KeyOrEnd, b'}') => {
                    open.pop();
                    self.at += 1;
                    Next::Rest
                }
                (Next::Value | Next::ValueOrEnd, _) => self.value(byte, &mut open)?,
                (Next::Key | Next::KeyOrEnd, _) => self.key(byte)?,
                (Next::Rest, _) => self.rest(byte, &mut open)?,
            };
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.peek()
    }

    fn value(&mut self, byte: u8, open: &mut Vec<u8>) -> Step {
        match byte {
            b'{' | b'[' => {
                open.push(byte);
                self.at += 1;
                return Ok(if byte == b'{' { Next::KeyOrEnd } else { Next::ValueOrEnd });
            }
            b'"' => self.string()?,
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            other => return Err(invalid(other, "looking for beginning of value")),
        }
        Ok(Next::Rest)
    }

    fn key(&mut self, byte: u8) -> Step {
        if byte != b'"' {
            return Err(invalid(byte, "looking for beginning of object key string"));
        }
        self.string()?;
        match self.skip_space() {
            Some(b':') => {
                self.at += 1;
                Ok(Next::Value)
            }
            Some(other) => Err(invalid(other, "after object key")),
            None => Err(unfinished()),
        }
    }

    fn rest(&mut self, byte: u8, open: &mut Vec<u8>) -> Step {
        self.at += 1;
        match (open.last(), byte) {
            (Some(b'{'), b',') => Ok(Next::Key),
            (Some(_), b',') => Ok(Next::Value),
            (Some(b'{'), b'}') | (Some(b'['), b']') => {
                open.pop();
                Ok(Next::Rest)
            }
            (Some(b'{'), _) => Err(invalid(byte, "after object key:value pair")),
            (Some(_), _) => Err(invalid(byte, "after array element")),
            (None, _) => Err(invalid(byte, "after top-level value")),
        }
    }

    /// The byte after this one.
    fn advance(&mut self) -> Result<u8, String> {
        self.at += 1;
        self.peek().ok_or_else(unfinished)
    }

    fn string(&mut self) -> Result<(), String> {
        loop {
            match self.advance()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                control @ 0..0x20 => return Err(invalid(control, "in string literal")),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        match self.advance()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    let digit = self.advance()?;
                    if !digit.is_ascii_hexdigit() {
                        return Err(invalid(digit, "in \\u hexadecimal character escape"));
                    }
                }
                Ok(())
            }
            other => Err(invalid(other, "in string escape code")),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek() == Some(b'-') {
            self.digit_next("in numeric literal")?;
        }
        match self.peek() {
            // A number that begins with zero has no more digits before its point.
            Some(b'0') => self.at += 1,
            _ => self.digits(),
        }
        if self.peek() == Some(b'.') {
            self.digit_next("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            if matches!(self.text.get(self.at + 1), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit_next("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn digit_next(&mut self, place: &str) -> Result<(), String> {
        match self.advance()? {
            b'0'..=b'9' => Ok(()),
            other => Err(invalid(other, place)),
        }
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        for expected in word.bytes().skip(1) {
            let found = self.advance()?;
            if found != expected {
                let place = format!("in literal {word} (expecting '{}')", char::from(expected));
                return Err(invalid(found, &place));
            }
        }
        self.at += 1;
        Ok(())
    }
}

fn unfinished() -> String {
    "unexpected end of JSON input".to_owned()
}

/// Go quotes the byte as if it were a character of its own.
fn invalid(byte: u8, place: &str) -> String {
    let quoted = match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        b'\t' => "'\\t'".to_owned(),
        control @ (0..0x20 | 0x7f) => format!("'\\x{control:02x}'"),
        other @ 0x80..0xa0 => format!("'\\u{other:04x}'"),
        other => format!("'{}'", char::from(other)),
    };
    format!("invalid character {quoted} {place}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn faults_are_told_in_the_words_of_go() {
        let cases = [
            ("", "unexpected end of JSON input"),
            ("{\"a\": ", "unexpected end of JSON input"),
            ("{\"a\"", "unexpected end of JSON input"),
            ("\"a", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{\"a\":}", "invalid character '}' looking for beginning of value"),
            (
                "{a: 1}",
                "invalid character 'a' looking for beginning of object key string",
            ),
            (
                "{\"a\": 1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{\"a\": 1 \"b\": 2}",
                "invalid character '\"' after object key:value pair",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} {}", "invalid character '{' after top-level value"),
            ("01", "invalid character '1' after top-level value"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"),
            ("nul", "unexpected end of JSON input"),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            (
                "\"\\u12G4\"",
                "invalid character 'G' in \\u hexadecimal character escape",
            ),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
            ("\u{e4}", "invalid character 'Ã' looking for beginning of value"),
        ];
        for (text, expected) in cases {
            assert_eq!(fault(text.as_bytes()).as_deref(), Some(expected), "{text:?}");
        }
    }

    proptest! {
        /// Both judge the same texts to be JSON, but for what only serde_json looks at: bytes that are no UTF-8.
        #[test]
        fn finds_a_fault_where_there_is_one(text in "[-{}\\[\\],:\"a0-9.eEtrufalsn\\\\ \n]{0,24}") {
            let refused = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err();
            prop_assert_eq!(fault(text.as_bytes()).is_some(), refused, "{}", text);
        }
    }
}
