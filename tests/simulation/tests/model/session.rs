//! Does operations at the server, and compares each answer with what the model said before.

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use bytes::Bytes;
use harness::api::Api;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

use crate::{
    kinds::Kind,
    object::{self, Fields, Object, Owner},
    operation::{Client, Operation, Part, Step, Write},
    predict::{Outcome, Refusal, Then},
    reads::Followed,
    world::{Id, World},
};

/// What the server answered.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
}

impl Answer {
    pub fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }
}

/// What is to be said of an answer, once it is known what happened before.
type Judge = Rc<dyn Fn(&mut Session, &Answer) -> Verdict>;

/// A request of a client.
pub struct Asked {
    client: Client,
    method: Method,
    path: String,
    media: &'static str,
    body: Value,
    judge: Judge,
}

impl Asked {
    pub fn new(
        client: Client,
        method: Method,
        path: String,
        media: &'static str,
        body: Value,
        judge: impl Fn(&mut Session, &Answer) -> Verdict + 'static,
    ) -> Self {
        Self {
            client,
            method,
            path,
            media,
            body,
            judge: Rc::new(judge),
        }
    }
}

/// What a successful write answers with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    Object,
    Scale,
    /// The object while it stays, a Status once it is gone.
    Deletion,
}

/// One run of operations.
pub struct Session {
    pub world: World,
    /// Watches that go on until the end.
    pub followed: Vec<Followed>,
    /// How often each operation met each answer.
    pub tally: BTreeMap<String, u64>,
    one: client::Client,
    stranger: client::Client,
}

/// The way to a refusal, or to nothing to say.
pub type Verdict = Result<(), String>;

impl Session {
    /// Begins a run, in namespaces of its own.
    pub async fn begin(api: &Arc<Api>, run: String) -> Self {
        let session = Self {
            world: World::new(run),
            followed: Vec::new(),
            tally: BTreeMap::new(),
            one: api.administrator(),
            stranger: api.client("stranger", &[]),
        };
        for side in ["left", "right"] {
            let name = format!("{}-{side}", session.world.run);
            session
                .must_create("/api/v1/namespaces", json!({"metadata": {"name": name}}))
                .await;
            let account = json!({"metadata": {"name": "default"}});
            session
                .must_create(&format!("/api/v1/namespaces/{name}/serviceaccounts"), account)
                .await;
        }
        session
    }

    async fn must_create(&self, path: &str, body: Value) {
        let answer = self.send(Client::One, Method::POST, path, JSON, &body).await;
        assert_eq!(answer.code, 201, "{path}: {answer:?}");
    }

    /// Does every step. What the server and the model do not agree on ends the run.
    pub async fn run(&mut self, steps: &[Step]) -> Verdict {
        for (number, step) in steps.iter().enumerate() {
            let told = |wrong: String| format!("at step {number}, {step:?}\n{wrong}");
            self.step(step).await.map_err(told)?;
        }
        self.review().await
    }

    async fn step(&mut self, step: &Step) -> Verdict {
        let client = step.client;
        match &step.operation {
            Operation::Get { at, age } => self.get(client, *at, *age).await,
            Operation::List { query, limit, age } => self.list(client, query, *limit, *age).await,
            Operation::Continue { list } => self.next_page(client, *list).await,
            Operation::DeleteCollection { query, options } => self.delete_collection(client, query, options).await,
            Operation::Watch { query, since } => self.watch(client, query, *since).await,
            Operation::Follow { query } => self.follow(query).await,
            Operation::Write(write) => {
                let asked = self.ask(client, write);
                let answer = self.answer(&asked).await;
                (asked.judge)(self, &answer)
            }
            Operation::Race { writes } => self.race(client, writes).await,
        }
    }

    /// The request of a write.
    fn ask(&self, client: Client, write: &Write) -> Asked {
        match write {
            Write::Create {
                at,
                naming,
                fields,
                bound,
                odd,
                dry,
            } => self.create(client, *at, *naming, fields, *bound, *odd, *dry),
            Write::Update {
                at,
                part,
                read,
                edit,
                version,
                dry,
            } => self.update(client, *at, *part, *read, edit, *version, *dry),
            Write::Patch {
                at,
                part,
                form,
                edit,
                test,
                version,
                dry,
            } => self.patch(client, *at, (*part, *form), edit, *test, *version, *dry),
            Write::Apply {
                at,
                part,
                fields,
                force,
                dry,
            } => self.apply(client, *at, *part, fields, *force, *dry),
            Write::ReadScale { at } => self.read_scale(client, *at),
            Write::Scale {
                at,
                replicas,
                patch,
                version,
                dry,
            } => self.scale(client, *at, *replicas, *patch, *version, *dry),
            Write::Delete { at, options } => self.delete(client, *at, options),
            Write::Finalize { number } => self.finalize(client, *number),
        }
    }

