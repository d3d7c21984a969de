//! What becomes of one object. Pure. The rules are those of Kubernetes' documentation of cascading deletion.

use client::{Meta, OwnerRef, Propagation};

use super::graph::{Uid, waits_for_dependents};

/// Finalizer of an object that goes when its dependents are gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object that goes when its dependents are released.
pub(super) const ORPHAN: &str = "orphan";

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    Present,
    /// The API server says that it does not exist.
    Absent,
    /// It is being deleted in the foreground and waits for its dependents.
    Waiting,
}

/// An object that names the one in question as an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dependent {
    pub(super) uid: Uid,
    /// Its owner has to wait for it.
    pub(super) blocks: bool,
    /// It waits for dependents of its own.
    pub(super) waits: bool,
}

#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    Nothing,
    RemoveFinalizer(&'static str),
    /// Look at these: they hold the object up.
    Collect(Vec<Uid>),
    /// Release these, then let the object go.
    Orphan(Vec<Uid>),
    /// Remove the references to these owners.
    Disown(Vec<Box<str>>),
    /// `unblock`: first no longer hold any owner up, since there is a circle of objects that wait for each other.
    Delete {
        propagation: Propagation,
        unblock: bool,
    },
}

/// `owners` are the live object's, judged; none are needed while it is being deleted.
pub(super) fn decide(live: &Meta, owners: &[(&OwnerRef, OwnerState)], dependents: &[Dependent]) -> Decision {
    let has = |finalizer: &str| live.finalizers.iter().any(|own| &**own == finalizer);
    if live.is_deleting() {
        return if waits_for_dependents(live) {
            hold_for(dependents)
        } else if has(ORPHAN) {
            Decision::Orphan(dependents.iter().map(|dependent| dependent.uid.clone()).collect())
        } else {
            Decision::Nothing
        };
    }
    let in_state = |state: OwnerState| owners.iter().filter(move |(_, own)| *own == state);
    let lost: Vec<Box<str>> = owners
        .iter()
        .filter(|(_, state)| *state != OwnerState::Present)
        .map(|(owner, _)| owner.uid.clone())
        .collect();
    if lost.is_empty() {
        return Decision::Nothing;
    }
    if in_state(OwnerState::Present).next().is_some() {
        return Decision::Disown(lost);
    }
    if in_state(OwnerState::Waiting).next().is_some() && !dependents.is_empty() {
        let unblock = dependents.iter().any(|dependent| dependent.waits);
        return Decision::Delete {
            propagation: Propagation::Foreground,
            unblock,
        };
    }
    let propagation = match () {
        () if has(ORPHAN) => Propagation::Orphan,
        () if has(FOREGROUND) => Propagation::Foreground,
        () => Propagation::Background,
    };
    Decision::Delete {
        propagation,
        unblock: false,
    }
}

fn hold_for(dependents: &[Dependent]) -> Decision {
    let blocking: Vec<&Dependent> = dependents.iter().filter(|dependent| dependent.blocks).collect();
    if blocking.is_empty() {
        return Decision::RemoveFinalizer(FOREGROUND);
    }
    Decision::Collect(
        blocking
            .into_iter()
            .filter(|dependent| !dependent.waits)
            .map(|d| d.uid.clone())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use OwnerState::{Absent, Present, Waiting};

    fn meta(owners: usize, finalizers: &[&str], deleting: bool) -> Meta {
        let owners: Vec<_> = (0..owners).map(|n| json!({"uid": format!("o{n}")})).collect();
        let mut value = json!({"uid": "x", "ownerReferences": owners, "finalizers": finalizers});
        if deleting {
            value["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        serde_json::from_value(value).unwrap()
    }

    fn dependent(uid: &str, blocks: bool, waits: bool) -> Dependent {
        Dependent {
            uid: uid.into(),
            blocks,
            waits,
        }
    }

    #[test]
    fn owners_decide() {
        let delete = |propagation| Decision::Delete {
            propagation,
            unblock: false,
        };
        let some = [dependent("d", true, false)];
        for (states, finalizers, dependents, decision) in [
            (vec![], vec![], &[][..], Decision::Nothing),
            (vec![Present], vec![], &[], Decision::Nothing),
            (vec![Absent], vec![], &[], delete(Propagation::Background)),
            (vec![Absent, Absent], vec![], &[], delete(Propagation::Background)),
            (vec![Present, Absent], vec![], &[], Decision::Disown(vec!["o1".into()])),
            (vec![Waiting, Present], vec![], &[], Decision::Disown(vec!["o0".into()])),
            (vec![Waiting], vec![], &[], delete(Propagation::Background)),
            (vec![Waiting], vec![], &some, delete(Propagation::Foreground)),
            (vec![Absent], vec![ORPHAN], &some, delete(Propagation::Orphan)),
            (vec![Absent], vec![FOREGROUND], &some, delete(Propagation::Foreground)),
        ] {
            let live = meta(states.len(), &finalizers, false);
            let owners: Vec<_> = live.owner_references.iter().zip(states.iter().copied()).collect();
            assert_eq!(
                decide(&live, &owners, dependents),
                decision,
                "{states:?} {finalizers:?}"
            );
        }
    }

    #[test]
    fn a_circle_of_waiting_objects_is_broken() {
        let live = meta(1, &[], false);
        let owners = [(&live.owner_references[0], Waiting)];
        let decision = decide(&live, &owners, &[dependent("d", true, true)]);
        assert_eq!(
            decision,
            Decision::Delete {
                propagation: Propagation::Foreground,
                unblock: true
            }
        );
    }

    #[test]
    fn foreground_waits_for_those_that_block_and_orphan_for_none() {
        let foreground = meta(0, &[FOREGROUND], true);
        assert_eq!(
            decide(&foreground, &[], &[dependent("a", false, false)]),
            Decision::RemoveFinalizer(FOREGROUND)
        );
        let dependents = [
            dependent("a", true, false),
            dependent("b", true, true),
            dependent("c", false, false),
        ];
        assert_eq!(
            decide(&foreground, &[], &dependents),
            Decision::Collect(vec!["a".into()])
        );
        let orphan = meta(0, &[ORPHAN], true);
        assert_eq!(
            decide(&orphan, &[], &[dependent("a", true, false)]),
            Decision::Orphan(vec!["a".into()])
        );
        assert_eq!(decide(&meta(0, &["other"], true), &[], &dependents), Decision::Nothing);
    }
}
