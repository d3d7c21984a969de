//! API priority and fairness: who is served at once, who waits, and who is told to come back, so that one client that asks
//! for much does not keep others from being served.
//!
//! A request is classified against a compiled snapshot of the FlowSchemas ([`classify`]) and enters the queues of its
//! priority level ([`level`], [`queues`]). The levels share the server's seats and lend each other what they do not need
//! ([`demand`]); [`keep`] follows the objects. A server without any has the two mandatory levels.

mod classify;
mod demand;
mod dump;
mod keep;
mod level;
mod patience;
mod queues;
mod shuffle;
mod work;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::Object;
use arc_swap::ArcSwap;
use foldhash::fast::FixedState;
use http::header::{HeaderName, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::authn::UserInfo;
use crate::http::body::Body;
use crate::http::info::RequestInfo;
use crate::http::query::Query;
use crate::http::respond;
use crate::resources::flowcontrol::standard;
use crate::server::Shared;
use classify::Rules;
use demand::{Bounds, share_out};
pub(crate) use dump::{dump, metrics};
pub(crate) use keep::run;
#[cfg(test)]
pub(crate) use keep::sync;
pub(crate) use level::Seat;
use level::{Level, Spec};

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// How long an answer may take to be sent and keep its seat; as long as any request may take.
const SENDING: Duration = Duration::from_secs(60);

/// How many requests the server takes on at once, as Kubernetes' flags of these names: their sum is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxInflight {
    pub requests: u32,
    pub mutating: u32,
}

impl Default for MaxInflight {
    fn default() -> Self {
        MaxInflight {
            requests: 400,
            mutating: 200,
        }
    }
}

/// The seats of the server and who gets them.
pub(crate) struct FlowControl {
    config: ArcSwap<Config>,
    seats: u32,
    tasks: TaskTracker,
}

/// Schemas in the order in which they are tried.
struct Config {
    schemas: Vec<Arc<Schema>>,
    levels: Vec<Arc<Level>>,
}

struct Schema {
    name: Arc<str>,
    precedence: i64,
    rules: Rules,
    by: Distinguisher,
    level: Arc<Level>,
    /// For the response: of the schema, and of the level.
    uids: (HeaderValue, HeaderValue),
    dispatched: AtomicU64,
    rejected: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

/// A seat that is given back when an answer has been sent.
pub(crate) struct Lent {
    kept: Arc<Mutex<Option<Seat>>>,
    _sent: DropGuard,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.kept.lock().take();
    }
}

/// What a request was classified as.
pub(crate) struct Class(Arc<Schema>);

/// The same, and whether it may be served.
pub(crate) struct Admitted {
    pub(crate) class: Class,
    /// Or after how many seconds to come back.
    pub(crate) seat: Result<Seat, u64>,
}

impl FlowControl {
    pub(crate) fn new(max: MaxInflight, tasks: TaskTracker) -> Self {
        let flow = FlowControl {
            config: ArcSwap::from_pointee(Config {
                schemas: Vec::new(),
                levels: Vec::new(),
            }),
            seats: (max.requests + max.mutating).max(1),
            tasks,
        };
        flow.digest(&[], &[]);
        flow
    }

    /// Keeps a seat while an answer is sent. Who does not take it is not waited for longer than a request may take: the seat
    /// goes to others then.
    pub(crate) fn until_sent(&self, seat: Seat) -> Lent {
        let kept = Arc::new(Mutex::new(Some(seat)));
        let (sent, late) = (CancellationToken::new(), kept.clone());
        let ended = sent.clone();
        self.tasks.spawn(async move {
            if ended.run_until_cancelled(tokio::time::sleep(SENDING)).await.is_some() {
                late.lock().take();
            }
        });
        Lent {
            kept,
            _sent: sent.drop_guard(),
        }
    }

