//! Containers: configuration, status, list entry.

use cri::{
    Container, ContainerConfig, ContainerId, ContainerState, ContainerUser, Device, Error, ImageMount, LinuxContainer,
    LinuxResources, Mount, Propagation, Resources, SandboxId, SecurityContext,
};

use crate::{
    invalid, known,
    linux::{
        int64, read_mapping, read_namespaces, read_policy, read_profile, resources_of, with_resources, write_mapping,
        write_namespaces, write_policy, write_profile,
    },
    v1,
};

impl From<ContainerConfig> for v1::ContainerConfig {
    fn from(config: ContainerConfig) -> Self {
        let linux = *config.linux.unwrap_or_default();
        let env = |(key, value): (String, String)| v1::KeyValue {
            key,
            value: value.into(),
        };
        Self {
            metadata: Some(v1::ContainerMetadata {
                name: config.name,
                attempt: config.attempt,
            }),
            image: Some(image_spec(config.image, config.image_id)),
            command: config.command,
            args: config.args,
            working_dir: config.working_dir,
            envs: config.env.into_iter().map(env).collect(),
            mounts: config.mounts.into_iter().map(Into::into).collect(),
            devices: linux.devices.iter().cloned().map(Into::into).collect(),
            labels: config.labels,
            annotations: config.annotations,
            log_path: config.log_path,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            tty: config.tty,
            cdi_devices: linux
                .cdi_devices
                .iter()
                .map(|name| v1::CdiDevice { name: name.clone() })
                .collect(),
            stop_signal: write_signal(&linux.stop_signal),
            linux: Some(write_linux(config.resources, config.security, linux)),
        }
    }
}

impl TryFrom<v1::ContainerConfig> for ContainerConfig {
    type Error = Error;

    fn try_from(config: v1::ContainerConfig) -> Result<Self, Error> {
        let metadata = config
            .metadata
            .ok_or_else(|| invalid("container config must include metadata"))?;
        let (image, image_id) = read_image_spec(config.image.unwrap_or_default());
        let devices: Vec<Device> = config.devices.into_iter().map(Into::into).collect();
        let cdi_devices: Vec<String> = config.cdi_devices.into_iter().map(|device| device.name).collect();
        let stop_signal = read_signal(known("stop signal", config.stop_signal)?);
        let bare = devices.is_empty() && cdi_devices.is_empty() && stop_signal.is_empty();
        let (resources, security, linux) = match config.linux {
            None if bare => (Resources::default(), SecurityContext::default(), None),
            linux => {
                let (resources, security, linux) = read_linux(linux.unwrap_or_default())?;
                let linux = LinuxContainer {
                    devices,
                    cdi_devices,
                    stop_signal,
                    ..linux
                };
                (resources, security, Some(Box::new(linux)))
            }
        };
        Ok(Self {
            name: metadata.name,
            attempt: metadata.attempt,
            image,
            image_id,
            command: config.command,
            args: config.args,
            working_dir: config.working_dir,
            env: config.envs.into_iter().map(read_env).collect::<Result<_, _>>()?,
            mounts: config
                .mounts
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            ports: Vec::new(),
            log_path: config.log_path,
            resources,
            security,
            labels: config.labels,
            annotations: config.annotations,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            tty: config.tty,
            linux,
        })
    }
}

fn read_env(env: v1::KeyValue) -> Result<(String, String), Error> {
    let value = String::from_utf8(env.value.into())
        .map_err(|_| invalid(format!("environment variable \"{}\" is not UTF-8", env.key)))?;
    Ok((env.key, value))
}

/// The image as a container is made from it: by its id, where that is known.
fn image_spec(image: String, image_id: String) -> v1::ImageSpec {
    let (image, user_specified_image) = match image_id.is_empty() {
        true => (image, String::new()),
        false => (image_id, image),
    };
    v1::ImageSpec {
        image,
        user_specified_image,
        ..v1::ImageSpec::default()
    }
}

/// The reference and the id.
fn read_image_spec(spec: v1::ImageSpec) -> (String, String) {
    match spec.user_specified_image.is_empty() {
        true => (spec.image, String::new()),
        false => (spec.user_specified_image, spec.image),
    }
}

fn write_linux(resources: Resources, security: SecurityContext, linux: LinuxContainer) -> v1::LinuxContainerConfig {
    let resources = (resources, resources_of(&linux)).into();
    let capabilities = (linux.capabilities != cri::Capabilities::default()).then(|| linux.capabilities.into());
    #[allow(deprecated, reason = "the profiles' old forms are left empty")]
    let security = v1::LinuxContainerSecurityContext {
        capabilities,
        privileged: security.privileged,
        namespace_options: Some(write_namespaces(linux.namespaces, false)),
        selinux_options: linux.selinux.map(Into::into),
        run_as_user: security.run_as_user.map(int64),
        run_as_group: security.run_as_group.map(int64),
        run_as_username: linux.run_as_username,
        readonly_rootfs: security.readonly_rootfs,
        supplemental_groups: security.supplemental_groups,
        supplemental_groups_policy: write_policy(linux.supplemental_groups_policy),
        no_new_privs: security.no_new_privs,
        masked_paths: linux.masked_paths,
        readonly_paths: linux.readonly_paths,
        seccomp: Some(write_profile(linux.seccomp)),
        apparmor: Some(write_profile(linux.apparmor)),
        apparmor_profile: String::new(),
        seccomp_profile_path: String::new(),
    };
    v1::LinuxContainerConfig {
        resources: Some(resources),
        security_context: Some(security),
    }
}

