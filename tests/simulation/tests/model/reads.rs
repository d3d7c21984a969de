//! Reads: objects, lists and their pages, and the events of watches, against everything that has happened.

use std::time::Duration;

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use crate::{
    kinds::{KINDS, Kind},
    object::{self, Object},
    operation::{Age, Chosen, Client, Labelled, Query, Since, Target},
    predict::{INVALID, NOT_FOUND, Outcome, Refusal, Then},
    session::{Answer, JSON, Session, Shows, Verdict, refused},
    world::{Change, Id, Page},
};

const FORBIDDEN: Refusal = Refusal(403, "Forbidden");
const TIMEOUT: Refusal = Refusal(504, "Timeout");
/// How long an event may take, and how long none is awaited.
const LONG: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(20);
/// Further than any revision of a run.
const FAR: u64 = 1_000_000_000;

/// At which revision a list is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// After everything that was acknowledged.
    Now,
    AtLeast(u64),
    At(u64),
}

/// A watch that goes on.
pub struct Followed {
    query: Query,
    /// How much had happened when it began.
    index: usize,
    lines: BoxStream<'static, String>,
}

/// What a watch should tell: the type of an event, and the object as it is shown.
type Expected = (&'static str, Id, Object, Option<usize>);

impl Session {
    pub async fn get(&mut self, client: Client, at: Target, age: Age) -> Verdict {
        let id = self.world.id(at);
        let mut path = Self::path(&id, "", client, false);
        match age {
            Age::Any => path.push_str("&resourceVersion=0"),
            Age::NotOlder(back) => path.push_str(&format!("&resourceVersion={}", self.world.earlier(back).0)),
            Age::Future => path.push_str(&format!("&resourceVersion={FAR}")),
            Age::Fresh | Age::Exact(_) | Age::MatchWithoutVersion | Age::ExactZero => {}
        }
        let answer = self.send(client, Method::GET, &path, JSON, &Value::Null).await;
        let old = self.world.now.get(&id).cloned();
        let predicted = match (client, age) {
            (Client::Stranger, _) => Err(FORBIDDEN),
            (_, Age::Future) => Err(TIMEOUT),
            _ => old.ok_or(NOT_FOUND).map(|object| Outcome {
                code: 200,
                object,
                then: Then::Same,
            }),
        };
        self.compare("get", &id, &answer, predicted, (Shows::Object, false))
    }

    pub fn collection_of(&self, query: &Query) -> String {
        let namespace = query.place.map(|place| self.world.namespace(place));
        Self::collection(query.kind, namespace.as_deref())
    }

    /// The selectors of a query. Other runs' objects are kept out by a label where the path does not do it.
    pub fn selectors(&self, query: &Query) -> String {
        let mut labels = Vec::new();
        if self.needs_label(query) {
            labels.push(format!("case={}", self.world.run));
        }
        match query.labelled {
            Labelled::Any => {}
            Labelled::Is(value) => labels.push(format!("a=v{value}")),
            Labelled::IsNot(value) => labels.push(format!("a!=v{value}")),
            Labelled::Has => labels.push("a".to_owned()),
            Labelled::HasNot => labels.push("!a".to_owned()),
            Labelled::In(one, other) => labels.push(format!("a in (v{one},v{other})")),
        }
        let name = |number| {
            self.world
                .id(Target {
                    kind: query.kind,
                    place: crate::operation::Place::Left,
                    number,
                })
                .name
        };
        let fields = match query.chosen {
            Chosen::Any => String::new(),
            Chosen::Name(number) => format!("metadata.name={}", name(number)),
            Chosen::NotName(number) => format!("metadata.name!={}", name(number)),
            Chosen::Unbound => "spec.nodeName=".to_owned(),
            Chosen::Own(value) => format!("spec.b=v{value}"),
        };
        form_urlencoded(&[("labelSelector", &labels.join(",")), ("fieldSelector", &fields)])
    }

    fn needs_label(&self, query: &Query) -> bool {
        query.place.is_none() || !query.kind.is_namespaced()
    }

    fn is_selective(&self, query: &Query) -> bool {
        self.needs_label(query) || query.labelled != Labelled::Any || query.chosen != Chosen::Any
    }

    pub async fn list(&mut self, client: Client, query: &Query, limit: Option<u8>, age: Age) -> Verdict {
        let mut path = format!("{}?{}", self.collection_of(query), self.selectors(query));
        if let Some(limit) = limit {
            path.push_str(&format!("&limit={limit}"));
        }
        let version = |revision: u64, how: &str| format!("&resourceVersion={revision}&resourceVersionMatch={how}");
        path.push_str(&match age {
            Age::Fresh => String::new(),
            Age::Any => "&resourceVersion=0".to_owned(),
            Age::NotOlder(back) => version(self.world.earlier(back).0, "NotOlderThan"),
            Age::Exact(back) if self.world.earlier(back).0 > 0 => version(self.world.earlier(back).0, "Exact"),
            Age::Exact(_) => String::new(),
            Age::Future => version(FAR, "NotOlderThan"),
            Age::MatchWithoutVersion => "&resourceVersionMatch=Exact".to_owned(),
            Age::ExactZero => version(0, "Exact"),
        });
        let answer = self.send(client, Method::GET, &path, JSON, &Value::Null).await;
        self.count("list", &answer);
        match (client, age) {
            (Client::Stranger, _) => return refused(&answer, FORBIDDEN),
            (_, Age::MatchWithoutVersion | Age::ExactZero) => return refused(&answer, INVALID),
            (_, Age::Future) => return refused(&answer, TIMEOUT),
            _ => {}
        }
        let (when, index) = match age {
            Age::Exact(back) if self.world.earlier(back).0 > 0 => {
                let (revision, index) = self.world.earlier(back);
                (When::At(revision), index)
            }
            Age::Any => (When::AtLeast(0), self.world.log.len()),
            Age::NotOlder(back) => (When::AtLeast(self.world.earlier(back).0), self.world.log.len()),
            _ => (When::Now, self.world.log.len()),
        };
        // There is but one server, and its caches have seen each write before it is answered: what is shown is never old,
        // though the revision that is told may be, where nothing of the kind has changed since.
        let expected = self.world.at(index, query);
        self.page(query, &answer, &expected, (limit, when, index))
    }

    /// Compares a page with what is left to be shown.
    fn page(
        &mut self,
        query: &Query,
        answer: &Answer,
        left: &[(Id, Object)],
        (limit, when, index): (Option<u8>, When, usize),
    ) -> Verdict {
        let shown = limit.map_or(left.len(), |limit| left.len().min(usize::from(limit)));
        self.same_items(query, answer, &left[..shown])?;
        let meta = &answer.body["metadata"];
        let revision = meta["resourceVersion"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let (latest, known) = self.world.latest();
        let current = match when {
            When::Now => revision > latest || (revision == latest && known == self.world.log.len()),
            When::AtLeast(least) => revision >= least,
            When::At(exactly) => revision == exactly,
        };
        let token = meta["continue"].as_str().unwrap_or_default();
        let rest = left.len() - shown;
        let tokened = token.is_empty() == (rest == 0);
        let counted = meta["remainingItemCount"].as_u64().unwrap_or_default();
        // How many are left is not told with selectors, and need not be of the past.
        let counts = match (self.is_selective(query), when) {
            (true, _) => counted == 0,
            (false, When::At(_)) => counted == 0 || counted == rest as u64,
            (false, _) => counted == rest as u64,
        };
        // With selectors, there may be more objects of which none is selected.
        if !current || !(tokened || (rest == 0 && self.is_selective(query))) || !counts {
            return Err(format!(
                "predicted {rest} more at {when:?} or after {latest}, was answered with {meta:#}"
            ));
        }
        if when == When::Now {
            self.world.mark(revision);
        }
        if let (Some((after, _)), Some(limit)) = (left[..shown].last(), limit.filter(|_| !token.is_empty())) {
            self.world.pages.push(Page {
                query: *query,
                limit,
                token: token.to_owned(),
                after: after.clone(),
                index,
                revision,
            });
        }
        Ok(())
    }

    /// Whether a list has exactly these objects, in this order.
    pub fn same_items(&self, query: &Query, answer: &Answer, expected: &[(Id, Object)]) -> Verdict {
        let items = answer.body["items"]
            .as_array()
            .ok_or_else(|| format!("predicted a list, was answered {answer:#?}"))?;
        let found: Vec<(Id, Object)> = items
            .iter()
            .map(|item| (id_of(query.kind, item), object::read(query.kind, item)))
            .collect();
        match answer.code == 200 && found == expected {
            true => Ok(()),
            false => Err(format!(
                "predicted {expected:#?}\nwas answered {} {found:#?}",
                answer.code
            )),
        }
    }

    pub async fn next_page(&mut self, client: Client, list: u8) -> Verdict {
        let count = self.world.pages.len();
        let Some(page) = count
            .checked_sub(1 + usize::from(list))
            .and_then(|at| self.world.pages.get(at))
            .cloned()
        else {
            return Ok(());
        };
        let Page {
            query,
            limit,
            token,
            after,
            index,
            revision,
        } = page;
        let path = format!(
            "{}?{}&limit={limit}&{}",
            self.collection_of(&query),
            self.selectors(&query),
            form_urlencoded(&[("continue", &token)])
        );
        let answer = self.send(client, Method::GET, &path, JSON, &Value::Null).await;
        self.count("continue", &answer);
        if client == Client::Stranger {
            return refused(&answer, FORBIDDEN);
        }
        let mut left = self.world.at(index, &query);
        left.retain(|(id, _)| *id > after);
        self.page(&query, &answer, &left, (Some(limit), When::At(revision), index))
    }

    pub async fn watch(&mut self, client: Client, query: &Query, since: Since) -> Verdict {
        let (revision, index) = match since {
            Since::Seen(back) => self.world.earlier(back),
            Since::Now | Since::Initial => (0, self.world.log.len()),
        };
        let mut path = format!(
            "{}?{}&watch=true&timeoutSeconds=1",
            self.collection_of(query),
            self.selectors(query)
        );
        let since = if since == Since::Initial || revision > 0 {
            since
        } else {
            Since::Now
        };
        match since {
            Since::Seen(_) => path.push_str(&format!("&resourceVersion={revision}")),
            Since::Now => {}
            Since::Initial => {
                path.push_str("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
            }
        }
        let request = Request::get(&path).body(Body::empty()).expect("a request");
        let (head, bytes) = self.exchange(client, request).await;
        let answer = Answer {
            code: head.status.as_u16(),
            body: Value::Null,
        };
        self.count("watch", &answer);
        if client == Client::Stranger {
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            return refused(&Answer { body, ..answer }, FORBIDDEN);
        }
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut events: Vec<Value> = lines
            .map(|line| serde_json::from_slice(line).expect("an event"))
            .collect();
        let expected: Vec<Expected> = match since {
            Since::Seen(_) => self.world.log[index..]
                .iter()
                .filter_map(|change| self.event(query, change))
                .collect(),
            Since::Now | Since::Initial => {
                let now = self.world.at(self.world.log.len(), query);
                now.into_iter()
                    .map(|(id, object)| ("ADDED", id, object, None))
                    .collect()
            }
        };
        if since == Since::Initial {
            let mark = match events.len() > expected.len() {
                true => events.remove(expected.len()),
                false => Value::Null,
            };
            let ended = mark.pointer("/object/metadata/annotations/k8s.io~1initial-events-end");
            if mark["type"] != "BOOKMARK" || ended.and_then(Value::as_str) != Some("true") {
                return Err(format!(
                    "predicted the end of what there is, after {expected:#?}\nwas told {mark:#}"
                ));
            }
            events.retain(|event| event["type"] != "BOOKMARK");
        }
        if let Some(error) = events.iter().find(|event| event["type"] == "ERROR") {
            return Err(format!("since {revision}, predicted {expected:#?}\nwas told {error:#}"));
        }
        let found: Vec<_> = events.iter().map(|event| told(query.kind, event)).collect();
        // What there is comes in no certain order.
        let (mut expected, mut found) = (expected, found);
        if !matches!(since, Since::Seen(_)) {
            expected.sort_by(|one, other| one.1.cmp(&other.1));
            found.sort_by(|one, other| one.1.cmp(&other.1));
        }
        let same = are_told(&mut expected, &mut found);
        match answer.code == 200 && same {
            true => Ok(()),
            false => Err(format!(
                "since {revision}, predicted {expected:#?}\nwas told {} {found:#?}",
                answer.code
            )),
        }
    }

    /// What a watch tells of a change: what enters a selection is new to it, what leaves it is gone.
    fn event(&self, query: &Query, change: &Change) -> Option<Expected> {
        let within = |object: &Option<Object>| {
            object
                .clone()
                .filter(|object| self.world.selects(query, &change.id, object))
        };
        let (type_, object) = match (within(&change.before), within(&change.after)) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => ("DELETED", before),
        };
        Some((type_, change.id.clone(), object, change.together))
    }

    /// Begins a watch that is read at the end.
    pub async fn follow(&mut self, query: &Query) -> Verdict {
        let (revision, index) = self.world.latest();
        if revision == 0 {
            return Ok(());
        }
        let path = format!(
            "{}?{}&watch=true&resourceVersion={revision}",
            self.collection_of(query),
            self.selectors(query)
        );
        let request = Request::get(&path).body(Body::empty()).expect("a request");
        let response = self.open(Client::One, request).await;
        if response.status() != 200 {
            return Err(format!("{path} was answered {}", response.status()));
        }
        let frames = response.into_body().into_data_stream();
        let lines = frames.flat_map(|frame| {
            let frame = frame.expect("the watch is not cut off");
            let lines = frame.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let lines: Vec<String> = lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            stream::iter(lines)
        });
        self.followed.push(Followed {
            query: *query,
            index,
            lines: lines.boxed(),
        });
        Ok(())
    }

    /// Whether the watches that went on told everything, and nothing else.
    async fn review_followed(&mut self) -> Verdict {
        for mut followed in std::mem::take(&mut self.followed) {
            let changes = &self.world.log[followed.index..];
            let mut expected: Vec<Expected> = changes
                .iter()
                .filter_map(|change| self.event(&followed.query, change))
                .collect();
            let mut found = Vec::new();
            // One more than it should tell is waited for, in vain.
            while found.len() <= expected.len() {
                let patience = if found.len() < expected.len() { LONG } else { SHORT };
                let Ok(Some(line)) = tokio::time::timeout(patience, followed.lines.next()).await else {
                    break;
                };
                let event: Value = serde_json::from_str(&line).expect("an event");
                found.push(told(followed.query.kind, &event));
            }
            if !are_told(&mut expected, &mut found) {
                return Err(format!("following, predicted {expected:#?}\nwas told {found:#?}"));
            }
        }
        Ok(())
    }

    /// Everything, once more, at the end.
    pub async fn review(&mut self) -> Verdict {
        self.review_followed().await?;
        for kind in KINDS {
            let query = Query {
                kind,
                place: None,
                labelled: Labelled::Any,
                chosen: Chosen::Any,
            };
            self.list(Client::One, &query, None, Age::Fresh).await?;
            self.watch(Client::One, &query, Since::Seen(u8::MAX)).await?;
        }
        Ok(())
    }
}

fn id_of(kind: Kind, object: &Value) -> Id {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    Id {
        kind,
        namespace: text("namespace"),
        name: text("name"),
    }
}

fn told(kind: Kind, event: &Value) -> (String, Id, Object) {
    let object = &event["object"];
    let type_ = event["type"].as_str().unwrap_or_default().to_owned();
    (type_, id_of(kind, object), object::read(kind, object))
}

/// Whether exactly those events were told, in their order; what happened at once may come in any.
fn are_told(expected: &mut [Expected], found: &mut [(String, Id, Object)]) -> bool {
    if expected.len() != found.len() {
        return false;
    }
    let mut from = 0;
    for part in expected.chunk_by_mut(|one, other| one.3.is_some() && one.3 == other.3) {
        let told = &mut found[from..from + part.len()];
        from += part.len();
        part.sort_by(|one, other| one.1.cmp(&other.1));
        told.sort_by(|one, other| one.1.cmp(&other.1));
        if !part
            .iter()
            .zip(told.iter())
            .all(|(expected, found)| is_told(expected, found))
        {
            return false;
        }
    }
    true
}

/// Whether that event was told. One of something gone bears the revision at which it went; 0 is a revision that only the
/// server knows.
fn is_told(expected: &Expected, found: &(String, Id, Object)) -> bool {
    let (type_, id, object, _) = expected;
    let gone = *type_ == "DELETED";
    let revised = match gone {
        true => found.2.revision > object.revision,
        false if object.revision == 0 => true,
        false => found.2.revision == object.revision,
    };
    let mut wanted = object.clone();
    wanted.revision = found.2.revision;
    (*type_, id) == (&*found.0, &found.1) && revised && wanted == found.2
}

/// Parameters of a URL.
fn form_urlencoded(pairs: &[(&str, &str)]) -> String {
    let mut out = Vec::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let mut text = format!("{name}=");
        for byte in value.bytes() {
            match byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
                true => text.push(char::from(byte)),
                false => text.push_str(&format!("%{byte:02X}")),
            }
        }
        out.push(text);
    }
    out.join("&")
}
