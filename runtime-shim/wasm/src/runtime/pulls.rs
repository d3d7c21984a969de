//! Pulls under way: each image once however many ask for it with the same credentials, and a few images at a time.
//!
//! A pull that nobody waits for any more is ended; what has arrived stays for the next.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use cri::{Event, PullImage, RegistryAuth};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    images::{Entry, Images, Reference},
    pull::{Progress, Pull, PullError},
    registry::Settings,
};

/// Images that are pulled at once.
const AT_ONCE: usize = 5;
/// When people who wait hear of it first; then after twice as long, and so on.
const FIRST_WORD: Duration = Duration::from_secs(10);
const LONGEST_SILENCE: Duration = Duration::from_secs(300);

/// An image, and who may have it.
type Key = (Reference, Option<RegistryAuth>);

/// What became of a pull, for everybody who waited.
pub(super) type Outcome = Result<Pulled, Failure>;

/// A pulled image.
#[derive(Clone, Debug)]
pub(super) struct Pulled {
    pub(super) entry: Entry,
    /// Without the time spent waiting for other images.
    pub(super) took: Duration,
}

/// Why there is no image, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The registry did not give it.
    Pull { reason: String },
    /// It is here, and a container image.
    ContainerImage { reason: String },
}

#[derive(Debug)]
struct Running {
    outcome: watch::Sender<Option<Outcome>>,
    /// As those who wait spell the image's name.
    spellings: Mutex<BTreeSet<String>>,
}

/// All pulls under way.
pub(super) struct Pulls {
    images: Arc<Images>,
    settings: Settings,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Hears of progress.
    tell: Box<dyn Fn(Event) + Send + Sync>,
    running: Mutex<HashMap<Key, Arc<Running>>>,
    slots: Semaphore,
}

impl fmt::Debug for Pulls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.running.lock().keys().map(|(name, _)| name.clone()).collect();
        f.debug_struct("Pulls").field("running", &names).finish_non_exhaustive()
    }
}

impl Pulls {
    pub(super) fn new(
        images: Arc<Images>,
        settings: Settings,
        tasks: TaskTracker,
        shutdown: CancellationToken,
        tell: impl Fn(Event) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            images,
            settings,
            tasks,
            shutdown,
            tell: Box::new(tell),
            running: Mutex::default(),
            slots: Semaphore::new(AT_ONCE),
        })
    }

    /// Pulls an image, or joins those who do.
    pub(super) async fn pull(self: &Arc<Self>, name: Reference, pull: PullImage) -> Outcome {
        let mut outcome = self.join((name, pull.auth), pull.reference);
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(Failure::Pull {
                reason: "the pull ended without a word".to_owned(),
            }),
        }
    }

    fn join(self: &Arc<Self>, key: Key, spelling: String) -> watch::Receiver<Option<Outcome>> {
        let mut all = self.running.lock();
        if let Some(running) = all.get(&key) {
            running.spellings.lock().insert(spelling);
            return running.outcome.subscribe();
        }
        let (outcome, waiting) = watch::channel(None);
        let running = Arc::new(Running {
            outcome,
            spellings: Mutex::new([spelling].into()),
        });
        all.insert(key.clone(), Arc::clone(&running));
        self.tasks.spawn(Arc::clone(self).run(key, running));
        waiting
    }

    async fn run(self: Arc<Self>, key: Key, running: Arc<Running>) {
        let progress = Arc::new(Progress::default());
        let listed = Listed {
            pulls: &self,
            key: &key,
            running: &running,
        };
        let outcome = tokio::select! {
            outcome = self.fetch(&key, Arc::clone(&progress)) => outcome,
            () = self.report(&running, &progress) => return,
            () = self.abandoned(&key, &running) => return,
            () = self.shutdown.cancelled() => Err(Failure::Pull {
                reason: "the node's agent is stopping".to_owned(),
            }),
        };
        // Whoever asks from now on asks the registry anew.
        drop(listed);
        running.outcome.send_replace(Some(outcome));
    }

    async fn fetch(&self, (name, credentials): &Key, progress: Arc<Progress>) -> Outcome {
        let Ok(_slot) = self.slots.acquire().await else {
            std::future::pending().await
        };
        let begun = Instant::now();
        let pull = Pull {
            images: Arc::clone(&self.images),
            settings: self.settings.clone(),
            name: name.clone(),
            credentials: credentials.clone(),
            progress,
        };
        match pull.run().await {
            Ok(entry) => Ok(Pulled {
                entry,
                took: begun.elapsed(),
            }),
            Err(error) => Err(failure(&error)),
        }
    }

    /// Ends when nobody waits any more, and then the pull is forgotten.
    async fn abandoned(&self, key: &Key, running: &Running) {
        loop {
            running.outcome.closed().await;
            let mut all = self.running.lock();
            // Somebody may have joined meanwhile.
            if running.outcome.receiver_count() == 0 {
                all.remove(key);
                return;
            }
        }
    }

    /// Tells those who wait how far it is. Never ends.
    async fn report(&self, running: &Running, progress: &Progress) {
        let mut silence = FIRST_WORD;
        loop {
            tokio::time::sleep(silence).await;
            silence = silence.saturating_mul(2).min(LONGEST_SILENCE);
            for reference in running.spellings.lock().iter() {
                (self.tell)(Event::Image {
                    reference: reference.clone(),
                    message: how_far(reference, progress.bytes()),
                });
            }
        }
    }
}

