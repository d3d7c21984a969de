//! JSON as a flat list of nodes that point into its text: what an encoder needs to go through an object backwards without
//! building a tree of it.
//!
//! The text is this server's own, so what cannot be wrong in it (UTF-8, escapes, the grammar of numbers) is not looked
//! at; whatever the bytes, the scan ends and stays within them.

use std::borrow::Cow;

use super::EncodeError;

/// How deep a text may nest: twice as deep as messages do, since lists count here, and embedded JSON below them.
const MAX_DEPTH: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    False,
    True,
    Number,
    /// Without escapes: its text is its value.
    Text,
    Escaped,
    Array,
    Object,
}

/// One value, or the key before one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Where it begins and ends in the text, without quotes.
    start: u32,
    end: u32,
    /// The node behind this one and everything in it.
    pub(super) next: u32,
}

/// A scanned text. Node 0 is the whole.
#[derive(Clone, Copy)]
pub(super) struct Json<'j> {
    text: &'j [u8],
    nodes: &'j [Node],
}

impl<'j> Json<'j> {
    /// Scans a text into `nodes`, which is cleared before.
    pub(super) fn scan(text: &'j [u8], nodes: &'j mut Vec<Node>) -> Result<Self, EncodeError> {
        nodes.clear();
        if u32::try_from(text.len()).is_err() {
            return Err(EncodeError::Json);
        }
        let mut scanner = Scanner { text, at: 0, nodes };
        scanner.value(0)?;
        Ok(Json { text, nodes })
    }

    pub(super) fn node(self, at: u32) -> Node {
        const NOTHING: Node = Node {
            kind: Kind::Null,
            start: 0,
            end: 0,
            next: u32::MAX,
        };
        self.nodes.get(at as usize).copied().unwrap_or(NOTHING)
    }

    /// The text of a node as it is written.
    pub(super) fn source(self, node: Node) -> &'j [u8] {
        self.text
            .get(node.start as usize..node.end as usize)
            .unwrap_or_default()
    }

    /// The value of a text.
    pub(super) fn unescaped(self, node: Node) -> Cow<'j, [u8]> {
        if node.kind != Kind::Escaped {
            return Cow::Borrowed(self.source(node));
        }
        let quoted = (node.start as usize).saturating_sub(1)..node.end as usize + 1;
        let quoted = self.text.get(quoted).unwrap_or_default();
        let value: String = serde_json::from_slice(quoted).unwrap_or_default();
        Cow::Owned(value.into_bytes())
    }

    /// The nodes right below a list, or the keys of an object: a key's value is the node behind it.
    pub(super) fn children(self, at: u32) -> impl Iterator<Item = u32> {
        let parent = self.node(at);
        let keyed = parent.kind == Kind::Object;
        let mut child = at + 1;
        std::iter::from_fn(move || {
            if child >= parent.next || !matches!(parent.kind, Kind::Object | Kind::Array) {
                return None;
            }
            let this = child;
            child = self.node(if keyed { this + 1 } else { this }).next;
            Some(this)
        })
    }
}

struct Scanner<'t, 'n> {
    text: &'t [u8],
    at: usize,
    nodes: &'n mut Vec<Node>,
}

impl Scanner<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<(), EncodeError> {
        match self.skip_space() {
            Some(b'"') => self.string(),
            Some(b'{') => self.container(Kind::Object, b'}', depth),
            Some(b'[') => self.container(Kind::Array, b']', depth),
            Some(b't') => self.word(Kind::True, b"true"),
            Some(b'f') => self.word(Kind::False, b"false"),
            Some(b'n') => self.word(Kind::Null, b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(EncodeError::Json),
        }
    }

