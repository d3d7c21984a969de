//! The registry's directory: content by its digest, uploads on their way, and the catalogue. Blocks on the disk; callers on a
//! runtime use a blocking thread.
//!
//! Content is whole and durable before the catalogue names it, and the catalogue is replaced as a whole: a crash leaves at
//! worst content that no image needs, which the next start removes, as it does uploads. Only this process writes here.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::time::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::catalogue::{Blob, Catalogue, Change, Manifest, Named, Newer};
use crate::digest::Digest;
use crate::name::{Repository, Target};
use crate::room::{Full, Room, Taken};

/// How long content waits for the manifest that names it.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Changes that are kept for those who watch.
const HISTORY: usize = 1000;
/// Images of all namespaces together.
pub(crate) const MOST: usize = 10_000;

/// Where what is within the directory.
pub(crate) const INDEX: &str = "index.json";
pub(crate) const BLOBS: &str = "blobs/sha256";
const UPLOADS: &str = "uploads";

/// What is stored, and where.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) root: PathBuf,
    pub(crate) room: Arc<Room>,
    state: Mutex<State>,
    /// The revision of the catalogue, for those who watch.
    revision: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    catalogue: Catalogue,
    /// Content without an image yet, by who may make one of it.
    waiting: HashMap<(Repository, Digest), (u64, Instant)>,
    /// Content that a backup reads, by how many do.
    pinned: HashMap<Digest, usize>,
    history: VecDeque<Change>,
    /// What was told before the history begins.
    told: u64,
}

/// A registry in which nothing happens while this is there.
pub(crate) struct Held<'a> {
    store: &'a Arc<Store>,
    state: MutexGuard<'a, State>,
}

/// What a registry held at one moment, kept until this is dropped.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) store: Arc<Store>,
    pub(crate) catalogue: Catalogue,
}

