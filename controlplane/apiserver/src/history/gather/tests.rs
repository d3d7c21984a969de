use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::history::ask::PATIENCE;

/// Fifty nodes; those of `hanging` never answer, and are given up after as long as a node may take.
#[derive(Default)]
struct Nodes {
    hanging: Mutex<BTreeSet<String>>,
    asked: AtomicUsize,
    at_once: AtomicUsize,
    most: AtomicUsize,
    asking: Mutex<BTreeSet<String>>,
}

const QUICK: Duration = Duration::from_millis(20);

#[async_trait]
impl Ask for Arc<Nodes> {
    async fn ask(&self, node: &str, _: &str) -> Result<Option<Told>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        assert!(
            self.asking.lock().insert(node.to_owned()),
            "{node} is asked twice at a time"
        );
        let hangs = self.hanging.lock().contains(node);
        tokio::time::sleep(if hangs { PATIENCE } else { QUICK }).await;
        self.asking.lock().remove(node);
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        if hangs {
            return Err(Status::service_unavailable("it takes too long"));
        }
        let told = json!({"step": 15, "end": 600, "since": 555, "series": [{"name": "", "columns": {"cpu": [1.0]}}]});
        Ok(Some(serde_json::from_value(told).expect("what a kubelet tells")))
    }
}

fn fifty() -> BTreeSet<String> {
    (0..50).map(|n| format!("node-{n:02}")).collect()
}

struct World {
    nodes: Arc<Nodes>,
    gatherer: Gatherer,
}

impl World {
    fn new(hanging: usize) -> Self {
        let nodes = Arc::new(Nodes::default());
        let world = World {
            gatherer: Gatherer::new(Arc::new(nodes.clone()), TaskTracker::new(), CancellationToken::new()),
            nodes,
        };
        world.hang(hanging);
        world
    }

    fn hang(&self, count: usize) {
        *self.nodes.hanging.lock() = fifty().into_iter().take(count).collect();
    }

    /// How many told, how many were silent, how many milliseconds it took and how many questions.
    async fn look(&self) -> (usize, usize, u128, usize) {
        let (begun, before) = (Instant::now(), self.nodes.asked.load(Ordering::SeqCst));
        let found = self.gatherer.gather(&fifty(), "/history?seconds=3600").await;
        let asked = self.nodes.asked.load(Ordering::SeqCst) - before;
        (found.told.len(), found.silent.len(), begun.elapsed().as_millis(), asked)
    }
}

async fn later(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn those_that_hang_hold_up_nobody() {
    let world = World::new(7);
    let (told, silent, took, asked) = world.look().await;
    assert_eq!((told, silent, asked), (43, 7, 50));
    assert!(took <= WAIT.as_millis(), "{took}");
    assert!(world.nodes.most.load(Ordering::SeqCst) <= AT_ONCE);
    // Whoever comes meanwhile asks nobody, and those that are still awaited are not asked twice.
    assert_eq!(world.look().await, (43, 7, 1000, 0));
    later(20).await;
    let (told, silent, took, asked) = world.look().await;
    assert_eq!((told, silent, asked), (43, 7, 50));
    assert!(took <= WAIT.as_millis());
}

#[tokio::test(start_paused = true)]
async fn many_who_look_ask_once() {
    let world = World::new(5);
    let looks = futures::future::join_all((0..100).map(|_| world.look())).await;
    assert!(looks.iter().all(|(told, silent, ..)| (*told, *silent) == (45, 5)));
    assert_eq!(world.nodes.asked.load(Ordering::SeqCst), 50);
    later(9).await;
    assert_eq!(world.look().await, (45, 5, 0, 0), "it is fresh");
}

#[tokio::test(start_paused = true)]
async fn what_a_node_told_before_counts_while_it_hangs_and_is_forgotten_then() {
    let world = World::new(0);
    assert_eq!(world.look().await, (50, 0, 2 * QUICK.as_millis(), 50));
    world.hang(20);
    later(15).await;
    let (told, silent, took, asked) = world.look().await;
    assert_eq!((told, silent, asked), (50, 0, 50), "nobody has failed yet");
    assert!(took <= WAIT.as_millis(), "{took}");
    for _ in 0..6 {
        later(15).await;
        let (told, silent, took, _) = world.look().await;
        assert_eq!(
            (told, silent),
            (50, 20),
            "they told before, and are known not to answer"
        );
        assert!(took <= WAIT.as_millis());
    }
    later(15).await;
    let (told, silent, ..) = world.look().await;
    assert_eq!((told, silent), (30, 20), "it says nothing any more");
    // Well again, all are there at once; the slow ones have fewer places.
    world.hang(0);
    later(15).await;
    world.look().await;
    later(11).await;
    assert_eq!(world.look().await.0, 50);
    assert!(world.nodes.most.load(Ordering::SeqCst) <= AT_ONCE + SLOW_AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_answers_it_is_said_after_a_while() {
    let world = World::new(50);
    let (told, silent, took, _) = world.look().await;
    assert_eq!((told, silent, took), (0, 50, FIRST_WAIT.as_millis()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_that_nobody_looks_at() {
    let world = World::new(0);
    for n in 0..THINGS + 9 {
        let found = world
            .gatherer
            .gather(&fifty(), &format!("/history/namespace-{n}"))
            .await;
        assert_eq!(found.told.len(), 50);
        assert!(world.gatherer.0.things.lock().len() <= THINGS);
    }
    later(61).await;
    world.look().await;
    assert_eq!(world.gatherer.0.things.lock().len(), 1);
    // Nodes that have gone are forgotten.
    let one = BTreeSet::from(["node-00".to_owned()]);
    world.gatherer.gather(&one, "/history?seconds=3600").await;
    assert_eq!(
        world
            .gatherer
            .0
            .things
            .lock()
            .values()
            .map(|thing| thing.nodes.len())
            .sum::<usize>(),
        1
    );
}
