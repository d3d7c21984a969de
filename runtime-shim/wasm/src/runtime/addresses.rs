//! Giving out addresses of a range: no address twice, and none again soon after it was given back. Pure.
//!
//! Nothing is written down here: which addresses are taken is in the records of the sandboxes, which their hosts keep.

use std::{
    collections::{HashSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4Net;

/// How long an address rests, so that what was meant for its last pod does not reach the next.
pub(crate) const REST: Duration = Duration::from_secs(10);

/// The addresses of a range.
#[derive(Debug)]
pub(crate) struct Addresses {
    first: u32,
    /// How many there are from the first on.
    count: u32,
    /// Where the search goes on.
    next: u32,
    taken: HashSet<Ipv4Addr>,
    /// Given back, with the end of their rest on the caller's clock.
    resting: VecDeque<(Duration, Ipv4Addr)>,
}

/// Every address is taken or rests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {count} addresses from {first} on are taken")]
pub(crate) struct NoneLeft {
    count: u32,
    first: Ipv4Addr,
}

/// The half of a node's pod range that Wasm pods live in; containers have the other.
pub(crate) fn wasm_half(node_range: Ipv4Net) -> Ipv4Net {
    let prefix = (node_range.prefix_len() + 1).min(32);
    Ipv4Net::new(node_range.network(), prefix).unwrap_or(node_range).trunc()
}

/// Where the pods' own loopback addresses are in a cluster without root, whose pods live on loopback addresses
/// themselves: in the half that containers would have. `None` where each pod range is a network of its own.
pub(crate) fn loopback_half(node_range: Ipv4Net) -> Option<Ipv4Net> {
    if !node_range.network().is_loopback() {
        return None;
    }
    let prefix = (node_range.prefix_len() + 1).min(32);
    node_range.subnets(prefix).ok()?.nth(1)
}

impl Addresses {
    /// All of a range but its first two (the network, the node's own end) and its last (the broadcast address).
    pub(crate) fn of(range: Ipv4Net) -> Self {
        let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
        let count = (last - first).saturating_sub(2);
        Self {
            first: first.saturating_add(2),
            count,
            next: 0,
            taken: HashSet::new(),
            resting: VecDeque::new(),
        }
    }

    /// Takes the next free address. `now` is on any clock that does not go back.
    pub(crate) fn take(&mut self, now: Duration) -> Result<Ipv4Addr, NoneLeft> {
        self.wake(now);
        for _ in 0..self.count {
            let address = Ipv4Addr::from(self.first + self.next);
            self.next = (self.next + 1) % self.count;
            if self.taken.insert(address) {
                return Ok(address);
            }
        }
        Err(NoneLeft {
            count: self.count,
            first: Ipv4Addr::from(self.first),
        })
    }

    /// Notes an address that is in use already, of this range or of an earlier one.
    pub(crate) fn hold(&mut self, address: Ipv4Addr) {
        self.resting.retain(|(_, resting)| *resting != address);
        self.taken.insert(address);
    }

    /// Whether an address has an owner; one that rests has none.
    pub(crate) fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.taken.contains(&address) && !self.resting.iter().any(|(_, resting)| *resting == address)
    }

    /// Gives an address back; one that is not taken: nothing.
    pub(crate) fn give_back(&mut self, address: Ipv4Addr, now: Duration) {
        let rests = self.resting.iter().any(|(_, resting)| *resting == address);
        if self.taken.contains(&address) && !rests {
            self.resting.push_back((now + REST, address));
        }
    }

    /// Goes over to another range; what is taken stays taken.
    pub(crate) fn change_range(&mut self, range: Ipv4Net) {
        let Self { taken, resting, .. } = std::mem::replace(self, Self::of(range));
        (self.taken, self.resting) = (taken, resting);
    }

    fn wake(&mut self, now: Duration) {
        while let Some((_, address)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            self.taken.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn wasm_pods_have_the_lower_half() {
        assert_eq!(wasm_half(range("10.128.0.0/17")), range("10.128.0.0/18"));
        assert_eq!(wasm_half(range("10.128.128.0/17")), range("10.128.128.0/18"));
        assert_eq!(wasm_half(range("10.0.0.1/32")), range("10.0.0.1/32"));
    }

    #[test]
    fn loopback_addresses_are_in_the_upper_half_where_pods_are_on_loopback_too() {
        assert_eq!(loopback_half(range("127.32.0.0/17")), Some(range("127.32.64.0/18")));
        assert_eq!(loopback_half(range("10.128.0.0/17")), None);
        assert_eq!(loopback_half(range("127.32.0.1/32")), None);
    }

    #[test]
    fn leaves_out_network_gateway_and_broadcast() {
        let mut addresses = Addresses::of(range("10.0.0.0/29"));
        let taken: Vec<_> = std::iter::from_fn(|| addresses.take(Duration::ZERO).ok())
            .map(|a| a.octets()[3])
            .collect();
        assert_eq!(taken, [2, 3, 4, 5, 6]);
        assert!(Addresses::of(range("10.0.0.0/31")).take(Duration::ZERO).is_err());
    }

    #[test]
    fn an_address_rests_before_it_is_given_out_again() {
        let mut addresses = Addresses::of(range("10.0.0.0/30"));
        let only = addresses.take(Duration::ZERO).unwrap();
        addresses.give_back(only, Duration::ZERO);
        addresses.give_back(only, Duration::from_secs(5));
        assert!(addresses.take(REST - Duration::from_millis(1)).is_err());
        assert_eq!(addresses.take(REST), Ok(only));
    }

    #[test]
    fn what_is_held_is_not_given_out_even_if_it_rested() {
        let mut addresses = Addresses::of(range("10.0.0.0/30"));
        let only = addresses.take(Duration::ZERO).unwrap();
        addresses.give_back(only, Duration::ZERO);
        addresses.hold(only);
        assert!(addresses.take(REST * 2).is_err());
    }

    #[test]
    fn a_change_of_range_keeps_what_is_taken() {
        let mut addresses = Addresses::of(range("10.0.0.0/29"));
        let first = addresses.take(Duration::ZERO).unwrap();
        addresses.change_range(range("10.0.0.0/28"));
        let second = addresses.take(Duration::ZERO).unwrap();
        assert_ne!(first, second);
    }

    proptest! {
        /// Over any sequence of taking and giving back, an address has one owner, and rests between two.
        #[test]
        fn no_address_is_owned_twice(steps in proptest::collection::vec((any::<bool>(), 0usize..8, 0u64..4), 1..200)) {
            let mut addresses = Addresses::of(range("10.0.0.0/28"));
            let (mut owned, mut given_back) = (Vec::new(), std::collections::HashMap::new());
            let mut now = Duration::ZERO;
            for (take, which, seconds) in steps {
                now += Duration::from_secs(seconds);
                if take {
                    let Ok(address) = addresses.take(now) else { continue };
                    prop_assert!(!owned.contains(&address));
                    if let Some(at) = given_back.get(&address) {
                        prop_assert!(now >= *at + REST);
                    }
                    owned.push(address);
                } else if which < owned.len() {
                    let address = owned.swap_remove(which);
                    addresses.give_back(address, now);
                    given_back.insert(address, now);
                }
            }
        }
    }
}
