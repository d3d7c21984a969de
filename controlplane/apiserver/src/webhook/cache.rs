//! Answers that are kept for a while, by a digest of what was asked: nothing secret lies in it.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// What was asked.
pub(crate) type Asked = [u8; 32];

/// Answers, up to so many.
pub(crate) struct Cache<V> {
    limit: usize,
    entries: Mutex<HashMap<Asked, (Instant, V), foldhash::fast::RandomState>>,
}

impl<V> std::fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<V: Clone> Cache<V> {
    pub(crate) fn new(limit: usize) -> Self {
        Cache {
            limit,
            entries: Mutex::default(),
        }
    }

    /// By what a question is known.
    pub(crate) fn asked(question: &[u8]) -> Asked {
        Sha256::digest(question).into()
    }

    /// The answer, if there is one that still counts.
    pub(crate) fn get(&self, asked: &Asked) -> Option<V> {
        let entries = self.entries.lock();
        let (until, answer) = entries.get(asked)?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    /// Keeps an answer. When there are too many, those that count no more go, or else all.
    pub(crate) fn keep(&self, asked: Asked, answer: V, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut entries = self.entries.lock();
        if entries.len() >= self.limit {
            entries.retain(|_, (until, _)| *until > now);
        }
        if entries.len() >= self.limit {
            entries.clear();
        }
        entries.insert(asked, (now + ttl, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_count_for_a_while_and_are_bounded() {
        let cache = Cache::new(2);
        let asked = |text: &str| Cache::<u8>::asked(text.as_bytes());
        cache.keep(asked("a"), 1, Duration::from_secs(10));
        cache.keep(asked("never"), 9, Duration::ZERO);
        assert_eq!((cache.get(&asked("a")), cache.get(&asked("never"))), (Some(1), None));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(cache.get(&asked("a")), None);
        cache.keep(asked("b"), 2, Duration::from_secs(10));
        cache.keep(asked("c"), 3, Duration::from_secs(10));
        assert_eq!((cache.get(&asked("b")), cache.get(&asked("c"))), (Some(2), Some(3)));
        cache.keep(asked("d"), 4, Duration::from_secs(10));
        assert_eq!((cache.get(&asked("b")), cache.get(&asked("d"))), (None, Some(4)));
    }
}
