//! Code compiled ahead of time: one entry per binary and per engine that shall load it.
//!
//! Only the agent writes the directory; what it writes came out of a confined child. A refusal is an entry too: the same
//! binary is refused again. Hosts get the code as an open file, so an entry can be removed while it runs somewhere.

mod entries;

use std::{collections::HashMap, fs::File, io, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::entries::Entries;
pub(crate) use self::entries::{Key, Target};
use crate::{
    images::Digest,
    protocol::compiled::{Guest, Outcome, Refusal},
    spawn::compiler::{self, Compiler, CompilerError},
};

/// Compilations at once: each uses every core for a part of its time.
const AT_ONCE: usize = 2;
/// After this long, people hear that a compilation is what they wait for.
const SLOW: Duration = Duration::from_secs(2);

/// The cache of compiled code.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: Arc<Entries>,
    /// One lock per binary that is being compiled.
    compiling: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Code to run.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) key: Key,
    pub(crate) guest: Guest,
    pub(crate) file: File,
}

/// There is no code to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    /// For ever: the binary cannot run here.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("compiling it failed")]
    Compiler(#[from] CompilerError),
    #[error("the cache of compiled code cannot be used")]
    Cache(#[source] io::Error),
    #[error("the compiler was made for another engine ({found}) than the sandbox host ({wanted})")]
    OtherEngine { wanted: String, found: String },
    #[error("the node's agent is stopping")]
    Stopping,
}

impl Cache {
    /// Opens the directory, making it if it is absent.
    pub(crate) fn open(root: &Path, tasks: TaskTracker, shutdown: CancellationToken) -> io::Result<Self> {
        let entries = Arc::new(Entries::open(root)?);
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self {
            entries,
            compiling: Mutex::default(),
            slots,
            tasks,
            shutdown,
        })
    }

    /// The code of a binary for a target; compiled if it is not there, once however many ask. `slow` hears when that
    /// takes long. A caller that goes away does not end the compilation.
    pub(crate) async fn code(
        &self,
        module: &Digest,
        target: &Target,
        compiler: impl FnOnce() -> Result<(Compiler, File), CompilerError>,
        slow: impl FnOnce(),
    ) -> Result<Code, CodeError> {
        let key = Key::of(module, target);
        if let Some(code) = self.load(&key)? {
            return Ok(code);
        }
        let lock = Arc::clone(self.compiling.lock().entry(key.clone()).or_default());
        let result = self
            .locked(&key, module, target, compiler, slow, Arc::clone(&lock))
            .await;
        drop(lock);
        self.forget_idle(&key);
        result
    }

    async fn locked(
        &self,
        key: &Key,
        module: &Digest,
        target: &Target,
        compiler: impl FnOnce() -> Result<(Compiler, File), CompilerError>,
        slow: impl FnOnce(),
        lock: Arc<tokio::sync::Mutex<()>>,
    ) -> Result<Code, CodeError> {
        let mut slow = Some(slow);
        let work = async {
            let held = lock.lock_owned().await;
            // Who held the lock before may have done the work.
            if let Some(code) = self.load(key)? {
                return Ok(code);
            }
            let slot = Arc::clone(&self.slots)
                .acquire_owned()
                .await
                .map_err(|_| CodeError::Stopping)?;
            let (compiler, binary) = compiler()?;
            let job = Job {
                entries: Arc::clone(&self.entries),
                key: key.clone(),
                module: module.clone(),
                target: target.clone(),
                shutdown: self.shutdown.clone(),
            };
            let work = self.tasks.spawn_blocking(move || {
                let _until_done = (held, slot);
                job.run(&compiler, binary)
            });
            work.await
                .map_err(|error| CodeError::Cache(io::Error::other(error)))??;
            self.load(key)?
                .ok_or_else(|| CodeError::Cache(io::ErrorKind::NotFound.into()))
        };
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(SLOW) => {}
        }
        if let Some(slow) = slow.take() {
            slow();
        }
        work.await
    }

    fn load(&self, key: &Key) -> Result<Option<Code>, CodeError> {
        let Some(outcome) = self.entries.outcome(key).map_err(CodeError::Cache)? else {
            return Ok(None);
        };
        let compiled = match outcome {
            Outcome::Compiled(compiled) => compiled,
            Outcome::Refused(refusal) => return Err(CodeError::Refused(refusal)),
        };
        let file = self
            .entries
            .open_code(key, compiled.code_length)
            .map_err(CodeError::Cache)?;
        Ok(file.map(|file| Code {
            key: key.clone(),
            guest: compiled.guest,
            file,
        }))
    }

    /// Nobody waits for the lock any more: only the map holds it.
    fn forget_idle(&self, key: &Key) {
        let mut compiling = self.compiling.lock();
        if compiling.get(key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            compiling.remove(key);
        }
    }

    /// Removes entries that are not wanted any more.
    pub(crate) fn evict(&self, wanted: impl Fn(&Digest, &Target) -> bool) -> io::Result<usize> {
        self.entries.evict(wanted)
    }
}

/// One compilation, on a blocking thread.
struct Job {
    entries: Arc<Entries>,
    key: Key,
    module: Digest,
    target: Target,
    shutdown: CancellationToken,
}

impl Job {
    fn run(&self, compiler: &Compiler, binary: File) -> Result<(), CodeError> {
        let mut code = self.entries.incoming().map_err(CodeError::Cache)?;
        let outcome = compiler::run(compiler, binary, code.file(), &self.shutdown)?;
        match &outcome {
            Outcome::Compiled(compiled) if compiled.engine_key != self.target.engine_key => {
                let (wanted, found) = (self.target.engine_key.clone(), compiled.engine_key.clone());
                Err(CodeError::OtherEngine { wanted, found })
            }
            // On a less busy machine it may fit.
            Outcome::Refused(refusal @ Refusal::TooLarge { .. }) => Err(CodeError::Refused(refusal.clone())),
            _ => self
                .entries
                .keep(&self.key, &self.module, &self.target, outcome, code)
                .map_err(CodeError::Cache),
        }
    }
}

#[cfg(test)]
mod tests;
