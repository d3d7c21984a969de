//! Registries of control planes that share a store: what one takes the others have, whoever dies meanwhile, and nobody
//! believes a store that lies.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::store::memory::Memory;
use ::store::{Backend, Error, Kv, Outcome, Page, Range, Read, Revision, Watch, Write};

use super::*;
use crate::shared::PREFIX;

/// A store that is away from the nth write on.
#[derive(Clone)]
struct Mortal {
    memory: Memory,
    left: Arc<AtomicUsize>,
}

#[async_trait]
impl Backend for Mortal {
    async fn get(&self, key: &str) -> Result<Read<Option<Kv>>, Error> {
        self.memory.get(key).await
    }
    async fn range(&self, prefix: &str, page: Page, at: Option<Revision>) -> Result<Range, Error> {
        self.memory.range(prefix, page, at).await
    }
    async fn write(&self, write: Write) -> Result<Outcome, Error> {
        let one_less = |left: usize| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
            Ok(_) => self.memory.write(write).await,
            Err(_) => Err(Error::unavailable("writing", std::io::Error::other("killed"))),
        }
    }
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        self.memory.watch(prefix, from).await
    }
    async fn compact(&self, to: Revision) -> Result<(), Error> {
        self.memory.compact(to).await
    }
}

const NOON: &str = "2026-01-01T12:00:00Z";
const LATER: &str = "2026-01-01T15:00:00Z";

/// A control plane over a store; it ends with its world.
async fn over(backend: impl Backend, limits: Limits, time: &'static str) -> World {
    let clock: apiserver::Clock = Arc::new(move || time.parse().expect("a time"));
    let backend: Arc<dyn Backend> = Arc::new(backend);
    let world = World::sharing(limits, Some(Sharing { backend, clock })).await;
    tokio::spawn(world.registry.clone().run(world.ending.clone()));
    world
}

async fn plane(memory: &Memory) -> World {
    over(memory.clone(), Limits::default(), NOON).await
}

async fn keys(memory: &Memory) -> Vec<Kv> {
    memory.range(PREFIX, Page::all(), None).await.expect("a range").items
}

async fn names(world: &World) -> Vec<String> {
    let items = world.get(IMAGES).await.json()["items"].take();
    let name = |item: &Value| item["metadata"]["name"].as_str().map(str::to_owned);
    items.as_array().into_iter().flatten().filter_map(name).collect()
}

/// A program that takes several chunks.
fn large() -> Vec<u8> {
    let mut program = b"ok ".to_vec();
    program.extend((0..1_200_000u32).map(|n| b'a' + u8::try_from(n % 23).expect("small")));
    program
}

async fn pull(world: &World, content: &[u8]) -> Answer {
    world
        .get(&format!("/v2/team/hello/blobs/{}", Digest::of(content)))
        .await
}

#[tokio::test]
async fn what_one_takes_the_others_have() {
    let memory = Memory::new();
    let (one, two) = (plane(&memory).await, plane(&memory).await);
    let from = two.get(IMAGES).await.json()["metadata"]["resourceVersion"].clone();
    let made = one.upload("hello:1", &large()).await;
    assert_eq!(made.code, 201, "{}", made.json());
    assert_eq!(names(&two).await, ["hello:1"]);
    assert_eq!(
        two.get(&format!("{IMAGES}/hello:1")).await.json(),
        made.json(),
        "the same object, of the same revision"
    );
    let manifest = two.get("/v2/team/hello/manifests/1").await;
    assert_eq!(
        (manifest.code, one.get("/v2/team/hello/manifests/1").await.body),
        (200, manifest.body)
    );
    assert_eq!(pull(&two, &large()).await.body, large());
    // Those who watch elsewhere hear of it, from where they were.
    let from = from.as_str().expect("a revision");
    let watch = format!("{IMAGES}?watch=true&resourceVersion={from}");
    let watching = two.call(Method::GET, &watch, "", b"").await.expect("a stream");
    let frame = tokio::time::timeout(Duration::from_secs(10), watching.into_body().frame()).await;
    let line = frame
        .expect("in time")
        .expect("a frame")
        .expect("read")
        .into_data()
        .expect("data");
    let event: Value = serde_json::from_slice(&line).expect("an event");
    assert_eq!((&event["type"], &event["object"]), (&json!("ADDED"), &made.json()));
    // One that comes later has it too, and another's copy is not needed for it.
    let three = plane(&memory).await;
    assert_eq!(three.files(), 0, "nobody has asked yet");
    assert_eq!(pull(&three, &large()).await.body, large());
    // A push to another goes on where the first one left off: content that is there need not come again.
    let document = one.get("/v2/team/hello/manifests/1").await.body;
    let put = three
        .ask(Method::PUT, "/v2/team/hello/manifests/2", OCI_MANIFEST, &document)
        .await;
    assert_eq!(put.code, 201, "{}", put.json());
    assert_eq!(names(&one).await, ["hello:1", "hello:2"]);
    // Deleted at one, it is gone at all, and from the store.
    for tag in ["1", "2"] {
        assert_eq!(
            two.ask(Method::DELETE, &format!("{IMAGES}/hello:{tag}"), "", b"")
                .await
                .code,
            200
        );
    }
    assert_eq!(one.get("/v2/team/hello/manifests/1").await.code, 404);
    assert_eq!(pull(&three, &large()).await.code, 404);
    assert_eq!((keys(&memory).await, one.files(), three.files()), (vec![], 0, 0));
}

