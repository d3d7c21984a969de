//! The command line: what can be asked for, with the defaults, and the two ways of answering.

mod audit;
mod authentication;
mod authorization;
mod control_plane;
mod kept_images;
mod thresholds;
mod words;

use std::{
    ffi::OsString,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use ipnet::Ipv4Net;

use crate::{ports::PortRange, rootless};
pub(crate) use audit::Audit;
pub(crate) use authentication::Authentication;
pub(crate) use authorization::Authorization;
pub(crate) use control_plane::{Backup, ControlPlane, Restore, RotateEncryptionKey, Store};
pub(crate) use kept_images::KeptImages;
pub(crate) use thresholds::Thresholds;
pub(crate) use words::service_words;

/// What every command keeps to, below its own help.
const CONVENTIONS: &str = "\
EXAMPLES:
  Run a cluster in the foreground, and use it:
      wherry up --data-dir ~/wherry
      kubectl --kubeconfig ~/wherry/kubeconfig get nodes

  Run it as a service of this machine, from now on and after every boot:
      sudo wherry up --install

  Run only the container runtime, for a kubelet of one's own:
      sudo wherry runtime-shim --listen /run/wherry-cri/cri.sock

  Bring an image onto the node:
      wherry image load hello.wasm hello:1

OUTPUT:
  What was asked for goes to stdout, one fact a line; log lines go to stderr. Errors are one line on stderr that says
  what to do.

EXIT CODES:
  0  done; of `up` and `runtime-shim`: ended by SIGTERM or SIGINT, with the workloads left running
  1  failed; the line on stderr says why
  2  the command line cannot be read

ENVIRONMENT:
  WHERRY_DATA_DIR  the data directory, in place of --data-dir
  WHERRY_TOKEN     the cluster token of `controlplane`, in place of --token
  RUST_LOG         which log lines are written, such as `debug` or `info,kubelet=debug`
  NOTIFY_SOCKET    where a service manager hears that `up` is ready (sd_notify)";

/// Wherry runs WebAssembly microservices behind the Kubernetes API, as one program.
#[derive(Parser)]
#[command(
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_long_help = CONVENTIONS
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How log lines on stderr are written; RUST_LOG chooses which.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a one-machine cluster: control plane, node and container runtime.
    ///
    /// Stays in the foreground and prints `ready` once the API answers and the node is Ready, then a link to the dashboard
    /// that signs in once, within 15 minutes. SIGTERM ends it and leaves
    /// the workloads running; the next `wherry up` on the same directory finds them, and `wherry down` ends them.
    Up(Up),
    /// Run a control plane alone: the Kubernetes API, controllers and scheduler, on a store of its own or a shared one.
    ///
    /// Any number of control planes may share an etcd cluster; one of them schedules and controls at a time, and all serve
    /// the API. Stays in the foreground and prints `ready` once the API answers.
    Controlplane(ControlPlane),
    /// Write everything in an embedded store, with the cluster's keys, to a file; while it is used, or not.
    Backup(Backup),
    /// Make the store of a data directory from a backup.
    ///
    /// The store goes on at a revision far behind the backup's, so that whoever had read what is lost reads anew.
    Restore(Restore),
    /// Seal Secrets with a new key, those that are stored as well, while the control plane runs.
    RotateEncryptionKey(RotateEncryptionKey),
    /// Run the container runtime alone: CRI v1 on a unix socket, for a stock kubelet or crictl.
    ///
    /// Serves Wasm images and, where there is a containerd, OCI images. Stays in the foreground and prints `ready` once the
    /// socket answers. SIGTERM ends it and leaves the workloads running; the next one on the same directory finds them, and
    /// `wherry down` ends them.
    RuntimeShim(RuntimeShim),
    /// End the workloads of a data directory and remove its network from this machine.
    Down(Down),
    /// Bring images onto this node or to a registry, and look into them.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Print the versions of this program, of the Kubernetes API it serves, and of its build.
    Version,
    /// Print a script that completes the command line in a shell.
    ///
    /// For bash: `wherry completion bash > /etc/bash_completion.d/wherry`
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    #[command(hide = true)]
    SandboxHost {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    #[command(hide = true)]
    ServiceProxy {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    #[command(hide = true)]
    ClusterDns {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    #[command(hide = true)]
    Compile,
    #[command(hide = true)]
    Look { title: String, created: String },
}

/// How many requests the API server takes on at once; priority levels share the sum of both.
#[derive(Args)]
pub(crate) struct Inflight {
    /// Requests that are served at once.
    #[arg(long, value_name = "N", default_value_t = 400)]
    max_requests_inflight: u16,
    /// Requests that change something, served at once beside them.
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_mutating_requests_inflight: u16,
}

impl Inflight {
    pub(crate) fn limits(&self) -> server::MaxInflight {
        server::MaxInflight {
            requests: self.max_requests_inflight.into(),
            mutating: self.max_mutating_requests_inflight.into(),
        }
    }
}

/// What a cluster takes of its machines' addresses and ports.
#[derive(Args)]
pub(crate) struct Ranges {
    /// Addresses for pods, split among the nodes. Without root these are loopback addresses.
    #[arg(long, value_name = "CIDR", default_value_t = rootless::default_cluster_range())]
    pub(crate) cluster_cidr: Ipv4Net,
    /// Addresses for Services. Without root these are loopback addresses.
    #[arg(long, value_name = "CIDR", default_value_t = rootless::default_service_range())]
    pub(crate) service_cidr: Ipv4Net,
    /// Ports for Services of type NodePort.
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767")]
    pub(crate) service_node_port_range: PortRange,
}

#[derive(Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// Where the Kubernetes API is served. On a loopback address it is also served to pods, on the node's own address
    /// of the pod network.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    pub(crate) api_bind: SocketAddr,
    #[command(flatten)]
    pub(crate) inflight: Inflight,
    /// Where to write the administrator's kubeconfig [default: DIR/kubeconfig].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The node's name [default: the machine's host name].
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Run the pods that the files of this directory describe, whatever the API says (static pods).
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// Where storage drivers (CSI) find the kubelet: holds plugins_registry/, plugins/ and the volumes they mount for pods
    /// [default: the data directory]. Drivers made for other kubelets look below /var/lib/kubelet.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) kubelet_dir: Option<PathBuf>,
    /// What of this machine is kept from pods, for everything else on it (`cpu=500m,memory=1Gi,ephemeral-storage=2Gi`).
    #[arg(long, value_name = "RESOURCES", default_value = "", hide_default_value = true)]
    pub(crate) system_reserved: agent::Reserved,
    #[command(flatten)]
    pub(crate) thresholds: Thresholds,
    /// Run the control plane only.
    #[arg(long)]
    pub(crate) no_node: bool,
    /// A key management plugin (KMS v2) that wraps the keys with which Secrets are encrypted.
    #[arg(long, value_name = "unix:///PATH")]
    pub(crate) kms_endpoint: Option<String>,
    /// The name servers of this machine, which cluster DNS asks for names that are not the cluster's, and the configuration
    /// of pods with dnsPolicy Default [default: /etc/resolv.conf, or what systemd-resolved keeps for others].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) resolv_conf: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) images: KeptImages,
    #[command(flatten)]
    pub(crate) audit: Audit,
    #[command(flatten)]
    pub(crate) authentication: Authentication,
    #[command(flatten)]
    pub(crate) authorization: Authorization,
    /// The socket of the containerd that runs OCI containers, or `none` [default: /run/containerd/containerd.sock, where that
    /// can be used].
    ///
    /// Needs root. The node writes the network configuration of containers where this containerd looks for it; a directory
    /// that has another network's is left alone, and pods of OCI images are refused with that reason.
    #[arg(long, value_name = "SOCKET|none", value_hint = ValueHint::FilePath)]
    pub(crate) containerd: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) ranges: Ranges,
    /// Install this as a service and start it, in place of running in the foreground.
    ///
    /// Copies this program to /usr/local/bin and writes a systemd unit with the flags given here; without root, to
    /// ~/.local/bin and for the user's own systemd. Where systemd does not run, says how another supervisor runs it. Done
    /// again with a newer program this is the upgrade: workloads are not disturbed.
    #[arg(long)]
    pub(crate) install: bool,
    /// Install below this directory, such as the root of a machine's image, and start nothing.
    #[arg(long, value_name = "DIR", requires = "install", value_hint = ValueHint::DirPath)]
    pub(crate) install_root: Option<PathBuf>,
}

/// What the pods of a node take of its machine's addresses.
#[derive(Args)]
pub(crate) struct PodRanges {
    /// Addresses for the pods of all nodes. Without root these are loopback addresses.
    #[arg(long, value_name = "CIDR", default_value_t = rootless::default_cluster_range())]
    pub(crate) cluster_cidr: Ipv4Net,
    /// Addresses of Services. Without root these are loopback addresses.
    #[arg(long, value_name = "CIDR", default_value_t = rootless::default_service_range())]
    pub(crate) service_cidr: Ipv4Net,
}

#[derive(Args)]
pub(crate) struct RuntimeShim {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// The socket, which only this user can open [default: DIR/cri.sock].
    #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    pub(crate) listen: Option<PathBuf>,
    /// Addresses for the pods of this node, a part of the cluster's [default: what the kubelet tells].
    #[arg(long, value_name = "CIDR")]
    pub(crate) pod_cidr: Option<Ipv4Net>,
    /// The socket of the containerd that runs OCI containers, or `none` [default: /run/containerd/containerd.sock, where that
    /// can be used].
    ///
    /// Needs root. Its network configuration is written as by `wherry up`.
    #[arg(long, value_name = "SOCKET|none", value_hint = ValueHint::FilePath)]
    pub(crate) containerd: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) ranges: PodRanges,
}

