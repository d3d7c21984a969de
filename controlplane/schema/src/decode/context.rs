//! What a decoder remembers while it walks: where it is, what it dropped, and why it stopped.

use std::fmt::Write as _;

use api::text::quote;

use super::{DecodeError, found::Found};
use crate::model::Type;

/// Kubernetes' decoder keeps this many problems, too.
const MAX_PROBLEMS: usize = 100;

#[derive(Default)]
pub(super) struct Context {
    path: String,
    depth: usize,
    problems: Vec<String>,
    error: Option<DecodeError>,
    /// Whether what does not fit is told as Go's decoder or as Kubernetes' converter tells it.
    converting: bool,
}

impl Context {
    /// For a tree that is no text to be decoded.
    pub(super) fn converting() -> Self {
        Self {
            converting: true,
            ..Self::default()
        }
    }

    pub(super) fn finish(self) -> (Vec<String>, Option<DecodeError>) {
        (self.problems, self.error)
    }

    /// Goes down to a field or a map's key; `leave` with the mark returned goes up again.
    pub(super) fn enter_field(&mut self, name: &str) -> usize {
        let mark = self.path.len();
        if mark > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        self.depth += 1;
        mark
    }

    pub(super) fn enter_index(&mut self, index: usize) -> usize {
        let mark = self.path.len();
        write!(self.path, "[{index}]").expect("writing to a String never fails");
        self.depth += 1;
        mark
    }

    pub(super) fn leave(&mut self, mark: usize) {
        self.path.truncate(mark);
        self.depth -= 1;
    }

    pub(super) fn unknown(&mut self, field: &str) {
        self.problem("unknown", field);
    }

    pub(super) fn duplicate(&mut self, field: &str) {
        self.problem("duplicate", field);
    }

    fn problem(&mut self, what: &str, field: &str) {
        let mark = self.enter_field(field);
        let text = format!("{what} field {}", quote(&self.path));
        self.leave(mark);
        if self.problems.len() < MAX_PROBLEMS && !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }

    pub(super) fn is_too_deep(&self) -> bool {
        self.depth >= super::MAX_DEPTH
    }

    /// Remembers the first error; serde's own error type would add a place in the text to the words.
    pub(super) fn fail(&mut self, error: DecodeError) {
        self.error.get_or_insert(error);
    }

    /// The words for a value that does not fit.
    pub(super) fn mismatch(&self, found: Found<'_>, type_: &Type, owner: Option<&str>) -> DecodeError {
        if self.converting
            && let Some(message) = found.converted(type_)
        {
            return DecodeError::Type { message };
        }
        let found = found.decoded(type_);
        let target = match owner {
            Some(owner) => format!(
                "Go struct field {owner}.{} of type {}",
                without_indexes(&self.path),
                type_.go()
            ),
            None => format!("Go value of type {}", type_.go()),
        };
        DecodeError::Type {
            message: format!("json: cannot unmarshal {found} into {target}"),
        }
    }
}

/// Go's decoder does not count items in its error paths.
fn without_indexes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((head, tail)) = rest.split_once('[') {
        out.push_str(head);
        match tail.split_once(']') {
            Some((index, after)) if index.bytes().all(|byte| byte.is_ascii_digit()) => rest = after,
            _ => {
                out.push('[');
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}
