//! The formats of strings that Kubernetes checks; others are left alone, as OpenAPI wants it.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Whether Kubernetes knows a format for values of a type.
pub fn is_known(format: &str) -> bool {
    matches!(
        format,
        "bsonobjectid"
            | "uri"
            | "email"
            | "hostname"
            | "ipv4"
            | "ipv6"
            | "cidr"
            | "mac"
            | "uuid"
            | "uuid3"
            | "uuid4"
            | "uuid5"
            | "isbn"
            | "isbn10"
            | "isbn13"
            | "creditcard"
            | "ssn"
            | "hexcolor"
            | "rgbcolor"
            | "byte"
            | "password"
            | "date"
            | "duration"
            | "date-time"
            | "datetime"
            | "int32"
            | "int64"
            | "float"
            | "double"
            | "k8s-short-name"
            | "k8s-long-name"
    )
}

/// Whether a text has a format; true for formats that are not known.
pub(super) fn fits(format: &str, text: &str) -> bool {
    match format {
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some('3')),
        "uuid4" => uuid(text, Some('4')),
        "uuid5" => uuid(text, Some('5')),
        "byte" => STANDARD.decode(text).is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "date-time" | "datetime" => date_time(text),
        "duration" => duration(text).is_some(),
        "email" => email(text),
        "hostname" => hostname(text),
        "uri" => uri(text),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "hexcolor" => hex_color(text),
        "rgbcolor" => rgb_color(text),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "creditcard" => credit_card(text),
        "ssn" => social_security(text),
        "k8s-short-name" => api::names::is_dns1123_label(text).is_empty(),
        "k8s-long-name" => api::names::is_dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let most = match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    digits(bits) && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut parts = 0;
    let all = text.split(separator).all(|part| {
        parts += 1;
        part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    all && matches!(parts, 6 | 8 | 20)
}

/// With or without dashes, as the library that Kubernetes uses has it.
fn uuid(text: &str, version: Option<char>) -> bool {
    let bare: String = text.chars().filter(|c| *c != '-').collect();
    let dashes =
        text.len() == 32 || (text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text.get(*at..=*at) == Some("-")));
    let hex = bare.len() == 32 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    let variant = bare.chars().nth(16).is_some_and(|c| "89abAB".contains(c));
    dashes
        && hex
        && match version {
            None => true,
            Some('3') => bare.chars().nth(12) == Some('3'),
            Some(version) => bare.chars().nth(12) == Some(version) && variant,
        }
}

fn date_time(text: &str) -> bool {
    let separated = text
        .as_bytes()
        .get(10)
        .is_some_and(|byte| matches!(byte, b'T' | b't' | b' '));
    separated && text.parse::<jiff::Timestamp>().is_ok()
}

/// A duration of Go's (`1h30m`), or one of the words that go-openapi also takes (`3 days`), in nanoseconds.
pub(crate) fn duration(text: &str) -> Option<i128> {
    go_duration(text).or_else(|| spelled_duration(text))
}

fn unit(name: &str) -> Option<f64> {
    Some(match name {
        "ns" => 1.0,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

fn go_duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..end)?.parse().ok()?;
        rest = rest.get(end..)?;
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += number * unit(rest.get(..end)?)?;
        rest = rest.get(end..)?;
    }
    let total = total as i128;
    (total <= i128::from(i64::MAX)).then_some(if negative { -total } else { total })
}

fn spelled_duration(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let number: i128 = text.get(..end)?.parse().ok()?;
    let nanoseconds: i128 = match text.get(end..)?.trim() {
        "d" | "day" | "days" => 86_400_000_000_000,
        "w" | "week" | "weeks" => 604_800_000_000_000,
        "hour" | "hours" | "hr" | "hrs" => 3_600_000_000_000,
        "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
        "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(nanoseconds)
}

fn email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let clean = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| !c.is_whitespace() && !"<>()[]\\,;:@\"".contains(c))
    };
    clean(local) && clean(domain) && !local.starts_with('.') && !local.ends_with('.') && !local.contains("..")
}