#[derive(Args)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// Remove the service that `up --install` installed, too.
    #[arg(long)]
    pub(crate) uninstall: bool,
    /// The directory that the service was installed below; nothing is ended.
    #[arg(long, value_name = "DIR", requires = "uninstall", value_hint = ValueHint::DirPath)]
    pub(crate) install_root: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum ImageCommand {
    /// Load an image from a file into the running node.
    Load(LoadImage),
    /// Push a Wasm file to a registry, as an OCI artifact.
    ///
    /// Signs in with --username and --password-stdin, else with what ~/.docker/config.json knows of the registry. A
    /// registry on a loopback address is spoken to without TLS; others as DIR/certs.d/REGISTRY/hosts.toml says. What goes to
    /// the cluster's own registry, `wherry.internal/NAMESPACE/NAME:TAG`, goes there as whoever --kubeconfig says.
    Push(PushImage),
    /// List the images of the running node.
    Ls(ListImages),
    /// Remove images from the running node, each with all its names.
    Rm(RemoveImages),
    /// Show worlds, imports, exports and producers of an image or a file, and what this version lacks to run it.
    Inspect(InspectImage),
}

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Args)]
pub(crate) struct PushImage {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// A `.wasm` component or module.
    pub(crate) file: PathBuf,
    /// Where it goes, such as `registry.example/team/hello:1`.
    pub(crate) name: String,
    /// Who one is to the cluster's own registry [default: $KUBECONFIG, DIR/kubeconfig or ~/.kube/config].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Who signs in.
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub(crate) username: Option<String>,
    /// Read the password from stdin.
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// Speak without TLS.
    #[arg(long)]
    pub(crate) plain_http: bool,
}

