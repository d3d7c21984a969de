//! Where the addresses lead that exec, attach and port-forward are answered with: a listener on loopback, without TLS,
//! that serves whoever brings a word which the runtime's socket gave out.
//!
//! A user of the machine who cannot open that socket cannot guess a word, and no word opens more than the one command it was
//! given for.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use cri::{ContainerId, ExecRequest, SharedRuntime, Streams};
use futures::FutureExt;
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use streaming::{Kind, Offer, Patience, Refused, Target};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::tokens::{Full, Tokens};

/// Connections at once.
const CONNECTIONS: usize = 1000;
/// How long a client may take to say what it wants.
const HEADERS: Duration = Duration::from_secs(10);
/// How long is waited after a connection could not be taken, which is want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What streams are wanted of.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Exec {
        container: ContainerId,
        request: ExecRequest,
    },
    Attach {
        container: ContainerId,
        streams: Streams,
    },
    PortForward {
        sandbox: Box<cri::Sandbox>,
        ports: Vec<u16>,
    },
}

impl Wanted {
    fn path(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Attach { .. } => "attach",
            Self::PortForward { .. } => "portforward",
        }
    }

    fn offer(&self) -> Offer {
        match self {
            Self::Exec { .. } | Self::Attach { .. } => Offer::RemoteCommand,
            Self::PortForward { .. } => Offer::PortForward,
        }
    }
}

/// Gives out addresses and serves them.
pub(super) struct Streaming {
    address: SocketAddr,
    waiting: Mutex<Tokens<Wanted>>,
    runtime: SharedRuntime,
    tasks: TaskTracker,
    quit: CancellationToken,
}

impl Streaming {
    /// Listens on a port of loopback that is free; serves in tasks of `tasks` until `quit`.
    pub(super) fn listen(
        runtime: SharedRuntime,
        tasks: &TaskTracker,
        quit: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let streaming = Arc::new(Self {
            address: listener.local_addr()?,
            waiting: Mutex::default(),
            runtime,
            tasks: tasks.clone(),
            quit: quit.clone(),
        });
        let served = Arc::clone(&streaming).accept(listener);
        tasks.spawn(async move {
            quit.run_until_cancelled(served).await;
        });
        Ok(streaming)
    }

    /// An address at which the streams can be had, once and soon.
    pub(super) fn address(&self, wanted: Wanted) -> Result<String, Full> {
        let word = format!("{:032x}", rand::random::<u128>());
        let address = format!("http://{}/{}/{word}", self.address, wanted.path());
        self.waiting.lock().put(Instant::now(), word, wanted)?;
        Ok(address)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok(one) = Arc::clone(&free).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    self.tasks.spawn(Arc::clone(&self).connection(stream, one));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, one: OwnedSemaphorePermit) {
        let one = Arc::new(one);
        let quit = self.quit.clone();
        let service = service_fn(move |request| {
            let response = self.respond(request, &one);
            async move { Ok::<_, Infallible>(response) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Some(Err(error)) = quit.run_until_cancelled(served).await {
            tracing::debug!(%error, "a connection for streams ended");
        }
    }

    /// Answers a request; what follows an upgrade is a task of its own, which keeps the connection counted.
    fn respond(self: &Arc<Self>, mut request: Request<Incoming>, one: &Arc<OwnedSemaphorePermit>) -> Response<String> {
        let wanted = match self.wanted(request.uri().path()) {
            Some(wanted) => wanted,
            None => {
                let refused = Refused {
                    code: StatusCode::NOT_FOUND,
                    message: "these streams have been fetched or have expired".to_owned(),
                    accepted: Vec::new(),
                };
                return refused.response();
            }
        };
        match wanted.offer().accept(&mut request) {
            Ok((response, accepted)) => {
                let (one, quit) = (Arc::clone(one), self.quit.clone());
                let served = self.serve(wanted, accepted);
                self.tasks.spawn(async move {
                    quit.run_until_cancelled(served).await;
                    drop(one);
                });
                response
            }
            Err(refused) => refused.response(),
        }
    }

    fn wanted(&self, path: &str) -> Option<Wanted> {
        let (kind, word) = path.strip_prefix('/')?.split_once('/')?;
        let wanted = self.waiting.lock().take(Instant::now(), word)?;
        (wanted.path() == kind).then_some(wanted)
    }

    fn serve(&self, wanted: Wanted, accepted: streaming::Accepted) -> impl Future<Output = ()> + Send + use<> {
        let (runtime, patience) = (Arc::clone(&self.runtime), Patience::default());
        async move {
            match wanted {
                Wanted::Exec { container, request } => {
                    let streams = request.streams;
                    let begin = async move { runtime.exec(&container, request).await };
                    accepted.remote_command(Kind::Exec, streams, patience, begin).await;
                }
                Wanted::Attach { container, streams } => {
                    let begin = async move { runtime.attach(&container, streams).await };
                    accepted.remote_command(Kind::Attach, streams, patience, begin).await;
                }
                Wanted::PortForward { sandbox, ports } => {
                    accepted.port_forward(&ports, target(runtime, *sandbox), patience).await;
                }
            }
        }
    }
}

fn target(runtime: SharedRuntime, sandbox: cri::Sandbox) -> Target {
    let id = sandbox.id;
    Target {
        pod: sandbox.config.name,
        uid: sandbox.config.uid,
        connect: Box::new(move |port| {
            let (runtime, id) = (Arc::clone(&runtime), id.clone());
            async move { runtime.port_forward(&id, port).await }.boxed()
        }),
    }
}
