//! When those who are refused are asked to come back: the more are refused, the later.

/// Seconds.
const LATEST: u64 = 32;

/// Who was refused in a level lately.
#[derive(Debug)]
pub(super) struct Patience {
    after: u64,
    changed: u64,
    second: u64,
    count: u64,
    /// Of earlier seconds.
    history: Vec<(u64, u64)>,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            after: 1,
            changed: 0,
            second: 0,
            count: 0,
            history: Vec::new(),
        }
    }
}

impl Patience {
    /// Somebody is refused at a second; tells after how many to come back.
    pub(super) fn refused(&mut self, second: u64) -> u64 {
        if second == self.second {
            self.count += 1;
            return self.after;
        }
        self.history.push((self.second, self.count));
        let kept = (2 * self.after).min(LATEST);
        self.history.retain(|(at, _)| second.saturating_sub(*at) <= kept);
        (self.second, self.count) = (second, 1);
        let lately = self
            .history
            .iter()
            .filter(|(at, _)| second.saturating_sub(*at) <= self.after);
        let lately: u64 = lately.map(|(_, count)| count).sum();
        if second.saturating_sub(self.changed) >= self.after && lately >= 3 * self.after {
            self.after = (2 * self.after).min(LATEST);
            self.changed = second;
        } else if lately < self.after && self.after > 1 {
            self.after -= 1;
        }
        self.after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_asked_to_come_later_and_few_sooner() {
        let mut patience = Patience::default();
        let last = (0..60)
            .flat_map(|second| [second; 100])
            .map(|second| patience.refused(second))
            .last();
        assert_eq!(last, Some(LATEST));
        let last = (1000..1100).map(|hundred| patience.refused(hundred * 100)).last();
        assert_eq!(last, Some(1));
    }
}
