//! What only Linux containers have: namespaces, profiles, resources.

use cri::{
    Capabilities, ContainerId, Error, LinuxContainer, LinuxResources, Namespaces, PidNamespace, Profile, Resources,
    SelinuxLabel, SupplementalGroupsPolicy, UserNamespace,
};

use crate::{
    invalid, known,
    v1::{self, NamespaceMode, security_profile::ProfileType},
};

pub(crate) fn int64(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}

/// `network` is the sandbox's; containers follow their sandbox whatever they say.
pub(crate) fn write_namespaces(namespaces: Namespaces, host_network: bool) -> v1::NamespaceOption {
    let node_or = |node: bool| if node { NamespaceMode::Node } else { NamespaceMode::Pod };
    let (pid, target_id) = match namespaces.pid {
        PidNamespace::Container => (NamespaceMode::Container, String::new()),
        PidNamespace::Pod => (NamespaceMode::Pod, String::new()),
        PidNamespace::Node => (NamespaceMode::Node, String::new()),
        PidNamespace::Target(ContainerId(id)) => (NamespaceMode::Target, id),
    };
    v1::NamespaceOption {
        network: node_or(host_network).into(),
        pid: pid.into(),
        ipc: node_or(namespaces.host_ipc).into(),
        target_id,
        userns_options: namespaces.user.map(|user| v1::UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: write_mapping(Some(&user)),
            gids: write_mapping(Some(&user)),
        }),
    }
}

/// The namespaces, and whether the network is the node's.
pub(crate) fn read_namespaces(options: Option<v1::NamespaceOption>) -> Result<(Namespaces, bool), Error> {
    let options = options.unwrap_or_default();
    let mode = |what, value| known::<NamespaceMode>(what, value);
    let pid = match mode("mode of the process namespace", options.pid)? {
        NamespaceMode::Pod => PidNamespace::Pod,
        NamespaceMode::Container => PidNamespace::Container,
        NamespaceMode::Node => PidNamespace::Node,
        NamespaceMode::Target if options.target_id.is_empty() => {
            return Err(invalid("a process namespace of mode TARGET needs a target_id"));
        }
        NamespaceMode::Target => PidNamespace::Target(ContainerId(options.target_id)),
    };
    let namespaces = Namespaces {
        pid,
        host_ipc: mode("mode of the IPC namespace", options.ipc)? == NamespaceMode::Node,
        user: options.userns_options.map(read_user_namespace).transpose()?.flatten(),
    };
    let host_network = mode("mode of the network namespace", options.network)? == NamespaceMode::Node;
    Ok((namespaces, host_network))
}

fn read_user_namespace(options: v1::UserNamespace) -> Result<Option<UserNamespace>, Error> {
    match known("mode of the user namespace", options.mode)? {
        NamespaceMode::Node => Ok(None),
        NamespaceMode::Pod => match read_mapping(&options.uids, &options.gids)? {
            Some(mapping) => Ok(Some(mapping)),
            None => Err(invalid("a user namespace of mode POD needs mappings")),
        },
        mode => Err(invalid(format!(
            "a user namespace cannot have mode {}",
            mode.as_str_name()
        ))),
    }
}

pub(crate) fn write_mapping(mapping: Option<&UserNamespace>) -> Vec<v1::IdMapping> {
    let mapping = mapping.map(|mapping| v1::IdMapping {
        host_id: mapping.host_id,
        container_id: 0,
        length: mapping.length,
    });
    mapping.into_iter().collect()
}

/// A mapping of users and groups: none, or one range from 0 that is the same for both.
pub(crate) fn read_mapping(uids: &[v1::IdMapping], gids: &[v1::IdMapping]) -> Result<Option<UserNamespace>, Error> {
    match (uids, gids) {
        ([], []) => Ok(None),
        ([uid], [gid]) if uid == gid && uid.container_id == 0 => Ok(Some(UserNamespace {
            host_id: uid.host_id,
            length: uid.length,
        })),
        _ => Err(invalid(
            "user namespaces have one mapping, from 0, and the same for users and groups",
        )),
    }
}

pub(crate) fn write_policy(policy: SupplementalGroupsPolicy) -> i32 {
    match policy {
        SupplementalGroupsPolicy::Merge => v1::SupplementalGroupsPolicy::Merge.into(),
        SupplementalGroupsPolicy::Strict => v1::SupplementalGroupsPolicy::Strict.into(),
    }
}

pub(crate) fn read_policy(policy: i32) -> Result<SupplementalGroupsPolicy, Error> {
    Ok(match known("supplemental groups policy", policy)? {
        v1::SupplementalGroupsPolicy::Merge => SupplementalGroupsPolicy::Merge,
        v1::SupplementalGroupsPolicy::Strict => SupplementalGroupsPolicy::Strict,
    })
}

pub(crate) fn write_profile(profile: Profile) -> v1::SecurityProfile {
    let (kind, localhost_ref) = match profile {
        Profile::Unconfined => (ProfileType::Unconfined, String::new()),
        Profile::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Profile::Localhost(name) => (ProfileType::Localhost, name),
    };
    v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref,
    }
}

