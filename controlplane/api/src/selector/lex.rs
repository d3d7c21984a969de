//! The words of a label selector's text.

/// A word; `In` and `NotIn` are identifiers where a key or a value is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Error,
    End,
    Open,
    Close,
    Comma,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
    Identifier,
}

/// Splits text into words; the last is always `End`.
pub(super) fn words(text: &str) -> Vec<(Token, &str)> {
    let mut rest = text;
    let mut words = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let (token, length) = next(rest);
        let (word, tail) = rest.split_at(length);
        words.push((token, word));
        if token == Token::End {
            return words;
        }
        rest = tail;
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn next(rest: &str) -> (Token, usize) {
    let token = match rest.as_bytes() {
        [] => return (Token::End, 0),
        [b'!', b'=', ..] => return (Token::NotEquals, 2),
        [b'=', b'=', ..] => return (Token::DoubleEquals, 2),
        [b'=', ..] => Token::Equals,
        [b'!', ..] => Token::Not,
        [b'(', ..] => Token::Open,
        [b')', ..] => Token::Close,
        [b',', ..] => Token::Comma,
        [b'>', ..] => Token::Greater,
        [b'<', ..] => Token::Less,
        _ => return identifier(rest),
    };
    (token, 1)
}

fn identifier(rest: &str) -> (Token, usize) {
    let end = |c: char| is_special(c) || matches!(c, ' ' | '\t' | '\r' | '\n');
    let length = rest.find(end).unwrap_or(rest.len());
    match rest.get(..length) {
        Some("in") => (Token::In, length),
        Some("notin") => (Token::NotIn, length),
        Some(word) if word.contains('\0') => (Token::Error, length),
        _ => (Token::Identifier, length),
    }
}
