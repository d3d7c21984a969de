//! Reading an amount: sign, digits with at most one point, suffix or exponent.

use std::str::FromStr;

use super::{Format, MAX, NANO, Quantity};

/// Text that is no amount, worded as `resource.ParseQuantity` words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Number,
}

/// Text longer than this is refused before it is looked at; no meaningful amount comes near.
const MAX_TEXT: usize = 1024;
/// Digits that count; an amount with more is capped or rounded.
const MAX_DIGITS: usize = 18;

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl FromStr for Quantity {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        if text == "0" {
            return Ok(Self::default());
        }
        let parts = split(text)?;
        let (format, base, exponent) = suffix(parts.suffix)?;
        if parts.whole.is_empty() && parts.fraction.is_empty() {
            return Err(BadQuantity::Number);
        }
        let nanos = match base {
            Base::Two => scale_binary(&parts, exponent),
            Base::Ten => scale_decimal(&parts, exponent),
        };
        let below_one = nanos > 0 && nanos < NANO;
        let format = if format == Format::BinarySi && below_one {
            Format::DecimalSi
        } else {
            format
        };
        Ok(Self {
            nanos: if parts.negative { -nanos } else { nanos },
            format,
        })
    }
}

fn split(text: &str) -> Result<Parts<'_>, BadQuantity> {
    if text.is_empty() || text.len() > MAX_TEXT {
        return Err(BadQuantity::Format);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits_end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (whole, rest) = unsigned.split_at(digits_end);
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
        None => ("", rest),
    };
    if !matches_suffix_shape(suffix) {
        return Err(BadQuantity::Format);
    }
    Ok(Parts {
        negative: text.starts_with('-'),
        whole: whole.trim_start_matches('0'),
        fraction: if fraction.is_empty() && !whole.is_empty() {
            "0"
        } else {
            fraction
        },
        suffix,
    })
}

/// `[eEinumkKMGTP]*[-+]?[0-9]*`
fn matches_suffix_shape(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    rest.bytes().all(|byte| byte.is_ascii_digit())
}

enum Base {
    Two,
    Ten,
}

fn suffix(text: &str) -> Result<(Format, Base, i32), BadQuantity> {
    let decimal = |exponent| Ok((Format::DecimalSi, Base::Ten, exponent));
    let binary = |exponent| Ok((Format::BinarySi, Base::Two, exponent));
    match text {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => match text.strip_prefix(['e', 'E']).map(str::parse) {
            Some(Ok(exponent)) => Ok((Format::DecimalExponent, Base::Ten, exponent)),
            _ => Err(BadQuantity::Suffix),
        },
    }
}

/// The amount in billionths: digits shifted by the exponent, what lies below rounded up, what does not fit capped.
fn scale_decimal(parts: &Parts<'_>, exponent: i32) -> i128 {
    let digits: String = parts.whole.chars().chain(parts.fraction.chars()).collect();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return 0;
    }
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let shift = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let scale = i64::from(exponent) - shift(parts.fraction.len()) + shift(trailing) + 9;
    if significant.len() <= MAX_DIGITS {
        return shifted(significant, scale).unwrap_or(MAX);
    }
    shifted(significant, scale).map_or(MAX, |nanos| nanos.min(MAX))
}

/// `digits` × 10^`scale`, rounded up; `None` when it does not fit.
fn shifted(digits: &str, scale: i64) -> Option<i128> {
    let Ok(cut) = usize::try_from(-scale) else {
        let power = 10_i128.checked_pow(u32::try_from(scale).ok()?)?;
        return digits.parse::<i128>().ok()?.checked_mul(power);
    };
    if cut == 0 {
        return digits.parse().ok();
    }
    // `digits` has no trailing zeros, so that whatever is cut off is more than nothing.
    let kept = digits
        .len()
        .checked_sub(cut)
        .and_then(|end| digits.get(..end))
        .unwrap_or_default();
    if kept.is_empty() {
        Some(1)
    } else {
        kept.parse::<i128>().ok()?.checked_add(1)
    }
}

fn scale_binary(parts: &Parts<'_>, power: i32) -> i128 {
    let unit = 1_i128 << power;
    let whole = if parts.whole.is_empty() {
        Some(0)
    } else {
        parts.whole.parse::<i128>().ok()
    };
    let whole = whole.and_then(|whole| whole.checked_mul(unit)?.checked_mul(NANO));
    let fraction = binary_fraction(parts.fraction, unit);
    whole
        .and_then(|whole| whole.checked_add(fraction))
        .map_or(MAX, |nanos| nanos.min(MAX))
}

/// 0.`digits` × `unit` in billionths, rounded up. Digits beyond the 18th can only round.
fn binary_fraction(digits: &str, unit: i128) -> i128 {
    let kept = digits.get(..MAX_DIGITS).unwrap_or(digits);
    let beyond = digits
        .get(MAX_DIGITS..)
        .unwrap_or_default()
        .bytes()
        .any(|byte| byte != b'0');
    let scale = u32::try_from(kept.len()).map_or(1, |length| 10_i128.pow(length));
    let number = kept.parse::<i128>().unwrap_or_default() + i128::from(beyond);
    // unit × NANO may take 90 bits: multiply in two steps, keeping the remainder of the first.
    let high = number * unit;
    let (units, rest) = (high / scale, high % scale);
    let nanos = rest
        .checked_mul(NANO)
        .map_or(NANO, |rest| rest / scale + i128::from(rest % scale != 0));
    units * NANO + nanos
}
