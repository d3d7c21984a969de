//! Shuffle sharding: which few queues of many a flow may use. Two flows seldom have the same hand, so that one that fills
//! its queues leaves most others a queue of their own.

/// The largest hand that is dealt; the API allows no combination that needs more.
pub(super) const MAX_HAND: usize = 20;

/// A hand of different cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hand {
    cards: [u32; MAX_HAND],
    size: usize,
}

impl Hand {
    /// Deals `size` of `deck` cards, by a flow's hash alone.
    pub(super) fn deal(mut hash: u64, deck: u32, size: usize) -> Self {
        let size = size.min(MAX_HAND).min(deck as usize).max(1);
        let mut hand = Hand {
            cards: [0; MAX_HAND],
            size,
        };
        for nth in 0..size {
            let left = u64::from(deck).saturating_sub(nth as u64).max(1);
            let mut card = (hash % left) as u32;
            hash /= left;
            // The nth of the cards that are left; those dealt before are kept in order.
            let dealt = hand.cards.get_mut(..nth).unwrap_or_default();
            let mut place = 0;
            for taken in dealt.iter() {
                if card >= *taken {
                    card += 1;
                    place += 1;
                } else {
                    break;
                }
            }
            if let Some(from) = hand.cards.get_mut(place..=nth) {
                from.rotate_right(1);
                if let Some(first) = from.first_mut() {
                    *first = card;
                }
            }
        }
        hand
    }

    pub(super) fn cards(&self) -> &[u32] {
        self.cards.get(..self.size).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cards_are_different_and_of_the_deck(hash: u64, deck in 1u32..1000, size in 1usize..=MAX_HAND) {
            let hand = Hand::deal(hash, deck, size);
            prop_assert_eq!(hand.cards().len(), size.min(deck as usize));
            prop_assert!(hand.cards().windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(hand.cards().iter().all(|card| *card < deck));
        }
    }
}
