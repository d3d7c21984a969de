//! How little of something a node may have left: hard eviction thresholds, written and read as a kubelet's. Pure.
//!
//! Where nothing is said the kubelet's defaults stand, but for the disk: see [`ENOUGH_STORAGE`]. Soft thresholds and minimum
//! reclaims there are none.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use api::Quantity;

use super::{
    machine::{Reading, Usage},
    status::Pressure,
};
use crate::images::ImageGc;

/// When something has to go for the node's sake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Below these pods go.
    pub eviction_hard: EvictionHard,
    /// How long the node says that it was short of something.
    pub transition: Duration,
    /// Above these images go.
    pub image_gc: ImageGc,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            eviction_hard: EvictionHard::default(),
            // Kubernetes' `evictionPressureTransitionPeriod`.
            transition: Duration::from_secs(300),
            image_gc: ImageGc::default(),
        }
    }
}

/// Thresholds by signal, written `memory.available<100Mi,nodefs.available<10%` as for a kubelet's `--eviction-hard`. What is
/// not named has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionHard(BTreeMap<Signal, Least>);

/// What a node can be short of, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    Memory,
    Nodefs,
    NodefsInodes,
    Imagefs,
    ImagefsInodes,
    Pids,
}

const SIGNALS: [Signal; 6] = [
    Signal::Memory,
    Signal::Nodefs,
    Signal::NodefsInodes,
    Signal::Imagefs,
    Signal::ImagefsInodes,
    Signal::Pids,
];

/// How much of it there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Least {
    Amount(Quantity),
    /// Of what there is in all.
    Share(Millionths),
    /// The same, but not more than so much.
    ShareUpTo(Millionths, i64),
}

/// A share of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Millionths(u32);

/// What is short, how much of it there should be at least, and how much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) signal: Signal,
    pub(crate) threshold: i64,
    pub(crate) available: i64,
}

/// Kubernetes' defaults.
const LEAST_MEMORY: i64 = 100 << 20;
const LEAST_STORAGE: Millionths = Millionths(100_000);
/// Kubernetes' threshold of the disk is a tenth of it. On a large disk that is far more than Wasm pods ever need, and a
/// machine that is merely well used would take no pods: a gibibyte is enough.
const ENOUGH_STORAGE: i64 = 1 << 30;
/// Kubernetes has no default for this one.
const LEAST_PIDS: i64 = 100;

/// Why thresholds are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("malformed pair {0:?}, expect SIGNAL<QUANTITY or SIGNAL<PERCENTAGE")]
    Pair(String),
    #[error("unsupported eviction signal {0}, expect one of {known}", known = names())]
    Signal(String),
    #[error("eviction percentage threshold {signal} must be >= 0%: {value}")]
    Negative { signal: &'static str, value: String },
    #[error("eviction percentage threshold {signal} must be <= 100%: {value}")]
    TooMuch { signal: &'static str, value: String },
    #[error("eviction threshold {signal} must be positive: {value}")]
    NotPositive { signal: &'static str, value: String },
    #[error("eviction threshold {signal} is neither a quantity nor a percentage: {value}")]
    Value { signal: &'static str, value: String },
}

fn names() -> String {
    SIGNALS.map(Signal::name).join(", ")
}

impl Signal {
    /// As Kubernetes calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory.available",
            Self::Nodefs => "nodefs.available",
            Self::NodefsInodes => "nodefs.inodesFree",
            Self::Imagefs => "imagefs.available",
            Self::ImagefsInodes => "imagefs.inodesFree",
            Self::Pids => "pid.available",
        }
    }

    /// What is short, as messages call it.
    pub(crate) const fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Nodefs | Self::Imagefs => "ephemeral-storage",
            Self::NodefsInodes | Self::ImagefsInodes => "inodes",
            Self::Pids => "pids",
        }
    }

    /// The condition of a node that is short of it.
    pub(crate) const fn pressure(self) -> Pressure {
        match self {
            Self::Memory => Pressure::Memory,
            Self::Nodefs | Self::NodefsInodes | Self::Imagefs | Self::ImagefsInodes => Pressure::Disk,
            Self::Pids => Pressure::Pids,
        }
    }

    /// So much of it, in words: bytes in whole kibibytes.
    pub(crate) fn text(self, amount: i64) -> String {
        match self {
            Self::Memory | Self::Nodefs | Self::Imagefs => Quantity::from_bytes(amount / 1024 * 1024).to_string(),
            Self::NodefsInodes | Self::ImagefsInodes | Self::Pids => amount.to_string(),
        }
    }
}

