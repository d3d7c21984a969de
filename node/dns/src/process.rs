//! The process that answers: `wherry cluster-dns`.
//!
//! The agent starts it ([`resident::spawn`]) and tells it what there is ([`super::protocol`]); it answers whether an agent is
//! connected or not, from what it was told last, and ends only when it is told to. It holds no key. A new agent takes the
//! place of the one before.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::fs::MetadataExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::rr::Name;
use parking_lot::Mutex;
use resident::Channel;
use resident::process::{self, Background};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::launch::Arguments;
use crate::protocol::{Answer, Call, Hello, Settings, Update, VERSION};
use crate::server::{Names, Served};
use crate::zone::Zone;

/// The body of `wherry cluster-dns`. Must be called before any other thread is started.
pub fn main(arguments: impl IntoIterator<Item = OsString>, background: Background) -> ExitCode {
    process::main("cluster DNS", || run(arguments, background))
}

fn run(
    arguments: impl IntoIterator<Item = OsString>,
    background: Background,
) -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse(arguments)?;
    let listener = process::inherited();
    resident::confine()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_stack_size(512 << 10)
        .enable_all()
        .build()?;
    process::run(&runtime, serve(listener, arguments.version), background)
}

/// Serves agents on a listening socket until one of them ends it.
pub(crate) async fn serve(listener: OwnedFd, wherry_version: String) -> io::Result<()> {
    let listener = process::listener(listener)?;
    let server = Arc::new(Server {
        wherry_version,
        netns: std::fs::metadata("/proc/thread-self/ns/net")?.st_ino(),
        names: Arc::new(Names::new(Zone::new(Name::root()))),
        served: Mutex::new(None),
        servers_changed: watch::Sender::new(0),
        tasks: TaskTracker::new(),
        current: Mutex::new(CancellationToken::new()),
        end: CancellationToken::new(),
    });
    let (names, changed) = (Arc::clone(&server.names), server.servers_changed.subscribe());
    let end = server.end.clone();
    let watching = end.clone();
    server.tasks.spawn(async move {
        watching
            .run_until_cancelled(names.forwarder.watch_for_loops(changed))
            .await
    });
    let accept = process::accept(&listener, |stream| {
        server.tasks.spawn(Arc::clone(&server).converse(stream));
    });
    end.run_until_cancelled(accept).await;
    server.served.lock().take();
    Ok(())
}

struct Server {
    wherry_version: String,
    netns: u64,
    names: Arc<Names>,
    served: Mutex<Option<Served>>,
    /// Told when other name servers are to be asked.
    servers_changed: watch::Sender<u64>,
    tasks: TaskTracker,
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
            while let Some((call, _)) = channel.receive::<Call>().await? {
                let ends = call == Call::End;
                channel.send(&self.answer(call), &[]).await?;
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

    fn answer(&self, call: Call) -> Answer {
        match call {
            Call::Hello {
                oldest_version,
                newest_version,
            } if (oldest_version..=newest_version).contains(&VERSION) => Answer::Hello(Hello {
                version: VERSION,
                wherry_version: self.wherry_version.clone(),
                netns: self.netns,
            }),
            Call::Hello { .. } => Answer::Incompatible {
                oldest_version: VERSION,
                newest_version: VERSION,
            },
            Call::Update(update) => match self.update(*update) {
                Ok(()) => Answer::Done,
                Err(error) => Answer::NotListening(error.to_string()),
            },
            Call::Count => {
                let mut metrics = self.names.counts.read();
                metrics.services = self.names.zone.read().len();
                Answer::Counted(metrics)
            }
            Call::End => Answer::Done,
        }
    }

    fn update(&self, update: Update) -> io::Result<()> {
        let Settings {
            domain,
            listen,
            upstreams,
        } = update.settings;
        let domain = Name::from_ascii(format!("{}.", domain.trim_end_matches('.'))).map_err(io::Error::other)?;
        {
            let mut zone = self.names.zone.write();
            if update.whole || *zone.domain() != domain {
                *zone = Zone::new(domain);
            }
            if let Some(namespaces) = update.namespaces {
                zone.set_namespaces(namespaces);
            }
            zone.update(&update.remove, update.set, serial());
        }
        if self.names.forwarder.set_servers(&upstreams) {
            self.servers_changed.send_modify(|times| *times += 1);
        }
        let mut served = self.served.lock();
        if served.as_ref().is_none_or(|served| served.at != listen) {
            *served = Some(Served::start(listen, &self.names, &self.tasks)?);
            tracing::info!(at = %listen, "answering for the cluster's names");
        }
        Ok(())
    }
}

/// Of the zone: it grows by the second.
fn serial() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}
