//! Points in time as the API writes them, and ages as kubectl prints them. Nobody here reads a clock: the caller passes
//! the time in.

/// A point in time; sub-second digits are kept in memory and cut when written as `metav1.Time`.
pub type Timestamp = jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR_DAYS: i64 = 365;

/// As `metav1.Time` is written: UTC, whole seconds (`2026-01-02T03:04:05Z`).
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As `metav1.MicroTime` is written: UTC, always six digits (`2026-01-02T03:04:05.000006Z`).
pub fn micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads RFC 3339 with any offset; `None` for everything else, including a date without a time or an offset.
pub fn parse(text: &str) -> Option<Timestamp> {
    is_rfc3339(text.as_bytes()).then(|| text.parse().ok()).flatten()
}

/// jiff reads more than RFC 3339 (a space for the `T`, offsets without minutes), Go's parser does not.
fn is_rfc3339(text: &[u8]) -> bool {
    let (Some(head), Some(rest)) = (text.get(..19), text.get(19..)) else {
        return false;
    };
    let shaped = head.iter().enumerate().all(|(at, byte)| match at {
        4 | 7 => *byte == b'-',
        10 => *byte == b'T',
        13 | 16 => *byte == b':',
        _ => byte.is_ascii_digit(),
    });
    shaped && is_offset(skip_fraction(rest))
}

fn skip_fraction(rest: &[u8]) -> &[u8] {
    let Some(fraction) = rest.strip_prefix(b".") else {
        return rest;
    };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        rest
    } else {
        fraction.get(digits..).unwrap_or_default()
    }
}

fn is_offset(offset: &[u8]) -> bool {
    match offset {
        b"Z" => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].into_iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// An age in seconds as kubectl prints it: `5s`, `2m3s`, `15m`, `3h4m`, `30h`, `2d3h`, `300d`, `2y5d`.
/// Source of the steps: `k8s.io/apimachinery/pkg/util/duration.HumanDuration`.
pub fn human_duration(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ => long_duration(seconds / DAY),
    }
}

fn long_duration(days: i64) -> String {
    let years = days / YEAR_DAYS;
    match years {
        ..2 => format!("{days}d"),
        2..8 => two(years, "y", days % YEAR_DAYS, "d"),
        _ => format!("{years}y"),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_utc_with_seconds_or_micros() {
        let at = parse("2026-01-02T05:04:05.123456789+02:00").unwrap();
        assert_eq!(rfc3339(at), "2026-01-02T03:04:05Z");
        assert_eq!(micro(at), "2026-01-02T03:04:05.123456Z");
        assert_eq!(
            micro(parse("1999-12-31T23:59:59Z").unwrap()),
            "1999-12-31T23:59:59.000000Z"
        );
    }

    #[test]
    fn refuses_what_is_not_rfc3339() {
        for text in [
            "",
            "x",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02 03:04:05Z",
            "2026-13-02T03:04:05Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+02",
            "2026-01-02T03:04Z",
            "2026-01-02T03:04:05Zx",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn prints_ages_as_kubectl_does() {
        for (seconds, want) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (123, "2m3s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (3 * 3600 + 240, "3h4m"),
            (28_800, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (51 * 3600, "2d3h"),
            (8 * 86_400, "8d"),
            (729 * 86_400, "729d"),
            (730 * 86_400, "2y"),
            (735 * 86_400, "2y5d"),
            (8 * 365 * 86_400, "8y"),
        ] {
            assert_eq!(human_duration(seconds), want, "{seconds}");
        }
    }
}
