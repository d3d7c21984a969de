//! Text as others write and read it: as Go prints values, since users compare our messages with Kubernetes' word for word;
//! and metrics as Prometheus reads them.

use std::fmt::Write as _;

use serde_json::Value;

/// Quotes as Go's `strconv.Quote`: double quotes, the usual escapes, and `\x`, `\u` for what does not print.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_quoted(&mut out, c);
    }
    out.push('"');
    out
}

/// As Go prints a value with `%v`; maps in the order of their keys.
pub fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(go).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

fn push_quoted(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        c if c < ' ' || c == '\u{7f}' => write_escape(out, format_args!("\\x{:02x}", u32::from(c))),
        c if prints(c) => out.push(c),
        c if u32::from(c) < 0x1_0000 => write_escape(out, format_args!("\\u{:04x}", u32::from(c))),
        c => write_escape(out, format_args!("\\U{:08x}", u32::from(c))),
    }
}

fn write_escape(out: &mut String, escape: std::fmt::Arguments<'_>) {
    out.write_fmt(escape).expect("writing to a String never fails");
}

/// An approximation of Go's `unicode.IsPrint`: controls, separators other than the space, and format characters do not.
pub fn prints(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(u32::from(c), 0xad | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xe000..=0xf8ff)
}

/// OpenMetrics text as Prometheus' text format, which Kubernetes serves and every scraper reads: there the type and help
/// of a counter carry the name of its samples, and nothing marks the end.
pub fn prometheus(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 256);
    let mut help = "";
    for line in open_metrics.lines() {
        match line.strip_prefix("# ") {
            // Comes right before the type that says how the metric is called.
            Some(about) if about.starts_with("HELP ") => help = about,
            Some(about) => {
                let Some((name, kind)) = about.strip_prefix("TYPE ").and_then(|rest| rest.split_once(' ')) else {
                    continue;
                };
                let suffix = if kind == "counter" { "_total" } else { "" };
                if let Some(text) = help.strip_prefix("HELP ").and_then(|rest| rest.strip_prefix(name)) {
                    out.extend(["# HELP ", name, suffix, text, "\n"]);
                }
                out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            }
            None => out.extend([line, "\n"]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{go, quote};

    #[test]
    fn prints_values_as_go_does() {
        let value = json!({"b": [1, "x", null], "a": {"c": true}});
        assert_eq!(go(&value), "map[a:map[c:true] b:[1 x <nil>]]");
    }

    #[test]
    fn quotes_as_go_does() {
        for (text, want) in [
            ("a", r#""a""#),
            ("a\"b\\", r#""a\"b\\""#),
            ("tab\tnl\n", r#""tab\tnl\n""#),
            ("\u{1}\u{7f}", r#""\x01\x7f""#),
            ("é世", "\"é世\""),
            ("\u{200b}\u{a0}", r#""\u200b\u00a0""#),
        ] {
            assert_eq!(quote(text), want);
        }
    }
}
