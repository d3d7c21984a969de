//! Questions by datagram and by stream, from whoever sends them. What is in the zone or was answered before is answered at
//! once; what others must be asked waits in a task of its own, of which there are only so many.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use parking_lot::RwLock;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::counts::Counts;
use crate::forward::Forwarder;
use crate::respond::{Forward, Step, encode, room, step};
use crate::zone::Zone;

/// The longest datagram that is read: no question is as long.
const BUFFER: usize = 4096;
/// How many streams there are at a time, and how long one may be silent.
const STREAMS: usize = 256;
const IDLE: Duration = Duration::from_secs(10);
const LONGEST_BY_STREAM: usize = 65_535;
/// How long to wait after the system has refused to receive or accept.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// All that can be answered.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) zone: RwLock<Zone>,
    pub(crate) forwarder: Forwarder,
    pub(crate) counts: Arc<Counts>,
    turn: AtomicUsize,
}

/// How far an answer has come.
enum Begun {
    Nothing,
    Answer(Vec<u8>),
    /// Others are to be asked.
    Ask(Box<Forward>, usize),
}

impl Names {
    pub(crate) fn new(zone: Zone) -> Self {
        let counts = Arc::new(Counts::default());
        Names {
            zone: RwLock::new(zone),
            forwarder: Forwarder::new(Arc::clone(&counts)),
            counts,
            turn: AtomicUsize::new(0),
        }
    }

    fn begin(&self, bytes: &[u8], room_for: impl FnOnce(&Message) -> usize) -> Begun {
        let Ok(request) = Message::from_vec(bytes) else {
            self.counts.malformed.add();
            return Begun::Nothing;
        };
        let room = room_for(&request);
        let probe = request
            .queries
            .first()
            .filter(|query| query.query_type == RecordType::HINFO);
        if probe.is_some_and(|query| self.forwarder.is_loop(&query.name)) {
            return Begun::Nothing;
        }
        let turn = self.turn.fetch_add(1, Relaxed);
        let step = step(&self.zone.read(), request, turn);
        match step {
            Step::Drop => {
                self.counts.malformed.add();
                Begun::Nothing
            }
            Step::Reply(message) => self.end(*message, room).map_or(Begun::Nothing, Begun::Answer),
            Step::Forward(forward) => match self.forwarder.kept(&forward.question) {
                Some(kept) => self
                    .end(forward.reply(Some(kept)), room)
                    .map_or(Begun::Nothing, Begun::Answer),
                None => Begun::Ask(forward, room),
            },
        }
    }

    async fn finish(&self, forward: Forward, room: usize) -> Option<Vec<u8>> {
        let told = self.forwarder.ask(&forward.question).await;
        self.end(forward.reply(told), room)
    }

    fn end(&self, message: Message, room: usize) -> Option<Vec<u8>> {
        match message.metadata.response_code {
            ResponseCode::NoError => self.counts.no_error.add(),
            ResponseCode::NXDomain => self.counts.no_name.add(),
            ResponseCode::ServFail => self.counts.server_failure.add(),
            _ => self.counts.other_code.add(),
        }
        match encode(message, room) {
            Ok((bytes, cut)) => {
                if cut {
                    self.counts.truncated.add();
                }
                Some(bytes)
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an answer cannot be written");
                None
            }
        }
    }
}

/// Sockets at one address, served until this is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) at: SocketAddr,
    _stop: DropGuard,
}

impl Served {
    /// Serves at an address. The next process of the same user may listen there as well, so that it can take over.
    pub(crate) fn start(at: SocketAddr, names: &Arc<Names>, tasks: &TaskTracker) -> io::Result<Self> {
        let datagrams = UdpSocket::from_std(bind(at, Type::DGRAM, Protocol::UDP)?.into())?;
        let at = datagrams.local_addr()?;
        let streams = bind(at, Type::STREAM, Protocol::TCP)?;
        streams.listen(128)?;
        let streams = TcpListener::from_std(streams.into())?;
        let stop = CancellationToken::new();
        for serve in [
            Box::pin(serve_datagrams(Arc::new(datagrams), Arc::clone(names), tasks.clone()))
                as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
            Box::pin(serve_streams(streams, Arc::clone(names), tasks.clone())),
        ] {
            let stop = stop.clone();
            tasks.spawn(async move { stop.run_until_cancelled(serve).await });
        }
        Ok(Served {
            at,
            _stop: stop.drop_guard(),
        })
    }
}

fn bind(at: SocketAddr, type_: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), type_.nonblocking(), Some(protocol))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&at.into())?;
    Ok(socket)
}

async fn serve_datagrams(socket: Arc<UdpSocket>, names: Arc<Names>, tasks: TaskTracker) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "no datagram is received");
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        names.counts.datagrams.add();
        match names.begin(buffer.get(..length).unwrap_or_default(), room) {
            Begun::Nothing => {}
            // A client that is gone, or cannot be reached, asks again.
            Begun::Answer(bytes) => drop(socket.send_to(&bytes, client).await),
            Begun::Ask(forward, room) => {
                let (socket, names) = (Arc::clone(&socket), Arc::clone(&names));
                tasks.spawn(async move {
                    if let Some(bytes) = names.finish(*forward, room).await {
                        let _ = socket.send_to(&bytes, client).await; // as above
                    }
                });
            }
        }
    }
}

async fn serve_streams(listener: TcpListener, names: Arc<Names>, tasks: TaskTracker) {
    let permits = Arc::new(Semaphore::new(STREAMS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A stream too many is closed at once.
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    continue;
                };
                let names = Arc::clone(&names);
                tasks.spawn(async move {
                    let _permit = permit;
                    if let Err(error) = converse(stream, &names).await {
                        tracing::debug!(error = &error as &dyn std::error::Error, "a stream of questions broke");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "no stream is accepted");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Answers the questions of one stream, one after the other, until its end.
async fn converse(mut stream: TcpStream, names: &Names) -> io::Result<()> {
    loop {
        let question = async {
            let length = stream.read_u16().await?;
            let mut question = vec![0; length.into()];
            stream.read_exact(&mut question).await?;
            Ok::<_, io::Error>(question)
        };
        let question = match timeout(IDLE, question).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(question) => question?,
            Err(_silent) => return Ok(()),
        };
        names.counts.streams.add();
        let answer = match names.begin(&question, |_| LONGEST_BY_STREAM) {
            Begun::Nothing => None,
            Begun::Answer(bytes) => Some(bytes),
            Begun::Ask(forward, room) => names.finish(*forward, room).await,
        };
        let Some(answer) = answer else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())).await??;
    }
}

#[cfg(test)]
pub(crate) mod tests;