    async fn answer(&self, asked: &Asked) -> Answer {
        self.send(
            asked.client,
            asked.method.clone(),
            &asked.path,
            asked.media,
            &asked.body,
        )
        .await
    }

    /// Two clients write at once: what they are answered must be what one after the other would have been, in one of the
    /// two orders.
    async fn race(&mut self, client: Client, writes: &(Write, Write)) -> Verdict {
        let other = if client == Client::One {
            Client::Two
        } else {
            Client::One
        };
        let (one, two) = (self.ask(client, &writes.0), self.ask(other, &writes.1));
        let (first, second) = tokio::join!(self.answer(&one), self.answer(&two));
        let before = (self.world.clone(), self.tally.clone());
        let mut said = String::new();
        // An object may be marked before the other's write and gone after it.
        for parted in [false, true] {
            for (words, orders) in [
                ("one before the other", [(&one, &first), (&two, &second)]),
                ("the other before the one", [(&two, &second), (&one, &first)]),
            ] {
                (self.world, self.tally) = before.clone();
                self.world.ending = parted.then(Vec::new);
                let [(one, first), (two, second)] = orders;
                let judged = (one.judge)(self, first).and_then(|()| (two.judge)(self, second));
                self.world.go();
                let Err(why) = judged else { return Ok(()) };
                said.push_str(&format!("{words}: {why}\n"));
            }
        }
        Err(said)
    }

