//! The annotations by which a Deployment keeps its books on ReplicaSets: revisions, and the sizes that proportional
//! scaling goes by.

use std::collections::BTreeMap;

use client::Labels;

/// Number of the rollout, on the Deployment and on each ReplicaSet.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier revisions of a ReplicaSet that became new again.
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// `spec.replicas` of the Deployment when the ReplicaSet was last scaled.
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with the surge.
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that its ReplicaSets do not take over.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// Annotations to set.
pub(super) type Annotations = BTreeMap<String, String>;

/// A number in an annotation.
pub(super) fn number(annotations: &Labels, key: &str) -> Option<i64> {
    annotations.get(key)?.parse().ok()
}

/// The revision of a ReplicaSet, 0 if it has none.
pub(super) fn revision(annotations: &Labels) -> i64 {
    number(annotations, REVISION).unwrap_or(0)
}

/// What the new ReplicaSet's annotations lack: the Deployment's, and the revision, which only ever rises.
pub(super) fn of_new_set(deployment: &Labels, set: &Labels, next_revision: i64) -> Annotations {
    let mut changes = Annotations::new();
    for (key, value) in deployment.iter().filter(|(key, _)| !NOT_COPIED.contains(key)) {
        if set.get(key) != Some(value) {
            changes.insert(key.to_owned(), value.to_owned());
        }
    }
    let current = revision(set);
    if current < next_revision {
        changes.insert(REVISION.to_owned(), next_revision.to_string());
        if current > 0 {
            let history = set.get(REVISION_HISTORY).filter(|history| !history.is_empty());
            let history = history.map_or_else(|| current.to_string(), |history| format!("{history},{current}"));
            changes.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
    changes
}

/// The sizes, as far as they are not there already.
pub(super) fn of_sizes(set: &Labels, desired: i64, max: i64) -> Annotations {
    let mut changes = Annotations::new();
    for (key, value) in [(DESIRED_REPLICAS, desired), (MAX_REPLICAS, max)] {
        if number(set, key) != Some(value) {
            changes.insert(key.to_owned(), value.to_string());
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[test]
    fn a_set_that_becomes_new_again_keeps_its_history() {
        let deployment = labels(&[
            ("team", "a"),
            (REVISION, "3"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ]);
        let fresh = of_new_set(&deployment, &Labels::default(), 1);
        assert_eq!(
            fresh,
            Annotations::from([("team".into(), "a".into()), (REVISION.into(), "1".into())])
        );
        let again = of_new_set(&deployment, &labels(&[("team", "a"), (REVISION, "1")]), 4);
        assert_eq!(
            again,
            Annotations::from([(REVISION.into(), "4".into()), (REVISION_HISTORY.into(), "1".into())])
        );
        let thrice = of_new_set(
            &deployment,
            &labels(&[("team", "a"), (REVISION, "4"), (REVISION_HISTORY, "1")]),
            6,
        );
        assert_eq!(thrice[REVISION_HISTORY], "1,4");
        assert!(of_new_set(&deployment, &labels(&[("team", "a"), (REVISION, "4")]), 2).is_empty());
    }
}
