//! Blobs that an image is being made of: nobody removes them, and one task at a time brings each.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::digest::Digest;

/// Who needs which blob at this moment.
#[derive(Debug, Default)]
pub(super) struct Leases {
    taken: Mutex<HashMap<Digest, usize>>,
    turns: Mutex<HashMap<Digest, Weak<Turn<()>>>>,
}

/// Keeps blobs while it lives.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Arc<Leases>,
    blobs: Vec<Digest>,
}

impl Leases {
    pub(super) fn take(self: &Arc<Self>, blobs: impl IntoIterator<Item = Digest>) -> Lease {
        let blobs: Vec<_> = blobs.into_iter().collect();
        let mut taken = self.taken.lock();
        for blob in &blobs {
            *taken.entry(blob.clone()).or_default() += 1;
        }
        Lease {
            leases: Arc::clone(self),
            blobs,
        }
    }

    /// Removes those that nobody has leased; nobody can lease one meanwhile.
    pub(super) fn unless_leased(
        &self,
        blobs: impl IntoIterator<Item = Digest>,
        remove: impl Fn(&Digest) -> io::Result<()>,
    ) -> io::Result<()> {
        let taken = self.taken.lock();
        blobs
            .into_iter()
            .filter(|blob| !taken.contains_key(blob))
            .try_for_each(|blob| remove(&blob))
    }

    /// Waits until nobody else brings the blob.
    pub(super) async fn alone(&self, blob: &Digest) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock();
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(blob).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(blob.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut taken = self.leases.taken.lock();
        for blob in &self.blobs {
            if let Some(count) = taken.get_mut(blob) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(blob);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_leased_stays_until_the_last_lease_ends() {
        let leases = Arc::new(Leases::default());
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let removed = |leases: &Leases| {
            let gone = Mutex::new(Vec::new());
            let all = [a.clone(), b.clone()];
            let remove = |blob: &Digest| {
                gone.lock().push(blob.clone());
                Ok(())
            };
            leases.unless_leased(all, remove).unwrap();
            gone.into_inner()
        };
        let first = leases.take([a.clone()]);
        let second = leases.take([a.clone(), b.clone()]);
        assert!(removed(&leases).is_empty());
        drop(second);
        assert_eq!(removed(&leases), std::slice::from_ref(&b));
        drop(first);
        assert_eq!(removed(&leases), [a.clone(), b.clone()]);
    }
}
