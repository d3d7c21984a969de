//! Asks the nodes' kubelets what is used, again and again, and keeps what they said last.
//!
//! One loop asks all nodes, several at once; whoever needs newer figures than there are wakes it and waits for the round.
//! A node that does not answer in time is passed over until the next.

use std::sync::Arc;
use std::time::Duration;

use api::names::GroupResource;
use api::{LabelSelector, Status};
use futures::{StreamExt, stream};
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::history::History;
use super::reading::{self, Reading};
use crate::http::dial::Dialer;
use crate::registry::reader::Reader;
use crate::server::Clock;

/// How often nodes are asked: metrics-server's own interval.
const PERIOD: Duration = Duration::from_secs(15);
/// How soon nodes are asked for the second time.
const HURRY: Duration = Duration::from_secs(5);
/// How often they are asked while nobody wants to know, so that there is something to compare with when somebody does.
const IDLE: Duration = Duration::from_secs(60);
/// For how long somebody who has asked is expected to ask again.
const INTEREST: Duration = Duration::from_secs(5 * 60);
/// How long an answer waits for a round.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a node may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Nodes that are asked at once, and bytes that each may say.
const AT_ONCE: usize = 8;
const LIMIT: usize = 32 << 20;

pub(super) struct Sampler {
    reader: Arc<dyn Reader>,
    dialer: Arc<dyn Dialer>,
    tasks: TaskTracker,
    clock: Clock,
    history: Mutex<History>,
    /// When somebody last wanted to know.
    asked: watch::Sender<Option<Instant>>,
    /// When the last round that has ended began.
    sampled: watch::Sender<Option<Instant>>,
}

impl Sampler {
    pub(super) fn new(reader: Arc<dyn Reader>, dialer: Arc<dyn Dialer>, tasks: TaskTracker, clock: Clock) -> Self {
        Sampler {
            reader,
            dialer,
            tasks,
            clock,
            history: Mutex::default(),
            asked: watch::Sender::new(None),
            sampled: watch::Sender::new(None),
        }
    }

    /// Reads what is known.
    pub(super) fn read<R>(&self, f: impl FnOnce(&History) -> R) -> R {
        f(&self.history.lock())
    }

    /// Returns when what is known is no older than a period and a round, or there has been time enough to find out.
    pub(super) async fn fresh(&self) {
        let now = Instant::now();
        let mut sampled = self.sampled.subscribe();
        self.asked.send_replace(Some(now));
        let is_new = |at: &Option<Instant>| at.is_some_and(|at| at + PERIOD + ANSWER > now);
        // What there is by then is told.
        let _ = tokio::time::timeout(PATIENCE, sampled.wait_for(is_new)).await;
    }

    /// Asks until `shutdown`.
    pub(super) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let sampling = async {
            let mut asked = self.asked.subscribe();
            loop {
                let began = Instant::now();
                let complete = self.round().await;
                self.sampled.send_replace(Some(began));
                // Who asks in the meantime may bring the next round nearer.
                loop {
                    let next = began + pause(complete, began, *asked.borrow_and_update());
                    tokio::select! {
                        () = tokio::time::sleep_until(next) => break,
                        _ = asked.changed() => {}
                    }
                }
            }
        };
        shutdown.run_until_cancelled(sampling).await;
    }

    /// Asks every node once; tells whether there are two readings of each that has answered.
    async fn round(&self) -> bool {
        let nodes = self.reader.select(
            &GroupResource::new("", "nodes"),
            None,
            &LabelSelector::everything(),
            &[],
        );
        let names: Vec<&str> = nodes.iter().map(|node| &*node.name.name).collect();
        let ask = async |name: &str| match tokio::time::timeout(ANSWER, self.ask(name)).await {
            Ok(Ok(reading)) => self.history.lock().take(name, reading, Instant::now()),
            Ok(Err(status)) => tracing::debug!(node = name, why = status.message, "a node does not say what it uses"),
            Err(_) => tracing::debug!(node = name, "a node takes too long to say what it uses"),
        };
        stream::iter(&names)
            .for_each_concurrent(AT_ONCE, |name| ask(name))
            .await;
        let mut history = self.history.lock();
        history.keep(|name| names.contains(&name), Instant::now());
        history.is_complete()
    }

    async fn ask(&self, node: &str) -> Result<Reading, Status> {
        let connection = self.dialer.dial(node).await?;
        let lost = |error: hyper::Error| Status::service_unavailable(error.to_string());
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
            .await
            .map_err(lost)?;
        self.tasks.spawn(async move {
            // The answer's reader sees how it ends.
            let _ = driver.await;
        });
        let request = Request::get("/metrics/resource").header(HOST, "kubelet");
        let request = request
            .body(Empty::<bytes::Bytes>::new())
            .map_err(|error| Status::internal(&error.to_string()))?;
        let response = sender.send_request(request).await.map_err(lost)?;
        if response.status() != StatusCode::OK {
            return Err(Status::service_unavailable(format!("it answers {}", response.status())));
        }
        let body = Limited::new(response.into_body(), LIMIT).collect().await;
        let body = body.map_err(|error| Status::service_unavailable(error.to_string()))?;
        let now = i64::try_from((self.clock)().as_nanosecond()).unwrap_or(i64::MAX);
        Ok(reading::read(&String::from_utf8_lossy(&body.to_bytes()), now))
    }
}

/// How long after the beginning of a round the next one begins.
fn pause(complete: bool, began: Instant, asked: Option<Instant>) -> Duration {
    let since = asked.map(|asked| began.saturating_duration_since(asked));
    match (complete, since) {
        (false, Some(since)) if since < INTEREST => HURRY,
        (false, _) => PERIOD,
        (true, Some(since)) if since < INTEREST => PERIOD,
        (true, _) => IDLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nodes_are_asked_seldom_while_nobody_wants_to_know() {
        let now = Instant::now() + Duration::from_secs(1000);
        let ago = |seconds| Some(now - Duration::from_secs(seconds));
        for (complete, asked, expected) in [
            (true, None, IDLE),
            (true, ago(20), PERIOD),
            (true, ago(400), IDLE),
            (false, None, PERIOD),
            (false, ago(20), HURRY),
            (true, Some(now + Duration::from_secs(30)), PERIOD),
        ] {
            assert_eq!(pause(complete, now, asked), expected, "{complete} {asked:?}");
        }
    }
}
