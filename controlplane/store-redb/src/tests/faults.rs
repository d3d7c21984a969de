//! Power cuts, full disks and failing syncs, by a disk that is a vector.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::join_all;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;
use store::{Backend, Change, Error, Expect, Key, Outcome, Page, Revision, Signal, Write};

use crate::file::Medium;
use crate::{OpenError, Options, Redb, open};

const SECTOR: usize = 512;

/// A disk that remembers what has been synced, and fails when told to.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// What reads show.
    view: Vec<u8>,
    /// What a power cut leaves for certain.
    durable: Vec<u8>,
    /// What has been done since the last sync, and may survive a power cut or not.
    pending: Vec<Step>,
    /// How many writes, resizes and syncs have been done.
    steps: usize,
    /// The step before which the power is cut.
    cut_at: Option<usize>,
    /// The step that fails if it is a sync.
    sync_fails_at: Option<usize>,
    /// How long the file may be.
    quota: Option<usize>,
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    Resize(usize),
}

impl Platter {
    fn step(&mut self) -> io::Result<()> {
        if self.cut_at.is_some_and(|cut| self.steps >= cut) {
            return Err(io::Error::other("the power is off"));
        }
        self.steps += 1;
        Ok(())
    }

    fn change(&mut self, step: Step) -> io::Result<()> {
        self.step()?;
        let end = match &step {
            Step::Write(offset, data) => offset + data.len(),
            Step::Resize(length) => *length,
        };
        // Space is taken by what is written; a file that is only longer has none yet.
        if matches!(step, Step::Write(..)) && self.quota.is_some_and(|quota| end > quota) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        apply(&mut self.view, &step);
        self.pending.push(step);
        Ok(())
    }

    /// What is there after a power cut: of the writes since the last sync any sectors, in any combination.
    fn after_power_cut(&self, random: &mut StdRng) -> Vec<u8> {
        let mut image = self.durable.clone();
        let keep_some = random.random_range(0..4);
        for step in &self.pending {
            let mut survives = || match keep_some {
                0 => false,
                1 => true,
                _ => random.random_bool(0.5),
            };
            match step {
                Step::Resize(_) if survives() => apply(&mut image, step),
                Step::Resize(_) => {}
                Step::Write(offset, data) => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        if survives() {
                            apply(&mut image, &Step::Write(offset + n * SECTOR, sector.to_vec()));
                        }
                    }
                }
            }
        }
        image
    }
}

fn apply(image: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Resize(length) => image.resize(*length, 0),
        Step::Write(offset, data) => {
            image.resize(image.len().max(offset + data.len()), 0);
            image[*offset..offset + data.len()].copy_from_slice(data);
        }
    }
}

impl Disk {
    fn with(image: Vec<u8>) -> Self {
        Disk(Arc::new(Mutex::new(Platter {
            view: image.clone(),
            durable: image,
            ..Platter::default()
        })))
    }

    fn power_cut(&self, random: &mut StdRng) -> Disk {
        Disk::with(self.0.lock().after_power_cut(random))
    }
}

impl Medium for Disk {
    type Storage = Disk;

    fn storage(&self) -> Disk {
        self.clone()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().view.len() as u64)
    }

    fn release(&self) {}
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock();
        let found = platter
            .view
            .get(offset as usize..)
            .and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().change(Step::Resize(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.step()?;
        let done = std::mem::take(&mut platter.pending);
        if platter.sync_fails_at.is_some_and(|at| platter.steps >= at) {
            // As Linux does: the pages count as clean from now on, and never reach the disk.
            platter.sync_fails_at = None;
            return Err(io::Error::other("the disk does not answer"));
        }
        done.iter().for_each(|step| apply(&mut platter.durable, step));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().change(Step::Write(offset as usize, data.to_vec()))
    }
}

fn start(disk: &Disk) -> Result<Redb, OpenError> {
    Redb::over(disk.clone(), Path::new("/disk"), Options::default())
}