    /// Returns when a request may be served.
    pub(crate) async fn admit(
        &self,
        server: &Shared,
        info: &RequestInfo<'_>,
        query: &Query<'_>,
        user: &UserInfo,
    ) -> Option<Admitted> {
        let schema = self.classify(info, user)?;
        let level = &schema.level;
        let work = match level.is_exempt() {
            true => queues::Work::seats(1),
            false => work::estimate(server, info, query, level.widest()),
        };
        let distinct = match schema.by {
            _ if level.is_exempt() || !level.tells_flows_apart() => "",
            Distinguisher::Nothing => "",
            Distinguisher::User => &user.username,
            Distinguisher::Namespace => &info.namespace,
        };
        let flow = FixedState::with_seed(1).hash_one((&*schema.name, distinct));
        let who = || (schema.name.clone(), Box::from(distinct));
        let seat = level.enter(work, flow, who).await;
        let counter = if seat.is_ok() {
            &schema.dispatched
        } else {
            &schema.rejected
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let seat = seat.map_err(|why| {
            tracing::debug!(
                level = &*level.name,
                schema = &*schema.name,
                why,
                "a request was refused"
            );
            level.refused()
        });
        let class = Class(schema);
        Some(Admitted { class, seat })
    }

    /// The first schema that matches; there is always one for everybody.
    fn classify(&self, info: &RequestInfo<'_>, user: &UserInfo) -> Option<Arc<Schema>> {
        let config = self.config.load();
        let found = config.schemas.iter().find(|schema| schema.rules.match_(info, user));
        let fallback = || {
            config
                .schemas
                .iter()
                .find(|schema| &*schema.name == standard::CATCH_ALL)
        };
        found.or_else(fallback).cloned()
    }

    /// Works by these levels and schemas from now on, and by the mandatory ones where they lack.
    fn digest(&self, levels: &[Arc<Object>], schemas: &[Arc<Object>]) {
        let before = self.config.load_full();
        let mandatory: Vec<Arc<Object>> = standard::objects()
            .into_iter()
            .filter(is_mandatory)
            .map(Arc::new)
            .collect();
        let lacking = |kind: &'static str, given: &[Arc<Object>]| -> Vec<Arc<Object>> {
            let lacks = |object: &&Arc<Object>| {
                object.kind() == kind && !given.iter().any(|given| given.name() == object.name())
            };
            mandatory.iter().filter(lacks).cloned().collect()
        };
        let levels = [levels, &lacking("PriorityLevelConfiguration", levels)].concat();
        let schemas = [schemas, &lacking("FlowSchema", schemas)].concat();
        let mut made: Vec<(Arc<Level>, Spec)> = levels.iter().map(|object| self.level(object, &before)).collect();
        // Those that are no longer there go on for those who wait in them.
        let busy = before
            .levels
            .iter()
            .filter(|level| !made.iter().any(|(known, _)| known.name == level.name) && !level.queues.lock().is_idle());
        let quiescing: Vec<(Arc<Level>, Spec)> = busy
            .map(|level| {
                level.quiescing.store(true, Ordering::Relaxed);
                (level.clone(), level.setting.lock().spec)
            })
            .collect();
        made.extend(quiescing);
        let all: u32 = made.iter().map(|(_, spec)| spec.shares).sum();
        for (level, spec) in &made {
            level.set(
                *spec,
                Bounds::new(self.seats, spec.shares, all, spec.lends, spec.borrows),
            );
        }
        let uid = |of: &[Arc<Object>], name: &str| {
            let found = of.iter().find(|object| object.name() == name);
            found.map(|object| respond::header_text(object.uid()))
        };
        let mut read: Vec<Arc<Schema>> = schemas
            .iter()
            .filter_map(|object| {
                let wanted = object.str_at("spec.priorityLevelConfiguration.name")?;
                let (level, _) = made.iter().find(|(level, _)| *level.name == *wanted)?;
                let uids = (respond::header_text(object.uid()), uid(&levels, wanted)?);
                let known = before.schemas.iter().find(|schema| *schema.name == *object.name());
                Some(Arc::new(schema(object, level, uids, known)))
            })
            .collect();
        read.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        let levels = made.into_iter().map(|(level, _)| level).collect();
        self.config.store(Arc::new(Config { schemas: read, levels }));
        self.adjust();
    }

    /// A level as it was, or a new one; another type is another level.
    fn level(&self, object: &Object, before: &Config) -> (Arc<Level>, Spec) {
        let spec = Spec::read(object);
        let exempt = spec.queuing == queues::Queuing::Exempt;
        let known = before
            .levels
            .iter()
            .find(|level| *level.name == *object.name() && level.is_exempt() == exempt);
        let level = match known {
            Some(level) => {
                level.quiescing.store(false, Ordering::Relaxed);
                level.clone()
            }
            None => Arc::new(Level::new(object.name(), spec, self.tasks.clone())),
        };
        (level, spec)
    }

    /// Shares the seats out by what the levels were asked for.
    fn adjust(&self) {
        let config = self.config.load();
        let problem: Vec<_> = config
            .levels
            .iter()
            .map(|level| {
                let seen = level.look();
                (level.setting.lock().bounds, seen, level.is_exempt())
            })
            .collect();
        for (level, seats) in config.levels.iter().zip(share_out(&problem)) {
            level.limit(seats);
        }
    }

    /// Whether a level that is no longer there has nothing to do any more.
    fn has_idle_remains(&self) -> bool {
        let config = self.config.load();
        let done = |level: &Arc<Level>| level.quiescing.load(Ordering::Relaxed) && level.queues.lock().is_idle();
        config.levels.iter().any(done)
    }
}

fn is_mandatory(object: &Object) -> bool {
    [standard::EXEMPT, standard::CATCH_ALL].contains(&object.name())
}

fn schema(
    object: &Object,
    level: &Arc<Level>,
    uids: (HeaderValue, HeaderValue),
    known: Option<&Arc<Schema>>,
) -> Schema {
    let count =
        |of: fn(&Schema) -> &AtomicU64| AtomicU64::new(known.map_or(0, |known| of(known).load(Ordering::Relaxed)));
    Schema {
        name: object.name().into(),
        precedence: object.i64_at("spec.matchingPrecedence").unwrap_or(1000),
        rules: Rules::read(object),
        by: match object.str_at("spec.distinguisherMethod.type") {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::Nothing,
        },
        level: level.clone(),
        uids,
        dispatched: count(|schema| &schema.dispatched),
        rejected: count(|schema| &schema.rejected),
    }
}

impl Class {
    /// Says in a response what the request was classified as, without the names, which may tell something.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_UID, self.0.uids.0.clone());
        headers.insert(LEVEL_UID, self.0.uids.1.clone());
    }
}

/// 429 in Kubernetes' words.
pub(crate) fn refusal(after: u64) -> Response<Body> {
    let text = "Too many requests, please try again later.\n";
    let mut response = respond::text(StatusCode::TOO_MANY_REQUESTS, text);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(after));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
