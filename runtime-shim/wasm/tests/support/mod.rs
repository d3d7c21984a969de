//! Children of this very program, as the agent starts them: a compile child and a sandbox host, and the agent's end of
//! the protocol. When run by root, the host is somebody else, as in real life.

#![allow(
    dead_code,
    reason = "each of the tests and examples that include this file uses a part of it"
)]

use std::{
    fs::{self, File},
    io::{self, Seek, Write},
    net::Ipv4Addr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::OnceLock,
};

use tokio::net::UnixStream;
use wasm::protocol::{
    AgentHello, Answer, Call, CreateContainer, Failure, FromHost, Network, Program, RunSandbox, ToHost,
    channel::{self, Receiver, Sender},
    compiled::{self, Compiled, Outcome},
    launch,
};

/// The user that a host is when root starts it.
const NOBODY: u32 = 65_534;

/// If this process was started to be a child, is that child.
pub(crate) fn as_child() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next()?.as_str() {
        "compile" => Some(wasm::compile::main()),
        "sandbox-host" => Some(wasm::host::main(arguments, Box::pin(std::future::pending()))),
        _ => None,
    }
}

/// By descriptor: a child of another user may not be able to enter the directory that it lies in.
fn this_program() -> io::Result<Command> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    let program = match PROGRAM.get() {
        Some(program) => program,
        None => {
            let program = File::open(std::env::current_exe()?)?;
            // Above the descriptors that children are given by number.
            let program = rustix::io::fcntl_dupfd_cloexec(&program, 64)?;
            PROGRAM.get_or_init(|| program)
        }
    };
    Ok(Command::new(format!("/proc/self/fd/{}", program.as_raw_fd())))
}

/// Has a binary compiled by a child. After a success, the code is in a file that others may read.
pub(crate) fn compile(binary: &[u8]) -> io::Result<(Outcome, File)> {
    let mut input = tempfile::tempfile()?;
    input.write_all(binary)?;
    input.rewind()?;
    let mut child = this_program()?
        .arg("compile")
        .stdin(input)
        .stdout(Stdio::piped())
        .spawn()?;
    let answer = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
    let mut code = tempfile::tempfile()?;
    code.set_permissions(fs::Permissions::from_mode(0o444))?;
    let outcome = compiled::read(answer, &mut code);
    let status = child.wait()?;
    let outcome = outcome.map_err(|error| io::Error::other(format!("{error}; the compiler ended with {status}")))?;
    Ok((outcome, code))
}

/// A sandbox host; ended when dropped.
pub(crate) struct Host {
    directory: tempfile::TempDir,
    child: Child,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Host {
    pub(crate) fn start() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let listener = UnixListener::bind(directory.path().join("socket"))?;
        let uid = rustix::process::getuid();
        let mut command = this_program()?;
        let arguments = launch::Arguments {
            id: "h".to_owned(),
            tenant: "test".to_owned(),
            agent_uid: uid.as_raw(),
        };
        command
            .arg("sandbox-host")
            .args(arguments.to_words())
            .current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if uid.is_root() {
            std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY))?;
            command.uid(NOBODY).gid(NOBODY);
        }
        let socket = listener.as_raw_fd();
        // SAFETY: dup2 may be called between fork and exec; the descriptor is open in the parent until the spawn is over.
        unsafe {
            command.pre_exec(move || match libc::dup2(socket, launch::LISTENER) {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        Ok(Self {
            child: command.spawn()?,
            directory,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Connects as an agent of this generation.
    pub(crate) async fn connect(&self, generation: u64) -> io::Result<Agent> {
        let (sender, receiver) = channel::split(UnixStream::connect(self.directory.path().join("socket")).await?);
        let mut agent = Agent {
            sender,
            receiver,
            calls: 0,
        };
        let wherry_version = "test".to_owned();
        let hello = AgentHello {
            oldest_version: 1,
            newest_version: 1,
            wherry_version,
            generation,
        };
        agent.call(Call::Hello(hello), &[]).await?.map_err(io::Error::other)?;
        Ok(agent)
    }
}

/// The agent's end of a connection.
pub(crate) struct Agent {
    sender: Sender,
    receiver: Receiver,
    calls: u64,
}

/// What a container is made from.
pub(crate) struct Container<'a> {
    pub(crate) id: &'a str,
    pub(crate) code: &'a File,
    pub(crate) compiled: &'a Compiled,
    pub(crate) log: &'a File,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) port: u16,
    pub(crate) resources: cri::Resources,
}

impl Agent {
    pub(crate) async fn call(&mut self, call: Call, fds: &[BorrowedFd<'_>]) -> io::Result<Result<Answer, Failure>> {
        self.calls += 1;
        let id = self.calls;
        self.sender
            .send(&ToHost { id, call }, fds)
            .await
            .map_err(io::Error::other)?;
        loop {
            let received = self.receiver.recv::<FromHost>().await.map_err(io::Error::other)?;
            match received.ok_or_else(|| io::Error::other("the host closed the connection"))? {
                (FromHost::Reply { id: replied, result }, _) if replied == id => return Ok(result),
                _ => {}
            }
        }
    }

    async fn must(&mut self, call: Call, fds: &[BorrowedFd<'_>]) -> io::Result<Answer> {
        self.call(call, fds).await?.map_err(io::Error::other)
    }

    /// Makes a sandbox at this address of the loopback network.
    pub(crate) async fn run_sandbox(&mut self, id: &str, address: Ipv4Addr) -> io::Result<Answer> {
        let run = RunSandbox {
            id: cri::SandboxId(id.to_owned()),
            config: cri::SandboxConfig {
                name: id.to_owned(),
                ..Default::default()
            },
            handler: String::new(),
            network: Network::Pod {
                address,
                loopback: Ipv4Addr::new(127, 64, 0, 1),
                dialable_loopback: Vec::new(),
            },
            created_at: 0,
        };
        self.must(Call::RunSandbox(Box::new(run)), &[]).await
    }

    /// Creates and starts a container in a sandbox.
    pub(crate) async fn run(&mut self, sandbox: &str, container: Container<'_>) -> io::Result<Answer> {
        let port = cri::ContainerPort {
            name: String::new(),
            protocol: "TCP".to_owned(),
            port: container.port,
        };
        let id = cri::ContainerId(container.id.to_owned());
        let create = CreateContainer {
            id: id.clone(),
            sandbox: cri::SandboxId(sandbox.to_owned()),
            config: cri::ContainerConfig {
                ports: vec![port],
                resources: container.resources,
                ..Default::default()
            },
            program: Program {
                guest: container.compiled.guest,
                args: vec!["guest".to_owned()],
                env: container.env,
                working_dir: String::new(),
            },
            log: 0,
            log_path: String::new(),
            code: 1,
            code_key: container.compiled.engine_key.clone(),
            mounts: Vec::new(),
            created_at: 0,
        };
        let fds = [container.log.as_fd(), container.code.as_fd()];
        self.must(Call::CreateContainer(Box::new(create)), &fds).await?;
        self.must(Call::StartContainer { container: id }, &[]).await
    }

    pub(crate) async fn stats(&mut self) -> io::Result<Vec<cri::ContainerStats>> {
        match self.must(Call::Stats, &[]).await? {
            Answer::Stats(stats) => Ok(stats),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }
}