#[tokio::test]
async fn who_pushes_to_one_repository_at_once_finds_all_of_it() {
    let memory = Memory::new();
    let planes = [plane(&memory).await, plane(&memory).await, plane(&memory).await];
    let pushes = planes.iter().enumerate().flat_map(|(n, plane)| {
        (0..4).map(move |m| async move {
            let content = format!("ok {n}{m}");
            plane.upload(&format!("hello:{n}{m}"), content.as_bytes()).await.code
        })
    });
    let codes = futures::future::join_all(pushes).await;
    assert_eq!(codes, [201; 12]);
    for plane in &planes {
        assert_eq!(names(plane).await.len(), 12);
        assert_eq!(pull(plane, b"ok 21").await.body, b"ok 21");
    }
}

/// Whatever a control plane has written when it dies, another one shows an image that is whole or none, and an hour later
/// the store holds what that image needs and nothing else.
#[tokio::test]
async fn dying_between_any_two_writes_leaves_an_image_or_nothing() {
    let whole = {
        let memory = Memory::new();
        plane(&memory).await.upload("hello:1", &large()).await;
        keys(&memory).await.len()
    };
    assert!(whole > 8, "a repository, three records, some chunks: {whole}");
    let mut shown = 0;
    for writes in 0..=whole {
        let memory = Memory::new();
        let left = Arc::new(AtomicUsize::new(writes));
        let dying = Mortal {
            memory: memory.clone(),
            left,
        };
        let dying = over(dying, Limits::default(), NOON).await;
        let code = dying.upload("hello:1", &large()).await.code;
        dying.ending.cancel();
        let other = over(memory.clone(), Limits::default(), LATER).await;
        let found = names(&other).await;
        assert_eq!(
            code == 201,
            !found.is_empty(),
            "{writes}: what was acknowledged is there"
        );
        let sweep = async || {
            let shared = other.registry.0.shared.clone().expect("it is shared");
            shared.sweep().await.expect("swept")
        };
        sweep().await;
        let left = keys(&memory).await.len();
        match found.is_empty() {
            true => assert_eq!(left, 0, "{writes}"),
            false => {
                shown += 1;
                assert_eq!((left, pull(&other, &large()).await.body), (whole, large()), "{writes}");
            }
        }
        assert_eq!(sweep().await, 0, "{writes}: once is enough");
        // It can be pushed again, and be deleted by one that dies as well.
        assert_eq!(other.upload("hello:1", &large()).await.code, 201);
        let left = Arc::new(AtomicUsize::new(writes));
        let dying = Mortal {
            memory: memory.clone(),
            left,
        };
        let dying = over(dying, Limits::default(), LATER).await;
        dying.ask(Method::DELETE, &format!("{IMAGES}/hello:1"), "", b"").await;
        let gone = names(&other).await.is_empty();
        assert_eq!(gone, writes > 0);
        let latest = over(memory.clone(), Limits::default(), "2026-01-01T18:00:00Z").await;
        latest
            .registry
            .0
            .shared
            .clone()
            .expect("shared")
            .sweep()
            .await
            .expect("swept");
        assert_eq!(keys(&memory).await.len(), if gone { 0 } else { whole }, "{writes}");
        dying.ending.cancel();
        other.ending.cancel();
        latest.ending.cancel();
    }
    assert_eq!(shown, 1, "the last write makes it");
}

