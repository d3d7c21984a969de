//! Amounts of resources: `100m`, `1Gi`, `0.5`, `1e3`, exact to a billionth.
//!
//! The rules are those of `k8s.io/apimachinery/pkg/api/resource`: a suffix family is kept when it can print the amount
//! without loss, finer digits than nano are rounded away from zero, and what does not fit is capped at 2^63-1.

mod parse;
#[cfg(test)]
mod tests;

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::{Add, AddAssign, Neg, Sub, SubAssign},
};

pub use parse::BadQuantity;

/// Billionths in one unit.
const NANO: i128 = 1_000_000_000;
const MILLI: i128 = NANO / 1000;
/// The largest amount that text of more than 18 digits may stand for.
const MAX: i128 = i64::MAX as i128 * NANO;

/// The family of suffixes an amount was written in, and is printed in where that is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `m`, `k`, `M`, `G`
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, `Gi`
    BinarySi,
    /// `e3`, `e6`
    DecimalExponent,
}

/// An exact amount, compared by value. `Display` gives the canonical form, as the API stores it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// `units` whole units.
    pub fn from_units(units: i64) -> Self {
        Self {
            nanos: i128::from(units) * NANO,
            format: Format::DecimalSi,
        }
    }

    /// `milli` thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * MILLI,
            format: Format::DecimalSi,
        }
    }

    /// `nanos` billionths.
    pub fn from_nanos(nanos: i64) -> Self {
        Self {
            nanos: nanos.into(),
            format: Format::DecimalSi,
        }
    }

    /// `bytes` whole units, printed with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Self {
            format: Format::BinarySi,
            ..Self::from_units(bytes)
        }
    }

    /// Thousandths, rounded up and capped.
    pub fn milli(&self) -> i64 {
        clamp(ceil(self.nanos, MILLI))
    }

    /// Whole units, rounded up and capped.
    pub fn value(&self) -> i64 {
        clamp(ceil(self.nanos, NANO))
    }

    /// The nearest floating-point number.
    #[allow(clippy::cast_precision_loss, reason = "the nearest float is what is asked for")]
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether the amount is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount is below nothing.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount has no fraction.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }
}

/// Towards positive infinity.
fn ceil(nanos: i128, unit: i128) -> i128 {
    nanos.div_euclid(unit) + i128::from(nanos.rem_euclid(unit) != 0)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        match self.format {
            Format::BinarySi if !small && self.is_whole() => write_binary(f, self.nanos / NANO),
            Format::BinarySi | Format::DecimalSi => write_decimal(f, self.nanos, |exponent| match exponent {
                -9 => "n".to_owned(),
                -6 => "u".to_owned(),
                -3 => "m".to_owned(),
                3 => "k".to_owned(),
                6 => "M".to_owned(),
                9 => "G".to_owned(),
                12 => "T".to_owned(),
                15 => "P".to_owned(),
                18 => "E".to_owned(),
                _ => String::new(),
            }),
            Format::DecimalExponent => write_decimal(f, self.nanos, |exponent| match exponent {
                0 => String::new(),
                _ => format!("e{exponent}"),
            }),
        }
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, mut units: i128) -> fmt::Result {
    let mut power = 0;
    while power < 6 && units % 1024 == 0 {
        units /= 1024;
        power += 1;
    }
    write!(
        f,
        "{units}{}",
        ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
            .get(power)
            .copied()
            .unwrap_or_default()
    )
}

fn write_decimal(f: &mut fmt::Formatter<'_>, mut number: i128, suffix: impl Fn(i32) -> String) -> fmt::Result {
    let mut exponent = -9;
    while exponent < 18 && number % 1000 == 0 {
        number /= 1000;
        exponent += 3;
    }
    write!(f, "{number}{}", suffix(exponent))
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// Keeps the left side's format, unless the left side is nothing.
impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format,
        }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            nanos: self.nanos.saturating_neg(),
            ..self
        }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Quantity {
    /// From text, or from a JSON number as Kubernetes also accepts.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}
