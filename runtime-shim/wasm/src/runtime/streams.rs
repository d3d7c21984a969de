//! Streams into containers and pods: commands and attachments by pipes that the sandbox host is handed, connections by the
//! pod's address.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use cri::{
    Connection, ContainerId, ContainerState, Error, ExecOutput, ExecRequest, Reader, SandboxId, Session, Streams,
    TerminalSize, Writer,
};
use futures::FutureExt;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpStream, unix::pipe},
    sync::mpsc,
    time::timeout,
};

use super::{Runtime, errors::from_call, hosts::Host, link::CallError};
use crate::protocol::{self, Answer, Call, FdIndex, STREAMS_VERSION};

/// Commands and attachments take as long as they take.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// For a pod to take a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// What is kept of a command's output, of each stream.
const OUTPUT: usize = 16 << 20;

/// The pipes of a session: our ends, and those that travel.
#[derive(Default)]
struct Pipes {
    stdin: Option<Writer>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    theirs: Vec<OwnedFd>,
    /// Which of theirs is stdin, stdout and stderr.
    indexes: [Option<FdIndex>; 3],
}

impl Pipes {
    fn new(streams: Streams) -> Result<Self, Error> {
        let mut pipes = Self::default();
        let failed = |error: std::io::Error| Error::failed("making pipes for a command", error);
        if streams.stdin {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
            pipes.stdin = Some(Box::pin(pipe::Sender::from_owned_fd(writer).map_err(failed)?));
            pipes.indexes[0] = pipes.pass(reader);
        }
        let mut output = || {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
            let reader: Reader = Box::pin(pipe::Receiver::from_owned_fd(reader).map_err(failed)?);
            Ok::<_, Error>((reader, writer))
        };
        let stdout = streams.stdout.then(&mut output).transpose()?;
        let stderr = (streams.stderr && !streams.tty).then(&mut output).transpose()?;
        if let Some((reader, writer)) = stdout {
            pipes.stdout = Some(reader);
            pipes.indexes[1] = pipes.pass(writer);
        }
        if let Some((reader, writer)) = stderr {
            pipes.stderr = Some(reader);
            pipes.indexes[2] = pipes.pass(writer);
        } else if streams.tty {
            // A terminal shows both.
            pipes.indexes[2] = pipes.indexes[1];
        }
        Ok(pipes)
    }

    fn pass(&mut self, end: OwnedFd) -> Option<FdIndex> {
        let index = FdIndex::try_from(self.theirs.len()).ok();
        self.theirs.push(end);
        index
    }
}

impl Runtime {
    pub(super) fn command(&self, id: &ContainerId, request: ExecRequest) -> Result<Session, Error> {
        let ExecRequest { command, streams } = request;
        let host = self.streaming_host(id, "exec")?;
        let pipes = Pipes::new(streams)?;
        let [stdin, stdout, stderr] = pipes.indexes;
        let call = Call::Exec(Box::new(protocol::Exec {
            container: id.clone(),
            command,
            stdin,
            stdout,
            stderr,
            tty: streams.tty,
        }));
        Ok(self.session(
            &host,
            call,
            pipes,
            streams.tty,
            format!("running a command in container \"{id}\""),
        ))
    }

    pub(super) fn attachment(&self, id: &ContainerId, streams: Streams) -> Result<Session, Error> {
        let host = self.streaming_host(id, "attach")?;
        let pipes = Pipes::new(streams)?;
        let [stdin, stdout, stderr] = pipes.indexes;
        let call = Call::Attach(protocol::Attach {
            container: id.clone(),
            stdin,
            stdout,
            stderr,
            tty: streams.tty,
        });
        Ok(self.session(
            &host,
            call,
            pipes,
            streams.tty,
            format!("attaching to container \"{id}\""),
        ))
    }

    /// Asks the host, whether or not somebody waits for the end.
    fn session(&self, host: &Host, call: Call, pipes: Pipes, tty: bool, doing: String) -> Session {
        let link = host.link();
        let Pipes {
            stdin,
            stdout,
            stderr,
            theirs,
            ..
        } = pipes;
        let asked = self
            .shared
            .tasks
            .spawn(async move { link.call(call, theirs, FOREVER).await });
        let ended = async move {
            let answer = asked.await.unwrap_or(Err(CallError::Lost));
            match answer.map_err(|error| from_call(doing.clone(), error))? {
                Answer::Exited { code } => Ok(code),
                Answer::Done => Ok(0),
                _ => Err(from_call(doing, CallError::Unfitting)),
            }
        };
        Session {
            stdin,
            stdout,
            stderr,
            // Applets and guests have no use for it: the sizes are taken, and nobody looks at them.
            resize: tty.then(|| mpsc::channel::<TerminalSize>(1).0),
            ended: ended.boxed(),
        }
    }

    /// The host of a running container, if it knows of streams.
    fn streaming_host(&self, id: &ContainerId, what: &'static str) -> Result<Arc<Host>, Error> {
        let (host, state) = self.find(id)?;
        let not_running = || Error::InvalidConfig {
            message: format!("container \"{id}\" is not running"),
        };
        if state != ContainerState::Running {
            return Err(not_running());
        }
        let host = self.hosts.get(&host).ok_or_else(not_running)?;
        if host.hello.version < STREAMS_VERSION {
            let version = &host.hello.wherry_version;
            let reason = format!(
                "the pod runs in a sandbox host of an earlier wherry ({version}); delete the pod, and the one that takes its place has a new host"
            );
            return Err(Error::Unsupported { what, reason });
        }
        Ok(host)
    }

    pub(super) async fn command_output(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        patience: Duration,
    ) -> Result<ExecOutput, Error> {
        let streams = Streams {
            stdout: true,
            stderr: true,
            ..Streams::default()
        };
        let session = self.command(id, ExecRequest { command, streams })?;
        let Session {
            stdout, stderr, ended, ..
        } = session;
        let all = async { tokio::join!(gather(stdout), gather(stderr), ended) };
        let all = match patience.is_zero() {
            true => Ok(all.await),
            false => timeout(patience, all).await,
        };
        // What runs ends with its streams.
        let (stdout, stderr, code) = all.map_err(|_| Error::Timeout {
            what: "the command",
            after: patience,
        })?;
        Ok(ExecOutput {
            stdout,
            stderr,
            exit_code: code?,
        })
    }

    /// Connects to what listens on the pod's address, as its Services do.
    pub(super) async fn connection(&self, id: &SandboxId, port: u16) -> Result<Connection, Error> {
        let address = {
            let model = self.shared.model.lock();
            let held = model.sandbox(id).ok_or_else(|| Error::NotFound {
                what: "sandbox",
                id: id.to_string(),
            })?;
            held.record
                .sandbox
                .ips
                .first()
                .copied()
                .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
        };
        let doing = || format!("connecting to port {port} of the pod at {address}");
        let socket = timeout(CONNECT, TcpStream::connect((address, port))).await;
        let socket = socket.map_err(|_| Error::Timeout {
            what: "connecting to the pod",
            after: CONNECT,
        })?;
        let socket = socket.map_err(|error| Error::failed(doing(), error))?;
        socket
            .set_nodelay(true)
            .map_err(|error| Error::failed(doing(), error))?;
        Ok(Box::pin(socket))
    }
}

/// All of a stream, as far as it is kept; what is too much is read and dropped.
async fn gather(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return kept;
    };
    let mut buffer = vec![0; 32 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let room = OUTPUT.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
    }
    kept
}
