//! watch: changes to the selected objects as a stream of JSON lines.
//!
//! An object that comes into a selection is ADDED and one that leaves it is DELETED, whatever happened to it in the store.
//! Errors after the beginning are events of type ERROR, since the response has begun.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, Stream, stream};
use schema::protobuf::event_head;
use serde_json::json;
use store::Revision;
use store::cache::{Event, EventKind, Watcher};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Call;
use super::get::{at_least, revision};
use crate::http::accept::{Accepted, Encoding, Form, Include};
use crate::http::body::{Body, BodyError};
use crate::http::respond::store_error;
use crate::registry::catalog::{CachedItem, Endpoint};
use crate::registry::custom::convert;
use crate::registry::index::{Entry, KindIndex};
use crate::registry::render;
use crate::registry::select::Selection;
use crate::server::Shared;

/// Bookmarks go out about this often to those who asked for them.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// Events are sent together up to about this many bytes.
const CHUNK: usize = 64 * 1024;
/// A watch without a timeout of its own ends after this time and up to twice as much, so that watches spread.
const MIN_TIMEOUT: u64 = 1800;
/// Marks the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// The parameters of a watch, checked.
struct Options {
    /// `None`: the state as it is now, then changes.
    from: Option<Revision>,
    initial_events: bool,
    /// The initial events end with a bookmark.
    announce_end: bool,
    bookmarks: bool,
    timeout: Duration,
}

