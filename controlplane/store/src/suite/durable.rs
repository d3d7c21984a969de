//! What a durable backend keeps when its process dies.

use futures::future::join_all;

use super::{Contents, Writes, applied, changes_up_to, commit, contents, is_compacted};
use crate::{Backend, Expect, Outcome, Revision, Write};

/// Opens a store, writes to it and lets it die, several times over. `open` opens the same store each time (empty at
/// first), `crash` ends the given one as a killed process would: without a chance to finish anything.
pub async fn survives_crashes<B: Backend>(open: impl AsyncFn() -> B, crash: impl AsyncFn(B)) {
    let mut expected = Contents::new();
    let mut last = Revision::FIRST;
    for round in 0..4 {
        let backend = open().await;
        assert_eq!(
            contents(&backend, "").await,
            (expected.clone(), last),
            "what was acknowledged is there"
        );
        let mut writes = Writes::new(round, "d/", 20);
        let batch: Vec<Write> = (0..100).map(|_| writes.next()).collect();
        let outcomes = join_all(batch.into_iter().map(|write| backend.write(write))).await;
        let committed = outcomes.into_iter().filter_map(|outcome| match outcome.unwrap() {
            Outcome::Committed(revision) => Some(revision),
            _ => None,
        });
        let reached = committed.max().expect("some writes change something");
        let mut watch = backend.watch("", last).await.unwrap();
        let changes = changes_up_to(&mut watch, reached).await;
        changes.iter().for_each(|change| applied(&mut expected, change));
        crash(backend).await;

        let backend = open().await;
        let mut watch = backend.watch("", last).await.unwrap();
        assert_eq!(
            changes_up_to(&mut watch, reached).await,
            changes,
            "history is kept as well"
        );
        backend.compact(reached).await.unwrap();
        crash(backend).await;

        let backend = open().await;
        assert!(
            is_compacted(backend.watch("", last).await).await,
            "and so is what was forgotten"
        );
        last = commit(&backend, Write::put("d/marker", round.to_string())).await;
        assert_eq!(last, reached.next(), "revisions go on where they were");
        let removed = commit(&backend, Write::delete("d/marker", Expect::At(last))).await;
        last = removed;
        crash(backend).await;
    }
}