#[tokio::test]
async fn a_sweep_takes_nothing_from_a_push_that_goes_on() {
    let memory = Memory::new();
    let early = over(memory.clone(), Limits::default(), NOON).await;
    early.upload("hello:1", b"ok").await;
    let sweep = async |world: &World| {
        world
            .registry
            .0
            .shared
            .clone()
            .expect("shared")
            .sweep()
            .await
            .expect("swept")
    };
    assert_eq!(sweep(&early).await, 0);
    let late = over(memory.clone(), Limits::default(), LATER).await;
    assert_eq!(sweep(&late).await, 0, "it is old, and named");
    assert_eq!(pull(&late, b"ok").await.code, 200);
    // One that is not named yet is left alone for an hour.
    let record = keys(&memory)
        .await
        .into_iter()
        .find(|kv| kv.key.contains("/contents/"))
        .expect("a record");
    let mut forgotten: Value = serde_json::from_slice(&record.value).expect("a record");
    for (since, swept) in [("2026-01-01T14:30:00Z", 0), ("2026-01-01T13:30:00Z", 1)] {
        forgotten["since"] = json!(since);
        let write = Write::put("wherry/images/contents/team/forgotten", forgotten.to_string());
        memory.write(write).await.expect("written");
        assert_eq!(sweep(&late).await, swept, "{since}");
    }
    assert_eq!(pull(&late, b"ok").await.code, 200);
}

#[tokio::test]
async fn a_missing_chunk_and_one_that_lies_are_refused_and_pushing_again_mends_it() {
    let memory = Memory::new();
    let one = plane(&memory).await;
    one.upload("hello:1", &large()).await;
    let chunks = |kvs: Vec<Kv>| -> Vec<Kv> { kvs.into_iter().filter(|kv| kv.value.len() > 400_000).collect() };
    let whole = chunks(keys(&memory).await);
    let [first, second, ..] = whole.as_slice() else {
        panic!("several chunks")
    };
    let mut altered = first.value.to_vec();
    altered[1000] ^= 1;
    let put = |key: &str, value: Vec<u8>| Write::put(key, value);
    let longer = [first.value.as_ref(), b"more"].concat();
    let lies = [
        Write::delete(second.key.clone(), ::store::Expect::Any),
        put(&first.key, altered),
        put(&first.key, second.value.to_vec()),
        put(&first.key, longer),
        put(&second.key, Vec::new()),
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let two = plane(&memory).await;
        memory.write(lie).await.expect("written");
        let refused = pull(&two, &large()).await;
        assert_eq!((refused.code, two.files()), (500, 0), "{n}: {}", refused.json());
        let message = refused.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(
            message.contains("is damaged") && message.contains("push the image again"),
            "{message}"
        );
        // The rest of the registry goes on.
        assert_eq!(names(&two).await, ["hello:1"]);
        for kv in [first, second] {
            memory.write(put(&kv.key, kv.value.to_vec())).await.expect("written");
        }
        assert_eq!(pull(&two, &large()).await.code, 200, "{n}: as it was");
        two.ending.cancel();
    }
    memory
        .write(Write::delete(second.key.clone(), ::store::Expect::Any))
        .await
        .expect("written");
    let before = keys(&memory).await.len() + 1;
    assert_eq!(one.upload("hello:1", &large()).await.code, 201);
    assert_eq!(pull(&plane(&memory).await, &large()).await.body, large());
    assert_eq!(keys(&memory).await.len(), before, "what was there before is gone");
}

#[tokio::test]
async fn limits_count_what_all_have_together() {
    let memory = Memory::new();
    let limits = Limits { image: 40, total: 1000 };
    let (one, two) = (
        over(memory.clone(), limits, NOON).await,
        over(memory.clone(), limits, NOON).await,
    );
    let mut taken = 0;
    let full = loop {
        let plane = if taken % 2 == 0 { &one } else { &two };
        let answer = plane
            .upload(&format!("hello:{taken}"), format!("ok {taken}").as_bytes())
            .await;
        if answer.code != 201 {
            break answer;
        }
        taken += 1;
    };
    assert!(taken > 0 && full.code == 507, "{taken}: {}", full.json());
    let message = full.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.starts_with("the image registry is full: it holds"), "{message}");
    assert_eq!(names(&one).await.len(), taken);
    two.ask(Method::DELETE, &format!("{IMAGES}/hello:0"), "", b"").await;
    assert_eq!(two.upload("hello:again", b"ok").await.code, 201);
}

#[tokio::test]
async fn without_the_store_nothing_is_promised() {
    let memory = Memory::new();
    let left = Arc::new(AtomicUsize::new(0));
    let away = over(
        Mortal {
            memory: memory.clone(),
            left,
        },
        Limits::default(),
        NOON,
    )
    .await;
    let refused = away.upload("hello:1", b"ok").await;
    assert_eq!((refused.code, away.files()), (503, 0), "{}", refused.json());
    assert_eq!(keys(&memory).await, vec![]);
}
