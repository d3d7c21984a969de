//! Regular expressions of schemas: RE2 as Go speaks it, by the `regex` crate, which keeps the same promise of linear time.
//!
//! The two differ in words, not in power: Go's `\d`, `\w`, `\s` and `\b` know ASCII alone, a `{` that begins no repetition
//! stands for itself, `\Q…\E` quotes, and brackets inside a class mean nothing.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled expression may take.
const SIZE_LIMIT: usize = 2 << 20;

/// An expression, compiled when it is first used.
#[derive(Debug)]
pub(crate) struct Pattern {
    source: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(crate) fn new(source: &str) -> Self {
        Self {
            source: source.into(),
            compiled: OnceLock::new(),
        }
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Whether the text matches; an expression that does not compile matches nothing.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| compile(&self.source).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// Compiles an expression of Go's.
pub(crate) fn compile(source: &str) -> Result<Regex, String> {
    let translated = translate(source).map_err(|why| format!("error parsing regexp: {why}"))?;
    let build = RegexBuilder::new(&translated)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build();
    build.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("error parsing regexp: expression too large: `{source}`"),
        other => {
            let text = other.to_string();
            let why = text.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            format!("error parsing regexp: {why}: `{source}`")
        }
    })
}

/// What stands before a place in an expression.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Group,
    /// A repetition, which may be made lazy.
    Repetition,
    Lazy,
    Other,
}

/// The largest count of a repetition, as in Go.
const MAX_COUNT: u32 = 1000;

/// From Go's words to ours.
///
/// # Errors
/// In Go's words, for what Go refuses and we would not.
fn translate(source: &str) -> Result<String, String> {
    let mut out = String::with_capacity(source.len() + 8);
    let mut rest = source;
    let mut in_class = false;
    let mut before = Before::Other;
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        let repeats = !in_class && (matches!(first, '*' | '+' | '?') || (first == '{' && is_repetition(rest)));
        before = match (repeats, before) {
            (true, Before::Group) => Before::Other,
            (true, Before::Other) => Before::Repetition,
            (true, Before::Repetition) if first == '?' => Before::Lazy,
            (true, _) => return Err(format!("invalid nested repetition operator: `{first}`")),
            (false, _) if first == '(' && !in_class => Before::Group,
            (false, _) => Before::Other,
        };
        match first {
            '\\' => taken = escape(rest, in_class, &mut out),
            '[' if !in_class => {
                in_class = true;
                taken = open_class(rest, &mut out);
            }
            '[' if rest.starts_with("[:") && rest.contains(":]") => {
                taken = rest.find(":]").unwrap_or_default() + 2;
                out.push_str(rest.get(..taken).unwrap_or_default());
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', first]),
            '{' if !in_class && !is_repetition(rest) => out.push_str("\\{"),
            '{' if !in_class => taken = repetition(rest, &mut out)?,
            other => out.push(other),
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(out)
}

/// A counted repetition, whose numbers are bounded.
fn repetition(rest: &str, out: &mut String) -> Result<usize, String> {
    let end = rest.find('}').map_or(rest.len(), |end| end + 1);
    let text = rest.get(..end).unwrap_or_default();
    let numbers = text
        .trim_matches(['{', '}'])
        .split(',')
        .filter(|number| !number.is_empty());
    let fits = |number: &str| number.parse::<u32>().is_ok_and(|number| number <= MAX_COUNT);
    if !numbers.into_iter().all(fits) {
        return Err(format!("invalid repeat count: `{text}`"));
    }
    out.push_str(text);
    Ok(end)
}

/// `[`, `[^`, and a `]` right behind, which stands for itself.
fn open_class(rest: &str, out: &mut String) -> usize {
    let mut taken = 1;
    out.push('[');
    if rest.get(taken..).is_some_and(|rest| rest.starts_with('^')) {
        out.push('^');
        taken += 1;
    }
    if rest.get(taken..).is_some_and(|rest| rest.starts_with(']')) {
        out.push_str("\\]");
        taken += 1;
    }
    taken
}

/// Writes the escape that `rest` begins with; returns how many bytes of it were read.
fn escape(rest: &str, in_class: bool, out: &mut String) -> usize {
    let Some(next) = rest.chars().nth(1) else {
        out.push('\\');
        return 1;
    };
    match next {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str("[\\t\\n\\f\\r ]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        'B' if !in_class => out.push_str("(?-u:\\B)"),
        'Q' if !in_class => {
            let quoted = rest.get(2..).unwrap_or_default();
            let end = quoted.find("\\E").unwrap_or(quoted.len());
            out.push_str(&regex::escape(quoted.get(..end).unwrap_or_default()));
            return (2 + end + 2).min(rest.len());
        }
        other => out.extend(['\\', other]),
    }
    1 + next.len_utf8()
}

/// Whether `rest` begins with `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(rest: &str) -> bool {
    let Some((inner, _)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return false;
    };
    let (low, high) = inner.split_once(',').unwrap_or((inner, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_as_go_speaks() {
        for (source, text, expected) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "\u{0661}", false),
            (r"^\w+$", "\u{e4}", false),
            (r"^a{$", "a{", true),
            (r"^a{2}$", "aa", true),
            (r"^[[a]$", "[", true),
            (r"^[]a]$", "]", true),
            (r"^[^]]$", "]", false),
            (r"^[[:alpha:]_]+$", "a_b", true),
            (r"^[a&&b]$", "&", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"\bfoo\b", "a foo b", true),
            (r"^[a-z\d.-]+$", "a1.-", true),
            (r"^https?:\/\/", "https://x", true),
        ] {
            assert_eq!(Pattern::new(source).matches(text), expected, "{source} on {text}");
        }
    }

    #[test]
    fn what_cannot_be_compiled_is_refused() {
        for source in ["(", "a**", "a{2}{3}", "a{1001}", "[z-a]", "(a{1000}){1000}"] {
            let why = compile(source).unwrap_err();
            assert!(why.starts_with("error parsing regexp: ") && why.ends_with('`'), "{why}");
        }
    }
}
