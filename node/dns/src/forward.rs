//! Names of others: asked of the node's own name servers, whose answers are kept for a while.
//!
//! Servers are tried in the order of `resolv.conf`; one that did not answer is tried last for a while. However they behave,
//! an answer, or that there is none, is there within [`PATIENCE`]: before clients give up. A server that asks us in turn
//! would go round for ever: what cannot be told by its address is told by a question that nobody else can know of.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use parking_lot::{Mutex, RwLock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cache::{Cache, Question, bound};
use crate::counts::Counts;
use crate::respond::LARGEST_DATAGRAM;

/// How long a question may take altogether. Resolvers wait five seconds.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long one server may take.
const ONE: Duration = Duration::from_millis(1500);
/// For how long a server that did not answer is tried last.
const DOWN: Duration = Duration::from_secs(5);
/// The most questions that are asked at a time.
const AT_ONCE: usize = 1000;
/// How often it is looked whether a server asks us.
const LOOK: Duration = Duration::from_secs(60);
/// The longest datagram that is read.
const BUFFER: usize = 4096;

/// One of the node's name servers.
#[derive(Debug)]
struct Server {
    at: SocketAddr,
    down_until: Mutex<Option<Instant>>,
    /// It asks us.
    loops: AtomicBool,
}

impl Server {
    fn is_down(&self, now: Instant) -> bool {
        self.down_until.lock().is_some_and(|until| until > now)
    }
}

/// The way to other name servers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    servers: RwLock<Arc<Vec<Arc<Server>>>>,
    cache: Mutex<Cache>,
    permits: Semaphore,
    /// Questions that are out to find loops.
    probes: Mutex<Vec<Probe>>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Probe {
    name: Name,
    came_back: bool,
}

impl Forwarder {
    pub(crate) fn new(counts: Arc<Counts>) -> Self {
        Forwarder {
            servers: RwLock::default(),
            cache: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
            probes: Mutex::default(),
            counts,
        }
    }

    /// Makes these the servers; whether they were others before.
    pub(crate) fn set_servers(&self, servers: &[SocketAddr]) -> bool {
        if self
            .servers
            .read()
            .iter()
            .map(|server| server.at)
            .eq(servers.iter().copied())
        {
            return false;
        }
        let server = |at: &SocketAddr| {
            Arc::new(Server {
                at: *at,
                down_until: Mutex::default(),
                loops: AtomicBool::new(false),
            })
        };
        *self.servers.write() = Arc::new(servers.iter().map(server).collect());
        self.cache.lock().clear();
        true
    }

    /// What was answered before, if it may still be said.
    pub(crate) fn kept(&self, question: &Question) -> Option<Message> {
        let kept = self.cache.lock().get(question, Instant::now());
        let count = if kept.is_some() {
            &self.counts.hits
        } else {
            &self.counts.misses
        };
        count.add();
        kept
    }

    /// Asks; `None`: nobody can tell.
    pub(crate) async fn ask(&self, question: &Question) -> Option<Message> {
        let Ok(_permit) = self.permits.try_acquire() else {
            self.counts.failed.add();
            return None;
        };
        self.counts.forwarded.add();
        let answered = self.ask_any(question).await;
        match &answered {
            Some((message, length)) => {
                self.cache
                    .lock()
                    .put(question.clone(), message, *length, Instant::now());
            }
            None => self.counts.failed.add(),
        }
        let mut message = answered?.0;
        bound(&mut message);
        Some(message)
    }

