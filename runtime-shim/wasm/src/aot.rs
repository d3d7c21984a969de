//! Code compiled ahead of time: one entry per binary and per engine that shall load it.
//!
//! Only the agent writes the directory; what it writes came out of a confined child. A refusal is an entry too: the same
//! binary is refused again. Hosts get the code as an open file, so an entry can be removed while it runs somewhere.

mod entries;

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

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
/// How often somebody who waits looks how long it has taken.
const LOOK: Duration = Duration::from_secs(1);

/// The cache of compiled code.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: Arc<Entries>,
    /// The binaries that are being compiled.
    compiling: Mutex<HashMap<Key, Arc<Compiling>>>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A binary that is being compiled, or is about to be.
#[derive(Debug, Default)]
struct Compiling {
    /// Held by the one who compiles.
    lock: Arc<tokio::sync::Mutex<()>>,
    /// When the compilation that runs began.
    begun: Mutex<Option<Instant>>,
}

/// What people hear of how long a compilation has taken: after 2 seconds, so that a quick one goes unmentioned, and at each
/// tenth. Seconds; the same for all who wait, whenever they came.
fn milestone(taken: Duration) -> Option<u64> {
    match taken.as_secs() {
        0..2 => None,
        2..10 => Some(2),
        more => Some(more / 10 * 10),
    }
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

    /// The code of a binary for a target; compiled if it is not there, once however many ask. `told` hears how many seconds
    /// that has taken, when it takes long. A caller that goes away does not end the compilation.
    pub(crate) async fn code(
        &self,
        module: &Digest,
        target: &Target,
        compiler: impl FnOnce() -> Result<(Compiler, File), CompilerError>,
        told: impl Fn(u64),
    ) -> Result<Code, CodeError> {
        let key = Key::of(module, target);
        if let Some(code) = self.load(&key)? {
            return Ok(code);
        }
        let compiling = Arc::clone(self.compiling.lock().entry(key.clone()).or_default());
        let work = self.compile(&key, module, target, compiler, Arc::clone(&compiling));
        let result = telling(&compiling, told, work).await;
        drop(compiling);
        self.forget_idle(&key);
        result
    }

    async fn compile(
        &self,
        key: &Key,
        module: &Digest,
        target: &Target,
        compiler: impl FnOnce() -> Result<(Compiler, File), CompilerError>,
        compiling: Arc<Compiling>,
    ) -> Result<Code, CodeError> {
        let held = Arc::clone(&compiling.lock).lock_owned().await;
        // Who held the lock before may have done the work.
        if let Some(code) = self.load(key)? {
            return Ok(code);
        }
        let slots = Arc::clone(&self.slots);
        let slot = slots.acquire_owned().await.map_err(|_| CodeError::Stopping)?;
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
            *compiling.begun.lock() = Some(Instant::now());
            let done = job.run(&compiler, binary);
            *compiling.begun.lock() = None;
            done
        });
        work.await
            .map_err(|error| CodeError::Cache(io::Error::other(error)))??;
        self.load(key)?
            .ok_or_else(|| CodeError::Cache(io::ErrorKind::NotFound.into()))
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

    /// What is known of the program whose code has this key.
    pub(crate) fn program(&self, key: &str) -> io::Result<Option<cri::WasmProgram>> {
        let Some(key) = Key::named(key) else { return Ok(None) };
        Ok(match self.entries.outcome(&key)? {
            Some(Outcome::Compiled(compiled)) => compiled.program.map(|program| *program),
            _ => None,
        })
    }

    /// Nobody compiles or waits any more: only the map holds it.
    fn forget_idle(&self, key: &Key) {
        let mut compiling = self.compiling.lock();
        if compiling.get(key).is_some_and(|held| Arc::strong_count(held) == 1) {
            compiling.remove(key);
        }
    }

    /// Removes entries that are not wanted any more.
    pub(crate) fn evict(&self, wanted: impl Fn(&Digest, &Target) -> bool) -> io::Result<usize> {
        self.entries.evict(wanted)
    }
}

/// Waits for the code, and meanwhile says how long its compilation has taken.
async fn telling<T>(compiling: &Compiling, told: impl Fn(u64), work: impl Future<Output = T>) -> T {
    let mut last = None;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(LOOK) => {}
        }
        let taken = compiling.begun.lock().map(|begun| begun.elapsed());
        let now = taken.and_then(milestone);
        if let Some(seconds) = now.filter(|_| now != last) {
            told(seconds);
            last = now;
        }
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
