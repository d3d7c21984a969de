//! What a runtime listed last, for the time when it does not answer.
//!
//! A runtime that is away has not lost its pods, and the other's are not to suffer: what it listed last goes on standing.
//! One that never answered makes the whole list fail, since nobody knows what it holds.

use cri::Error;
use parking_lot::Mutex;

/// The last list of one kind.
#[derive(Debug)]
pub(crate) struct Last<T>(Mutex<Option<Vec<T>>>);

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Last<T> {
    /// The list as it is, or else as it was.
    pub(crate) fn or_last(&self, listed: Result<Vec<T>, Error>) -> Result<Vec<T>, Error> {
        let mut last = self.0.lock();
        match (listed, &*last) {
            (Ok(listed), _) => Ok(last.insert(listed).clone()),
            (Err(error), Some(last)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the last list stands");
                Ok(last.clone())
            }
            (Err(error), None) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_list_stands_while_there_is_no_other() {
        let away = || Err(Error::failed("listing", "away"));
        let last = Last::default();
        assert!(last.or_last(away()).is_err());
        assert_eq!(last.or_last(Ok(vec![1])).unwrap(), [1]);
        assert_eq!(last.or_last(away()).unwrap(), [1]);
        assert!(last.or_last(Ok(vec![])).unwrap().is_empty());
        assert!(last.or_last(away()).unwrap().is_empty());
    }
}
