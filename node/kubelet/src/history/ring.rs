//! An hour of one figure, kept small: two bytes for each sample, and next to nothing while it does not change. Pure.

/// Seconds between samples.
pub(super) const STEP: u64 = 15;
/// Samples that are kept: an hour's.
pub(super) const KEPT: usize = 240;
/// There is no sample.
const MISSING: u16 = u16::MAX;

/// Counts the steps since the epoch.
pub(crate) type Tick = u64;

/// The samples of one figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Series {
    /// All of them are this one.
    Same(u16),
    /// By the tick, modulo their number.
    Ring(Box<[u16; KEPT]>),
}

/// From the first to the last tick of which there may be samples; empty if the last is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Tick,
    pub(super) last: Tick,
}

impl Span {
    /// Whether there may be a sample of a tick.
    fn holds(self, tick: Tick) -> bool {
        (self.first..=self.last).contains(&tick) && tick + KEPT as Tick > self.last
    }
}

impl Series {
    /// Of which nothing has been told so far.
    pub(super) fn missing() -> Self {
        Self::Same(MISSING)
    }

    /// Of which nothing has been told so far because there was nothing of it.
    pub(super) fn zero() -> Self {
        Self::Same(encode(Some(0.0)))
    }

    /// Adds the sample of a tick after `span`, which ends with it from now on.
    pub(super) fn push(&mut self, span: Span, tick: Tick, value: Option<f64>) {
        let sample = encode(value);
        if span.last < span.first {
            *self = Self::Same(sample);
            return;
        }
        if *self == Self::Same(sample) && (tick == span.last + 1 || sample == MISSING) {
            return;
        }
        if let Self::Same(same) = *self {
            let mut ring = Box::new([MISSING; KEPT]);
            let known = (span.first..=span.last).rev().take(KEPT);
            known.for_each(|tick| put(&mut ring, tick, same));
            *self = Self::Ring(ring);
        }
        if let Self::Ring(ring) = self {
            let skipped = (span.last + 1..tick).rev().take(KEPT);
            skipped.for_each(|skipped| put(ring, skipped, MISSING));
            put(ring, tick, sample);
        }
    }

    /// The sample of a tick.
    pub(super) fn at(&self, span: Span, tick: Tick) -> Option<f32> {
        if !span.holds(tick) {
            return None;
        }
        decode(match self {
            Self::Same(sample) => *sample,
            Self::Ring(ring) => ring.get(place(tick)).copied().unwrap_or(MISSING),
        })
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        match self {
            Self::Same(_) => 0,
            Self::Ring(_) => size_of::<[u16; KEPT]>(),
        }
    }
}

fn place(tick: Tick) -> usize {
    usize::try_from(tick % KEPT as Tick).unwrap_or_default()
}

fn put(ring: &mut [u16; KEPT], tick: Tick, sample: u16) {
    if let Some(slot) = ring.get_mut(place(tick)) {
        *slot = sample;
    }
}

/// Bits of an `f32`'s mantissa that are left out; its sign is too, since no figure here has one.
const CUT: u32 = 15;

/// The upper half of an `f32` without its sign: right to two parts in a thousand.
fn encode(value: Option<f64>) -> u16 {
    let Some(value) = value.filter(|value| value.is_finite()) else {
        return MISSING;
    };
    let bits = (value.max(0.0) as f32).to_bits();
    let rounded = bits.saturating_add(1 << (CUT - 1)) >> CUT;
    // What is too large to be told is the largest.
    u16::try_from(rounded.min(f32::MAX.to_bits() >> CUT)).unwrap_or(MISSING)
}

fn decode(sample: u16) -> Option<f32> {
    (sample != MISSING).then(|| f32::from_bits(u32::from(sample) << CUT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sample_is_right_to_two_parts_in_a_thousand(value in 1e-12_f64..1e18) {
            let read = f64::from(decode(encode(Some(value))).unwrap());
            prop_assert!((read - value).abs() <= value * 0.002, "{value} is read as {read}");
        }

        /// Against a plain list: whatever is written with whatever gaps is read again, for an hour.
        #[test]
        fn an_hour_is_kept(steps in prop::collection::vec((1_u64..300, prop::option::of(0_u32..4)), 1..600)) {
            let mut tick = 1_000_000;
            let mut span = Span { first: tick, last: tick };
            let mut series = Series::Same(encode(Some(1.0)));
            let mut plain = std::collections::BTreeMap::from([(tick, Some(1.0))]);
            for (skip, value) in steps {
                // Mostly one after the other.
                tick += if skip < 280 { 1 } else { skip };
                let value = value.map(f64::from);
                series.push(span, tick, value);
                span.last = tick;
                plain.insert(tick, value);
            }
            for tick in tick - 500..=tick + 1 {
                let expected = plain.get(&tick).copied().flatten().filter(|_| tick + KEPT as u64 > span.last);
                prop_assert_eq!(series.at(span, tick).map(f64::from), expected, "{}", tick);
            }
        }
    }

    #[test]
    fn what_does_not_change_takes_no_room() {
        let mut series = Series::missing();
        let mut span = Span { first: 10, last: 10 };
        for tick in 11..1_000 {
            series.push(span, tick, None);
            span.last = tick;
        }
        assert_eq!(series.heap(), 0);
        series.push(span, 1_000, Some(0.0));
        assert_eq!(series.heap(), 480);
    }

    #[test]
    fn nothing_and_too_much_have_their_places() {
        assert_eq!(decode(encode(Some(0.0))), Some(0.0));
        assert_eq!(decode(encode(Some(-1.0))), Some(0.0));
        assert_eq!(decode(encode(Some(f64::NAN))), None);
        assert_eq!(decode(encode(None)), None);
        assert!(decode(encode(Some(1e300))).is_some_and(f32::is_finite));
    }
}
