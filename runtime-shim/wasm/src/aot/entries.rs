//! The files of the cache: `<key>.code`, and `<key>.json` that says what it is. The second is written last, so that an
//! entry without it does not exist.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{durable, images::Digest, protocol::compiled::Outcome};

/// What code is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Target {
    /// wasmtime's version, settings, architecture and CPU features in one word; see `engine::key`.
    pub(crate) engine_key: String,
    /// What a guest may import differs between versions of wherry.
    pub(crate) wherry_version: String,
}

/// Names an entry: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn of(module: &Digest, target: &Target) -> Self {
        let text = format!("{module}\n{}\n{}", target.engine_key, target.wherry_version);
        Self(Digest::of(text.as_bytes()).hex().to_owned())
    }

    /// The key that a container names its code by.
    pub(crate) fn named(text: &str) -> Option<Self> {
        let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The content of `<key>.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    module: Digest,
    target: Target,
    outcome: Outcome,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Entries {
    root: PathBuf,
    counter: AtomicU64,
    /// Held while entries come and go: one being made looks like one left behind.
    changing: Mutex<()>,
}

/// Code on its way; removed unless kept.
pub(super) struct Incoming {
    file: File,
    path: PathBuf,
}

impl Incoming {
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After `keep` there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
    }
}

impl Entries {
    /// Opens the directory, and removes what an earlier process left half written.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let incoming = root.join("incoming");
        durable::empty_directory(&incoming)?;
        Ok(Self {
            root: root.to_owned(),
            counter: AtomicU64::new(0),
            changing: Mutex::new(()),
        })
    }

    /// What is known of a key. An unreadable description counts as none.
    pub(super) fn outcome(&self, key: &Key) -> io::Result<Option<Outcome>> {
        let bytes = durable::read(&self.description(key))?;
        Ok(bytes
            .and_then(|bytes| serde_json::from_slice::<Description>(&bytes).ok())
            .map(|known| known.outcome))
    }

    /// The code of a key, if it is there and whole.
    pub(super) fn open_code(&self, key: &Key, length: u64) -> io::Result<Option<File>> {
        match File::open(self.code(key)) {
            Ok(file) if file.metadata()?.len() == length => Ok(Some(file)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A file to receive code; hosts of any user may read it once they hold a descriptor.
    pub(super) fn incoming(&self) -> io::Result<Incoming> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("incoming").join(number.to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)?;
        Ok(Incoming { file, path })
    }

    /// Makes an entry: the code first, then its description.
    pub(super) fn keep(
        &self,
        key: &Key,
        module: &Digest,
        target: &Target,
        outcome: Outcome,
        code: Incoming,
    ) -> io::Result<()> {
        code.file.sync_all()?;
        let _changing = self.changing.lock();
        if let Outcome::Compiled(_) = outcome {
            fs::rename(&code.path, self.code(key))?;
        }
        let description = Description {
            module: module.clone(),
            target: target.clone(),
            outcome,
        };
        durable::replace(&self.description(key), &serde_json::to_vec(&description)?)
    }

    /// Removes entries that are not wanted, and code without a description; answers how many descriptions went.
    pub(super) fn evict(&self, wanted: impl Fn(&Digest, &Target) -> bool) -> io::Result<usize> {
        let _changing = self.changing.lock();
        let (mut descriptions, mut codes) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => descriptions.push(path),
                Some("code") => codes.push(path),
                _ => {}
            }
        }
        let known = |path: &PathBuf| serde_json::from_slice::<Description>(&fs::read(path).ok()?).ok();
        let is_wanted = |path: &PathBuf| known(path).is_some_and(|known| wanted(&known.module, &known.target));
        let gone: Vec<_> = descriptions.into_iter().filter(|path| !is_wanted(path)).collect();
        gone.iter().try_for_each(fs::remove_file)?;
        codes
            .iter()
            .filter(|code| !code.with_extension("json").exists())
            .try_for_each(fs::remove_file)?;
        Ok(gone.len())
    }

    fn description(&self, key: &Key) -> PathBuf {
        self.root.join(format!("{key}.json"))
    }

    fn code(&self, key: &Key) -> PathBuf {
        self.root.join(format!("{key}.code"))
    }
}
