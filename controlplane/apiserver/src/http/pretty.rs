//! JSON for people: indented by two spaces, chunk by chunk, so that a long list is never held as a whole.

use bytes::Bytes;

/// Indents JSON text that comes in pieces.
#[derive(Default)]
pub(super) struct Indenter {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// A list or an object has been opened, and nothing is known to be in it.
    opened: bool,
}

impl Indenter {
    pub(super) fn indent(&mut self, json: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(json.len() * 2);
        for &byte in json {
            if self.in_text {
                self.text(&mut out, byte);
            } else {
                self.structure(&mut out, byte);
            }
        }
        out.into()
    }

    fn text(&mut self, out: &mut Vec<u8>, byte: u8) {
        out.push(byte);
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_text = false,
            _ => {}
        }
    }

    fn structure(&mut self, out: &mut Vec<u8>, byte: u8) {
        let closes = matches!(byte, b'}' | b']');
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return,
            _ if closes => {
                self.depth = self.depth.saturating_sub(1);
                if !std::mem::take(&mut self.opened) {
                    self.line(out);
                }
            }
            _ if std::mem::take(&mut self.opened) => self.line(out),
            _ => {}
        }
        out.push(byte);
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                self.opened = true;
            }
            b',' => self.line(out),
            b':' => out.push(b' '),
            b'"' => self.in_text = true,
            _ => {}
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[a{}:,\"\\\\ ]{0,5}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a\"{]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_looks_as_serde_would_write_it(value in values(), size in 1usize..20) {
            let mut indenter = Indenter::default();
            let text = value.to_string();
            let found: Vec<u8> = text.as_bytes().chunks(size).flat_map(|chunk| indenter.indent(chunk)).collect();
            prop_assert_eq!(String::from_utf8(found).expect("text"), serde_json::to_string_pretty(&value).expect("JSON"));
        }
    }

    #[test]
    fn empty_things_stay_on_their_line() {
        let text = json!({"a": {}, "b": [], "c": [1]}).to_string();
        let found = Indenter::default().indent(text.as_bytes());
        assert_eq!(&*found, b"{\n  \"a\": {},\n  \"b\": [],\n  \"c\": [\n    1\n  ]\n}");
    }
}
