//! Leases that values share, so that a thousand events do not make a thousand leases (as kube-apiserver's lease manager
//! has it).
//!
//! A lease lives a little longer than what it is for, and during that time serves further values of the same lifetime. A
//! value may therefore outlive its time by a twentieth of it, and never dies early.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use store::Error;
use tokio::time::Instant;

use crate::call::{Repeat, Shared};
use crate::proto::{LeaseGrantRequest, lease_client::LeaseClient};

/// How many values one lease has: etcd ends them all at once, in one change.
const VALUES: u32 = 1000;
/// The longest time that a lease is added for others to share, in seconds.
const LONGEST_SHARING: u64 = 60;
/// How many different lifetimes are remembered.
const LIFETIMES: usize = 64;

/// The leases that can be shared now, by the lifetime in seconds that they are for.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_lifetime: Mutex<BTreeMap<u64, Lease>>,
}

#[derive(Copy, Clone, Debug)]
struct Lease {
    id: i64,
    ends: Instant,
    values: u32,
}

/// A lease that lasts for at least `ttl` from now.
pub(crate) async fn get(shared: &Shared, ttl: Duration) -> Result<i64, Error> {
    let lifetime = seconds(ttl);
    if let Some(id) = shared.leases.share(lifetime, Instant::now()) {
        return Ok(id);
    }
    let total = lifetime + sharing(lifetime);
    let asked_at = Instant::now();
    let request = LeaseGrantRequest {
        ttl: i64::try_from(total).unwrap_or(i64::MAX),
    };
    let grant = |channel| async move { LeaseClient::new(channel).lease_grant(request).await };
    // A lease that nobody uses is no harm, so this may be asked twice.
    let granted = shared.call("making a lease", Repeat::Yes, grant).await?;
    let ends = asked_at + Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(total));
    shared.leases.add(lifetime, granted.id, ends);
    Ok(granted.id)
}

/// Whole seconds, at least one.
fn seconds(ttl: Duration) -> u64 {
    ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0 || ttl.is_zero())
}

/// For how long others may share a lease.
fn sharing(lifetime: u64) -> u64 {
    (lifetime / 20).clamp(1, LONGEST_SHARING)
}

impl Leases {
    /// A lease that still lasts long enough for one more value.
    fn share(&self, lifetime: u64, now: Instant) -> Option<i64> {
        let mut leases = self.by_lifetime.lock();
        let lease = leases.get_mut(&lifetime)?;
        if lease.values >= VALUES || lease.ends < now + Duration::from_secs(lifetime) {
            leases.remove(&lifetime);
            return None;
        }
        lease.values += 1;
        Some(lease.id)
    }

    fn add(&self, lifetime: u64, id: i64, ends: Instant) {
        let mut leases = self.by_lifetime.lock();
        if leases.len() >= LIFETIMES {
            let soonest = leases
                .iter()
                .min_by_key(|(_, lease)| lease.ends)
                .map(|(lifetime, _)| *lifetime);
            soonest.and_then(|lifetime| leases.remove(&lifetime));
        }
        leases.insert(lifetime, Lease { id, ends, values: 1 });
    }

    /// Shares a lease no more: it is gone.
    pub(crate) fn forget(&self, id: i64) {
        self.by_lifetime.lock().retain(|_, lease| lease.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_whole_seconds_and_never_shorter() {
        for (ttl, expected) in [(0, 1), (30, 1), (1000, 1), (1001, 2), (3_600_000, 3600)] {
            assert_eq!(seconds(Duration::from_millis(ttl)), expected, "{ttl} ms");
        }
        for (lifetime, expected) in [(1, 1), (15, 1), (100, 5), (3600, 60)] {
            assert_eq!(sharing(lifetime), expected, "{lifetime} s");
        }
    }

    #[test]
    fn a_lease_is_shared_while_it_lasts_long_enough() {
        let (leases, now) = (Leases::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(leases.share(100, now), None);
        leases.add(100, 7, after(105));
        assert_eq!(leases.share(100, now), Some(7));
        assert_eq!(leases.share(100, after(5)), Some(7));
        assert_eq!(leases.share(99, now), None, "another lifetime");
        assert_eq!(leases.share(100, after(6)), None, "too late");
        assert_eq!(leases.share(100, now), None, "and it is forgotten");
    }

    #[test]
    fn a_lease_has_a_bounded_number_of_values() {
        let (leases, now) = (Leases::default(), Instant::now());
        leases.add(1, 7, now + Duration::from_secs(9));
        let shared = (0..2 * VALUES).map_while(|_| leases.share(1, now)).count();
        assert_eq!(shared + 1, VALUES as usize);
    }

    #[test]
    fn one_that_is_gone_is_shared_no_more_and_few_are_remembered() {
        let (leases, now) = (Leases::default(), Instant::now());
        leases.add(1, 7, now + Duration::from_secs(9));
        leases.forget(7);
        assert_eq!(leases.share(1, now), None);
        for lifetime in 0..1000 {
            leases.add(lifetime, 8, now + Duration::from_secs(lifetime));
        }
        assert_eq!(leases.by_lifetime.lock().len(), LIFETIMES);
    }
}
