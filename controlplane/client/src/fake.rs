//! An API server in a hash map, for this crate's tests: create, get, list, merge patch, delete and watch of any path,
//! with revisions, conflicts and bookmarks, and faults on demand.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use api::Object;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Client;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<String, Object>,
    /// (revision, path of the object, type, object)
    history: Vec<(u64, String, &'static str, Object)>,
    compacted: u64,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    revision: watch::Sender<u64>,
    /// Ends all watches when it moves.
    pub(crate) epoch: watch::Sender<u64>,
    pub(crate) down: Arc<AtomicBool>,
    pub(crate) lists: Arc<AtomicUsize>,
    pub(crate) watches: Arc<AtomicUsize>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
            revision: watch::Sender::new(0),
            epoch: watch::Sender::new(0),
            down: Arc::default(),
            lists: Arc::default(),
            watches: Arc::default(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { fake.serve(request).await }
        });
        Client::new(kube::Client::new(service, "default"))
    }

    /// Stores an object at a collection path, as a create or update by somebody else.
    pub(crate) fn put(&self, collection: &str, name: &str, mut object: Value) -> String {
        object["metadata"]["name"] = name.into();
        self.write(&format!("{collection}/{name}"), Object::from_value(object).unwrap())
    }

    pub(crate) fn remove(&self, path: &str) {
        let mut state = self.state.lock();
        if let Some(mut object) = state.objects.remove(path) {
            state.revision += 1;
            let revision = state.revision;
            object.set_resource_version(Some(&revision.to_string()));
            state.history.push((revision, path.to_owned(), "DELETED", object));
            self.revision.send_replace(revision);
        }
    }

    /// Forgets the history, so that older watches get 410.
    pub(crate) fn compact(&self) {
        let mut state = self.state.lock();
        state.compacted = state.revision;
        state.history.clear();
    }

    pub(crate) fn revision(&self) -> String {
        self.state.lock().revision.to_string()
    }

    pub(crate) async fn wait_for(&self, collection: &str, done: impl Fn(&[Object]) -> bool) -> Vec<Object> {
        let mut revision = self.revision.subscribe();
        loop {
            revision.mark_unchanged();
            let found = self.children(collection);
            if done(&found) {
                return found;
            }
            revision.changed().await.unwrap();
        }
    }

    fn children(&self, collection: &str) -> Vec<Object> {
        let state = self.state.lock();
        state
            .objects
            .iter()
            .filter(|(path, _)| is_child(path, collection))
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn write(&self, path: &str, mut object: Object) -> String {
        let mut state = self.state.lock();
        state.revision += 1;
        let revision = state.revision;
        object.set_resource_version(Some(&revision.to_string()));
        let kind = if state.objects.contains_key(path) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.objects.insert(path.to_owned(), object.clone());
        state.history.push((revision, path.to_owned(), kind, object));
        self.revision.send_replace(revision);
        revision.to_string()
    }

    async fn serve(&self, request: Request<Body>) -> Result<Answer, std::io::Error> {
        if self.down.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("down"));
        }
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or("").to_owned();
        Ok(match parts.method {
            Method::GET if query.contains("watch=true") => self.watch(&path, &query),
            Method::GET => self.read(&path),
            Method::POST => {
                let object = Object::from_slice(&body).unwrap();
                let path = format!("{path}/{}", object.name());
                if self.state.lock().objects.contains_key(&path) {
                    return Ok(refuse(409, "AlreadyExists"));
                }
                self.write(&path, object);
                self.read(&path)
            }
            Method::PATCH => self.patch(&path, &body),
            Method::DELETE => {
                self.remove(&path);
                answer(200, &json!({"kind": "Status", "status": "Success"}))
            }
            _ => refuse(405, "MethodNotAllowed"),
        })
    }

    fn patch(&self, path: &str, body: &[u8]) -> Answer {
        let Some(object) = self.state.lock().objects.get(path).cloned() else {
            return refuse(404, "NotFound");
        };
        let patch: Value = serde_json::from_slice(body).unwrap();
        if patch["metadata"]["resourceVersion"]
            .as_str()
            .is_some_and(|rv| Some(rv) != object.resource_version())
        {
            return refuse(409, "Conflict");
        }
        let mut value = object.into_value();
        merge(&mut value, &patch);
        self.write(path, Object::from_value(value).unwrap());
        self.read(path)
    }

    fn read(&self, path: &str) -> Answer {
        if let Some(object) = self.state.lock().objects.get(path) {
            return answer(200, &object.clone().into_value());
        }
        let is_collection = path.rsplit('/').next().is_some_and(|last| last.ends_with('s'));
        if !is_collection {
            return refuse(404, "NotFound");
        }
        self.lists.fetch_add(1, Ordering::Relaxed);
        let items: Vec<Value> = self.children(path).into_iter().map(Object::into_value).collect();
        answer(
            200,
            &json!({"kind": "List", "metadata": {"resourceVersion": self.revision()}, "items": items}),
        )
    }

    fn watch(&self, path: &str, query: &str) -> Answer {
        let from: u64 = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion="))
            .unwrap()
            .parse()
            .unwrap();
        if from < self.state.lock().compacted {
            return refuse(410, "Expired");
        }
        self.watches.fetch_add(1, Ordering::Relaxed);
        let (fake, path) = (self.clone(), path.to_owned());
        let (revision, mut epoch) = (self.revision.subscribe(), self.epoch.subscribe());
        epoch.mark_unchanged();
        let lines = stream::unfold((from, revision, epoch), move |(from, mut revision, mut epoch)| {
            let (fake, path) = (fake.clone(), path.clone());
            async move {
                tokio::select! {
                    seen = revision.wait_for(|at| *at > from) => { seen.unwrap(); }
                    _ = epoch.changed() => return None,
                }
                let (text, at) = fake.lines(&path, from);
                let frame = http_body::Frame::data(Bytes::from(text));
                Some((Ok::<_, Infallible>(frame), (at, revision, epoch)))
            }
        });
        Response::new(StreamBody::new(lines.boxed()).boxed_unsync())
    }

    fn lines(&self, path: &str, from: u64) -> (String, u64) {
        let state = self.state.lock();
        let mut text = String::new();
        for (_, at, kind, object) in state.history.iter().filter(|(revision, ..)| *revision > from) {
            if is_child(at, path) {
                text += &json!({"type": kind, "object": object}).to_string();
                text.push('\n');
            }
        }
        let bookmark = json!({"metadata": {"resourceVersion": state.revision.to_string()}});
        text += &json!({"type": "BOOKMARK", "object": bookmark}).to_string();
        text.push('\n');
        (text, state.revision)
    }
}

fn is_child(path: &str, collection: &str) -> bool {
    path.strip_prefix(collection).is_some_and(|rest| rest.starts_with('/'))
        || (!collection.contains("/namespaces/") && path.contains("/namespaces/") && {
            let plural = collection.rsplit('/').next().unwrap();
            path.contains(&format!("/{plural}/"))
        })
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(key);
                } else {
                    merge(target.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

fn answer(code: u16, body: &Value) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(body.to_string())).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn refuse(code: u16, reason: &str) -> Answer {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": reason});
    answer(code, &body)
}