#[derive(Args)]
pub(crate) struct ListImages {
    #[command(flatten)]
    pub(crate) data: DataDir,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct RemoveImages {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// Names or ids.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

#[derive(Args)]
pub(crate) struct InspectImage {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// The name of an image of the running node, or a `.wasm` file.
    #[arg(value_name = "NAME|FILE")]
    pub(crate) what: String,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct LoadImage {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// A `.wasm` component or module, or a tar of an OCI image layout or of `docker save`.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The name that pods use, such as `hello:1`.
    pub(crate) name: String,
}

#[derive(Args)]
pub(crate) struct DataDir {
    /// Where everything is kept [default: /var/lib/wherry, or without root the user's data directory].
    #[arg(long = "data-dir", value_name = "DIR", env = "WHERRY_DATA_DIR", value_hint = ValueHint::DirPath)]
    path: Option<PathBuf>,
}

impl DataDir {
    /// The directory, absolute.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        let path = match &self.path {
            Some(path) => path.clone(),
            None => default_directory(),
        };
        Ok(std::path::absolute(path)?)
    }
}

/// Where everything is kept if nobody says otherwise.
pub(crate) fn default_directory() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/wherry");
    }
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || {
        variable("HOME")
            .unwrap_or_else(|| PathBuf::from("/"))
            .join(".local/share")
    };
    variable("XDG_DATA_HOME").unwrap_or_else(home).join("wherry")
}

/// The directory for messages: as short as the user would type it.
pub(crate) fn flag_for(directory: &Path) -> String {
    format!("--data-dir {}", directory.display())
}

/// Writes a line for scripts and people to stdout. A closed stdout is not an error of ours.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Writes a line about what went wrong to stderr.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
