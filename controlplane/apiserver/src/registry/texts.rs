//! Many short texts in two allocations: what is remembered of each cached object, of which there are many.

/// Texts in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Texts {
    all: Box<str>,
    /// Where each ends, in bytes.
    ends: Box<[u32]>,
}

impl Texts {
    /// The `nth` text.
    pub(super) fn get(&self, nth: usize) -> Option<&str> {
        let end = *self.ends.get(nth)? as usize;
        let start = match nth.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.all.get(start..end)
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    /// Texts of more than 4 GiB together are cut off; an object has at most a few MiB.
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let (mut all, mut ends) = (String::new(), Vec::new());
        for text in texts {
            all.push_str(text.as_ref());
            ends.push(u32::try_from(all.len()).unwrap_or(u32::MAX));
        }
        Texts {
            all: all.into(),
            ends: ends.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Texts;

    #[test]
    fn texts_are_found_by_their_place() {
        let texts: Texts = ["a", "", "ünïcode", ""].into_iter().collect();
        let found: Vec<_> = (0..5).map(|nth| texts.get(nth)).collect();
        assert_eq!(found, [Some("a"), Some(""), Some("ünïcode"), Some(""), None]);
        assert_eq!(Texts::default().get(0), None);
    }
}