impl Default for EvictionHard {
    fn default() -> Self {
        Self(BTreeMap::from([
            (Signal::Memory, Least::Amount(Quantity::from_bytes(LEAST_MEMORY))),
            (Signal::Nodefs, Least::ShareUpTo(LEAST_STORAGE, ENOUGH_STORAGE)),
            (Signal::Pids, Least::Amount(Quantity::from_units(LEAST_PIDS))),
        ]))
    }
}

impl FromStr for EvictionHard {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut thresholds = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let malformed = || ThresholdError::Pair(pair.to_owned());
            let (name, value) = pair.split_once('<').ok_or_else(malformed)?;
            let (name, value) = (name.trim(), value.trim());
            let signal = SIGNALS.into_iter().find(|signal| signal.name() == name);
            let signal = signal.ok_or_else(|| ThresholdError::Signal(name.to_owned()))?;
            match least(signal.name(), value)? {
                Some(least) => thresholds.insert(signal, least),
                None => thresholds.remove(&signal),
            };
        }
        Ok(Self(thresholds))
    }
}

/// `None`: no threshold, which 0% and 100% mean to a kubelet.
fn least(signal: &'static str, text: &str) -> Result<Option<Least>, ThresholdError> {
    let value = text.to_owned();
    let Some(percent) = text.strip_suffix('%') else {
        return match text.parse::<Quantity>() {
            Ok(quantity) if quantity.is_negative() || quantity.is_zero() => {
                Err(ThresholdError::NotPositive { signal, value })
            }
            Ok(quantity) => Ok(Some(Least::Amount(quantity))),
            Err(_) => Err(ThresholdError::Value { signal, value }),
        };
    };
    match percent.parse::<f64>() {
        Ok(percent) if percent < 0.0 => Err(ThresholdError::Negative { signal, value }),
        Ok(percent) if percent > 100.0 => Err(ThresholdError::TooMuch { signal, value }),
        Ok(percent) if percent.is_finite() => {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is between 0 and 1,000,000"
            )]
            let share = (percent * 10_000.0).round() as u32;
            Ok(Some(Least::Share(Millionths(share))).filter(|_| share > 0 && share < 1_000_000))
        }
        Ok(_) | Err(_) => Err(ThresholdError::Value { signal, value }),
    }
}

impl Millionths {
    fn of(self, total: i64) -> i64 {
        let share = i128::from(total) * i128::from(self.0) / 1_000_000;
        i64::try_from(share).unwrap_or(i64::MAX)
    }
}

impl Least {
    fn of(self, total: i64) -> i64 {
        match self {
            Self::Amount(amount) => amount.value(),
            Self::Share(share) => share.of(total),
            Self::ShareUpTo(share, most) => share.of(total).min(most),
        }
    }

    /// As it was written; what is not, as what it comes to.
    fn text(self, total: i64) -> String {
        match self {
            Self::Amount(amount) => amount.to_string(),
            Self::Share(share) => format!("{}%", f64::from(share.0) / 10_000.0),
            Self::ShareUpTo(..) => Quantity::from_bytes(self.of(total)).to_string(),
        }
    }
}

impl EvictionHard {
    /// How much is kept free of what there is so much of in all.
    pub(crate) fn least(&self, signal: Signal, total: i64) -> i64 {
        self.0.get(&signal).map_or(0, |least| least.of(total))
    }

    /// What is short; the most urgent first. What cannot be measured is not.
    pub(crate) fn shortages(&self, usage: &Usage) -> Vec<Shortage> {
        let measured = self.0.iter().filter_map(|(signal, least)| {
            let Reading { total, available } = usage.of(*signal)?;
            Some(Shortage {
                signal: *signal,
                threshold: least.of(total),
                available,
            })
        });
        measured.filter(|short| short.available < short.threshold).collect()
    }

    /// Whether anything depends on the disks that images are on.
    pub(crate) fn asks_for_images(&self) -> bool {
        let of_images = |signal: &Signal| matches!(signal, Signal::Imagefs | Signal::ImagefsInodes);
        self.0.keys().any(of_images)
    }