/// Takes a pull from the list when it ends, however it ends.
struct Listed<'a> {
    pulls: &'a Pulls,
    key: &'a Key,
    running: &'a Arc<Running>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut all = self.pulls.running.lock();
        if all
            .get(self.key)
            .is_some_and(|listed| Arc::ptr_eq(listed, self.running))
        {
            all.remove(self.key);
        }
    }
}

/// `Pulling image "x": 34.5 MiB of 120.0 MiB`
fn how_far(reference: &str, bytes: Option<(u64, u64)>) -> String {
    let mebibytes = |bytes: u64| format!("{}.{} MiB", bytes >> 20, ((bytes >> 10) & 1023) * 10 / 1024);
    match bytes {
        Some((arrived, total)) => {
            format!(
                "Pulling image \"{reference}\": {} of {}",
                mebibytes(arrived),
                mebibytes(total)
            )
        }
        None => format!("Pulling image \"{reference}\": waiting for the registry"),
    }
}

fn failure(error: &PullError) -> Failure {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        reason.push_str(": ");
        reason.push_str(&next.to_string());
        cause = next.source();
    }
    match error {
        PullError::ContainerImage(why) => Failure::ContainerImage {
            reason: why.to_string(),
        },
        _ => Failure::Pull { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::{Registry, Trick, limits};

    struct Fixture {
        registry: Registry,
        pulls: Arc<Pulls>,
        told: Arc<Mutex<Vec<String>>>,
        _directory: tempfile::TempDir,
    }

    async fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let images = Arc::new(Images::open(directory.path()).unwrap());
        let settings = Settings {
            limits: limits(),
            ..Settings::default()
        };
        let told = Arc::<Mutex<Vec<String>>>::default();
        let hear = Arc::clone(&told);
        let tell = move |event| {
            if let Event::Image { message, .. } = event {
                hear.lock().push(message);
            }
        };
        Fixture {
            registry: Registry::start().await,
            pulls: Pulls::new(images, settings, TaskTracker::new(), CancellationToken::new(), tell),
            told,
            _directory: directory,
        }
    }

    impl Fixture {
        async fn pull(&self, user: &str) -> Outcome {
            let reference = format!("{}/x:1", self.registry.address);
            let auth = (!user.is_empty()).then(|| RegistryAuth {
                username: user.to_owned(),
                ..RegistryAuth::default()
            });
            let pull = PullImage {
                reference: reference.clone(),
                auth,
                pod_uid: String::new(),
            };
            self.pulls.pull(reference.parse().unwrap(), pull).await
        }

        /// Waits until the registry has been asked so often.
        async fn asked(&self, times: usize) {
            while self.registry.requests().len() < times {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    #[tokio::test]
    async fn who_asks_for_the_same_shares_the_work_and_who_is_somebody_else_does_not() {
        let fixture = fixture().await;
        let outcomes = tokio::join!(fixture.pull(""), fixture.pull(""), fixture.pull("somebody"));
        let refused = Failure::Pull {
            reason: format!(
                "failed to resolve reference \"{}/x:1\": not found",
                fixture.registry.address
            ),
        };
        for outcome in [outcomes.0, outcomes.1, outcomes.2] {
            assert_eq!(outcome.unwrap_err(), refused);
        }
        assert_eq!(fixture.registry.requests().len(), 2);
        assert!(fixture.pulls.running.lock().is_empty());
        fixture.pull("").await.unwrap_err();
        assert_eq!(fixture.registry.requests().len(), 3, "a failure is not remembered");
    }

    #[tokio::test]
    async fn a_pull_ends_when_nobody_waits_for_it_any_more() {
        let fixture = fixture().await;
        fixture.registry.put("x/manifests/1", "text/plain", "");
        fixture.registry.play("manifests/1", [Trick::Silence, Trick::Silence]);
        {
            let mut first = Box::pin(fixture.pull(""));
            let second = fixture.pull("");
            tokio::select! {
                _ = &mut first => panic!("nothing was answered"),
                _ = second => panic!("nothing was answered"),
                () = fixture.asked(1) => {}
            }
            // One of two goes: the pull goes on.
            assert_eq!(fixture.pulls.running.lock().len(), 1);
            tokio::select! {
                _ = &mut first => panic!("nothing was answered"),
                () = fixture.asked(2) => {}
            }
        }
        while !fixture.pulls.running.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(fixture.told.lock().is_empty(), "it did not take that long");
    }

    #[test]
    fn progress_is_told_in_mebibytes() {
        assert_eq!(
            how_far("a:1", Some((36_175_872, 125_829_120))),
            "Pulling image \"a:1\": 34.5 MiB of 120.0 MiB"
        );
        assert_eq!(how_far("a:1", None), "Pulling image \"a:1\": waiting for the registry");
    }
}
