//! Putting the two runtimes' answers together. Pure.

use std::collections::BTreeMap;

use cri::{Condition, Error, FilesystemUsage};

/// The conditions of both: one holds if it holds for both, and says what is wrong with either.
pub(crate) fn conditions(all: impl IntoIterator<Item = Condition>) -> Vec<Condition> {
    let mut out: BTreeMap<String, Condition> = BTreeMap::new();
    for condition in all {
        match out.get_mut(&condition.kind) {
            None => {
                out.insert(condition.kind.clone(), condition);
            }
            Some(_) if condition.status => {}
            Some(known) if known.status => *known = condition,
            Some(known) => known.message = format!("{}; {}", known.message, condition.message),
        }
    }
    out.into_values().collect()
}

/// What one half does not answer is left out.
pub(crate) fn or_none<T>(what: &'static str, answer: Result<Vec<T>, Error>) -> Vec<T> {
    answer.unwrap_or_else(|error| {
        tracing::debug!(
            what,
            error = &error as &dyn std::error::Error,
            "one runtime does not answer"
        );
        Vec::new()
    })
}

pub(crate) fn usage(one: FilesystemUsage, other: FilesystemUsage) -> FilesystemUsage {
    FilesystemUsage {
        used_bytes: one.used_bytes + other.used_bytes,
        inodes_used: one.inodes_used + other.inodes_used,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_one_is_wrong_with_both() {
        let condition = |kind: &str, status, message: &str| Condition {
            kind: kind.into(),
            status,
            reason: String::new(),
            message: message.into(),
        };
        let all = conditions([
            condition("RuntimeReady", true, ""),
            condition("NetworkReady", false, "a"),
            condition("RuntimeReady", false, "away"),
            condition("NetworkReady", false, "b"),
        ]);
        assert_eq!(
            all,
            [
                condition("NetworkReady", false, "a; b"),
                condition("RuntimeReady", false, "away")
            ]
        );
    }
}
