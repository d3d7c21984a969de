//! Times of stored objects as seconds and nanoseconds, fast for the form in which this server writes them.

/// Seconds and nanoseconds of a time in RFC 3339.
pub(super) fn parse(text: &[u8]) -> Option<(i64, u32)> {
    if let Some(seconds) = canonical(text) {
        return Some((seconds, 0));
    }
    let at = api::time::parse(std::str::from_utf8(text).ok()?)?;
    let nanos = at.as_nanosecond().rem_euclid(1_000_000_000);
    Some((
        i64::try_from(at.as_nanosecond().div_euclid(1_000_000_000)).ok()?,
        u32::try_from(nanos).ok()?,
    ))
}

/// `2026-01-02T03:04:05Z` and nothing else.
fn canonical(text: &[u8]) -> Option<i64> {
    let &[
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
        b'Z',
    ] = text
    else {
        return None;
    };
    let two = |a: u8, b: u8| {
        let digits = a.is_ascii_digit() && b.is_ascii_digit();
        digits.then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
    };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(n1, n2)?, two(s1, s2)?);
    let fits = (1..=12).contains(&month) && (1..=28).contains(&day) && hour < 24 && minute < 60 && second < 60;
    // The last days of a month are left to the parser that knows the calendar's rules.
    fits.then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days since 1970 in the Gregorian calendar, counted in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_the_calendar(seconds in -62_000_000_000i64..253_000_000_000, micros in 0u32..1_000_000) {
            let at = api::Timestamp::new(seconds, 0).unwrap();
            prop_assert_eq!(parse(api::time::rfc3339(at).as_bytes()), Some((seconds, 0)));
            let at = api::Timestamp::new(seconds, (micros * 1000) as i32).unwrap();
            prop_assert_eq!(parse(api::time::micro(at).as_bytes()), Some((seconds, micros * 1000)));
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "2026-01-01",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