fn read_linux(linux: v1::LinuxContainerConfig) -> Result<(Resources, SecurityContext, LinuxContainer), Error> {
    let limits = linux.resources.unwrap_or_default();
    let resources = Resources::from(&limits);
    let security = linux.security_context.unwrap_or_default();
    #[allow(deprecated, reason = "old clients send the profiles' old forms")]
    let (seccomp_text, apparmor_text) = (security.seccomp_profile_path, security.apparmor_profile);
    let linux = LinuxContainer {
        capabilities: security.capabilities.map(Into::into).unwrap_or_default(),
        namespaces: read_namespaces(security.namespace_options)?.0,
        supplemental_groups_policy: read_policy(security.supplemental_groups_policy)?,
        run_as_username: security.run_as_username,
        seccomp: read_profile(security.seccomp, &seccomp_text)?,
        apparmor: read_profile(security.apparmor, &apparmor_text)?,
        selinux: security.selinux_options.map(Into::into),
        masked_paths: security.masked_paths,
        readonly_paths: security.readonly_paths,
        ..with_resources(limits.into())
    };
    let security = SecurityContext {
        run_as_user: security.run_as_user.map(|id| id.value),
        run_as_group: security.run_as_group.map(|id| id.value),
        supplemental_groups: security.supplemental_groups,
        readonly_rootfs: security.readonly_rootfs,
        privileged: security.privileged,
        no_new_privs: security.no_new_privs,
    };
    Ok((resources, security, linux))
}