    /// By Kubernetes' names, on a disk of so many bytes.
    pub(crate) fn told(&self, storage: i64) -> BTreeMap<&'static str, String> {
        let each = self.0.iter();
        each.map(|(signal, least)| (signal.name(), least.text(storage)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> EvictionHard {
        text.parse().expect("thresholds")
    }

    fn usage() -> Usage {
        let reading = |total, available| Reading { total, available };
        Usage {
            memory: reading(4 << 30, 1 << 30),
            nodefs: reading(1000 << 20, 200 << 20),
            nodefs_inodes: Some(reading(1000, 40)),
            imagefs: Some(reading(1000 << 20, 120 << 20)),
            imagefs_inodes: None,
            pids: reading(4000, 1000),
        }
    }

    fn short(text: &str) -> Vec<(Signal, i64, i64)> {
        let shortages = read(text).shortages(&usage());
        let each = shortages.iter();
        each.map(|short| (short.signal, short.threshold, short.available))
            .collect()
    }

    #[test]
    fn thresholds_are_amounts_or_shares_and_met_when_there_is_less() {
        assert_eq!(short("memory.available<1Gi,pid.available<25%"), [], "just enough");
        assert_eq!(
            short("pid.available<26%, memory.available<1025Mi"),
            [(Signal::Memory, 1025 << 20, 1 << 30), (Signal::Pids, 1040, 1000),]
        );
        assert_eq!(
            short("nodefs.available<20.1%,nodefs.inodesFree<5%,imagefs.available<150Mi"),
            [
                (Signal::Nodefs, 210_763_776, 200 << 20),
                (Signal::NodefsInodes, 50, 40),
                (Signal::Imagefs, 150 << 20, 120 << 20),
            ]
        );
        assert_eq!(short("imagefs.inodesFree<99%"), [], "a disk that does not count them");
        assert!(read("imagefs.inodesFree<99%").asks_for_images());
    }

    #[test]
    fn what_is_not_named_has_no_threshold() {
        for nothing in ["", " , ", "memory.available<0%,nodefs.available<100%"] {
            assert_eq!(read(nothing), EvictionHard(BTreeMap::new()), "{nothing:?}");
        }
        assert_eq!(read("pid.available<5").least(Signal::Memory, 1 << 40), 0);
        assert_eq!(
            read("memory.available<5Mi,memory.available<0%"),
            read(""),
            "the last counts"
        );
    }

    #[test]
    fn the_defaults_are_a_kubelets_but_leave_large_disks_to_the_pods() {
        let hard = EvictionHard::default();
        assert_eq!(hard.least(Signal::Memory, 1 << 40), 100 << 20);
        assert_eq!(hard.least(Signal::Nodefs, 100 << 20), 10 << 20);
        assert_eq!(hard.least(Signal::Nodefs, 1 << 40), 1 << 30);
        assert!(!hard.asks_for_images());
        let told = hard
            .told(1 << 40)
            .into_iter()
            .map(|(name, text)| format!("{name}<{text}"));
        assert_eq!(
            told.collect::<Vec<_>>(),
            ["memory.available<100Mi", "nodefs.available<1Gi", "pid.available<100"]
        );
        let own = "imagefs.available<12.5%,nodefs.inodesFree<5%,pid.available<1k";
        let told = read(own)
            .told(0)
            .into_iter()
            .map(|(name, text)| format!("{name}<{text}"));
        assert_eq!(told.collect::<Vec<_>>().join(","), own);
    }

    #[test]
    fn what_is_no_threshold_is_refused_in_the_kubelets_words() {
        for (text, why) in [
            (
                "memory.available",
                "malformed pair \"memory.available\", expect SIGNAL<",
            ),
            (
                "memory.available>1Gi",
                "malformed pair \"memory.available>1Gi\", expect",
            ),
            (
                "disk.free<1Gi",
                "unsupported eviction signal disk.free, expect one of memory.available, ",
            ),
            ("Memory.available<1Gi", "unsupported eviction signal Memory.available, "),
            (
                "memory.available<=1Gi",
                "eviction threshold memory.available is neither a quantity nor a percentage: =1Gi",
            ),
            (
                "memory.available<-1Gi",
                "eviction threshold memory.available must be positive: -1Gi",
            ),
            (
                "pid.available<0",
                "eviction threshold pid.available must be positive: 0",
            ),
            (
                "nodefs.available<-1%",
                "eviction percentage threshold nodefs.available must be >= 0%: -1%",
            ),
            (
                "nodefs.available<100.1%",
                "eviction percentage threshold nodefs.available must be <= 100%: 100.1%",
            ),
            (
                "nodefs.available<NaN%",
                "eviction threshold nodefs.available is neither",
            ),
            ("nodefs.available<%", "eviction threshold nodefs.available is neither"),
        ] {
            let refused = text.parse::<EvictionHard>().expect_err(text).to_string();
            assert!(refused.starts_with(why), "{text}: {refused}");
        }
    }
}
