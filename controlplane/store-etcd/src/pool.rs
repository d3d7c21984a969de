//! The endpoints of a cluster: which to ask next, and the connection to each.
//!
//! One endpoint is asked for as long as it answers. One that does not is left alone for a while, longer each time, and
//! the next takes its place; where all are left alone, callers are told so at once instead of waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{OpenError, Options};

/// How long an endpoint is left alone after its first failure, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a connection at rest is asked whether the other side is still there, and how long that may take. etcd ends
/// connections that ask more often than every five seconds.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
const ALIVE_WITHIN: Duration = Duration::from_secs(5);
/// What one watch that is not read may keep from the connection's share, and that share.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 256 << 20;

/// All endpoints, each with a connection once it was needed.
#[derive(Debug)]
pub(crate) struct Pool {
    nodes: Vec<Node>,
    preferred: AtomicUsize,
}

/// One endpoint.
#[derive(Debug)]
struct Node {
    endpoint: Endpoint,
    /// Held while a connection is made, so that whoever comes meanwhile gets the same one.
    making: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    channel: Option<Channel>,
    health: Health,
    /// What the last failure was.
    failure: Option<Arc<str>>,
}

#[derive(Copy, Clone, Debug, Default, PartialEq)]
struct Health {
    failures: u32,
    alone_until: Option<Instant>,
}

impl Health {
    fn fail(&mut self, now: Instant) {
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.alone_until = Some(now + pause);
    }

    fn may_be_asked(&self, now: Instant) -> bool {
        self.alone_until.is_none_or(|until| until <= now)
    }
}

/// No endpoint can be asked now.
#[derive(Debug, thiserror::Error)]
#[error("no etcd endpoint can be reached: {last}")]
pub(crate) struct Down {
    /// What the last one that was tried said.
    pub(crate) last: Arc<str>,
}

/// A connection, and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) channel: Channel,
    pub(crate) node: usize,
}

impl Pool {
    pub(crate) fn new(options: &Options) -> Result<Self, OpenError> {
        options.check()?;
        let nodes: Vec<Node> = options
            .endpoints
            .iter()
            .map(|uri| endpoint(uri, options).map(Node::new))
            .collect::<Result<_, _>>()?;
        // Several servers spread over the endpoints.
        let preferred = AtomicUsize::new(rand::random_range(0..nodes.len()));
        Ok(Pool { nodes, preferred })
    }

    /// A connection to the first endpoint in turn that can be reached.
    pub(crate) async fn link(&self) -> Result<Link, Down> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last: Arc<str> = "all failed a moment ago".into();
        for turn in 0..self.nodes.len() {
            let nth = (first + turn) % self.nodes.len();
            let Some(node) = self.nodes.get(nth) else { continue };
            match node.channel().await {
                Ok(channel) => {
                    if turn > 0 {
                        self.preferred.store(nth, Ordering::Relaxed);
                    }
                    return Ok(Link { channel, node: nth });
                }
                Err(failure) => last = failure,
            }
        }
        Err(Down { last })
    }

    /// The endpoint did not do as it should: its connection is not used again, and the next is asked.
    pub(crate) fn failed(&self, node: usize, why: &str) {
        if let Some(failed) = self.nodes.get(node) {
            failed.fail(why);
            tracing::debug!(endpoint = %failed.endpoint.uri(), why, "etcd endpoint is left alone");
        }
        self.skip(node);
    }

    /// The next call goes to the endpoint after this one.
    pub(crate) fn skip(&self, node: usize) {
        let next = (node + 1) % self.nodes.len().max(1);
        // Whoever saw the same failure has done it already.
        let _ = self
            .preferred
            .compare_exchange(node, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The endpoint answered.
    pub(crate) fn answered(&self, node: usize) {
        if let Some(node) = self.nodes.get(node) {
            let mut state = node.state.lock();
            if state.health.failures > 0 {
                state.health = Health::default();
                state.failure = None;
            }
        }
    }
}

impl Node {
    fn new(endpoint: Endpoint) -> Self {
        Node {
            endpoint,
            making: tokio::sync::Mutex::new(()),
            state: Mutex::default(),
        }
    }

    /// The connection, made now where there is none; or why that does not work, or did not a moment ago.
    async fn channel(&self) -> Result<Channel, Arc<str>> {
        if let Some(ready) = self.ready() {
            return ready;
        }
        let _making = self.making.lock().await;
        if let Some(ready) = self.ready() {
            return ready;
        }
        match self.endpoint.connect().await {
            Ok(channel) => {
                self.state.lock().channel = Some(channel.clone());
                Ok(channel)
            }
            Err(error) => Err(self.fail(&in_full(&error))),
        }
    }

    fn ready(&self) -> Option<Result<Channel, Arc<str>>> {
        let state = self.state.lock();
        if !state.health.may_be_asked(Instant::now()) {
            return Some(Err(state.failure.clone().unwrap_or_default()));
        }
        state.channel.clone().map(Ok)
    }

    fn fail(&self, why: &str) -> Arc<str> {
        let mut state = self.state.lock();
        let failure: Arc<str> = format!("{}: {why}", self.endpoint.uri()).into();
        state.channel = None;
        state.health.fail(Instant::now());
        state.failure = Some(failure.clone());
        failure
    }
}

fn endpoint(uri: &str, options: &Options) -> Result<Endpoint, OpenError> {
    let endpoint = Endpoint::from_shared(uri.to_owned())
        .map_err(|_| OpenError::Endpoint(uri.to_owned()))?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(ALIVE_WITHIN)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let Some(given) = &options.tls else {
        return Ok(endpoint);
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&given.authority));
    if let Some((certificate, key)) = &given.identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    endpoint.tls_config(tls).map_err(OpenError::Tls)
}

/// What a status says, with its causes.
pub(crate) fn reason(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(cause) => format!("{}: {}", status.message(), in_full(cause)),
        None => status.message().to_owned(),
    }
}

/// An error with its causes, in one line.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_again_doubles_the_pause_up_to_its_longest() {
        let (mut health, now) = (Health::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..40 {
            health.fail(now);
            pauses.push(health.alone_until.unwrap() - now);
        }
        assert_eq!(pauses.first(), Some(&FIRST_PAUSE));
        assert_eq!(pauses.get(1), Some(&(FIRST_PAUSE * 2)));
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        assert!(!health.may_be_asked(now) && health.may_be_asked(now + LONGEST_PAUSE));
    }

    #[tokio::test]
    async fn says_at_once_that_all_are_away() {
        // Ports that were free a moment ago and that nobody listens on.
        let free = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let options = Options::new([format!("http://{}", free()), format!("http://{}", free())]);
        let pool = Pool::new(&options).unwrap();
        let down = pool.link().await.unwrap_err();
        assert!(
            down.last.contains("127.0.0.1") && down.last.contains("refused"),
            "{down}"
        );
        let again = pool.link().await.unwrap_err();
        assert!(again.last.contains("refused"), "{again}");
    }
}