impl Held<'_> {
    pub(crate) fn pin(mut self) -> Pinned {
        let catalogue = self.state.catalogue.clone();
        for digest in catalogue.needs() {
            *self.state.pinned.entry(digest).or_default() += 1;
        }
        Pinned {
            store: self.store.clone(),
            catalogue,
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.store.unpin(&self.catalogue.needs());
    }
}

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the image registry {} cannot be used", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the catalogue of images {} cannot be read; restore it, or remove the directory to begin without images", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the image registry {} is of a newer wherry", path.display())]
    Newer {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the images that control planes share cannot be read")]
    Shared(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why something was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Full(#[from] Full),
    #[error("the registry holds {MOST} images, which is as many as it takes; delete some that nobody needs")]
    Many,
    #[error("content of the image was deleted meanwhile; push it again")]
    Gone,
    #[error("{0} is damaged in the store of the image registry; push the image again")]
    Damaged(String),
    #[error("the store of the image registry failed")]
    Away(#[from] ::store::Error),
    #[error("the image registry cannot be written")]
    Io(#[source] io::Error),
}

/// Content that is on its way.
#[derive(Debug)]
pub(crate) struct Arriving {
    pub(crate) path: PathBuf,
    taken: Option<Taken>,
}

impl Arriving {
    /// Makes room for more of it.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), Full> {
        self.taken.as_mut().map_or(Ok(()), |taken| taken.add(bytes))
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        // It is gone if it was kept.
        let _ = fs::remove_file(&self.path);
    }
}

impl Store {
    /// Opens the directory, or makes it, and removes what no image needs. At most `limit` bytes are stored.
    pub(crate) fn open(root: &Path, limit: u64) -> Result<Self, OpenError> {
        Self::copy_of(root, limit, load(&root.join(INDEX))?)
    }

    /// Opens the directory as a copy of what is kept elsewhere.
    pub(crate) fn copy_of(root: &Path, limit: u64, catalogue: Catalogue) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io {
            path: root.to_owned(),
            source,
        };
        for directory in [BLOBS, UPLOADS] {
            fs::create_dir_all(root.join(directory)).map_err(failed)?;
        }
        empty(&root.join(UPLOADS)).map_err(failed)?;
        let used = sweep(&root.join(BLOBS), &catalogue).map_err(failed)?;
        let told = catalogue.revision;
        Ok(Self {
            room: Room::new(root.to_owned(), limit, used),
            root: root.to_owned(),
            state: Mutex::new(State {
                catalogue,
                waiting: HashMap::new(),
                pinned: HashMap::new(),
                history: VecDeque::new(),
                told,
            }),
            revision: watch::Sender::new(told),
        })
    }

    /// A place for content to arrive.
    pub(crate) fn arriving(&self) -> Arriving {
        let name = uuid::Uuid::new_v4().to_string();
        Arriving {
            path: self.root.join(UPLOADS).join(name),
            taken: Some(self.room.taken()),
        }
    }

    /// Takes content that has arrived whole, for a repository to make an image of.
    pub(crate) fn take(
        &self,
        repository: &Repository,
        mut arriving: Arriving,
        digest: &Digest,
        size: u64,
    ) -> Result<(), StoreError> {
        let place = self.place(digest);
        let mut state = self.state.lock();
        self.forget_old(&mut state);
        if !place.exists() {
            let keep = || {
                File::open(&arriving.path)?.sync_all()?;
                fs::rename(&arriving.path, &place)?;
                sync_directory(&place)
            };
            keep().map_err(|error| self.failed(error))?;
            if let Some(taken) = arriving.taken.take() {
                taken.keep();
            }
        }
        let waits = (size, Instant::now());
        state.waiting.insert((repository.clone(), digest.clone()), waits);
        Ok(())
    }

    /// Stores a small document for a repository.
    pub(crate) fn put(&self, repository: &Repository, document: &[u8]) -> Result<Digest, StoreError> {
        let mut arriving = self.arriving();
        let size = document.len() as u64;
        arriving.grow(size)?;
        let write = || create(&arriving.path)?.write_all(document);
        write().map_err(|error| self.failed(error))?;
        let digest = Digest::of(document);
        self.take(repository, arriving, &digest, size)?;
        Ok(digest)
    }

    /// The size of content that a repository may see.
    pub(crate) fn size(&self, repository: &Repository, digest: &Digest) -> Option<u64> {
        let state = self.state.lock();
        let waiting = state
            .waiting
            .get(&(repository.clone(), digest.clone()))
            .map(|(size, _)| *size);
        waiting.or_else(|| state.catalogue.holds(repository, digest))
    }

    /// Content, opened for reading.
    pub(crate) fn open_blob(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.place(digest))
    }

    pub(crate) fn find(&self, repository: &Repository, target: &Target) -> Option<(Digest, Manifest)> {
        let state = self.state.lock();
        let (digest, manifest) = state.catalogue.find(repository, target)?;
        Some((digest, manifest.clone()))
    }

    pub(crate) fn named(&self, repository: &Repository, target: &Target) -> Option<Named> {
        self.state.lock().catalogue.named(repository, target)
    }

    pub(crate) fn tags(&self, repository: &Repository) -> Option<Vec<String>> {
        self.state.lock().catalogue.tags(repository)
    }

    /// All images, and the revision of the catalogue.
    pub(crate) fn list(&self, namespace: Option<&str>) -> (Vec<Named>, u64) {
        let state = self.state.lock();
        (state.catalogue.list(namespace), state.catalogue.revision)
    }

    /// Makes an image of content that is here.
    pub(crate) fn commit(
        &self,
        repository: &Repository,
        target: &Target,
        document: &Digest,
        manifest: Manifest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.catalogue.count() >= MOST && state.catalogue.find(repository, target).is_none() {
            return Err(StoreError::Many);
        }
        let blobs = [
            document.clone(),
            manifest.config.digest.clone(),
            manifest.layer.digest.clone(),
        ];
        if !blobs.iter().all(|blob| self.place(blob).exists()) {
            return Err(StoreError::Gone);
        }
        self.change(&mut state, |catalogue| {
            Some(catalogue.put(repository, target, document, manifest, now))
        })?;
        for blob in blobs {
            state.waiting.remove(&(repository.clone(), blob));
        }
        Ok(())
    }

    /// Removes a name, and with the last the image and what only it needed. `None` where there is no such.
    pub(crate) fn remove(
        &self,
        repository: &Repository,
        target: &Target,
        now: Timestamp,
    ) -> Result<Option<()>, StoreError> {
        let mut state = self.state.lock();
        let before = state.catalogue.needs();
        let removed = self.change(&mut state, |catalogue| catalogue.remove(repository, target, now))?;
        let after = state.catalogue.needs();
        self.free(&state, before.difference(&after));
        Ok(removed)
    }

    /// Changes after a revision, oldest first; `None` if it is too long ago, or yet to come.
    pub(crate) fn changes(&self, after: u64) -> Option<Vec<Change>> {
        let state = self.state.lock();
        if after < state.told || after > state.catalogue.revision {
            return None;
        }
        let later = state.history.iter().filter(|change| change.revision > after);
        Some(later.cloned().collect())
    }

    /// Tells of changes.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Applies a change to a copy, writes it, and then shows it.
    fn change(
        &self,
        state: &mut State,
        edit: impl FnOnce(&mut Catalogue) -> Option<Vec<Change>>,
    ) -> Result<Option<()>, StoreError> {
        let mut next = state.catalogue.clone();
        let Some(changes) = edit(&mut next) else {
            return Ok(None);
        };
        let bytes = serde_json::to_vec(&next).map_err(|error| self.failed(error.into()))?;
        replace(&self.root.join(INDEX), &bytes).map_err(|error| self.failed(error))?;
        state.catalogue = next;
        self.tell(state, changes);
        Ok(Some(()))
    }

    fn tell(&self, state: &mut State, changes: Vec<Change>) {
        for change in changes {
            if state.history.len() >= HISTORY
                && let Some(oldest) = state.history.pop_front()
            {
                state.told = oldest.revision;
            }
            state.history.push_back(change);
        }
        self.revision.send_replace(state.catalogue.revision);
    }

    /// Has repositories be as they are elsewhere since a revision, and removes what no image needs any more.
    pub(crate) fn mirror(&self, parts: Vec<(Repository, Option<Catalogue>)>, at: u64) {
        let mut state = self.state.lock();
        let before = state.catalogue.needs();
        for (repository, part) in parts {
            let changes = state.catalogue.replace(&repository, part.as_ref(), at);
            self.tell(&mut state, changes);
        }
        let after = state.catalogue.needs();
        self.free(&state, before.difference(&after));
    }

    /// Keeps content that was fetched from elsewhere, and opens it.
    pub(crate) fn keep(&self, mut arriving: Arriving, digest: &Digest) -> Result<File, StoreError> {
        let place = self.place(digest);
        let state = self.state.lock();
        // It may have been pushed here meanwhile.
        if let Ok(file) = File::open(&place) {
            return Ok(file);
        }
        let keep = || {
            let file = File::open(&arriving.path)?;
            file.sync_all()?;
            fs::rename(&arriving.path, &place)?;
            sync_directory(&place)?;
            Ok(file)
        };
        let file = keep().map_err(|error| self.failed(error))?;
        if let Some(taken) = arriving.taken.take() {
            taken.keep();
        }
        // Whoever has just deleted it did not find it here.
        let needed = state.catalogue.needs();
        self.free(
            &state,
            std::iter::once(digest).filter(|digest| !needed.contains(digest)),
        );
        Ok(file)
    }

    /// Content that waits for an image is not awaited any more.
    pub(crate) fn await_no_more(&self, repository: &Repository, content: &[Digest]) {
        let mut state = self.state.lock();
        for digest in content {
            state.waiting.remove(&(repository.clone(), digest.clone()));
        }
    }

    pub(crate) fn repositories(&self) -> BTreeSet<Repository> {
        self.state.lock().catalogue.repositories()
    }

    /// Bytes of all content where repositories share none, and how many images there are.
    pub(crate) fn held(&self) -> (u64, usize) {
        let state = self.state.lock();
        (state.catalogue.held(), state.catalogue.count())
    }

    /// Removes content that was brought for an image that is not made now.
    pub(crate) fn give_up(&self, repository: &Repository, content: &[Digest]) {
        let mut state = self.state.lock();
        for digest in content {
            state.waiting.remove(&(repository.clone(), digest.clone()));
        }
        let needed = state.catalogue.needs();
        self.free(&state, content.iter().filter(|digest| !needed.contains(digest)));
    }

    /// Removes what has waited in vain.
    pub(crate) fn tidy(&self) {
        self.forget_old(&mut self.state.lock());
    }

    fn forget_old(&self, state: &mut State) {
        let old = |(_, (_, since)): &(&(Repository, Digest), &(u64, Instant))| since.elapsed() > PATIENCE;
        let gone: Vec<_> = state.waiting.iter().filter(old).map(|(key, _)| key.clone()).collect();
        for key in &gone {
            state.waiting.remove(key);
        }
        let needed = state.catalogue.needs();
        let unneeded = gone.iter().map(|(_, digest)| digest);
        self.free(state, unneeded.filter(|digest| !needed.contains(digest)));
    }

    /// Has nothing happen until the answer is dropped.
    pub(crate) fn hold(self: &Arc<Self>) -> Held<'_> {
        Held {
            store: self,
            state: self.state.lock(),
        }
    }

    fn unpin(&self, content: &BTreeSet<Digest>) {
        let mut state = self.state.lock();
        for digest in content {
            if let Some(count) = state.pinned.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.pinned.remove(digest);
                }
            }
        }
        let needed = state.catalogue.needs();
        self.free(&state, content.difference(&needed));
    }

    /// Removes content that no image needs, unless it waits for one or a backup reads it.
    fn free<'d>(&self, state: &State, unneeded: impl Iterator<Item = &'d Digest>) {
        for digest in unneeded {
            if state.pinned.contains_key(digest) || state.waiting.keys().any(|(_, waiting)| waiting == digest) {
                continue;
            }
            let place = self.place(digest);
            let Ok(metadata) = fs::metadata(&place) else { continue };
            match fs::remove_file(&place) {
                Ok(()) => self.room.give_back(metadata.len()),
                Err(error) => tracing::warn!(%digest, %error, "content that no image needs stays"),
            }
        }
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        self.root.join(BLOBS).join(digest.hex())
    }

    /// A disk that is full says so in words.
    pub(crate) fn failed(&self, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(self.room.full_disk()),
            _ => StoreError::Io(error),
        }
    }
}

