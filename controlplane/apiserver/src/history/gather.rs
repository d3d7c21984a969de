//! What all nodes tell, for all who look at it together: a node is asked once for them, never twice at a time, and who does
//! not answer holds up nobody. What it told before counts meanwhile, for as long as that says anything.
//!
//! A hundred open dashboards cost what one costs; nothing is asked while nobody looks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::merge::Told;

/// How old an answer may be that is given to the next who looks; dashboards come every fifteen seconds.
const FRESH: Duration = Duration::from_secs(10);
/// How long somebody waits for those who have told before, and for all where nobody has told anything yet.
const WAIT: Duration = Duration::from_millis(1000);
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// How long it counts what a node has told that does not answer any more: its last samples are then two minutes old.
const STALE: Duration = Duration::from_secs(120);
/// How long it is remembered what nobody has looked at.
const UNUSED: Duration = Duration::from_secs(60);
/// Nodes that are asked at once, and of those that did not answer in time the last time.
const AT_ONCE: usize = 32;
const SLOW_AT_ONCE: usize = 8;
/// Of how many things it is remembered what nodes tell of them: namespaces, and the cluster.
const THINGS: usize = 64;

/// Asks one node.
#[async_trait]
pub(super) trait Ask: Send + Sync + 'static {
    async fn ask(&self, node: &str, path: &str) -> Result<Option<Told>, Status>;
}

/// What nodes tell of something, and who of them says nothing.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Gathered {
    pub(super) told: Vec<Told>,
    pub(super) silent: Vec<String>,
}

/// Gathers; clones are one.
#[derive(Clone)]
pub(super) struct Gatherer(Arc<Inner>);

struct Inner {
    ask: Arc<dyn Ask>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    places: Semaphore,
    slow_places: Semaphore,
    /// By what is asked for.
    things: Mutex<HashMap<String, Thing>>,
    /// Somebody has answered.
    answered: Notify,
}

struct Thing {
    used: Instant,
    nodes: HashMap<String, Node>,
}

/// What is known of a node.
#[derive(Default)]
struct Node {
    asking: bool,
    /// It did not answer the last time.
    failed: bool,
    /// When it last answered, or did not.
    heard: Option<Instant>,
    told: Option<(Told, Instant)>,
}

impl Node {
    /// Whether it is to be asked now.
    fn is_due(&self, now: Instant) -> bool {
        !self.asking && self.heard.is_none_or(|heard| now.duration_since(heard) >= FRESH)
    }

    /// What counts of what it has told.
    fn told(&self, now: Instant) -> Option<&Told> {
        let (told, at) = self.told.as_ref()?;
        (now.duration_since(*at) < STALE).then_some(told)
    }

    /// Whether it has not said anything lately, not even that it knows nothing.
    fn is_silent(&self) -> bool {
        self.failed || (self.asking && self.heard.is_none())
    }
}

impl Gatherer {
    pub(super) fn new(ask: Arc<dyn Ask>, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Gatherer(Arc::new(Inner {
            ask,
            tasks,
            shutdown,
            places: Semaphore::new(AT_ONCE),
            slow_places: Semaphore::new(SLOW_AT_ONCE),
            things: Mutex::default(),
            answered: Notify::new(),
        }))
    }

    /// What these nodes tell of a thing.
    pub(super) async fn gather(&self, nodes: &BTreeSet<String>, path: &str) -> Gathered {
        let begun = Instant::now();
        for (node, slow) in self.0.due(nodes, path, begun) {
            let (inner, path) = (self.0.clone(), path.to_owned());
            self.0.tasks.spawn(async move {
                let asking = inner.put_question(node, path, slow);
                inner.shutdown.run_until_cancelled(asking).await
            });
        }
        loop {
            // Before it is looked, or an answer in between would be slept through.
            let answered = self.0.answered.notified();
            let until = match self.0.state(nodes, path, Instant::now()) {
                State::Complete => break,
                State::Partly => begun + WAIT,
                State::Nothing => begun + FIRST_WAIT,
            };
            if timeout_at(until, answered).await.is_err() && Instant::now() >= until {
                break;
            }
        }
        self.0.gathered(nodes, path, Instant::now())
    }
}

enum State {
    /// All have answered that were asked.
    Complete,
    /// Some are awaited, and there is something to tell.
    Partly,
    Nothing,
}

impl Inner {
    /// Those who are to be asked, from now on; and whether they were slow.
    fn due(&self, nodes: &BTreeSet<String>, path: &str, now: Instant) -> Vec<(String, bool)> {
        let mut things = self.things.lock();
        things.retain(|_, thing| now.duration_since(thing.used) < UNUSED);
        if things.len() >= THINGS && !things.contains_key(path) {
            let oldest = things.iter().min_by_key(|(_, thing)| thing.used);
            let oldest = oldest.map(|(path, _)| path.clone()).unwrap_or_default();
            things.remove(&oldest);
        }
        let thing = things.entry(path.to_owned()).or_insert_with(|| Thing {
            used: now,
            nodes: HashMap::new(),
        });
        thing.used = now;
        thing.nodes.retain(|node, _| nodes.contains(node));
        let mut due = Vec::new();
        for name in nodes {
            let node = thing.nodes.entry(name.clone()).or_default();
            if node.is_due(now) {
                node.asking = true;
                due.push((name.clone(), node.failed));
            }
        }
        due
    }

    async fn put_question(&self, node: String, path: String, slow: bool) {
        let places = if slow { &self.slow_places } else { &self.places };
        let answer = match places.acquire().await {
            Ok(_place) => self.ask.ask(&node, &path).await,
            Err(_) => return,
        };
        let now = Instant::now();
        if let Some(known) = self
            .things
            .lock()
            .get_mut(&path)
            .and_then(|thing| thing.nodes.get_mut(&node))
        {
            (known.asking, known.heard, known.failed) = (false, Some(now), answer.is_err());
            match answer {
                Ok(Some(told)) => known.told = Some((told, now)),
                Ok(None) => known.told = None,
                Err(_) => {}
            }
        }
        self.answered.notify_waiters();
    }

    fn state(&self, nodes: &BTreeSet<String>, path: &str, now: Instant) -> State {
        let things = self.things.lock();
        let Some(thing) = things.get(path) else {
            return State::Complete;
        };
        let known = || nodes.iter().filter_map(|node| thing.nodes.get(node));
        match (
            known().any(|node| node.asking),
            known().any(|node| node.told(now).is_some()),
        ) {
            (false, _) => State::Complete,
            (true, true) => State::Partly,
            (true, false) => State::Nothing,
        }
    }

    fn gathered(&self, nodes: &BTreeSet<String>, path: &str, now: Instant) -> Gathered {
        let things = self.things.lock();
        let mut gathered = Gathered::default();
        for name in nodes {
            let node = things.get(path).and_then(|thing| thing.nodes.get(name));
            gathered.told.extend(node.and_then(|node| node.told(now)).cloned());
            if node.is_none_or(Node::is_silent) {
                gathered.silent.push(name.clone());
            }
        }
        gathered
    }
}

#[cfg(test)]
mod tests;