    async fn ask_any(&self, question: &Question) -> Option<(Message, usize)> {
        let now = Instant::now();
        let deadline = now + PATIENCE;
        let servers = Arc::clone(&self.servers.read());
        let mut order: Vec<&Arc<Server>> = servers.iter().filter(|server| !server.loops.load(Relaxed)).collect();
        order.sort_by_key(|server| server.is_down(now));
        let mut refusal = None;
        for server in order {
            let until = deadline.min(Instant::now() + ONE);
            match timeout_at(until, exchange(server.at, question)).await {
                Ok(Ok((message, length))) => {
                    *server.down_until.lock() = None;
                    match message.metadata.response_code {
                        ResponseCode::NoError | ResponseCode::NXDomain => return Some((message, length)),
                        // Another one may know better.
                        _ => refusal = Some((message, length)),
                    }
                }
                failed => {
                    tracing::debug!(server = %server.at, ?failed, "a name server does not answer");
                    *server.down_until.lock() = Some(Instant::now() + DOWN);
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        refusal
    }

    /// Whether a question is one of ours that has come back.
    pub(crate) fn is_loop(&self, name: &Name) -> bool {
        let mut probes = self.probes.lock();
        match probes.iter_mut().find(|probe| probe.name == *name) {
            Some(probe) => {
                probe.came_back = true;
                true
            }
            None => false,
        }
    }

    /// Looks from time to time whether a server asks us, and does not ask it then.
    pub(crate) async fn watch_for_loops(&self, mut changed: tokio::sync::watch::Receiver<u64>) {
        loop {
            changed.mark_unchanged();
            let servers = Arc::clone(&self.servers.read());
            for server in servers.iter() {
                let loops = self.probe(server.at).await;
                if loops && !server.loops.load(Relaxed) {
                    tracing::warn!(server = %server.at, "a name server of this node asks the cluster's: it is not asked");
                }
                server.loops.store(loops, Relaxed);
            }
            if let Ok(Err(_ended)) = timeout(LOOK, changed.changed()).await {
                return;
            }
        }
    }

    async fn probe(&self, server: SocketAddr) -> bool {
        let name = format!("{:016x}.{:016x}.", rand::random::<u64>(), rand::random::<u64>());
        let Ok(name) = Name::from_ascii(name) else { return false };
        self.probes.lock().push(Probe {
            name: name.clone(),
            came_back: false,
        });
        let question = Question {
            name: name.clone(),
            type_: RecordType::HINFO,
            dnssec_ok: false,
            checking_disabled: false,
        };
        // What it answers does not matter.
        let _ = timeout(ONE, exchange(server, &question)).await;
        let mut probes = self.probes.lock();
        let came_back = probes.iter().any(|probe| probe.name == name && probe.came_back);
        probes.retain(|probe| probe.name != name);
        came_back
    }
}

/// One question to one server, by stream where the answer does not fit into a datagram; with how long the answer was.
async fn exchange(server: SocketAddr, question: &Question) -> io::Result<(Message, usize)> {
    let id = rand::random();
    let query = query(id, question)?;
    let answer = by_datagram(server, id, question, &query).await?;
    match answer.0.metadata.truncation {
        true => by_stream(server, id, question, &query).await,
        false => Ok(answer),
    }
}

fn query(id: u16, question: &Question) -> io::Result<Vec<u8>> {
    let mut query = Message::query();
    query.metadata.id = id;
    query.metadata.recursion_desired = true;
    query.metadata.checking_disabled = question.checking_disabled;
    query.add_query(Query::query(question.name.clone(), question.type_));
    let mut edns = Edns::new();
    edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(question.dnssec_ok);
    query.set_edns(edns);
    query.to_vec().map_err(io::Error::other)
}

async fn by_datagram(server: SocketAddr, id: u16, question: &Question, query: &[u8]) -> io::Result<(Message, usize)> {
    let from: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What is no answer to this question may be anybody's.
        if let Some(message) = read(buffer.get(..length).unwrap_or_default(), id, question) {
            return Ok((message, length));
        }
    }
}

async fn by_stream(server: SocketAddr, id: u16, question: &Question, query: &[u8]) -> io::Result<(Message, usize)> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    let message = read(&buffer, id, question).ok_or(io::ErrorKind::InvalidData)?;
    Ok((message, length.into()))
}

/// The answer to a question of ours, if it is that.
fn read(bytes: &[u8], id: u16, question: &Question) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    let asked = message.queries.first()?;
    let is_it = message.metadata.id == id
        && message.metadata.message_type == hickory_proto::op::MessageType::Response
        && asked.name == question.name
        && asked.query_type == question.type_;
    is_it.then_some(message)
}

#[cfg(test)]
mod tests;