impl From<Mount> for v1::Mount {
    fn from(mount: Mount) -> Self {
        let propagation = match mount.propagation {
            Propagation::Private => v1::MountPropagation::PropagationPrivate,
            Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
            Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
        };
        let (image, image_sub_path) = mount
            .image
            .map(|image| (image_spec(image.image, image.image_id), image.sub_path))
            .unzip();
        Self {
            container_path: mount.container_path,
            host_path: mount.host_path,
            readonly: mount.readonly,
            selinux_relabel: mount.selinux_relabel,
            propagation: propagation.into(),
            uid_mappings: write_mapping(mount.id_mapping.as_ref()),
            gid_mappings: write_mapping(mount.id_mapping.as_ref()),
            recursive_read_only: mount.recursive_readonly,
            image,
            image_sub_path: image_sub_path.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Mount> for Mount {
    type Error = Error;

    fn try_from(mount: v1::Mount) -> Result<Self, Error> {
        let image = mount.image.filter(|spec| !spec.image.is_empty()).map(|spec| {
            let (image, image_id) = read_image_spec(spec);
            Box::new(ImageMount {
                image,
                image_id,
                sub_path: mount.image_sub_path,
            })
        });
        Ok(Self {
            host_path: mount.host_path,
            container_path: mount.container_path,
            readonly: mount.readonly,
            recursive_readonly: mount.recursive_read_only,
            propagation: match known("mount propagation", mount.propagation)? {
                v1::MountPropagation::PropagationPrivate => Propagation::Private,
                v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
                v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
            },
            selinux_relabel: mount.selinux_relabel,
            id_mapping: read_mapping(&mount.uid_mappings, &mount.gid_mappings)?,
            image,
        })
    }
}

impl From<Device> for v1::Device {
    fn from(device: Device) -> Self {
        Self {
            container_path: device.container_path,
            host_path: device.host_path,
            permissions: device.permissions,
        }
    }
}

impl From<v1::Device> for Device {
    fn from(device: v1::Device) -> Self {
        Self {
            container_path: device.container_path,
            host_path: device.host_path,
            permissions: device.permissions,
        }
    }
}

/// Pods say `SIGRTMIN+1` where CRI says `SIGRTMINPLUS1`. A name that is none is the runtime's default.
fn write_signal(name: &str) -> i32 {
    let name = name.replace('+', "PLUS").replace('-', "MINUS");
    v1::Signal::from_str_name(&name).unwrap_or_default().into()
}

fn read_signal(signal: v1::Signal) -> String {
    match signal {
        v1::Signal::RuntimeDefault => String::new(),
        signal => signal.as_str_name().replace("PLUS", "+").replace("MINUS", "-"),
    }
}

fn write_state(state: ContainerState) -> i32 {
    match state {
        ContainerState::Created => v1::ContainerState::ContainerCreated,
        ContainerState::Running => v1::ContainerState::ContainerRunning,
        ContainerState::Exited => v1::ContainerState::ContainerExited,
        ContainerState::Unknown => v1::ContainerState::ContainerUnknown,
    }
    .into()
}

fn read_state(state: i32) -> ContainerState {
    match v1::ContainerState::try_from(state) {
        Ok(v1::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(v1::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(v1::ContainerState::ContainerExited) => ContainerState::Exited,
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    }
}

/// The image as it is told: by the reference that the pod names.
fn told_image(config: &ContainerConfig) -> v1::ImageSpec {
    v1::ImageSpec {
        image: config.image.clone(),
        user_specified_image: config.image.clone(),
        ..v1::ImageSpec::default()
    }
}

impl From<Container> for v1::Container {
    fn from(container: Container) -> Self {
        let config = container.config;
        Self {
            id: container.id.0,
            pod_sandbox_id: container.sandbox.0,
            image: Some(told_image(&config)),
            metadata: Some(v1::ContainerMetadata {
                name: config.name,
                attempt: config.attempt,
            }),
            image_ref: config.image_id.clone(),
            state: write_state(container.state),
            created_at: container.created_at,
            labels: config.labels,
            annotations: config.annotations,
            image_id: config.image_id,
        }
    }
}

impl From<Container> for v1::ContainerStatus {
    fn from(container: Container) -> Self {
        let config = container.config;
        let linux = *config.linux.clone().unwrap_or_default();
        Self {
            id: container.id.0,
            image: Some(told_image(&config)),
            metadata: Some(v1::ContainerMetadata {
                name: config.name,
                attempt: config.attempt,
            }),
            state: write_state(container.state),
            created_at: container.created_at,
            started_at: container.started_at,
            finished_at: container.finished_at,
            exit_code: container.exit_code,
            image_ref: config.image_id.clone(),
            reason: container.reason,
            message: container.message,
            labels: config.labels,
            annotations: config.annotations,
            mounts: config.mounts.into_iter().map(Into::into).collect(),
            log_path: container.log_path,
            resources: Some(v1::ContainerResources {
                linux: Some((config.resources, resources_of(&linux)).into()),
            }),
            image_id: config.image_id,
            user: container.user.map(|user| v1::ContainerUser {
                linux: Some(v1::LinuxContainerUser {
                    uid: user.uid,
                    gid: user.gid,
                    supplemental_groups: user.supplemental_groups,
                }),
            }),
            stop_signal: write_signal(&linux.stop_signal),
        }
    }
}

/// A container as a list tells it: of its configuration, the identity; of its life, the state.
pub fn listed_container(container: v1::Container, pod_uid: String) -> Container {
    let (image, _) = read_image_spec(container.image.unwrap_or_default());
    let metadata = container.metadata.unwrap_or_default();
    Container {
        id: ContainerId(container.id),
        sandbox: SandboxId(container.pod_sandbox_id),
        pod_uid,
        config: ContainerConfig {
            name: metadata.name,
            attempt: metadata.attempt,
            image,
            image_id: or_else(container.image_id, container.image_ref),
            labels: container.labels,
            annotations: container.annotations,
            ..ContainerConfig::default()
        },
        state: read_state(container.state),
        created_at: container.created_at,
        started_at: 0,
        finished_at: 0,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        log_path: String::new(),
        user: None,
    }
}

/// A container as its status tells it, which says of its configuration the identity, mounts and resources, and neither
/// its sandbox nor its pod.
pub fn reported_container(
    status: v1::ContainerStatus,
    sandbox: SandboxId,
    pod_uid: String,
) -> Result<Container, Error> {
    let (image, _) = read_image_spec(status.image.unwrap_or_default());
    let metadata = status.metadata.unwrap_or_default();
    let limits = status
        .resources
        .and_then(|resources| resources.linux)
        .unwrap_or_default();
    let resources = Resources::from(&limits);
    let signal = v1::Signal::try_from(status.stop_signal).unwrap_or_default();
    let linux = LinuxContainer {
        stop_signal: read_signal(signal),
        ..with_resources(LinuxResources::from(limits))
    };
    let mounts = status.mounts.into_iter().map(TryInto::try_into);
    Ok(Container {
        id: ContainerId(status.id),
        sandbox,
        pod_uid,
        config: ContainerConfig {
            name: metadata.name,
            attempt: metadata.attempt,
            image,
            image_id: or_else(status.image_id, status.image_ref),
            mounts: mounts.collect::<Result<_, _>>()?,
            resources,
            labels: status.labels,
            annotations: status.annotations,
            linux: Some(Box::new(linux)),
            ..ContainerConfig::default()
        },
        state: read_state(status.state),
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        log_path: status.log_path,
        user: status.user.and_then(|user| user.linux).map(|user| {
            Box::new(ContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: user.supplemental_groups,
            })
        }),
    })
}

fn or_else(first: String, second: String) -> String {
    if first.is_empty() { second } else { first }
}
