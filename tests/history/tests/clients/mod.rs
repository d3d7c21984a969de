//! Clients that write, read and watch ConfigMaps of one namespace, and write down what they see.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use api::{NamespacedName, Object};
use bytes::Bytes;
use client::{Client, Error, List, ListOptions, kinds};
use futures::{StreamExt, future::join_all};
use history::record::{Answer, Event, History, Key, Moment, Op, Revision, Seen, Value, What};
use http_body_util::BodyExt;
use nix::sched::{CloneFlags, setns};
use rand::RngExt;
use serde_json::{Value as Json, json};

const NAMESPACE: &str = "default";
const SELECT: &str = "of=history";
const WRITERS: usize = 8;
const WATCHERS: usize = 4;
/// Objects that are written again and again; writers also make ever new ones.
const SHARED: usize = 8;
/// How long a client waits after nobody answered.
const PAUSE: Duration = Duration::from_millis(3);
/// How long the last list may take to be answered.
const LAST: Duration = Duration::from_secs(30);

/// All clients, on a thread that is in the cluster's network namespace.
pub struct Clients {
    kubeconfig: PathBuf,
    begun: Instant,
    next_value: AtomicU64,
    ops: Mutex<Vec<Op>>,
}

impl Clients {
    /// Puts the calling thread into a network namespace.
    pub fn enter(namespace: &Path, kubeconfig: PathBuf, begun: Instant) -> Arc<Self> {
        let namespace = File::open(namespace).expect("the namespace is there");
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter namespaces");
        Arc::new(Self {
            kubeconfig,
            begun,
            next_value: AtomicU64::new(1),
            ops: Mutex::default(),
        })
    }

