//! Lists of completion indexes, such as `1,3-5,7`: ascending numbers and intervals below the number of completions.

/// How many indexes a list names.
pub(super) fn count(list: &str, completions: i64) -> Result<i64, String> {
    if list.is_empty() {
        return Ok(0);
    }
    let mut last: Option<i64> = None;
    let mut total = 0;
    for fragment in list.split(',') {
        let (first, end) = interval(fragment, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(disorder(last, first));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index in both of two lists. Fragments that are no intervals are passed over: another rule is about them.
pub(super) fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let intervals = |list: &str| {
        let parsed = list
            .split(',')
            .filter_map(|fragment| interval(fragment, completions).ok());
        parsed.collect::<Vec<_>>()
    };
    let (one, other) = (intervals(one), intervals(other));
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    while let (Some((a, b)), Some((c, d))) = (left.peek(), right.peek()) {
        if a <= d && c <= b {
            return Some(*a.max(c));
        }
        let _ = if a <= c { left.next() } else { right.next() };
    }
    None
}

fn interval(fragment: &str, completions: i64) -> Result<(i64, i64), String> {
    let mut parts = fragment.split('-');
    let (first, end) = (parts.next().unwrap_or_default(), parts.next());
    if parts.next().is_some() {
        return Err(format!(
            "the fragment {fragment:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let first = index(first, completions)?;
    let Some(end) = end else { return Ok((first, first)) };
    let end = index(end, completions)?;
    if first >= end {
        return Err(disorder(first, end));
    }
    Ok((first, end))
}

fn index(text: &str, completions: i64) -> Result<i64, String> {
    let number: i64 = text
        .parse()
        .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
    if number >= completions {
        return Err(format!("too large index: {text:?}"));
    }
    Ok(number)
}

fn disorder(previous: i64, current: i64) -> String {
    format!("non-increasing order, previous: {previous}, current: {current}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted_or_refused() {
        for (list, expected) in [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("1,3-5,7", Ok(5)),
            ("x", Err("cannot convert string to integer for index: \"x\"")),
            ("1-", Err("cannot convert string to integer for index: \"\"")),
            (
                "1-2-3",
                Err(
                    "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts \
                separated by '-'",
                ),
            ),
            ("10", Err("too large index: \"10\"")),
            ("3-10", Err("too large index: \"10\"")),
            ("3-3", Err("non-increasing order, previous: 3, current: 3")),
            ("2,1", Err("non-increasing order, previous: 2, current: 1")),
        ] {
            assert_eq!(count(list, 10), expected.map_err(str::to_owned), "{list}");
        }
    }

    #[test]
    fn the_first_common_index_is_found() {
        for (one, other, expected) in [
            ("0,2", "1,3", None),
            ("0-4", "3-5", Some(3)),
            ("7", "1,3,5-9", Some(7)),
            ("x,7", "7", Some(7)),
            ("", "7", None),
        ] {
            assert_eq!(overlap(one, other, 10), expected, "{one} {other}");
        }
    }
}