    fn container(&mut self, kind: Kind, close: u8, depth: usize) -> Result<(), EncodeError> {
        if depth >= MAX_DEPTH {
            return Err(EncodeError::Json);
        }
        let (at, start) = (self.nodes.len(), self.at);
        self.node(kind, start, start);
        self.at += 1;
        let mut separator = close;
        while self.skip_space() != Some(close) {
            if separator == b',' {
                self.expect(b',')?;
                self.skip_space();
            }
            separator = b',';
            if kind == Kind::Object {
                self.string()?;
                self.skip_space();
                self.expect(b':')?;
            }
            self.value(depth + 1)?;
        }
        self.at += 1;
        let next = self.nodes.len() as u32;
        if let Some(node) = self.nodes.get_mut(at) {
            node.next = next;
            node.end = self.at as u32;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), EncodeError> {
        self.expect(b'"')?;
        let start = self.at;
        let mut kind = Kind::Text;
        loop {
            let rest = self.text.get(self.at..).ok_or(EncodeError::Json)?;
            self.at += plain(rest).ok_or(EncodeError::Json)?;
            if self.peek() == Some(b'"') {
                break;
            }
            kind = Kind::Escaped;
            self.at += 2;
        }
        self.node(kind, start, self.at);
        self.at += 1;
        Ok(())
    }

    fn number(&mut self) -> Result<(), EncodeError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        self.node(Kind::Number, start, self.at);
        Ok(())
    }

    fn word(&mut self, kind: Kind, word: &[u8]) -> Result<(), EncodeError> {
        let start = self.at;
        if !self.text.get(start..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(EncodeError::Json);
        }
        self.at += word.len();
        self.node(kind, start, self.at);
        Ok(())
    }

    fn node(&mut self, kind: Kind, start: usize, end: usize) {
        self.nodes.push(Node {
            kind,
            start: start as u32,
            end: end as u32,
            next: self.nodes.len() as u32 + 1,
        });
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other,
            }
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), EncodeError> {
        if self.peek() != Some(byte) {
            return Err(EncodeError::Json);
        }
        self.at += 1;
        Ok(())
    }
}

/// Where the first quote or backslash is. Eight bytes are looked at together: a byte that is zero after the comparison
/// borrows from its highest bit, and the lowest such byte is one that is really there.
fn plain(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES << 7;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (mut at, mut rest) = (0, text);
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let found = zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
        rest = after;
    }
    let last = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    Some(at + last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    /// The tree that the nodes stand for.
    fn tree(json: Json<'_>, at: u32) -> Value {
        let node = json.node(at);
        let text = |node| String::from_utf8(json.unescaped(node).into_owned()).unwrap();
        match node.kind {
            Kind::Null => Value::Null,
            Kind::False => false.into(),
            Kind::True => true.into(),
            Kind::Number => serde_json::from_slice(json.source(node)).unwrap(),
            Kind::Text | Kind::Escaped => text(node).into(),
            Kind::Array => json.children(at).map(|item| tree(json, item)).collect(),
            Kind::Object => {
                let entries = json.children(at).map(|key| (text(json.node(key)), tree(json, key + 1)));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}|[\"\\\\\n\u{1}a]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,6}|[\"\\\\]{0,2}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nodes_stand_for_the_tree_of_the_text(value in values(), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
            let (text, mut nodes) = (text.unwrap(), Vec::new());
            let json = Json::scan(&text, &mut nodes).unwrap();
            prop_assert_eq!(tree(json, 0), value);
            prop_assert_eq!(json.source(json.node(0)).len() + 2 * usize::from(text.starts_with(b"\"")), text.len());
        }

        #[test]
        fn the_end_of_a_text_is_found(text in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\')], 0..40)) {
            let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(plain(&text), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(text in "[\\[\\]{}\",:\\\\a1 tfn]{0,40}") {
            let mut nodes = Vec::new();
            if let Ok(json) = Json::scan(text.as_bytes(), &mut nodes) {
                json.children(0).for_each(drop);
            }
        }
    }

    #[test]
    fn what_does_not_end_is_refused() {
        let deep = "[".repeat(MAX_DEPTH + 1);
        for text in ["", "{", "[1", "\"a", "\"a\\", "tru", "{\"a\"}", "{1:2}", "[1 2]", &deep] {
            assert!(Json::scan(text.as_bytes(), &mut Vec::new()).is_err(), "{text}");
        }
    }
}
