//! `$(VAR)` in commands, arguments and values. Pure; the rules of `third_party/forked/golang/expansion`.

/// Replaces `$(NAME)` by what `lookup` gives. An unknown name stays as written, `$$` is a dollar sign.
pub(crate) fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|reference| reference.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<&'static str> {
        match name {
            "VAR_A" => Some("A"),
            "VAR_EMPTY" => Some(""),
            "VAR_REF" => Some("$(VAR_A)"),
            _ => None,
        }
    }

    #[test]
    fn expands_as_kubernetes_does() {
        let cases = [
            ("$(VAR_A)", "A"),
            ("___$(VAR_A)___", "___A___"),
            ("$(VAR_A)_$(VAR_A)", "A_A"),
            ("$$(VAR_A)", "$(VAR_A)"),
            ("$$$(VAR_A)", "$A"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$(VAR_EMPTY)x", "x"),
            ("$(VAR_REF)", "$(VAR_A)"),
            ("$(VAR_A", "$(VAR_A"),
            ("$VAR_A $", "$VAR_A $"),
            ("foo$$$$bar", "foo$$bar"),
            ("", ""),
        ];
        for (text, want) in cases {
            assert_eq!(expand(text, lookup), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_without_dollars_is_kept(text in "[^$]*") {
            prop_assert_eq!(expand(&text, lookup), text);
        }

        #[test]
        fn doubling_dollars_protects_any_text(text in ".*") {
            prop_assert_eq!(expand(&text.replace('$', "$$"), lookup), text);
        }
    }
}
