//! The host's side of the protocol: connections of agents, one after the other and for a moment two at once.
//!
//! Each connection has one task that reads and one that writes. Calls run in tasks of their own, so that a stop that
//! takes its grace period holds up nothing. An agent that does not read its events fast enough is disconnected and
//! starts again from a snapshot.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::{containers::Containers, table::Subscriber};
use crate::protocol::{
    AgentHello, Answer, Call, Failure, FromHost, HostHello, OLDEST_VERSION, ToHost, VERSION, channel,
};

/// Messages to one agent that wait to be sent.
const OUTBOX: usize = 16_384;

/// What a host says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) host_id: String,
    pub(crate) engine_key: String,
    pub(crate) boot_id: String,
    pub(crate) netns_inode: u64,
}

impl Identity {
    fn hello(&self, version: u32, sequence: u64) -> HostHello {
        HostHello {
            version,
            wherry_version: crate::version().to_owned(),
            engine_key: self.engine_key.clone(),
            host_id: self.host_id.clone(),
            boot_id: self.boot_id.clone(),
            netns_inode: self.netns_inode,
            sequence,
        }
    }
}

struct Server {
    identity: Identity,
    containers: Arc<Containers>,
    /// The connection of the agent that is followed.
    current: parking_lot::Mutex<CancellationToken>,
    ending: AtomicBool,
    end: CancellationToken,
}

/// Serves agents of the user `agent_uid` on a listening socket, until one of them ends the host, or `end`.
pub(crate) async fn serve(
    listener: OwnedFd,
    agent_uid: u32,
    identity: Identity,
    containers: Arc<Containers>,
    end: CancellationToken,
) -> io::Result<()> {
    // Once more: peer credentials are those of the process that listened last.
    rustix::net::listen(&listener, 16)?;
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let current = parking_lot::Mutex::new(CancellationToken::new());
    let server = Arc::new(Server {
        identity,
        containers,
        current,
        ending: AtomicBool::new(false),
        end: end.clone(),
    });
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an agent's connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if stream.peer_cred()?.uid() != agent_uid {
            tracing::warn!(uid = stream.peer_cred()?.uid(), "a stranger was turned away");
            continue;
        }
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            if let Err(error) = server.connection(stream).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "an agent's connection broke");
            }
        });
    }
}

impl Server {
    async fn connection(self: &Arc<Self>, stream: UnixStream) -> Result<(), channel::ChannelError> {
        let (mut sender, mut receiver) = channel::split(stream);
        let Some((ToHost { id, call }, _)) = receiver.recv::<ToHost>().await? else {
            return Ok(());
        };
        let closed = CancellationToken::new();
        let result = match call {
            Call::Hello(hello) => self.hello(&hello, &closed),
            _ => return Ok(()),
        };
        let refused = result.is_err();
        sender
            .send(
                &FromHost::Reply {
                    id,
                    result: result.map(Answer::Hello),
                },
                &[],
            )
            .await?;
        if refused {
            return Ok(());
        }
        let (outbox, mut messages) = mpsc::channel::<FromHost>(OUTBOX);
        let receive = async {
            while let Some((ToHost { id, call }, fds)) = receiver.recv::<ToHost>().await? {
                self.dispatch(id, call, fds, &outbox, &closed);
            }
            Ok(())
        };
        let send = async {
            while let Some(message) = messages.recv().await {
                sender.send(&message, &[]).await?;
                if self.ending.load(Relaxed) {
                    self.end.cancel();
                }
            }
            Ok(())
        };
        tokio::select! {
            result = receive => result,
            result = send => result,
            () = closed.cancelled() => Ok(()),
        }
    }

    /// Decides whether an agent is followed; closes the connection of the one before.
    fn hello(&self, hello: &AgentHello, closed: &CancellationToken) -> Result<HostHello, Failure> {
        let version = VERSION.min(hello.newest_version);
        if version < OLDEST_VERSION.max(hello.oldest_version) {
            return Err(Failure::Version {
                oldest: OLDEST_VERSION,
                newest: VERSION,
            });
        }
        let table = &self.containers.table;
        let mut current = self.current.lock();
        table
            .follow(hello.generation)
            .map_err(|current| Failure::Fenced { current })?;
        std::mem::replace(&mut *current, closed.clone()).cancel();
        tracing::info!(generation = hello.generation, version = %hello.wherry_version, "following an agent");
        Ok(self.identity.hello(version, table.sequence()))
    }

    fn dispatch(
        self: &Arc<Self>,
        id: u64,
        call: Call,
        fds: Vec<OwnedFd>,
        outbox: &mpsc::Sender<FromHost>,
        closed: &CancellationToken,
    ) {
        if let Call::Subscribe { after } = call {
            let subscriber = Subscriber {
                outbox: outbox.clone(),
                closed: closed.clone(),
            };
            return self.containers.table.subscribe(id, after, subscriber);
        }
        let (server, outbox, closed) = (Arc::clone(self), outbox.clone(), closed.clone());
        tokio::spawn(async move {
            // A fenced agent's call that has not begun has no effect.
            if closed.is_cancelled() {
                return;
            }
            let result = server.answer(call, fds).await;
            // Full: the agent does not read. It gets no answer, and a closed connection.
            if outbox.try_send(FromHost::Reply { id, result }).is_err() {
                closed.cancel();
            }
        });
    }

    async fn answer(&self, call: Call, fds: Vec<OwnedFd>) -> Result<Answer, Failure> {
        let containers = &self.containers;
        let done = |()| Answer::Done;
        match call {
            Call::RunSandbox(run) => containers
                .run_sandbox(*run)
                .await
                .map(|record| Answer::Sandbox(Box::new(record))),
            Call::StopSandbox { sandbox } => containers.stop_sandbox(&sandbox).await.map(done),
            Call::RemoveSandbox { sandbox } => containers.remove_sandbox(&sandbox).await.map(done),
            Call::CreateContainer(create) => {
                let record = containers.create_container(*create, fds).await?;
                Ok(Answer::Container(Box::new(record)))
            }
            Call::StartContainer { container } => containers.start_container(&container).await.map(done),
            Call::StopContainer {
                container,
                grace_milliseconds,
            } => containers
                .stop_container(&container, Duration::from_millis(grace_milliseconds))
                .await
                .map(done),
            Call::RemoveContainer { container } => containers.remove_container(&container).await.map(done),
            Call::ReopenLog { container } => containers.reopen_log(&container, fds).map(done),
            Call::UpdateResources { container, resources } => {
                containers.update_resources(&container, resources).map(done)
            }
            Call::Exec(exec) => {
                let code = Box::pin(containers.exec(*exec, fds)).await?;
                Ok(Answer::Exited { code })
            }
            Call::Attach(attach) => Box::pin(containers.attach(attach, fds)).await.map(done),
            Call::Snapshot { after } => Ok(Answer::Page(containers.table.page(&after))),
            Call::Stats => Ok(Answer::Stats(containers.stats())),
            Call::Shutdown if containers.table.is_empty() => {
                // The process ends when the answer has been sent.
                self.ending.store(true, Relaxed);
                Ok(Answer::Done)
            }
            Call::Shutdown => Err(Failure::Busy),
            Call::Hello(_) | Call::Subscribe { .. } => Err(Failure::Internal {
                reason: "not expected here".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
