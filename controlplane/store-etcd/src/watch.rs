//! A watch that outlives the endpoint it runs on.
//!
//! Each watch has a stream of its own. Where that breaks, the next endpoint goes on behind what was told, after a look
//! whether that is still kept: etcd takes a start in the future for a wish, and one that was just compacted for fine.
//!
//! Progress is etcd's own answer where its version can be believed ([`crate::version`]). Where it cannot, a marker is
//! written at the end of the watched range: what the watch tells after it came after it. That is a write for each time
//! that somebody asks, and as consistent as a read of a quorum.

mod told;

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use store::follow::Asked;
use store::{Error, Revision, Signal, Watch};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::call::{Repeat, Shared};
use crate::error::{Meaning, Silent, meaning};
use crate::keyspace::number;
use crate::pool::reason;
use crate::proto::{
    self, PutRequest, RangeRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_request::RequestUnion,
};
use told::{Stream, Told};

const DOING: &str = "watching";
/// How long to wait before asking for progress again: etcd gives none while a watch is behind.
const FIRST_ASK: Duration = Duration::from_millis(5);
const SLOWEST_ASK: Duration = Duration::from_millis(200);
/// How long to wait before trying to go on with a watch that broke.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long a new stream may take to begin.
const BEGIN: Duration = Duration::from_secs(5);
/// Requests that wait to be sent by a stream.
const REQUESTS: usize = 4;

/// Starts a watch from a revision that is kept.
pub(crate) async fn start(shared: Arc<Shared>, prefix: &str, from: Revision) -> Result<Watch, Error> {
    let asked = Arc::new(Asked::default());
    let mut follower = Follower {
        told: Told::new(shared.space.clone(), from),
        shared,
        prefix: prefix.to_owned(),
        asked: asked.clone(),
        ask_at: Instant::now(),
        ask_again_after: FIRST_ASK,
        open: None,
        pause: FIRST_PAUSE,
        failed: false,
    };
    follower.open().await?;
    let signals = stream::unfold(follower, |mut follower| async {
        let signal = follower.next().await?;
        Some((signal, follower))
    });
    Ok(Watch::new(signals, move || asked.ask()))
}

/// Whether `at` can be read at, and so watched from.
pub(crate) async fn check_kept(shared: &Shared, at: Revision) -> Result<(), Error> {
    if at < Revision::FIRST {
        return Err(Error::Compacted {
            compacted: Revision::FIRST,
        });
    }
    let request = RangeRequest {
        key: shared.space.raw(""),
        revision: number(at),
        count_only: true,
        ..RangeRequest::default()
    };
    shared.range(DOING, request, at).await.map(drop)
}

/// The revision up to which history was compacted: what etcd tells to a watch from before, and to nobody else.
pub(crate) async fn compacted(shared: &Shared) -> Result<Revision, Error> {
    let mut open = open(shared, "", Revision::default()).await?;
    let mut told = Told::new(shared.space.clone(), Revision::default());
    let probe = async {
        loop {
            match open.answers.message().await {
                Ok(Some(answer)) => {
                    if let Err(Error::Compacted { compacted }) = told.take(answer, false) {
                        return Ok(compacted);
                    }
                }
                Ok(None) => return Ok(Revision::FIRST),
                Err(status) => return Err(Error::unavailable(DOING, status)),
            }
        }
    };
    match tokio::time::timeout(BEGIN, probe).await {
        Ok(found) => found,
        Err(_) => Err(Error::unavailable(DOING, Silent)),
    }
}

/// A stream that carries one watch.
struct Open {
    node: usize,
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    /// Whether the member can be believed about progress.
    believed: bool,
}

/// Opens a stream that tells what happened after `from`, at whichever endpoint can be reached.
async fn open(shared: &Shared, prefix: &str, from: Revision) -> Result<Open, Error> {
    let link = shared
        .watches
        .link()
        .await
        .map_err(|down| Error::unavailable(DOING, down))?;
    let (requests, queue) = mpsc::channel(REQUESTS);
    let create = RequestUnion::CreateRequest(WatchCreateRequest {
        key: shared.space.raw(prefix),
        range_end: shared.space.end(prefix),
        start_revision: number(from.next()),
        prev_kv: true,
        fragment: true,
    });
    // There is room, since nothing was sent yet.
    let _ = requests.try_send(WatchRequest {
        request_union: Some(create),
    });
    let mut request = Request::new(ReceiverStream::new(queue));
    // A member that has lost the others then says so, in place of being silent for ever.
    request
        .metadata_mut()
        .insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let mut client = proto::watch(link.channel.clone());
    let answers = match tokio::time::timeout(BEGIN, client.watch(request)).await {
        Ok(answers) => answers,
        Err(_) => Err(Status::from_error(Box::new(Silent))),
    };
    match answers {
        Ok(answers) => {
            let believed = shared.progress_is_true(&link).await;
            shared.watches.answered(link.node);
            Ok(Open {
                node: link.node,
                requests,
                answers: answers.into_inner(),
                believed,
            })
        }
        Err(status) => {
            shared.watches.failed(link.node, &reason(&status));
            Err(match meaning(DOING, &status, from) {
                Meaning::Final(error) => error,
                _ => Error::unavailable(DOING, status),
            })
        }
    }
}

