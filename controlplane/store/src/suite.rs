//! What every backend must do, as assertions: run against the model, the embedded store and any other.
//!
//! [`run_all`] checks what a backend does while it runs, [`survives_crashes`] what a durable one keeps. They panic with
//! the name of what failed. Nothing here sleeps; what takes time is waited for on a watch, with a deadline.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test suite, called by tests only"
)]

mod durable;
mod history;
mod reads;
mod ttl;
mod watches;
mod writes;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{Backend, Change, Error, Expect, Key, Kv, Outcome, Page, Revision, Signal, Watch, Write};

pub use durable::survives_crashes;

/// How long anything may take before it counts as lost.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs every check, each on a new and empty backend.
pub async fn run_all<B: Backend>(make: impl AsyncFn() -> B) {
    writes::revisions_ascend_by_one(&make().await).await;
    writes::compares_before_it_sets(&make().await).await;
    writes::compares_guards(&make().await).await;
    writes::unchanged_writes_commit_nothing(&make().await).await;
    writes::a_key_created_again_is_another_one(&make().await).await;
    writes::keeps_every_byte(&make().await).await;
    writes::one_of_many_rivals_wins(&make().await).await;
    reads::orders_keys_bytewise(&make().await).await;
    reads::pages_add_up(&make().await).await;
    reads::refuses_the_future(&make().await).await;
    history::every_kept_revision_reads_as_it_was(&make().await).await;
    history::compaction_forgets_what_lies_before(&make().await).await;
    watches::tells_what_changed_and_how_it_was(&make().await).await;
    watches::resumes_after_every_revision(&make().await).await;
    watches::loses_doubles_and_reorders_nothing(&make().await).await;
    watches::progress_follows_what_was_acknowledged(&make().await).await;
    watches::one_that_does_not_read_holds_up_nobody(&make().await).await;
    ttl::expiry_is_an_ordinary_deletion(&make().await).await;
    ttl::a_later_write_decides_anew(&make().await).await;
    ttl::what_expires_together_is_told_in_full(&make().await).await;
}

/// Key by key, how a store is.
type Contents = BTreeMap<Key, Kv>;

fn applied(contents: &mut Contents, change: &Change) {
    match change.kv() {
        Some(kv) => contents.insert(kv.key.clone(), kv),
        None => contents.remove(&change.key),
    };
}

async fn commit(backend: &impl Backend, write: Write) -> Revision {
    match backend.write(write.clone()).await.expect("the store takes writes") {
        Outcome::Committed(revision) => revision,
        other => panic!("{write:?} was to be committed, not {other:?}"),
    }
}

async fn contents(backend: &impl Backend, prefix: &str) -> (Contents, Revision) {
    let range = backend
        .range(prefix, Page::all(), None)
        .await
        .expect("the store can be read");
    assert!(!range.more, "nothing follows everything");
    (
        range.items.into_iter().map(|kv| (kv.key.clone(), kv)).collect(),
        range.revision,
    )
}

async fn next_signal(watch: &mut Watch) -> Result<Signal, Error> {
    let signal = tokio::time::timeout(DEADLINE, watch.next())
        .await
        .expect("the watch says something in time");
    signal.expect("a watch does not end without an error")
}

async fn next_change(watch: &mut Watch) -> Change {
    match next_signal(watch).await.expect("the watch goes on") {
        Signal::Change(change) => change,
        Signal::Progress(revision) => panic!("nobody asked for progress, yet it is said to be {revision}"),
    }
}

/// Everything the watch tells up to and including a revision at which something under its prefix changed.
async fn changes_up_to(watch: &mut Watch, last: Revision) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    while changes.last().is_none_or(|change| change.revision < last) {
        changes.push(next_change(watch).await);
    }
    changes
}

async fn is_compacted(watch: Result<Watch, Error>) -> bool {
    match watch {
        Err(error) => matches!(error, Error::Compacted { .. }),
        Ok(mut watch) => matches!(next_signal(&mut watch).await, Err(Error::Compacted { .. })),
    }
}

/// A stream of writes in which keys come, change and go; the same for the same seed.
struct Writes {
    random: StdRng,
    keys: Vec<Key>,
    count: u32,
}

impl Writes {
    fn new(seed: u64, prefix: &str, keys: usize) -> Self {
        let keys = (0..keys).map(|n| Key::from(format!("{prefix}{n:03}"))).collect();
        Writes {
            random: StdRng::seed_from_u64(seed),
            keys,
            count: 0,
        }
    }

    fn next(&mut self) -> Write {
        let key = self.keys[self.random.random_range(0..self.keys.len())].clone();
        self.count += 1;
        match self.random.random_range(0..4) {
            0 => Write::delete(key, Expect::Any),
            _ => Write::put(key, Bytes::from(format!("value {}", self.count))),
        }
    }
}