    /// Works until told to stop, and gives what was seen.
    pub fn work(self: Arc<Self>, stop: &AtomicBool) -> History {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let end = End(stop);
            let writers = join_all((0..WRITERS).map(|number| self.write(number, end.clone())));
            let watchers = join_all((0..WATCHERS).map(|_| self.watch(end.clone())));
            let (_, watchers) = futures::join!(writers, watchers);
            let last = self.last().await;
            let ops = std::mem::take(&mut *self.ops.lock().expect("nobody panics"));
            History { ops, watchers, last }
        })
    }

    async fn connect(&self) -> Client {
        Client::from_kubeconfig(&self.kubeconfig)
            .await
            .expect("the kubeconfig is good")
    }

    fn now(&self) -> Moment {
        Moment::try_from(self.begun.elapsed().as_nanos()).expect("a test takes no centuries")
    }

    async fn last(&self) -> BTreeMap<Key, (Value, Revision)> {
        let client = self.connect().await;
        let list = async {
            loop {
                match list(&client).await {
                    Ok((_, state)) => return state,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        tokio::time::timeout(LAST, list)
            .await
            .expect("the cluster answers in the end")
    }

    /// Reads and writes objects that others write too, and makes new ones.
    async fn write(&self, number: usize, end: End<'_>) {
        let client = self.connect().await;
        let mut known: BTreeMap<Key, Revision> = BTreeMap::new();
        let mut made = 0;
        while !end.reached() {
            let shared = format!("shared-{}", rand::rng().random_range(0..SHARED));
            let (key, what) = match rand::rng().random_range(0..10) {
                0..3 => (shared, What::Read),
                3 => {
                    made += 1;
                    (format!("own-{number}-{made}"), What::Create(self.value()))
                }
                _ => match known.get(&shared) {
                    Some(revision) => (shared.clone(), What::Update(self.value(), *revision)),
                    None => (shared, What::Create(self.value())),
                },
            };
            let began = self.now();
            let answer = ask(&client, &key, what).await;
            let ended = self.now();
            match answer {
                Answer::Written(revision) | Answer::Found(_, revision) => drop(known.insert(key.clone(), revision)),
                Answer::Missing => drop(known.remove(&key)),
                Answer::Refused => {
                    // Somebody else was first: what is there now is to be read.
                    let began = self.now();
                    let answer = ask(&client, &key, What::Read).await;
                    if let Answer::Found(_, revision) = answer {
                        known.insert(key.clone(), revision);
                    }
                    self.note(&key, What::Read, began, answer);
                }
                Answer::Lost => tokio::time::sleep(PAUSE).await,
            }
            let op = Op {
                key,
                what,
                began,
                ended,
                answer,
            };
            self.ops.lock().expect("nobody panics").push(op);
        }
    }

    fn note(&self, key: &Key, what: What, began: Moment, answer: Answer) {
        let op = Op {
            key: key.clone(),
            what,
            began,
            ended: self.now(),
            answer,
        };
        self.ops.lock().expect("nobody panics").push(op);
    }

    fn value(&self) -> Value {
        self.next_value.fetch_add(1, Ordering::Relaxed)
    }

    /// Lists, then watches; goes on from where it was when the watch breaks, and lists again only when told to.
    async fn watch(&self, end: End<'_>) -> Vec<Seen> {
        let client = self.connect().await;
        let (mut seen, mut place) = (Vec::new(), None);
        while !end.reached() {
            let Some(from) = place else {
                match list(&client).await {
                    Ok((revision, state)) => {
                        seen.push(Seen::Listed(revision, state));
                        place = Some(revision);
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
                continue;
            };
            // A client that breaks off by itself every now and then, as when its network does.
            let patience = Duration::from_millis(rand::rng().random_range(10..400));
            let followed = follow(&client, from, &mut seen);
            let outcome = tokio::time::timeout(patience, followed).await;
            place = match outcome {
                Ok(Broken::Expired) => None,
                Ok(Broken::Gone) => {
                    tokio::time::sleep(PAUSE).await;
                    Some(last_place(&seen))
                }
                Err(_elapsed) => Some(last_place(&seen)),
            };
        }
        seen
    }
}

/// When clients stop.
#[derive(Clone)]
struct End<'a>(&'a AtomicBool);

impl End<'_> {
    fn reached(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn body(key: &Key, value: Value, revision: Option<Revision>) -> Json {
    let mut body = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"value": value.to_string()},
        "metadata": {"name": key, "namespace": NAMESPACE, "labels": {"of": "history"}}});
    if let Some(revision) = revision {
        body["metadata"]["resourceVersion"] = revision.to_string().into();
    }
    body
}

fn revision_of(object: &Object) -> Revision {
    let text = object.resource_version().expect("objects have a resourceVersion");
    text.parse().expect("it is a number")
}

fn value_of(object: &Object) -> Value {
    let text = object.str_at("data.value").expect("objects have a value");
    text.parse().expect("it is a number")
}

async fn ask(client: &Client, key: &Key, what: What) -> Answer {
    let at = NamespacedName::new(NAMESPACE, key);
    let made = match what {
        What::Create(value) => {
            client
                .create(&kinds::CONFIG_MAP, Some(NAMESPACE), &body(key, value, None))
                .await
        }
        What::Update(value, revision) => {
            let object = Object::from_value(body(key, value, Some(revision))).expect("an object");
            client.replace(&kinds::CONFIG_MAP, &object, None).await
        }
        What::Read => {
            return match client.get_opt::<Object>(&kinds::CONFIG_MAP, &at).await {
                Ok(Some(object)) => Answer::Found(value_of(&object), revision_of(&object)),
                Ok(None) => Answer::Missing,
                Err(_) => Answer::Lost,
            };
        }
    };
    match made {
        Ok(object) => Answer::Written(revision_of(&object)),
        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Answer::Refused,
        Err(_) => Answer::Lost,
    }
}

async fn list(client: &Client) -> Result<(Revision, BTreeMap<Key, (Value, Revision)>), Error> {
    let options = ListOptions {
        labels: SELECT.into(),
        ..ListOptions::default()
    };
    let list: List<Object> = client.list(&kinds::CONFIG_MAP, Some(NAMESPACE), &options).await?;
    let items = list
        .items
        .iter()
        .map(|object| (object.name().to_owned(), (value_of(object), revision_of(object))));
    Ok((
        list.metadata.resource_version.parse().expect("a number"),
        items.collect(),
    ))
}

/// Why a watch ended.
enum Broken {
    /// The revision is no longer kept.
    Expired,
    /// The server went away, or does not answer.
    Gone,
}

/// The revision up to which a watcher has been told everything.
fn last_place(seen: &[Seen]) -> Revision {
    match seen.last() {
        Some(Seen::Listed(revision, _) | Seen::Resumed(revision) | Seen::Bookmark(revision)) => *revision,
        Some(Seen::Event(event)) => event.revision,
        None => 0,
    }
}

/// Watches from behind a revision until the watch breaks. Cancelled, everything told so far is in `seen`.
async fn follow(client: &Client, from: Revision, seen: &mut Vec<Seen>) -> Broken {
    let path = kinds::CONFIG_MAP.collection_path(Some(NAMESPACE));
    let uri = format!(
        "{path}?watch=true&allowWatchBookmarks=true&labelSelector=of%3Dhistory&resourceVersion={from}&timeoutSeconds=300"
    );
    let request = http::Request::get(uri).body(Bytes::new()).expect("a request");
    let mut chunks = match client.open(request).await {
        Ok(response) => response.into_body().into_data_stream(),
        Err(error) if error.is_expired() => return Broken::Expired,
        Err(_) => return Broken::Gone,
    };
    seen.push(Seen::Resumed(from));
    let mut buffer = Vec::new();
    loop {
        let Some(Ok(chunk)) = chunks.next().await else {
            return Broken::Gone;
        };
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let event: Json = serde_json::from_slice(&line).expect("a whole line is JSON");
            let kind = event["type"].as_str().unwrap_or_default().to_owned();
            if kind == "ERROR" {
                return if event["object"]["code"] == 410 {
                    Broken::Expired
                } else {
                    Broken::Gone
                };
            }
            let object = Object::from_value(event["object"].clone()).expect("an object");
            seen.push(match kind.as_str() {
                "BOOKMARK" => Seen::Bookmark(revision_of(&object)),
                "ADDED" | "MODIFIED" => Seen::Event(Event {
                    added: kind == "ADDED",
                    key: object.name().to_owned(),
                    value: value_of(&object),
                    revision: revision_of(&object),
                }),
                other => panic!("nobody deletes, but there is a {other} of {}", object.name()),
            });
        }
    }
}
