//! Reinvocation: when something has changed an object after a webhook or policy saw it, those that want to see it again do,
//! once. Pure.

use std::collections::HashSet;

use api::Object;

/// The two rounds of one request.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Whether this is the second.
    pub(crate) again: bool,
    /// Whether there has to be a second.
    pub(crate) wanted: bool,
    pub(crate) hooks: Seen,
    pub(crate) policies: Seen,
}

/// Who has seen the object and wants to see it again when it has changed, by name.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    willing: HashSet<String>,
    due: HashSet<String>,
    /// The object as it was left.
    output: Option<Object>,
}

impl Seen {
    /// Begins a round with the object as it is now.
    pub(crate) fn begin(&mut self, again: bool, object: Option<&Object>) {
        if again && self.output.as_ref() != object {
            self.changed();
        }
    }

    /// Whether somebody is to be asked in this round.
    pub(crate) fn is_due(&self, again: bool, name: &str) -> bool {
        !again || self.due.contains(name)
    }

    /// The object has changed: all who are willing are due.
    pub(crate) fn changed(&mut self) {
        self.due.extend(self.willing.drain());
    }

    /// Notes that somebody who is willing to has seen the object.
    pub(crate) fn willing(&mut self, name: &str) {
        self.willing.insert(name.to_owned());
    }

    /// Ends a round.
    pub(crate) fn end(&mut self, object: Option<&Object>) {
        if !self.willing.is_empty() || !self.due.is_empty() {
            self.output = object.cloned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_before_a_change_are_due() {
        let mut seen = Seen::default();
        let object = Object::new("v1", "Pod");
        seen.begin(false, Some(&object));
        seen.willing("a");
        seen.changed();
        seen.willing("b");
        seen.end(Some(&object));
        seen.begin(true, Some(&object));
        assert!(seen.is_due(true, "a"));
        assert!(!seen.is_due(true, "b"), "it saw the last state");
        assert!(!seen.is_due(true, "c"));
        let mut other = object.clone();
        other.set("spec.nodeName", "n");
        seen.begin(true, Some(&other));
        assert!(seen.is_due(true, "b"), "somebody else has changed it");
    }
}
