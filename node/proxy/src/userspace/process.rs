//! The process that holds listeners: `wherry service-proxy`.
//!
//! The agent starts it ([`super::launch`]) and tells it what to do ([`super::protocol`]); it serves whether an agent is
//! connected or not, and ends only when it is told to. It knows no Kubernetes object and holds no key. A new agent takes
//! the place of the one before.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use resident::process::{self, Background};
use resident::{Channel, MOST_DESCRIPTORS};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::claim;
use super::launch::Arguments;
use super::listeners::{Listeners, Shared};
use super::protocol::{Answer, Call, Hello, OLDEST_VERSION, VERSION, common_version};

/// The body of `wherry service-proxy`. Must be called before any other thread is started.
pub fn main(arguments: impl IntoIterator<Item = OsString>, background: Background) -> ExitCode {
    process::main("the service proxy", || run(arguments, background))
}

fn run(
    arguments: impl IntoIterator<Item = OsString>,
    background: Background,
) -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse(arguments)?;
    let listener = process::inherited();
    let descriptors = resident::confine()?;
    let _claim = arguments.claim.as_deref().map(hold).transpose()?;
    let threads = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() / 2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One thread serves tens of thousands of requests a second; a second one makes each of them dearer.
        .worker_threads(threads.clamp(1, 4))
        .thread_stack_size(256 << 10)
        .enable_all()
        .build()?;
    let serving = serve(listener, arguments.version, most_connections(descriptors));
    process::run(&runtime, serving, background)
}

/// Keeps others from the addresses for as long as this process lives. A claim that is held already is as good.
fn hold(claim: &str) -> io::Result<UnixDatagram> {
    claim::bind(&format!("{claim}/{}", std::process::id()))
}

/// Connections that fit into this many descriptors: two for each, and a quarter left for listeners.
fn most_connections(descriptors: u64) -> usize {
    usize::try_from(descriptors / 8 * 3)
        .unwrap_or(usize::MAX)
        .clamp(1, 1 << 20)
}

/// Serves agents on a listening socket until one of them ends it, or it has retired and everything under way has ended.
pub(crate) async fn serve(listener: OwnedFd, wherry_version: String, most_connections: usize) -> io::Result<()> {
    let listener = process::listener(listener)?;
    let server = Arc::new(Server {
        wherry_version,
        netns: std::fs::metadata("/proc/thread-self/ns/net")?.st_ino(),
        listeners: Mutex::new(Listeners::new(Shared::new(most_connections))),
        current: Mutex::new(CancellationToken::new()),
        end: CancellationToken::new(),
    });
    let end = server.end.clone();
    let accept = process::accept(&listener, |stream| {
        tokio::spawn(Arc::clone(&server).converse(stream));
    });
    end.run_until_cancelled(accept).await;
    Ok(())
}

struct Server {
    wherry_version: String,
    netns: u64,
    listeners: Mutex<Listeners>,
    /// The conversation with the agent that is followed.
    current: Mutex<CancellationToken>,
    end: CancellationToken,
}

impl Server {
    async fn converse(self: Arc<Self>, stream: UnixStream) {
        let replaced = CancellationToken::new();
        std::mem::replace(&mut *self.current.lock(), replaced.clone()).cancel();
        let talk = async {
            let mut channel = Channel::new(stream);
            while let Some((call, descriptors)) = channel.receive::<Call>().await? {
                let ends = call == Call::End;
                let (answer, shared) = self.answer(call, descriptors);
                let shared: Vec<_> = shared.iter().map(AsFd::as_fd).collect();
                channel.send(&answer, &shared).await?;
                if ends {
                    self.end.cancel();
                }
            }
            Ok::<(), io::Error>(())
        };
        if let Some(Err(error)) = replaced.run_until_cancelled(talk).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the conversation with an agent broke"
            );
        }
    }

    fn answer(&self, call: Call, descriptors: Vec<OwnedFd>) -> (Answer, Vec<OwnedFd>) {
        let mut listeners = self.listeners.lock();
        let answer = match call {
            Call::Hello {
                oldest_version,
                newest_version,
            } => self.hello(oldest_version, newest_version, listeners.shared.retired.load(Relaxed)),
            Call::Update { close, listen } => Answer::Updated {
                refused: listeners.update(&close, listen),
            },
            Call::Keep { keys } => {
                listeners.keep(&keys);
                Answer::Done
            }
            Call::Share { after } => match listeners.share(after, MOST_DESCRIPTORS) {
                Ok((shared, more)) => {
                    let (keys, descriptors) = shared.into_iter().unzip();
                    return (Answer::Shared { keys, more }, descriptors);
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot share listeners");
                    let (keys, more) = (Vec::new(), false);
                    Answer::Shared { keys, more }
                }
            },
            Call::Adopt { keys } => {
                for (key, descriptor) in keys.into_iter().zip(descriptors) {
                    if let Err(error) = listeners.adopt(key, descriptor) {
                        tracing::warn!(
                            ?key,
                            error = &error as &dyn std::error::Error,
                            "cannot adopt a listener"
                        );
                    }
                }
                Answer::Done
            }
            Call::Retire => {
                tracing::info!("retired: another process has the listeners");
                listeners.retire();
                let (drained, end) = (listeners.drained(), self.end.clone());
                tokio::spawn(async move {
                    drained.await;
                    end.cancel();
                });
                Answer::Done
            }
            Call::End => Answer::Done,
        };
        (answer, Vec::new())
    }

    fn hello(&self, oldest: u32, newest: u32, retired: bool) -> Answer {
        match common_version(oldest, newest) {
            Some(version) => Answer::Hello(Hello {
                version,
                wherry_version: self.wherry_version.clone(),
                netns: self.netns,
                retired,
            }),
            None => Answer::Incompatible {
                oldest_version: OLDEST_VERSION,
                newest_version: VERSION,
            },
        }
    }
}
