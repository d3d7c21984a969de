//! What the agent and its children say to each other: the wire structs, and nothing that acts on them.
//!
//! One unix stream socket per agent carries frames ([`frame`]) of JSON with file descriptors beside them ([`channel`]).
//! The agent sends [`ToHost`], the host sends [`FromHost`]; replies carry the request's number and may come in any
//! order. The first request of a connection is `Hello`; a host answers nothing before it.
//!
//! Order: a host changes its state, writes the state file of what changed, sends the event to who subscribed, and then
//! the reply of the call that caused it; all of one connection in the order of the changes. So a snapshot page and the
//! events around it can be applied as they arrive, and who awaited a reply has already heard what the call changed.
//!
//! Fencing: each process of the agent has a generation, higher than those before it. A host that has answered a
//! `Hello` lets no request of a lower generation take effect any more, and closes that connection.
//!
//! Structs may gain optional fields (`#[serde(default)]`) within a version; anything else is a new version.

pub mod channel;
pub mod compiled;
pub mod frame;
pub mod launch;
pub(crate) mod packed;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use self::compiled::Guest;

/// The newest version of this protocol that we speak.
pub const VERSION: u32 = 2;
/// The first version with [`Call::Exec`] and [`Call::Attach`].
pub const STREAMS_VERSION: u32 = 2;
/// The oldest version that we still speak.
pub const OLDEST_VERSION: u32 = 1;
/// The most items in one page of a snapshot.
pub const PAGE_ITEMS: usize = 256;

/// The index of a descriptor among those that travel with a message.
pub type FdIndex = u16;

/// A request of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToHost {
    /// Chosen by the agent; the reply repeats it.
    pub id: u64,
    pub call: Call,
}

/// What the agent asks of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// First on every connection. Answer: [`Answer::Hello`], or [`Failure::Fenced`].
    Hello(AgentHello),
    /// Makes a sandbox ready. A repeat with the same id and configuration answers as the first did.
    RunSandbox(Box<RunSandbox>),
    /// Ends all containers at once and frees the sandbox's sockets; the record stays. Absent or stopped: done.
    StopSandbox { sandbox: cri::SandboxId },
    /// Stops the sandbox if needed and forgets it and its containers, with their state files. Absent: done.
    RemoveSandbox { sandbox: cri::SandboxId },
    /// Makes a container, not yet running. A repeat with the same id answers as the first did.
    CreateContainer(Box<CreateContainer>),
    /// Starts a created container; answered when its program has been started. Running: done. Exited: [`Failure::Start`].
    StartContainer { container: cri::ContainerId },
    /// Asks the container to end, ends it by force after the grace period; answered when it has ended. Exited or absent:
    /// done. A second call with a shorter grace shortens the first.
    StopContainer {
        container: cri::ContainerId,
        grace_milliseconds: u64,
    },
    /// Stops the container if needed and forgets it. Absent: done.
    RemoveContainer { container: cri::ContainerId },
    /// Writes the log to descriptor 0 of this message from now on.
    ReopenLog { container: cri::ContainerId },
    /// Changes the limits of a container.
    UpdateResources {
        container: cri::ContainerId,
        resources: cri::Resources,
    },
    /// Follows the host's changes on this connection, from after the given sequence number; `None`: from now on.
    /// Answer: [`Answer::Subscribed`].
    Subscribe { after: Option<u64> },
    /// Runs one of the host's own commands in what a container sees; answered by [`Answer::Exited`] when it has ended.
    Exec(Box<Exec>),
    /// Joins descriptors to a container's own streams; answered when it has ended, or the other ends are closed.
    Attach(Attach),
    /// One page of everything the host holds. Answer: [`Answer::Page`].
    Snapshot { after: Cursor },
    /// Usage of every running container. Answer: [`Answer::Stats`].
    Stats,
    /// Ends the host if it holds no sandbox; else [`Failure::Busy`].
    Shutdown,
}

/// Where a page of a snapshot begins: sandboxes come first, in the order of their ids, then containers likewise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cursor {
    Start,
    Sandbox(cri::SandboxId),
    Container(cri::ContainerId),
}

/// How the agent introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHello {
    /// The oldest and newest protocol version that the agent speaks.
    pub oldest_version: u32,
    pub newest_version: u32,
    /// The agent's version of wherry, for the host's log.
    pub wherry_version: String,
    /// Higher than that of every earlier process of this agent.
    pub generation: u64,
}

/// How the host introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHello {
    /// The protocol version that both use from now on.
    pub version: u32,
    /// The wherry version that the host runs.
    pub wherry_version: String,
    /// What compiled code must have been made for to be loaded here; see `engine::key`.
    pub engine_key: String,
    /// The id the host was started with.
    pub host_id: String,
    /// `/proc/sys/kernel/random/boot_id` as the host read it at its start.
    pub boot_id: String,
    /// The inode of the network namespace that the host lives in.
    pub netns_inode: u64,
    /// The sequence number of the last change.
    pub sequence: u64,
}