    /// Sends a request and reads its whole answer.
    pub async fn send(&self, client: Client, method: Method, path: &str, media: &str, body: &Value) -> Answer {
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media);
        let response = self
            .exchange(client, request.body(Body::from(body)).expect("a request"))
            .await;
        let (head, bytes) = response;
        Answer {
            code: head.status.as_u16(),
            body: serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))),
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn open(&self, client: Client, request: Request<Body>) -> http::Response<Body> {
        let connection = match client {
            Client::One | Client::Two => self.one.kube(),
            Client::Stranger => self.stranger.kube(),
        };
        let path = request.uri().to_string();
        let response = connection.send(request).await;
        response.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    /// Sends a request and reads whatever comes until the end.
    pub async fn exchange(&self, client: Client, request: Request<Body>) -> (http::response::Parts, Bytes) {
        let path = request.uri().to_string();
        let (head, body) = self.open(client, request).await.into_parts();
        let body = body.collect().await;
        (
            head,
            body.unwrap_or_else(|error| panic!("{path}: {error:?}")).to_bytes(),
        )
    }

    /// Counts an answer and compares it with what was predicted for a write of an object.
    pub fn compare(
        &mut self,
        what: &str,
        id: &Id,
        answer: &Answer,
        predicted: Result<Outcome, Refusal>,
        (shows, dry): (Shows, bool),
    ) -> Verdict {
        self.count(what, answer);
        let outcome = match predicted {
            Ok(outcome) => outcome,
            Err(refusal) => return refused(answer, refusal),
        };
        if answer.code != outcome.code {
            return Err(format!(
                "predicted {}, was answered {answer:#?}\nfor {outcome:#?}",
                outcome.code
            ));
        }
        let then = if dry { Then::Same } else { outcome.then };
        let told = self.told(id, answer, &outcome, (shows, dry))?;
        match then {
            Then::Same => {}
            Then::Put => {
                let revision = told.revision;
                self.world.put(id.clone(), Some(told.clone()));
                self.world.mark(revision);
            }
            Then::Gone => self.world.put(id.clone(), None),
            Then::Ended => self.world.end(id.clone(), told.clone()),
        }
        if !dry && !matches!(then, Then::Gone | Then::Ended) && shows != Shows::Scale {
            self.world
                .seen
                .entry(id.clone())
                .or_default()
                .push((told, answer.body.clone()));
        }
        Ok(())
    }

    /// The object that was answered, if it is the one that was predicted.
    fn told(&self, id: &Id, answer: &Answer, outcome: &Outcome, (shows, dry): (Shows, bool)) -> Result<Object, String> {
        let mut wanted = outcome.object.clone();
        let gone = outcome.then == Then::Gone;
        if shows == Shows::Deletion && gone && !id.kind.shows_deleted() {
            let details = &answer.body["details"];
            let (name, uid, kind) = (json!(id.name), json!(wanted.uid), json!(id.kind.names().1));
            let told = [
                &answer.body["status"],
                &details["name"],
                &details["uid"],
                &details["kind"],
            ];
            let right = told == [&json!("Success"), &name, &uid, &kind];
            return right
                .then_some(wanted)
                .ok_or_else(|| format!("no Status of its deletion: {answer:#?}"));
        }
        let meta = &answer.body["metadata"];
        let found = match shows {
            Shows::Scale => {
                let replicas = answer.body["spec"]["replicas"].as_i64().unwrap_or_default();
                let mut found = wanted.clone();
                found.fields.insert(crate::predict::REPLICAS, replicas);
                found.uid = meta["uid"].as_str().unwrap_or_default().to_owned();
                found.revision = meta["resourceVersion"]
                    .as_str()
                    .unwrap_or_default()
                    .parse()
                    .unwrap_or_default();
                found
            }
            Shows::Object | Shows::Deletion => object::read(id.kind, &answer.body),
        };
        if wanted.uid.is_empty() {
            wanted.uid.clone_from(&found.uid);
        }
        let latest = self.world.latest().0;
        let moved = match outcome.then {
            _ if dry || gone => true,
            Then::Same => found.revision == wanted.revision,
            Then::Put | Then::Gone | Then::Ended => found.revision > latest,
        };
        wanted.revision = found.revision;
        if gone && shows == Shows::Deletion {
            // Its last state, as it was before or as it would have been.
            wanted = Object {
                uid: wanted.uid,
                ..found.clone()
            };
        }
        if found != wanted || !moved || found.uid.is_empty() {
            return Err(format!(
                "predicted {:?} of {wanted:#?}\nwas answered {found:#?}\nin {:#}\nthe newest revision was {latest}",
                outcome.then, answer.body
            ));
        }
        Ok(found)
    }

    pub fn count(&mut self, what: &str, answer: &Answer) {
        *self.tally.entry(format!("{what} {}", answer.code)).or_default() += 1;
    }

    pub fn owner(client: Client, applies: bool, subresource: &str) -> Owner {
        Owner {
            manager: format!("{client:?}"),
            applies,
            subresource: subresource.to_owned(),
        }
    }

    /// The path of a kind's objects in a namespace, or everywhere.
    pub fn collection(kind: Kind, namespace: Option<&str>) -> String {
        let (version, plural) = kind.names();
        let root = if version.contains('/') { "apis" } else { "api" };
        match namespace.filter(|_| kind.is_namespaced()) {
            Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
            None => format!("/{root}/{version}/{plural}"),
        }
    }

    /// The path of an object or of a part of it, with the parameters of a write.
    pub fn path(id: &Id, subresource: &str, client: Client, dry: bool) -> String {
        let collection = Self::collection(id.kind, Some(&id.namespace));
        let part = if subresource.is_empty() {
            String::new()
        } else {
            format!("/{subresource}")
        };
        format!("{collection}/{}{part}?{}", id.name, parameters(client, dry))
    }

    /// A body that was never read from the server.
    pub fn body(&self, id: &Id, fields: &Fields) -> Value {
        let mut body = id.kind.skeleton();
        body["metadata"] = json!({"name": id.name, "labels": {"case": self.world.run}});
        if id.kind.is_namespaced() {
            body["metadata"]["namespace"] = json!(id.namespace);
        }
        object::write(id.kind, &mut body, fields);
        body
    }
}

pub const JSON: &str = "application/json";

pub fn parameters(client: Client, dry: bool) -> String {
    let dry = if dry { "&dryRun=All" } else { "" };
    format!("fieldManager={client:?}{dry}")
}

pub fn subresource(part: Part) -> &'static str {
    match part {
        Part::Whole => "",
        Part::Status => "status",
    }
}

/// Whether an answer is the refusal that was predicted.
pub fn refused(answer: &Answer, refusal: Refusal) -> Verdict {
    let Refusal(code, reason) = refusal;
    if answer.code == code && answer.reason() == reason {
        return Ok(());
    }
    Err(format!("predicted {refusal:?}, was answered {answer:#?}"))
}
