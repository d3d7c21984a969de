//! Sandboxes: configuration, status, list entry.

use std::net::IpAddr;

use cri::{DnsConfig, Error, LinuxSandbox, PortMapping, Resources, Sandbox, SandboxConfig, SandboxId, SandboxState};

use crate::{
    invalid, known,
    linux::{int64, read_namespaces, read_policy, read_profile, write_namespaces, write_policy, write_profile},
    v1,
};

impl From<SandboxConfig> for v1::PodSandboxConfig {
    fn from(config: SandboxConfig) -> Self {
        Self {
            metadata: Some(metadata(&config)),
            hostname: config.hostname,
            log_directory: config.log_directory,
            dns_config: (config.dns != DnsConfig::default()).then(|| config.dns.into()),
            port_mappings: config.ports.into_iter().map(Into::into).collect(),
            labels: config.labels,
            annotations: config.annotations,
            linux: Some(write_linux(*config.linux.unwrap_or_default(), config.host_network)),
        }
    }
}

impl TryFrom<v1::PodSandboxConfig> for SandboxConfig {
    type Error = Error;

    fn try_from(config: v1::PodSandboxConfig) -> Result<Self, Error> {
        let metadata = config
            .metadata
            .ok_or_else(|| invalid("sandbox config must include metadata"))?;
        let (linux, host_network) = config.linux.map(read_linux).transpose()?.unzip();
        Ok(Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            attempt: metadata.attempt,
            hostname: config.hostname,
            log_directory: config.log_directory,
            host_network: host_network.unwrap_or_default(),
            dns: config.dns_config.map(Into::into).unwrap_or_default(),
            ports: config
                .port_mappings
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            labels: config.labels,
            annotations: config.annotations,
            linux: linux.map(Box::new),
            join: None,
        })
    }
}

fn metadata(config: &SandboxConfig) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: config.name.clone(),
        uid: config.uid.clone(),
        namespace: config.namespace.clone(),
        attempt: config.attempt,
    }
}

fn write_linux(linux: LinuxSandbox, host_network: bool) -> v1::LinuxPodSandboxConfig {
    let set = |resources: Resources| (resources != Resources::default()).then(|| resources.into());
    #[allow(deprecated, reason = "the profile's old form is left empty")]
    let security = v1::LinuxSandboxSecurityContext {
        namespace_options: Some(write_namespaces(linux.namespaces, host_network)),
        selinux_options: linux.selinux.map(Into::into),
        run_as_user: linux.run_as_user.map(int64),
        run_as_group: linux.run_as_group.map(int64),
        readonly_rootfs: linux.readonly_rootfs,
        supplemental_groups: linux.supplemental_groups,
        supplemental_groups_policy: write_policy(linux.supplemental_groups_policy),
        privileged: linux.privileged,
        seccomp: Some(write_profile(linux.seccomp)),
        apparmor: Some(write_profile(linux.apparmor)),
        seccomp_profile_path: String::new(),
    };
    v1::LinuxPodSandboxConfig {
        cgroup_parent: linux.cgroup_parent,
        security_context: Some(security),
        sysctls: linux.sysctls,
        overhead: set(linux.overhead),
        resources: set(linux.resources),
    }
}

/// The Linux part, and whether the network is the node's.
fn read_linux(linux: v1::LinuxPodSandboxConfig) -> Result<(LinuxSandbox, bool), Error> {
    let security = linux.security_context.unwrap_or_default();
    let (namespaces, host_network) = read_namespaces(security.namespace_options)?;
    #[allow(deprecated, reason = "old clients send the profile's old form")]
    let seccomp_text = security.seccomp_profile_path;
    let read =
        |resources: Option<v1::LinuxContainerResources>| resources.as_ref().map(Resources::from).unwrap_or_default();
    let sandbox = LinuxSandbox {
        cgroup_parent: linux.cgroup_parent,
        namespaces,
        sysctls: linux.sysctls,
        run_as_user: security.run_as_user.map(|id| id.value),
        run_as_group: security.run_as_group.map(|id| id.value),
        supplemental_groups: security.supplemental_groups,
        supplemental_groups_policy: read_policy(security.supplemental_groups_policy)?,
        readonly_rootfs: security.readonly_rootfs,
        privileged: security.privileged,
        seccomp: read_profile(security.seccomp, &seccomp_text)?,
        apparmor: read_profile(security.apparmor, "")?,
        selinux: security.selinux_options.map(Into::into),
        overhead: read(linux.overhead),
        resources: read(linux.resources),
    };
    Ok((sandbox, host_network))
}

impl From<DnsConfig> for v1::DnsConfig {
    fn from(dns: DnsConfig) -> Self {
        Self {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }
    }
}

impl From<v1::DnsConfig> for DnsConfig {
    fn from(dns: v1::DnsConfig) -> Self {
        Self {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }
    }
}

