//! Earlier revisions: read as they were for as long as they are kept, refused afterwards.

use super::{Contents, Writes, applied, changes_up_to, contents, is_compacted};
use crate::{Backend, Error, Outcome, Page, Revision};

/// Writes at random, and returns how the store was at each revision.
async fn write_some(backend: &impl Backend, seed: u64, count: usize) -> Vec<(Revision, Contents)> {
    let mut watch = backend.watch("h/", Revision::FIRST).await.unwrap();
    let mut writes = Writes::new(seed, "h/", 12);
    let mut last = Revision::FIRST;
    for _ in 0..count {
        if let Outcome::Committed(revision) = backend.write(writes.next()).await.unwrap() {
            last = revision;
        }
    }
    let mut now = Contents::new();
    let mut states = vec![(Revision::FIRST, now.clone())];
    for change in changes_up_to(&mut watch, last).await {
        applied(&mut now, &change);
        states.push((change.revision, now.clone()));
    }
    assert_eq!(
        contents(backend, "h/").await,
        (now, last),
        "the changes add up to what is there"
    );
    states
}

async fn read_at(backend: &impl Backend, at: Revision, limit: usize) -> Contents {
    let mut page = Page::first(limit);
    let mut found = Contents::new();
    loop {
        let range = backend.range("h/", page.clone(), Some(at)).await.unwrap();
        assert_eq!(range.revision, at);
        page.after = range.items.last().map(|kv| kv.key.clone()).or(page.after);
        found.extend(range.items.into_iter().map(|kv| (kv.key.clone(), kv)));
        if !range.more {
            return found;
        }
    }
}

pub(super) async fn every_kept_revision_reads_as_it_was(backend: &impl Backend) {
    for (at, expected) in write_some(backend, 1, 60).await {
        for limit in [2, 5, 100] {
            assert_eq!(
                read_at(backend, at, limit).await,
                expected,
                "at {at} in pages of {limit}"
            );
        }
    }
}

pub(super) async fn compaction_forgets_what_lies_before(backend: &impl Backend) {
    let states = write_some(backend, 2, 40).await;
    let to = states[states.len() / 2].0;
    backend.compact(to).await.unwrap();
    for (at, expected) in states {
        if at < to {
            let range = backend.range("h/", Page::all(), Some(at)).await;
            assert!(
                matches!(range, Err(Error::Compacted { compacted }) if compacted == to),
                "range at {at}"
            );
            assert!(is_compacted(backend.watch("h/", at).await).await, "watch from {at}");
        } else {
            assert_eq!(read_at(backend, at, 100).await, expected, "at {at}");
            backend.watch("h/", at).await.unwrap();
        }
    }
    backend.compact(Revision(to.0 - 1)).await.unwrap();
    assert!(
        is_compacted(backend.watch("h/", Revision(to.0 - 1)).await).await,
        "what is forgotten stays so"
    );
}