impl Options {
    fn parse(call: &Call<'_>) -> Result<Self, Status> {
        let query = call.query;
        let asked = revision(query.get("resourceVersion"))?;
        let send = query.bool("sendInitialEvents");
        let forbid = |field: &str, detail: &str| {
            let error = api::FieldError::forbidden(&api::Path::root(field), detail);
            Err(Status::invalid(
                &api::GroupKind::new("meta.k8s.io", "ListOptions"),
                "",
                vec![error],
            ))
        };
        match (query.get("resourceVersionMatch"), send) {
            (Some(_), None) => {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            (found, Some(_)) if found != Some("NotOlderThan") => {
                let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                return forbid("resourceVersionMatch", detail);
            }
            _ => {}
        }
        let seconds = query
            .int("timeoutSeconds")?
            .and_then(|s| u64::try_from(s).ok())
            .filter(|s| *s > 0);
        let seconds = seconds.unwrap_or_else(|| MIN_TIMEOUT + rand::random_range(0..MIN_TIMEOUT));
        Ok(Options {
            from: asked.filter(|revision| revision.0 > 0),
            initial_events: send.unwrap_or(asked.is_none_or(|revision| revision.0 == 0)),
            announce_end: send == Some(true),
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout: Duration::from_secs(seconds),
        })
    }
}

/// Begins a watch: everything that can be refused is refused here, the rest is told by events.
pub(crate) async fn watch(call: &Call<'_>, include: Include) -> Result<Body, Status> {
    let kind = &call.endpoint.kind;
    let name = (call.info.verb == "watch" && call.query.get("fieldSelector").is_none() && !call.name().is_empty())
        .then(|| call.name());
    let selection = Selection::parse(call.query, call.endpoint, name)?;
    let options = Options::parse(call)?;
    let prefix = kind.scope_prefix(call.namespace());
    let anything = call.query.get("resourceVersion") == Some("0");
    let encoder = Encoder {
        endpoint: call.endpoint.clone(),
        selection,
        accepted: call.accepted,
        include,
        clock: call.server.clone(),
        columns_sent: false,
    };
    if options.initial_events {
        at_least(kind, if anything { Some(Revision(0)) } else { options.from }).await?;
    } else if options.from.is_none() && !anything {
        at_least(kind, None).await?;
    } else if let Some(from) = options.from {
        // A watch from a revision that is still to come waits for it.
        at_least(kind, Some(from)).await?;
    }
    let snapshot = kind.cache.snapshot();
    let initial: Vec<CachedItem> = match options.initial_events {
        true => {
            let there: Vec<CachedItem> = snapshot.range(&prefix, None).cloned().collect();
            encoder.selection.prepare(&encoder.endpoint, &there).await?;
            there.into_iter().filter(|item| encoder.selects(item)).collect()
        }
        false => Vec::new(),
    };
    encoder.prepare(&initial).await?;
    let from = match options.initial_events {
        true => snapshot.revision,
        false => options.from.unwrap_or(snapshot.revision),
    };
    let watcher = match kind.cache.watch(&prefix, from) {
        Ok(watcher) => watcher,
        Err(error) => return Ok(Body::stream(stream::iter([Ok(encoder.error(&gone(error, from)))]))),
    };
    let now = Instant::now();
    let ends = now + options.timeout;
    let bookmarks = options
        .bookmarks
        .then(|| now + BOOKMARK_PERIOD.mul_f64(rand::random_range(0.8..1.2)));
    let feed = Feed {
        initial: initial.into_iter(),
        initial_end: options.announce_end.then_some(snapshot.revision),
        watcher,
        encoder,
        ends,
        next_bookmark: bookmarks,
        timer: Box::pin(sleep_until(bookmarks.map_or(ends, |bookmark| bookmark.min(ends)))),
        ending: Box::pin(call.server.ending.clone().cancelled_owned()),
        ended: false,
        _counted: call.server.metrics.watching(call.endpoint),
    };
    Ok(Body::stream(feed.into_stream()))
}

/// A running watch.
struct Feed {
    /// What is there at the beginning and has not been sent.
    initial: std::vec::IntoIter<CachedItem>,
    /// The bookmark that follows it.
    initial_end: Option<Revision>,
    watcher: Watcher<KindIndex>,
    encoder: Encoder,
    ends: Instant,
    /// `None` where nobody asked for any.
    next_bookmark: Option<Instant>,
    /// Goes off at the earlier of the two. Kept from one event to the next, as is what follows.
    timer: Pin<Box<Sleep>>,
    /// Done when watches are to end.
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
    _counted: crate::http::metrics::Watching,
}

/// What a watch wakes up for.
enum Wake {
    Events(Vec<Event<Entry>>),
    Bookmark,
    Failed(store::Error),
    Ended,
}

impl Feed {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, BodyError>> {
        stream::unfold(self, |mut feed| async move {
            let chunk = feed.next().await?;
            Some((Ok(chunk), feed))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        let mut out = self.initial_chunk();
        while out.is_empty() && !self.ended {
            match self.wake().await {
                Wake::Events(events) => {
                    if let Err(status) = self.encoder.prepare_events(&events).await {
                        self.ended = true;
                        return Some(self.encoder.error(&status));
                    }
                    self.encoder.put_events(&mut out, &events);
                }
                Wake::Bookmark => {
                    self.set_timer(Instant::now() + BOOKMARK_PERIOD);
                    self.encoder.put_bookmark(&mut out, self.watcher.position(), false);
                }
                Wake::Failed(error) => {
                    self.ended = true;
                    return Some(self.encoder.error(&gone(error, self.watcher.position())));
                }
                Wake::Ended => {
                    self.ended = true;
                    if self.next_bookmark.is_some() {
                        self.encoder.put_bookmark(&mut out, self.watcher.position(), false);
                    }
                }
            }
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    fn initial_chunk(&mut self) -> BytesMut {
        let mut out = BytesMut::new();
        for item in self.initial.by_ref() {
            self.encoder.put(&mut out, "ADDED", &item, false);
            if out.len() >= CHUNK {
                return out;
            }
        }
        if let Some(revision) = self.initial_end.take() {
            self.encoder.put_bookmark(&mut out, revision, true);
        }
        out
    }

    async fn wake(&mut self) -> Wake {
        let next = tokio::select! {
            biased;
            () = self.ending.as_mut() => return Wake::Ended,
            next = self.watcher.next() => Some(next),
            () = self.timer.as_mut() => None,
        };
        // Looks once more when it is time, so that a bookmark says how far the watch has come by now.
        match next.or_else(|| self.watcher.next().now_or_never()) {
            Some(Ok(Some(events))) => Wake::Events(events),
            Some(Ok(None)) => Wake::Ended,
            Some(Err(error)) => Wake::Failed(error),
            None if Instant::now() >= self.ends => Wake::Ended,
            None => Wake::Bookmark,
        }
    }

    fn set_timer(&mut self, bookmark: Instant) {
        self.next_bookmark = Some(bookmark);
        self.timer.as_mut().reset(bookmark.min(self.ends));
    }
}

/// Writes events in the form the client asked for.
struct Encoder {
    endpoint: Endpoint,
    selection: Selection,
    accepted: Accepted,
    include: Include,
    clock: Arc<Shared>,
    columns_sent: bool,
}

impl Encoder {
    fn selects(&self, item: &CachedItem) -> bool {
        self.selection.selects(&self.endpoint, item)
    }

    /// Has converted beforehand what a webhook has to convert.
    async fn prepare(&self, items: &[CachedItem]) -> Result<(), Status> {
        match self.accepted.form {
            Form::Metadata => Ok(()),
            Form::Object | Form::Table => convert::prepare(&self.endpoint, items).await,
        }
    }

    async fn prepare_events(&self, events: &[Event<Entry>]) -> Result<(), Status> {
        if self.endpoint.kind.custom.is_none() {
            return Ok(());
        }
        let mut items: Vec<CachedItem> = events.iter().map(|event| event.item.clone()).collect();
        items.extend(events.iter().filter_map(|event| event.prev.clone()));
        self.selection.prepare(&self.endpoint, &items).await?;
        self.prepare(&items).await
    }

    fn put_events(&mut self, out: &mut BytesMut, events: &[Event<Entry>]) {
        out.reserve(events.iter().map(|e| e.item.bytes.len() + 40).sum::<usize>().min(CHUNK));
        for event in events {
            let before = event.prev.as_ref().is_some_and(|prev| self.selects(prev));
            let after = event.kind != EventKind::Deleted && self.selects(&event.item);
            match (before, after) {
                (false, true) => self.put(out, "ADDED", &event.item, true),
                (true, true) => self.put(out, "MODIFIED", &event.item, true),
                (true, false) => self.put_left(out, event),
                (false, false) => {}
            }
        }
    }

    /// An object that left the selection is shown as it was when it last belonged, at the revision at which it left.
    fn put_left(&mut self, out: &mut BytesMut, event: &Event<Entry>) {
        match (&event.prev, event.kind) {
            (Some(prev), EventKind::Added | EventKind::Modified) => {
                let shown = render::shown(&self.endpoint, prev);
                let mut last = crate::registry::index::parse(&shown);
                last.set_resource_version(Some(&event.revision.to_string()));
                let bytes = crate::registry::encode::served(&last);
                let shown = self.shown(&bytes);
                self.put_json(out, "DELETED", &shown);
            }
            _ => self.put(out, "DELETED", &event.item, true),
        }
    }

    /// Tells of an item; a `recent` one is told to many.
    fn put(&mut self, out: &mut BytesMut, type_: &str, item: &CachedItem, recent: bool) {
        match (self.accepted.form, self.accepted.encoding) {
            (form, Encoding::Protobuf) => {
                let object = render::cached_envelope(&self.endpoint, form, item, recent);
                put_frame(out, type_, &object);
            }
            (Form::Table, _) => {
                let bytes = self.shown(&render::shown(&self.endpoint, item));
                put_line(out, type_, &bytes);
            }
            (form, _) => put_line(out, type_, &render::cached(&self.endpoint, form, item)),
        }
    }

    /// Tells of an object that is JSON in the form that was asked for.
    fn put_json(&self, out: &mut BytesMut, type_: &str, object: &[u8]) {
        match self.accepted.encoding {
            Encoding::Protobuf => put_frame(out, type_, &render::envelope(object)),
            Encoding::Json | Encoding::Yaml => put_line(out, type_, object),
        }
    }

    fn error(&self, status: &Status) -> Bytes {
        let mut out = BytesMut::new();
        self.put_json(&mut out, "ERROR", &status.to_vec());
        out.freeze()
    }

    fn shown(&mut self, stored: &Bytes) -> Bytes {
        let now = self.clock.now();
        match self.accepted.form {
            Form::Table => {
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                render::table(&self.endpoint, self.include, stored, now, columns)
            }
            form => render::object(&self.endpoint, form, self.include, stored, now),
        }
    }

    /// A bookmark is an object of the kind that has only metadata; as a table it is a row like any other.
    fn put_bookmark(&mut self, out: &mut BytesMut, revision: Revision, initial_end: bool) {
        let version = revision.to_string();
        let metadata = match initial_end {
            true => json!({"resourceVersion": version, "creationTimestamp": null,
                "annotations": {INITIAL_EVENTS_END: "true"}}),
            false => json!({"resourceVersion": version, "creationTimestamp": null}),
        };
        let (kind, api_version) = match self.accepted.form {
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1"),
            Form::Object | Form::Table => (&*self.endpoint.resource().kind, &*self.endpoint.served().api_version),
        };
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        let object = Bytes::from(object.to_string());
        let shown = match self.accepted.form {
            Form::Table => self.shown(&object),
            Form::Object | Form::Metadata => object,
        };
        self.put_json(out, "BOOKMARK", &shown);
    }
}

fn put_line(out: &mut BytesMut, type_: &str, object: &[u8]) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(type_.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
}

/// An event in protobuf. One whose object could not be encoded is told as an error, on which clients list again.
fn put_frame(out: &mut BytesMut, type_: &str, object: &[u8]) {
    if object.is_empty() {
        let status = Status::internal("an object of this watch cannot be written as protobuf");
        let object = render::envelope(&status.to_vec());
        out.put_slice(&event_head("ERROR", object.len()));
        out.put_slice(&object);
        return;
    }
    out.put_slice(&event_head(type_, object.len()));
    out.put_slice(object);
}

/// What a watcher is told whose revision is no longer in the history.
fn gone(error: store::Error, asked: Revision) -> Status {
    match error {
        store::Error::Compacted { compacted } => {
            Status::expired(format!("too old resource version: {asked} ({compacted})"))
        }
        other => store_error(other),
    }
}