/// `text` is the form that CRI had before, which old clients still send.
pub(crate) fn read_profile(profile: Option<v1::SecurityProfile>, text: &str) -> Result<Profile, Error> {
    let Some(profile) = profile else {
        return match text {
            "" | "unconfined" => Ok(Profile::Unconfined),
            "runtime/default" | "docker/default" => Ok(Profile::RuntimeDefault),
            text => match text.strip_prefix("localhost/") {
                Some(name) => Ok(Profile::Localhost(name.to_owned())),
                None => Err(invalid(format!("security profile \"{text}\" is not known"))),
            },
        };
    };
    Ok(match known("type of security profile", profile.profile_type)? {
        ProfileType::Unconfined => Profile::Unconfined,
        ProfileType::RuntimeDefault => Profile::RuntimeDefault,
        ProfileType::Localhost => Profile::Localhost(profile.localhost_ref),
    })
}

impl From<SelinuxLabel> for v1::SeLinuxOption {
    fn from(label: SelinuxLabel) -> Self {
        Self {
            user: label.user,
            role: label.role,
            r#type: label.kind,
            level: label.level,
        }
    }
}

impl From<v1::SeLinuxOption> for SelinuxLabel {
    fn from(option: v1::SeLinuxOption) -> Self {
        Self {
            user: option.user,
            role: option.role,
            kind: option.r#type,
            level: option.level,
        }
    }
}

impl From<Capabilities> for v1::Capability {
    fn from(capabilities: Capabilities) -> Self {
        Self {
            add_capabilities: capabilities.add,
            drop_capabilities: capabilities.drop,
            add_ambient_capabilities: capabilities.add_ambient,
        }
    }
}

impl From<v1::Capability> for Capabilities {
    fn from(capability: v1::Capability) -> Self {
        Self {
            add: capability.add_capabilities,
            drop: capability.drop_capabilities,
            add_ambient: capability.add_ambient_capabilities,
        }
    }
}

impl From<Resources> for v1::LinuxContainerResources {
    fn from(resources: Resources) -> Self {
        Self {
            cpu_period: resources.cpu_period,
            cpu_quota: resources.cpu_quota,
            cpu_shares: resources.cpu_shares.try_into().unwrap_or(i64::MAX),
            memory_limit_in_bytes: resources.memory_limit,
            ..Self::default()
        }
    }
}

impl From<&v1::LinuxContainerResources> for Resources {
    fn from(resources: &v1::LinuxContainerResources) -> Self {
        Self {
            cpu_shares: resources.cpu_shares.try_into().unwrap_or_default(),
            cpu_quota: resources.cpu_quota,
            cpu_period: resources.cpu_period,
            memory_limit: resources.memory_limit_in_bytes,
        }
    }
}

/// All resources of a Linux container, as they are updated.
impl From<(Resources, LinuxResources)> for v1::LinuxContainerResources {
    fn from((resources, linux): (Resources, LinuxResources)) -> Self {
        let limit = |(page_size, limit)| v1::HugepageLimit { page_size, limit };
        Self {
            oom_score_adj: linux.oom_score_adj,
            cpuset_cpus: linux.cpuset_cpus,
            cpuset_mems: linux.cpuset_mems,
            hugepage_limits: linux.hugepage_limits.into_iter().map(limit).collect(),
            unified: linux.unified,
            memory_swap_limit_in_bytes: linux.memory_swap_limit,
            ..resources.into()
        }
    }
}

impl From<v1::LinuxContainerResources> for LinuxResources {
    fn from(resources: v1::LinuxContainerResources) -> Self {
        let limit = |limit: v1::HugepageLimit| (limit.page_size, limit.limit);
        Self {
            oom_score_adj: resources.oom_score_adj,
            cpuset_cpus: resources.cpuset_cpus,
            cpuset_mems: resources.cpuset_mems,
            hugepage_limits: resources.hugepage_limits.into_iter().map(limit).collect(),
            memory_swap_limit: resources.memory_swap_limit_in_bytes,
            unified: resources.unified,
        }
    }
}

/// Of a container's Linux part, its resources.
pub(crate) fn resources_of(linux: &LinuxContainer) -> LinuxResources {
    LinuxResources {
        oom_score_adj: linux.oom_score_adj,
        cpuset_cpus: linux.cpuset_cpus.clone(),
        cpuset_mems: linux.cpuset_mems.clone(),
        hugepage_limits: linux.hugepage_limits.clone(),
        memory_swap_limit: linux.memory_swap_limit,
        unified: linux.unified.clone(),
    }
}

/// A Linux part that has these resources and nothing else.
pub(crate) fn with_resources(resources: LinuxResources) -> LinuxContainer {
    LinuxContainer {
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        hugepage_limits: resources.hugepage_limits,
        memory_swap_limit: resources.memory_swap_limit,
        unified: resources.unified,
        ..LinuxContainer::default()
    }
}