/// The `n`th write, which always changes something: keys come, change and go.
fn nth(n: usize) -> Write {
    let key = format!("k/{}", n % 7);
    match n % 21 {
        14..17 => Write::delete(key, Expect::Any),
        _ => Write::put(key, format!("{n:0>300}")),
    }
}

/// What became of the writes handed in, in that order.
struct Submitted {
    outcomes: Vec<Result<Outcome, Error>>,
}

/// Hands in writes in groups of different sizes, each group at once, so that they are committed together.
async fn submit(store: &Redb, count: usize) -> Submitted {
    let mut outcomes = Vec::new();
    while outcomes.len() < count {
        let group = 1 + outcomes.len() % 6;
        outcomes.extend(join_all((outcomes.len()..outcomes.len() + group).map(|n| store.write(nth(n)))).await);
    }
    Submitted { outcomes }
}

/// The history a store has, oldest first.
async fn history(store: &Redb) -> Vec<Change> {
    let now = store.revision().await.unwrap();
    let mut watch = store.watch("", Revision::FIRST).await.unwrap();
    let mut changes: Vec<Change> = Vec::new();
    while changes.last().map_or(Revision::FIRST, |change| change.revision) < now {
        let Some(Ok(Signal::Change(change))) = watch.next().await else {
            panic!("the history is whole")
        };
        changes.push(change);
    }
    changes
}

/// Checks that what is there is what the first writes made, without a gap, and contains all that were acknowledged.
async fn assert_prefix(store: &Redb, submitted: &Submitted, why: &str) {
    let changes = history(store).await;
    let mut expected = std::collections::BTreeMap::new();
    for (n, change) in changes.iter().enumerate() {
        let write = nth(n);
        let revision = Revision(n as u64 + 2);
        assert_eq!(
            (&change.key, &change.value, change.revision),
            (&write.key, &write.value, revision),
            "{why}: {n}"
        );
        match write.value {
            Some(value) => expected.insert(write.key, value),
            None => expected.remove(&write.key),
        };
    }
    for (n, outcome) in submitted.outcomes.iter().enumerate() {
        if let Ok(outcome) = outcome {
            assert_eq!(*outcome, Outcome::Committed(Revision(n as u64 + 2)), "{why}: write {n}");
            assert!(n < changes.len(), "{why}: write {n} was acknowledged and is gone");
        }
    }
    let items = store.range("", Page::all(), None).await.unwrap().items;
    let found: Vec<(Key, _)> = items.into_iter().map(|kv| (kv.key, kv.value)).collect();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{why}: the contents");
}

const WRITES: usize = 60;

/// A disk with an empty store. A store is made beside its place and moved there, so nothing ever opens half of one.
fn formatted() -> Disk {
    let disk = Disk::default();
    open::create(&disk, Path::new("/disk"), &Options::default()).unwrap();
    Disk::with(disk.0.lock().view.clone())
}

/// How many steps opening a disk and doing all writes takes, and how many of those opening took.
async fn steps() -> (usize, usize) {
    let disk = formatted();
    let store = start(&disk).unwrap();
    let opened = disk.0.lock().steps;
    submit(&store, WRITES).await;
    let steps = disk.0.lock().steps;
    (opened, steps)
}

#[tokio::test]
async fn a_power_cut_at_any_step_leaves_a_prefix_with_all_that_was_acknowledged() {
    let (opened, steps) = steps().await;
    assert!(steps > opened + 100, "there are many places to cut at: {steps}");
    for cut in 0..steps {
        let mut random = StdRng::seed_from_u64(cut as u64);
        let disk = formatted();
        disk.0.lock().cut_at = Some(cut);
        let submitted = match start(&disk) {
            Ok(store) => submit(&store, WRITES).await,
            Err(_) => Submitted { outcomes: Vec::new() },
        };
        // Several pasts of the same cut, since any part of what was not synced may have survived.
        for image in 0..3 {
            let why = format!("cut before step {cut}, image {image}");
            let store = start(&disk.power_cut(&mut random)).unwrap_or_else(|error| panic!("{why}: {error}"));
            assert_prefix(&store, &submitted, &why).await;
            let next = history(&store).await.len();
            assert!(
                matches!(store.write(nth(next)).await, Ok(Outcome::Committed(_))),
                "{why}: it takes writes again"
            );
        }
    }
}