/// Makes a sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSandbox {
    pub id: cri::SandboxId,
    pub config: cri::SandboxConfig,
    /// The runtime handler the sandbox was asked for with.
    pub handler: String,
    pub network: Network,
    /// Nanoseconds since the epoch, by the agent's clock.
    pub created_at: i64,
}

/// What a sandbox may use of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// An address of its own.
    Pod {
        /// Every socket of the guests is bound to it.
        address: Ipv4Addr,
        /// Stands for the guests' 127.0.0.1; no other pod has it.
        loopback: Ipv4Addr,
        /// The parts of 127.0.0.0/8 that guests may dial besides: pods and Services of a cluster without root.
        dialable_loopback: Vec<Ipv4Net>,
    },
    /// That of the namespace the host lives in, as `hostNetwork` pods have it.
    Node,
}

/// Makes a container. Travels with the descriptors that its indexes name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateContainer {
    pub id: cri::ContainerId,
    pub sandbox: cri::SandboxId,
    /// As the kubelet gave it. `command`, `args`, `env` and `working_dir` are answered by [`Program`] below.
    pub config: cri::ContainerConfig,
    pub program: Program,
    /// The log file, opened for appending.
    pub log: FdIndex,
    /// The absolute path the kubelet knows the log by; the host never opens it.
    pub log_path: String,
    /// Compiled code, opened for reading.
    pub code: FdIndex,
    /// Names the code: containers with the same key may share one loaded copy.
    pub code_key: String,
    /// What the guest sees of the node's files, in the order of the configuration.
    pub mounts: Vec<MountedFd>,
    /// Nanoseconds since the epoch, by the agent's clock.
    pub created_at: i64,
}

/// Runs a command. Its streams are pipes that travel with the message; those that are absent lead nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    pub container: cri::ContainerId,
    /// Program and arguments; not empty.
    pub command: Vec<String>,
    pub stdin: Option<FdIndex>,
    pub stdout: Option<FdIndex>,
    pub stderr: Option<FdIndex>,
    /// The output goes to a terminal in raw mode.
    pub tty: bool,
}

/// Joins pipes to a container's streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    pub container: cri::ContainerId,
    pub stdin: Option<FdIndex>,
    pub stdout: Option<FdIndex>,
    pub stderr: Option<FdIndex>,
    /// The output goes to a terminal in raw mode.
    pub tty: bool,
}

/// What to run: the image's entrypoint, arguments and environment with the pod's laid over them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub guest: Guest,
    /// From `argv[0]` on; never empty.
    pub args: Vec<String>,
    /// Each name once.
    pub env: Vec<(String, String)>,
    /// Empty: `/`.
    pub working_dir: String,
}

/// A directory or file of the node, opened by the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedFd {
    /// Opened with `O_PATH`.
    pub fd: FdIndex,
    /// Absolute, as the pod gives it.
    pub container_path: String,
    pub readonly: bool,
    /// A single file (a mount with `subPath`), not a directory.
    pub file: bool,
}

/// A message of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromHost {
    /// To the request with this number.
    Reply { id: u64, result: Result<Answer, Failure> },
    /// To who subscribed.
    Event(Event),
}

/// What a call is answered with when it succeeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To every call that has no answer of its own.
    Done,
    Hello(HostHello),
    /// The record as it is after `RunSandbox`.
    Sandbox(Box<SandboxRecord>),
    /// The record as it is after `CreateContainer`.
    Container(Box<ContainerRecord>),
    /// Events follow. Not `complete`: some since the given number are no longer held; take a snapshot.
    Subscribed {
        complete: bool,
    },
    Page(Page),
    /// To `Exec`.
    Exited {
        code: i32,
    },
    Stats(Vec<cri::ContainerStats>),
}

/// A page of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    pub sandboxes: Vec<SandboxRecord>,
    pub containers: Vec<ContainerRecord>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<Cursor>,
}

/// A change in the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the host's changes from 1, without gaps.
    pub sequence: u64,
    pub change: Change,
}

/// What changed. A later change of the same thing supersedes an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    Sandbox(Box<SandboxRecord>),
    SandboxRemoved(cri::SandboxId),
    Container(Box<ContainerRecord>),
    ContainerRemoved(cri::ContainerId),
}

/// A sandbox as its host holds it and writes it to `sandbox-<id>.json` in its state directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub sandbox: cri::Sandbox,
    pub network: Network,
}

/// A container as its host holds it and writes it to `container-<id>.json` in its state directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub container: cri::Container,
    /// The code it runs, so that the cache keeps it.
    pub code_key: String,
}

/// The name of a sandbox's state file.
pub fn sandbox_file(id: &cri::SandboxId) -> String {
    format!("sandbox-{id}.json")
}

/// The name of a container's state file.
pub fn container_file(id: &cri::ContainerId) -> String {
    format!("container-{id}.json")
}

