//! Requests for streams that wait for their client: each is fetched once, by a word that cannot be guessed, and soon. Pure.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// Requests that wait at once; a client that does not come wastes its own.
const WAITING: usize = 1000;
/// How long a request waits.
const LIFE: Duration = Duration::from_secs(60);

/// The waiting requests.
#[derive(Debug)]
pub(super) struct Tokens<T> {
    waiting: HashMap<String, T>,
    /// All words in the order in which they end, also those that were fetched.
    ends: VecDeque<(Instant, String)>,
}

/// No more can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            ends: VecDeque::new(),
        }
    }
}

impl<T> Tokens<T> {
    /// Has a request wait under a word.
    pub(super) fn put(&mut self, now: Instant, word: String, request: T) -> Result<(), Full> {
        self.end(now);
        if self.ends.len() >= WAITING {
            return Err(Full);
        }
        self.ends.push_back((now + LIFE, word.clone()));
        self.waiting.insert(word, request);
        Ok(())
    }

    /// Fetches the request of a word.
    pub(super) fn take(&mut self, now: Instant, word: &str) -> Option<T> {
        self.end(now);
        let request = self.waiting.remove(word)?;
        self.ends.retain(|(_, ends)| ends != word);
        Some(request)
    }

    fn end(&mut self, now: Instant) {
        while let Some((_, word)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            self.waiting.remove(&word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_fetched_once_and_in_time() {
        let (mut tokens, start) = (Tokens::default(), Instant::now());
        tokens.put(start, "a".to_owned(), 1).unwrap();
        tokens.put(start + LIFE / 2, "b".to_owned(), 2).unwrap();
        assert_eq!(tokens.take(start, "x"), None);
        assert_eq!(tokens.take(start, "a"), Some(1));
        assert_eq!(tokens.take(start, "a"), None);
        assert_eq!(tokens.take(start + LIFE * 2, "b"), None);
    }

    #[test]
    fn those_that_are_not_fetched_make_room_when_they_end() {
        let (mut tokens, start) = (Tokens::default(), Instant::now());
        for number in 0..WAITING {
            tokens.put(start, number.to_string(), number).unwrap();
        }
        assert_eq!(tokens.put(start, "more".to_owned(), 0), Err(Full));
        assert_eq!(tokens.take(start, "7"), Some(7));
        assert_eq!(tokens.put(start, "more".to_owned(), 0), Ok(()));
        assert_eq!(tokens.put(start + LIFE, "later".to_owned(), 0), Ok(()));
        assert_eq!(tokens.ends.len(), 1);
    }
}
