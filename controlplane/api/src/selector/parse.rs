//! The grammar of a label selector's text, with the complaints of `k8s.io/apimachinery/pkg/labels`.

use super::{
    label::{Operator, Requirement, key_error},
    lex::{Token, words},
};
use crate::field::Path;

struct Parser<'a> {
    words: Vec<(Token, &'a str)>,
    at: usize,
}

/// Reads all requirements, in the order of the text.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser {
        words: words(text),
        at: 0,
    };
    let mut found = Vec::new();
    loop {
        let (token, word) = parser.peek_value();
        match token {
            Token::End => return Ok(found),
            Token::Identifier | Token::Not => {}
            _ => return Err(format!("found '{word}', expected: !, identifier, or 'end of string'")),
        }
        found.push(
            parser
                .requirement()
                .map_err(|error| format!("unable to parse requirement: {error}"))?,
        );
        match parser.take_value() {
            (Token::End, _) => return Ok(found),
            (Token::Comma, _) => parser.expect_another()?,
            (_, word) => return Err(format!("found '{word}', expected: ',' or 'end of string'")),
        }
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> (Token, &'a str) {
        self.words.get(self.at).copied().unwrap_or((Token::End, ""))
    }

    fn take(&mut self) -> (Token, &'a str) {
        let word = self.peek();
        self.at += 1;
        word
    }

    /// Where a key or a value stands, the operators that are words are plain words.
    fn peek_value(&self) -> (Token, &'a str) {
        match self.peek() {
            (Token::In | Token::NotIn, word) => (Token::Identifier, word),
            other => other,
        }
    }

    fn take_value(&mut self) -> (Token, &'a str) {
        let word = self.peek_value();
        self.at += 1;
        word
    }

    fn expect_another(&self) -> Result<(), String> {
        match self.peek_value() {
            (Token::Identifier | Token::Not, _) => Ok(()),
            (_, word) => Err(format!("found '{word}', expected: identifier after ','")),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.take_value();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.take_value();
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        if let Some(error) = key_error(key, &Path::root("<nil>")) {
            return Err(error.to_string());
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek_value().0, Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => self.exact_value()?,
        };
        Requirement::new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        match self.take() {
            (Token::In, _) => Ok(Operator::In),
            (Token::NotIn, _) => Ok(Operator::NotIn),
            (Token::Equals, _) => Ok(Operator::Equals),
            (Token::DoubleEquals, _) => Ok(Operator::DoubleEquals),
            (Token::NotEquals, _) => Ok(Operator::NotEquals),
            (Token::Greater, _) => Ok(Operator::GreaterThan),
            (Token::Less, _) => Ok(Operator::LessThan),
            (_, word) => Err(format!("found '{word}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let (token, word) = self.take_value();
        if token != Token::Open {
            return Err(format!("found '{word}' expected: '('"));
        }
        match self.peek_value() {
            (Token::Identifier | Token::Comma, word) => {
                let values = self.value_list()?;
                if self.take_value().0 == Token::Close {
                    Ok(values)
                } else {
                    Err(format!("found '{word}', expected: ')'"))
                }
            }
            (Token::Close, _) => {
                self.take_value();
                Ok(Vec::new())
            }
            (_, word) => Err(format!("found '{word}', expected: ',', ')' or identifier")),
        }
    }

    /// Values between commas; where a value is left out, it is the empty one.
    fn value_list(&mut self) -> Result<Vec<String>, String> {
        let mut values = Vec::new();
        loop {
            match self.take_value() {
                (Token::Identifier, word) => {
                    values.push(word.to_owned());
                    match self.peek_value() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, word) => return Err(format!("found '{word}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    match self.peek_value().0 {
                        Token::Close => {
                            values.push(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            self.take_value();
                            values.push(String::new());
                        }
                        _ => {}
                    }
                }
                (_, word) => return Err(format!("found '{word}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<Vec<String>, String> {
        match self.peek_value() {
            (Token::End | Token::Comma, _) => Ok(vec![String::new()]),
            (Token::Identifier, word) => {
                self.take_value();
                Ok(vec![word.to_owned()])
            }
            (_, word) => Err(format!("found '{word}', expected: identifier")),
        }
    }
}