struct Follower {
    shared: Arc<Shared>,
    prefix: String,
    told: Told,
    asked: Arc<Asked>,
    /// When progress that is owed is asked for (again).
    ask_at: Instant,
    ask_again_after: Duration,
    /// `None` while the stream is broken.
    open: Option<Open>,
    /// The next wait before a broken stream is opened anew.
    pause: Duration,
    failed: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Signal, Error>> {
        while !self.failed {
            if let Some(signal) = self.told.next() {
                return Some(Ok(signal));
            }
            let closed = self.shared.closed.clone();
            let step = closed.run_until_cancelled(self.step()).await;
            if let Err(error) = step.unwrap_or(Err(Error::Closed)) {
                self.failed = true;
                return Some(Err(error));
            }
        }
        None
    }

    async fn step(&mut self) -> Result<(), Error> {
        if self.asked.take() {
            self.told.owe(self.shared.seen());
            (self.ask_at, self.ask_again_after) = (Instant::now(), FIRST_ASK);
        }
        if self.open.is_none() {
            return self.reopen().await;
        }
        if self.told.owes() && self.ask_at <= Instant::now() {
            self.ask_for_progress().await;
        }
        let (owes, ask_at) = (self.told.owes(), self.ask_at);
        let Some(open) = &mut self.open else { return Ok(()) };
        let ask_again = async {
            match owes {
                true => tokio::time::sleep_until(ask_at).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = open.answers.message() => self.answered(answer),
            () = self.asked.woken() => Ok(()),
            () = ask_again => Ok(()),
        }
    }

    fn answered(&mut self, answer: Result<Option<WatchResponse>, Status>) -> Result<(), Error> {
        let believed = self.open.as_ref().is_some_and(|open| open.believed);
        match answer {
            Ok(Some(answer)) => match self.told.take(answer, believed)? {
                Stream::GoesOn => self.pause = FIRST_PAUSE,
                Stream::Ended(why) if why.contains("permission denied") => {
                    return Err(Error::unavailable(
                        DOING,
                        crate::error::Refused(Status::permission_denied(why)),
                    ));
                }
                Stream::Ended(why) => self.broken(&why),
            },
            Ok(None) => self.broken("the stream ended"),
            Err(status) => self.broken(&reason(&status)),
        }
        Ok(())
    }

    fn broken(&mut self, why: &str) {
        if let Some(open) = self.open.take() {
            tracing::debug!(prefix = self.prefix, why, "a watch goes on at another etcd endpoint");
            self.shared.watches.failed(open.node, why);
        }
    }

    /// Opens the stream anew. Only what makes going on impossible is an error.
    async fn reopen(&mut self) -> Result<(), Error> {
        let at = self.told.resume();
        let opened = match check_kept(&self.shared, at).await {
            Ok(()) => self.open().await,
            Err(error) => Err(error),
        };
        match opened {
            Err(Error::Unavailable { source, .. }) => {
                tracing::debug!(
                    prefix = self.prefix,
                    error = &*source as &dyn std::error::Error,
                    "a watch waits for etcd"
                );
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Ok(())
            }
            opened => opened,
        }
    }

    async fn open(&mut self) -> Result<(), Error> {
        let from = self.told.resume();
        self.open = Some(open(&self.shared, &self.prefix, from).await?);
        self.ask_at = Instant::now();
        Ok(())
    }

    async fn ask_for_progress(&mut self) {
        let Some(open) = &self.open else { return };
        if open.believed {
            let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
            // Where the queue is full the same request is in it already.
            let _ = open.requests.try_send(WatchRequest {
                request_union: Some(request),
            });
        } else if let Err(error) = self.mark().await {
            tracing::debug!(error = &error as &dyn std::error::Error, "progress cannot be asked for");
        }
        self.ask_at = Instant::now() + self.ask_again_after;
        self.ask_again_after = (self.ask_again_after * 2).min(SLOWEST_ASK);
    }

    /// Writes the marker.
    async fn mark(&self) -> Result<(), Error> {
        let request = PutRequest {
            key: self.shared.space.marker(&self.prefix),
            ..PutRequest::default()
        };
        let put = |channel| {
            let request = request.clone();
            async move { proto::kv(channel).put(request).await }
        };
        self.shared.call("marking", Repeat::Yes, put).await.map(drop)
    }
}
