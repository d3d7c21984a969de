//! A range of ports, written `FIRST-LAST` as Kubernetes' flags have it.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

/// At least one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PortRange {
    first: u16,
    last: u16,
}

/// The text names no range of ports.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a range of ports is FIRST-LAST, such as 30000-32767")]
pub(crate) struct BadPortRange;

impl PortRange {
    /// All of its ports.
    pub(crate) fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// Whether some port is in both.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl FromStr for PortRange {
    type Err = BadPortRange;

    fn from_str(text: &str) -> Result<Self, BadPortRange> {
        let port = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or(BadPortRange);
        let (first, last) = text.split_once('-').ok_or(BadPortRange)?;
        let (first, last) = (port(first)?, port(last)?);
        match first <= last {
            true => Ok(Self { first, last }),
            false => Err(BadPortRange),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl TryFrom<String> for PortRange {
    type Error = BadPortRange;

    fn try_from(text: String) -> Result<Self, BadPortRange> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for text in ["30000-32767", "1-65535", "80-80"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        for text in ["", "80", "80-", "-80", "0-80", "90-80", "80-65536", "a-b", "80-90-100"] {
            assert_eq!(text.parse::<PortRange>(), Err(BadPortRange), "{text}");
        }
    }

    #[test]
    fn overlap_where_they_share_a_port() {
        let overlaps = |a: &str, b: &str| a.parse::<PortRange>().unwrap().overlaps(b.parse().unwrap());
        assert!(overlaps("1-10", "10-20") && overlaps("10-20", "1-10") && overlaps("1-20", "5-6"));
        assert!(!overlaps("1-9", "10-20") && !overlaps("10-20", "1-9"));
    }
}