#[tokio::test]
async fn a_failed_sync_is_made_good_for_or_not_acknowledged() {
    let (opened, steps) = steps().await;
    let mut failed = 0;
    for fails_at in (opened + 1..steps).step_by(3) {
        let mut random = StdRng::seed_from_u64(fails_at as u64);
        let disk = formatted();
        let store = start(&disk).unwrap();
        disk.0.lock().sync_fails_at = Some(fails_at);
        let submitted = submit(&store, WRITES).await;
        let why = format!("the sync of step {fails_at} fails");
        failed += usize::from(disk.0.lock().sync_fails_at.is_none());
        assert_prefix(&store, &submitted, &why).await;
        let store = start(&disk.power_cut(&mut random)).unwrap();
        assert_prefix(&store, &submitted, &format!("{why}, then power is cut")).await;
    }
    assert!(failed > 20, "syncs did fail: {failed}");
}

#[tokio::test]
async fn a_full_disk_fails_writes_and_nothing_else_until_there_is_space() {
    let disk = formatted();
    let store = start(&disk).unwrap();
    let mut watch = store.watch("", Revision::FIRST).await.unwrap();
    let full_at = disk.0.lock().view.len() + 200_000;
    disk.0.lock().quota = Some(full_at);
    let big = |n: usize| Write::put(format!("big/{n}"), vec![n as u8; 10_000]);
    let mut written = 0;
    let error = loop {
        match store.write(big(written)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Full { place } if place == "/disk"), "{error}");
    assert!(
        error
            .to_string()
            .contains("no space left for the store: free space on /disk"),
        "{error}"
    );
    assert!(written > 3, "some fit: {written}");
    // A little may fit again into what the failed transaction let go of, but not much.
    let mut refused = 0;
    while refused < 10 {
        match store.write(big(written)).await {
            Ok(_) => written += 1,
            Err(error) => {
                assert!(matches!(error, Error::Full { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(written * 10_000 < full_at, "what does not fit was not written");
    assert_eq!(
        store.range("", Page::all(), None).await.unwrap().items.len(),
        written,
        "what was written can be read"
    );
    disk.0.lock().quota = None;
    let last = store.write(big(written)).await.unwrap();
    assert_eq!(
        last,
        Outcome::Committed(Revision(written as u64 + 2)),
        "nothing was committed in between"
    );
    for n in 0..=written {
        let Some(Ok(Signal::Change(change))) = watch.next().await else {
            panic!("the watch goes on")
        };
        assert_eq!(&*change.key, format!("big/{n}"));
    }
    let again = start(&disk.power_cut(&mut StdRng::seed_from_u64(1))).unwrap();
    assert_eq!(
        again.range("", Page::all(), None).await.unwrap().items.len(),
        written + 1
    );
}

#[tokio::test]
async fn a_disk_that_stays_away_fails_everything_until_it_is_back() {
    let disk = formatted();
    let store = start(&disk).unwrap();
    store.write(nth(0)).await.unwrap();
    let now = disk.0.lock().steps;
    disk.0.lock().cut_at = Some(now);
    // The first may have been kept before the disk went away, which only the disk knows.
    assert!(matches!(store.write(nth(1)).await, Err(Error::Undecided { .. })));
    assert!(matches!(store.write(nth(1)).await, Err(Error::Unavailable { .. })));
    disk.0.lock().cut_at = None;
    assert_eq!(store.write(nth(1)).await.unwrap(), Outcome::Committed(Revision(3)));
    assert_eq!(history(&store).await.len(), 2);
}