impl From<PortMapping> for v1::PortMapping {
    fn from(port: PortMapping) -> Self {
        let protocol = v1::Protocol::from_str_name(&port.protocol).unwrap_or_default();
        Self {
            protocol: protocol.into(),
            container_port: port.container_port.into(),
            host_port: port.host_port.into(),
            host_ip: port.host_ip,
        }
    }
}

impl TryFrom<v1::PortMapping> for PortMapping {
    type Error = Error;

    fn try_from(port: v1::PortMapping) -> Result<Self, Error> {
        let number = |number: i32| u16::try_from(number).map_err(|_| invalid(format!("port {number} is not valid")));
        let protocol: v1::Protocol = known("protocol", port.protocol)?;
        Ok(Self {
            protocol: protocol.as_str_name().to_owned(),
            container_port: number(port.container_port)?,
            host_port: number(port.host_port)?,
            host_ip: port.host_ip,
        })
    }
}

fn write_state(state: SandboxState) -> i32 {
    match state {
        SandboxState::Ready => v1::PodSandboxState::SandboxReady.into(),
        SandboxState::NotReady => v1::PodSandboxState::SandboxNotready.into(),
    }
}

/// A state that is not known is not ready.
fn read_state(state: i32) -> SandboxState {
    match v1::PodSandboxState::try_from(state) {
        Ok(v1::PodSandboxState::SandboxReady) => SandboxState::Ready,
        _ => SandboxState::NotReady,
    }
}

impl From<Sandbox> for v1::PodSandbox {
    fn from(sandbox: Sandbox) -> Self {
        Self {
            id: sandbox.id.0,
            metadata: Some(metadata(&sandbox.config)),
            state: write_state(sandbox.state),
            created_at: sandbox.created_at,
            labels: sandbox.config.labels,
            annotations: sandbox.config.annotations,
            runtime_handler: sandbox.handler,
        }
    }
}

/// Of the configuration, what a list tells: metadata, labels, annotations. There are no addresses in it.
impl From<v1::PodSandbox> for Sandbox {
    fn from(sandbox: v1::PodSandbox) -> Self {
        let metadata = sandbox.metadata.unwrap_or_default();
        Self {
            id: SandboxId(sandbox.id),
            config: identity(metadata, sandbox.labels, sandbox.annotations),
            state: read_state(sandbox.state),
            ips: Vec::new(),
            created_at: sandbox.created_at,
            handler: sandbox.runtime_handler,
            network_namespace: None,
        }
    }
}

impl From<Sandbox> for v1::PodSandboxStatus {
    fn from(sandbox: Sandbox) -> Self {
        let metadata = metadata(&sandbox.config);
        let host_network = sandbox.config.host_network;
        let namespaces = sandbox.config.linux.unwrap_or_default().namespaces;
        let mut ips = sandbox.ips.into_iter().map(|ip| ip.to_string());
        Self {
            id: sandbox.id.0,
            metadata: Some(metadata),
            state: write_state(sandbox.state),
            created_at: sandbox.created_at,
            network: Some(v1::PodSandboxNetworkStatus {
                ip: ips.next().unwrap_or_default(),
                additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
            }),
            linux: Some(v1::LinuxPodSandboxStatus {
                namespaces: Some(v1::Namespace {
                    options: Some(write_namespaces(namespaces, host_network)),
                }),
            }),
            labels: sandbox.config.labels,
            annotations: sandbox.config.annotations,
            runtime_handler: sandbox.handler,
        }
    }
}

/// Of the configuration, what a status tells: metadata, labels, annotations, namespaces. An address that is none is an
/// error.
impl TryFrom<v1::PodSandboxStatus> for Sandbox {
    type Error = Error;

    fn try_from(status: v1::PodSandboxStatus) -> Result<Self, Error> {
        let network = status.network.unwrap_or_default();
        let additional = network.additional_ips.into_iter().map(|ip| ip.ip);
        let ips = std::iter::once(network.ip)
            .chain(additional)
            .filter(|ip| !ip.is_empty());
        let ip = |ip: String| {
            ip.parse::<IpAddr>()
                .map_err(|_| invalid(format!("\"{ip}\" is not an IP address")))
        };
        let options = status.linux.and_then(|linux| linux.namespaces?.options);
        let mut config = identity(status.metadata.unwrap_or_default(), status.labels, status.annotations);
        if options.is_some() {
            let (namespaces, host_network) = read_namespaces(options)?;
            config.host_network = host_network;
            config.linux = Some(Box::new(LinuxSandbox {
                namespaces,
                ..LinuxSandbox::default()
            }));
        }
        Ok(Self {
            id: SandboxId(status.id),
            config,
            state: read_state(status.state),
            ips: ips.map(ip).collect::<Result<_, _>>()?,
            created_at: status.created_at,
            handler: status.runtime_handler,
            network_namespace: None,
        })
    }
}

type Map = std::collections::BTreeMap<String, String>;

fn identity(metadata: v1::PodSandboxMetadata, labels: Map, annotations: Map) -> SandboxConfig {
    SandboxConfig {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        attempt: metadata.attempt,
        labels,
        annotations,
        ..SandboxConfig::default()
    }
}