/// A new file that only we read.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

pub(crate) fn load(path: &Path) -> Result<Catalogue, OpenError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Catalogue::default()),
        Err(source) => {
            return Err(OpenError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    let catalogue: Catalogue = serde_json::from_slice(&bytes).map_err(|source| OpenError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    catalogue.check().map_err(|source: Newer| OpenError::Newer {
        path: path.to_owned(),
        source: source.into(),
    })
}

/// Replaces a file durably: it is old or new after a crash.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_directory(path)
}

pub(crate) fn sync_directory(of: &Path) -> io::Result<()> {
    match of.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// Removes content that no image needs; answers how many bytes are left.
fn sweep(directory: &Path, catalogue: &Catalogue) -> io::Result<u64> {
    let needed = catalogue.needs();
    let mut used = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let digest = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>();
        match digest.is_ok_and(|digest| needed.contains(&digest)) {
            true => used += entry.metadata()?.len(),
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(used)
}

/// Content as a manifest names it.
impl From<(&Digest, u64)> for Blob {
    fn from((digest, size): (&Digest, u64)) -> Self {
        Self {
            digest: digest.clone(),
            size,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().expect("a time")
    }

    fn hello() -> Repository {
        Repository::new("team", "hello").expect("a name")
    }

    fn tag(text: &str) -> Target {
        text.parse().expect("a tag")
    }

    fn image(store: &Store, name: &str, content: &[u8]) -> Result<Digest, StoreError> {
        let config = store.put(&hello(), b"{}")?;
        let layer = store.put(&hello(), content)?;
        let document = store.put(&hello(), &[b"manifest of ", content].concat())?;
        let manifest = Manifest {
            media_type: "m".to_owned(),
            size: 1,
            config: (&config, 2).into(),
            layer: (&layer, content.len() as u64).into(),
            program: json!({}),
            pushed_by: "ann".to_owned(),
        };
        store.commit(&hello(), &tag(name), &document, manifest, now())?;
        Ok(layer)
    }

    fn files(root: &Path) -> usize {
        let count = |directory: &str| fs::read_dir(root.join(directory)).expect("a directory").count();
        count("blobs/sha256") + count("uploads")
    }

    #[test]
    fn images_outlive_a_restart_and_nothing_else_does() {
        let root = tempfile::tempdir().expect("a directory");
        let store = Store::open(root.path(), 1 << 20).expect("opened");
        let layer = image(&store, "1", b"one").expect("stored");
        store.put(&hello(), b"never named").expect("stored");
        let mut arriving = store.arriving();
        arriving.grow(4).expect("room");
        create(&arriving.path)
            .and_then(|mut file| file.write_all(b"half"))
            .expect("written");
        std::mem::forget(arriving); // as a crash does
        assert_eq!(files(root.path()), 5);
        let again = Store::open(root.path(), 1 << 20).expect("opened again");
        assert_eq!(files(root.path()), 3, "the manifest, the configuration, the program");
        assert_eq!(again.size(&hello(), &layer), Some(3));
        assert_eq!(again.list(None).0, store.list(None).0);
        assert!(again.room.used() < store.room.used());
    }

    #[test]
    fn deleting_frees_what_only_that_image_needed() {
        let root = tempfile::tempdir().expect("a directory");
        let store = Store::open(root.path(), 1 << 20).expect("opened");
        let one = image(&store, "1", b"one").expect("stored");
        image(&store, "2", b"two").expect("stored");
        assert_eq!(files(root.path()), 5, "the configuration is the same");
        let used = store.room.used();
        assert!(store.remove(&hello(), &tag("1"), now()).expect("removed").is_some());
        assert!(store.remove(&hello(), &tag("1"), now()).expect("nothing").is_none());
        assert_eq!(files(root.path()), 3);
        assert!(store.open_blob(&one).is_err() && store.room.used() < used);
        store.remove(&hello(), &tag("2"), now()).expect("removed");
        assert_eq!((files(root.path()), store.room.used()), (0, 0));
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let root = tempfile::tempdir().expect("a directory");
        let store = Store::open(root.path(), 10).expect("opened");
        let mut arriving = store.arriving();
        create(&arriving.path).expect("a file");
        arriving.grow(8).expect("room");
        assert!(matches!(arriving.grow(8), Err(Full::Limit { used: 8, limit: 10 })));
        drop(arriving);
        assert_eq!((files(root.path()), store.room.used()), (0, 0));
        assert!(matches!(store.put(&hello(), &[0; 11]), Err(StoreError::Full(_))));
        assert_eq!((files(root.path()), store.room.used()), (0, 0));
    }

    #[test]
    fn changes_are_told_to_those_who_were_there() {
        let root = tempfile::tempdir().expect("a directory");
        let store = Store::open(root.path(), 1 << 20).expect("opened");
        let (_, from) = store.list(None);
        let follow = store.follow();
        image(&store, "1", b"one").expect("stored");
        assert!(follow.has_changed().expect("the store lives"));
        let names = |after| {
            let changes = store.changes(after)?;
            Some(changes.into_iter().map(|change| change.named.name).collect::<Vec<_>>())
        };
        assert_eq!(names(from), Some(vec!["hello:1".to_owned()]));
        let (_, now) = store.list(None);
        assert_eq!(names(now), Some(Vec::new()));
        assert_eq!(names(now + 1), None, "nobody was there yet");
        assert_eq!(names(from - 1), None, "too long ago");
    }

    #[test]
    fn a_damaged_catalogue_is_not_overwritten() {
        let root = tempfile::tempdir().expect("a directory");
        fs::write(root.path().join("index.json"), "{").expect("written");
        assert!(matches!(Store::open(root.path(), 1), Err(OpenError::Damaged { .. })));
    }
}