fn hostname(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    !text.is_empty() && text.len() <= 255 && text.trim_end_matches('.').split('.').all(label)
}

/// A URI with a scheme, as a browser's address line would take it.
fn uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return text.starts_with('/');
    };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    scheme_ok && !rest.is_empty() && !rest.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn hex_color(text: &str) -> bool {
    let text = text.strip_prefix('#').unwrap_or(text);
    matches!(text.len(), 3 | 6) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn rgb_color(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|text| text.strip_suffix(')'));
    let part = |part: &str| digits(part.trim()) && part.trim().parse::<u8>().is_ok();
    inner.is_some_and(|inner| inner.split(',').count() == 3 && inner.split(',').all(part))
}

fn bare(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, ' ' | '-')).collect()
}

fn isbn10(text: &str) -> bool {
    let text = bare(text);
    let value = |(nth, c): (usize, char)| match c {
        'X' if nth == 9 => Some(10),
        c => c.to_digit(10),
    };
    let sum: Option<u32> = text
        .chars()
        .enumerate()
        .map(|(nth, c)| value((nth, c)).map(|value| value * (10 - u32::try_from(nth.min(10)).unwrap_or(10))))
        .sum();
    text.len() == 10 && sum.is_some_and(|sum| sum % 11 == 0)
}

fn isbn13(text: &str) -> bool {
    let text = bare(text);
    let weight = |nth: usize| if nth.is_multiple_of(2) { 1 } else { 3 };
    let sum: Option<u32> = text
        .chars()
        .enumerate()
        .map(|(nth, c)| c.to_digit(10).map(|digit| digit * weight(nth)))
        .sum();
    text.len() == 13 && sum.is_some_and(|sum| sum % 10 == 0)
}

/// By Luhn's sum.
fn credit_card(text: &str) -> bool {
    let text = bare(text);
    let double = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: Option<u32> = text
        .chars()
        .rev()
        .enumerate()
        .map(|(nth, c)| {
            c.to_digit(10)
                .map(|digit| if nth % 2 == 1 { double(digit) } else { digit })
        })
        .sum();
    (13..=19).contains(&text.len()) && sum.is_some_and(|sum| sum % 10 == 0)
}

fn social_security(text: &str) -> bool {
    let parts: Vec<&str> = text.split(['-', ' ']).collect();
    matches!(parts.as_slice(), [a, b, c] if (a.len(), b.len(), c.len()) == (3, 2, 4))
        && parts.iter().all(|part| digits(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_formats() {
        for (format, good, bad) in [
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "01:02:03:04:ab:cd", "01:02"),
            ("uuid", "a8098c1a-f86e-11da-bd1a-00112444be1e", "a8098c1a"),
            (
                "uuid4",
                "025b0d74-00a2-4048-bf57-227c5111bb34",
                "a8098c1a-f86e-11da-bd1a-00112444be1e",
            ),
            ("byte", "aGVsbG8=", "?"),
            ("date", "2026-01-31", "2026-02-31"),
            ("date-time", "2026-01-31T10:00:00Z", "2026-01-31"),
            ("duration", "1h30m", "1x"),
            ("duration", "3 days", "three days"),
            ("email", "a@b.example", "a.b"),
            ("hostname", "a.example", "-a"),
            ("uri", "https://a.example/b", "a b"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("hexcolor", "#ff00aa", "#ggg"),
            ("rgbcolor", "rgb(1,2,3)", "rgb(1,2,300)"),
            ("isbn10", "0-306-40615-2", "0-306-40615-3"),
            ("isbn13", "978-0-306-40615-7", "978-0-306-40615-8"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("ssn", "111-11-1111", "11-11-1111"),
        ] {
            assert!(fits(format, good), "{format}: {good}");
            assert!(!fits(format, bad), "{format}: {bad}");
            assert!(is_known(format));
        }
        assert!(fits("anything", "x") && !is_known("anything"));
    }
}