/// Why a host refused or failed a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// The host follows an agent of a higher generation.
    #[error("the sandbox host follows a newer agent (generation {current})")]
    Fenced { current: u64 },
    /// No protocol version in common.
    #[error("the sandbox host speaks protocol versions {oldest} to {newest}")]
    Version { oldest: u32, newest: u32 },
    /// `what` is `sandbox` or `container`.
    #[error("{what} \"{id}\" not found")]
    NotFound { what: String, id: String },
    #[error("{message}")]
    InvalidConfig { message: String },
    /// The compiled code cannot be loaded or linked.
    #[error("{reason}")]
    Unrunnable { reason: String },
    #[error("{reason}")]
    Start { reason: String },
    /// Another container of the pod listens there.
    #[error("port {port} of the pod is already taken by container \"{holder}\"")]
    PortTaken { port: u16, holder: String },
    #[error("the sandbox host is out of {resource}: {detail}")]
    Exhausted { resource: String, detail: String },
    /// The host still holds sandboxes.
    #[error("the sandbox host is in use")]
    Busy,
    /// The host itself failed.
    #[error("{reason}")]
    Internal { reason: String },
}

/// The port that a container which serves HTTP listens on: the first TCP port it declares, else 8080.
pub fn http_port(ports: &[cri::ContainerPort]) -> u16 {
    ports
        .iter()
        .find(|port| port.protocol.is_empty() || port.protocol == "TCP")
        .map_or(8080, |port| port.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: &str, port: u16) -> cri::ContainerPort {
        cri::ContainerPort {
            name: String::new(),
            protocol: protocol.to_owned(),
            port,
        }
    }

    #[test]
    fn http_is_served_on_the_first_tcp_port() {
        assert_eq!(http_port(&[]), 8080);
        assert_eq!(http_port(&[port("UDP", 53)]), 8080);
        assert_eq!(http_port(&[port("UDP", 53), port("TCP", 80), port("TCP", 81)]), 80);
        assert_eq!(http_port(&[port("", 3000)]), 3000);
    }

    /// What hosts of version 1 send and understand: a change here is a new version.
    #[test]
    fn the_wire_form_of_version_1_is_kept() {
        let hello = AgentHello {
            oldest_version: 1,
            newest_version: 1,
            wherry_version: "0.1.0".into(),
            generation: 7,
        };
        let calls = [
            Call::Hello(hello),
            Call::StopContainer {
                container: cri::ContainerId("c".into()),
                grace_milliseconds: 30_000,
            },
            Call::Subscribe { after: None },
            Call::Snapshot { after: Cursor::Start },
            Call::Snapshot {
                after: Cursor::Sandbox(cri::SandboxId("s".into())),
            },
            Call::Stats,
            Call::Shutdown,
        ];
        let sent = calls.map(|call| serde_json::to_string(&ToHost { id: 1, call }).unwrap());
        let network = Network::Pod {
            address: Ipv4Addr::new(10, 128, 0, 2),
            loopback: Ipv4Addr::new(127, 64, 0, 2),
            dialable_loopback: Vec::new(),
        };
        let answers = [
            FromHost::Reply {
                id: 1,
                result: Ok(Answer::Done),
            },
            FromHost::Reply {
                id: 1,
                result: Ok(Answer::Subscribed { complete: true }),
            },
            FromHost::Reply {
                id: 1,
                result: Err(Failure::Fenced { current: 8 }),
            },
            FromHost::Reply {
                id: 1,
                result: Err(Failure::PortTaken {
                    port: 80,
                    holder: "web".into(),
                }),
            },
            FromHost::Event(Event {
                sequence: 3,
                change: Change::SandboxRemoved(cri::SandboxId("s".into())),
            }),
        ];
        let received = answers.map(|answer| serde_json::to_string(&answer).unwrap());
        let network = serde_json::to_string(&network).unwrap();
        insta::assert_snapshot!([sent.join("\n"), received.join("\n"), network].join("\n"), @r#"
        {"id":1,"call":{"Hello":{"oldest_version":1,"newest_version":1,"wherry_version":"0.1.0","generation":7}}}
        {"id":1,"call":{"StopContainer":{"container":"c","grace_milliseconds":30000}}}
        {"id":1,"call":{"Subscribe":{"after":null}}}
        {"id":1,"call":{"Snapshot":{"after":"Start"}}}
        {"id":1,"call":{"Snapshot":{"after":{"Sandbox":"s"}}}}
        {"id":1,"call":"Stats"}
        {"id":1,"call":"Shutdown"}
        {"Reply":{"id":1,"result":{"Ok":"Done"}}}
        {"Reply":{"id":1,"result":{"Ok":{"Subscribed":{"complete":true}}}}}
        {"Reply":{"id":1,"result":{"Err":{"Fenced":{"current":8}}}}}
        {"Reply":{"id":1,"result":{"Err":{"PortTaken":{"port":80,"holder":"web"}}}}}
        {"Event":{"sequence":3,"change":{"SandboxRemoved":"s"}}}
        {"Pod":{"address":"10.128.0.2","loopback":"127.64.0.2","dialable_loopback":[]}}
        "#);
    }
}
