//! The Container Runtime Interface v1 over any [`cri::Runtime`], on a unix socket that only its owner can open.
//!
//! `runtime` and `images` answer the calls, with `lookup`; `find` chooses by ids and filters, `events`, `metrics`, `stats`
//! and `info` make what is told from what the runtime lists, all pure; `streams` serves the addresses that exec, attach and
//! port-forward are answered with. Nothing is kept here: a client that comes back after a restart finds what the runtime
//! finds.
//!
//! Deliberately absent: checkpoints, and everything of Windows nodes.

mod deadline;
mod events;
mod find;
mod images;
mod info;
mod lookup;
mod metrics;
mod pages;
mod ports;
mod runtime;
mod socket;
mod stats;
mod streams;
mod tokens;

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use cri::{CgroupDriver, SharedRuntime};
use proto::v1::{image_service_server::ImageServiceServer, runtime_service_server::RuntimeServiceServer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, transport};

use self::streams::Streaming;

/// The largest message that is read or sent, as of kubelets.
const LARGEST_MESSAGE: usize = 16 << 20;
/// Connections at once. A kubelet has two; programs of Go that make a client for each thing they do may leave hundreds open.
const CONNECTIONS: usize = 4096;
/// Calls at once on one connection, streams of events aside.
const CALLS: usize = 256;

/// How the runtime is served.
pub struct Config {
    /// Where the socket is made, in place of one that a process before left.
    pub socket: PathBuf,
    /// Made for the pod range that a kubelet tells, before the runtime hears of it.
    pub network: Option<Arc<dyn PodNetwork>>,
    /// What is told where the runtime keeps no cgroups that a kubelet would touch.
    pub cgroup_driver: CgroupDriver,
}

/// The network that the node's pods are in.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Makes or mends the network for the node's pod range.
    async fn ensure(&self, pod_range: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Why the runtime cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {path}", path = path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another process serves {path}; end it first, or choose another socket", path = path.display())]
    Taken { path: PathBuf },
    #[error("cannot listen for streams on 127.0.0.1")]
    Streams(#[source] io::Error),
}

/// Listens, and serves in a task of `tasks` until `quit`; containers go on.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(
    config: Config,
    runtime: SharedRuntime,
    tasks: &TaskTracker,
    quit: CancellationToken,
) -> Result<(), Error> {
    let listener = socket::bind(&config.socket)?;
    let streams = Streaming::listen(Arc::clone(&runtime), tasks, quit.clone()).map_err(Error::Streams)?;
    let service = Service(Arc::new(Inner {
        runtime,
        network: config.network,
        cgroup_driver: config.cgroup_driver,
        streams,
        quit: quit.clone(),
    }));
    let runtime = RuntimeServiceServer::new(service.clone())
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let images = ImageServiceServer::new(service)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let served = transport::Server::builder()
        .concurrency_limit_per_connection(CALLS)
        .layer(deadline::Deadlines)
        .add_service(runtime)
        .add_service(images)
        .serve_with_incoming_shutdown(socket::incoming(listener, CONNECTIONS), quit.cancelled_owned());
    tasks.spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(error = &error as &dyn std::error::Error, "the runtime's socket ended");
        }
    });
    Ok(())
}

/// What answers the calls.
#[derive(Clone)]
pub(crate) struct Service(Arc<Inner>);

pub(crate) struct Inner {
    runtime: SharedRuntime,
    network: Option<Arc<dyn PodNetwork>>,
    cgroup_driver: CgroupDriver,
    streams: Arc<Streaming>,
    quit: CancellationToken,
}

impl std::ops::Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What the client is told of an error.
fn failed(error: cri::Error) -> Status {
    proto::status(&error)
}

/// Nanoseconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
