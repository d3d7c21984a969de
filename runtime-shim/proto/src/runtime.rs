//! The runtime itself: version, conditions, features, events; and what is run in containers.

use cri::{CgroupDriver, Condition, ContainerState, ExecOutput, ExecRequest, Features, Handler, Streams, Version};

use crate::v1;

impl From<Version> for v1::VersionResponse {
    fn from(version: Version) -> Self {
        Self {
            // The version of the kubelet's side of the interface, which never changed.
            version: "0.1.0".to_owned(),
            runtime_name: version.name,
            runtime_version: version.version,
            runtime_api_version: "v1".to_owned(),
        }
    }
}

impl From<v1::VersionResponse> for Version {
    fn from(response: v1::VersionResponse) -> Self {
        Self {
            name: response.runtime_name,
            version: response.runtime_version,
        }
    }
}

impl From<Condition> for v1::RuntimeCondition {
    fn from(condition: Condition) -> Self {
        Self {
            r#type: condition.kind,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
        }
    }
}

impl From<v1::RuntimeCondition> for Condition {
    fn from(condition: v1::RuntimeCondition) -> Self {
        Self {
            kind: condition.r#type,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
        }
    }
}

impl From<Handler> for v1::RuntimeHandler {
    fn from(handler: Handler) -> Self {
        Self {
            name: handler.name,
            features: Some(v1::RuntimeHandlerFeatures {
                recursive_read_only_mounts: handler.recursive_readonly_mounts,
                user_namespaces: handler.user_namespaces,
            }),
        }
    }
}

impl From<v1::RuntimeHandler> for Handler {
    fn from(handler: v1::RuntimeHandler) -> Self {
        let features = handler.features.unwrap_or_default();
        Self {
            name: handler.name,
            recursive_readonly_mounts: features.recursive_read_only_mounts,
            user_namespaces: features.user_namespaces,
        }
    }
}

impl From<&Features> for v1::RuntimeFeatures {
    fn from(features: &Features) -> Self {
        Self {
            supplemental_groups_policy: features.supplemental_groups_policy,
            user_namespaces_host_network: features.user_namespaces_host_network,
        }
    }
}

impl From<&Features> for v1::RuntimeConfigResponse {
    fn from(features: &Features) -> Self {
        let linux = |driver| v1::LinuxRuntimeConfiguration {
            cgroup_driver: match driver {
                CgroupDriver::Systemd => v1::CgroupDriver::Systemd.into(),
                CgroupDriver::Cgroupfs => v1::CgroupDriver::Cgroupfs.into(),
            },
        };
        Self {
            linux: features.cgroup_driver.map(linux),
        }
    }
}

/// What a runtime says in its status and, if it has that call, its configuration.
pub fn features(status: v1::StatusResponse, config: Option<v1::RuntimeConfigResponse>) -> Features {
    let told = status.features.unwrap_or_default();
    let driver = config.and_then(|config| config.linux).map(|linux| linux.cgroup_driver);
    Features {
        handlers: status.runtime_handlers.into_iter().map(Into::into).collect(),
        supplemental_groups_policy: told.supplemental_groups_policy,
        user_namespaces_host_network: told.user_namespaces_host_network,
        cgroup_driver: driver.and_then(|driver| match v1::CgroupDriver::try_from(driver) {
            Ok(v1::CgroupDriver::Systemd) => Some(CgroupDriver::Systemd),
            Ok(v1::CgroupDriver::Cgroupfs) => Some(CgroupDriver::Cgroupfs),
            Err(_) => None,
        }),
    }
}

/// The state that an event of a container tells; `None`: it is gone, or the event is not known.
pub fn event_state(event: i32) -> Option<ContainerState> {
    match v1::ContainerEventType::try_from(event) {
        Ok(v1::ContainerEventType::ContainerCreatedEvent) => Some(ContainerState::Created),
        Ok(v1::ContainerEventType::ContainerStartedEvent) => Some(ContainerState::Running),
        Ok(v1::ContainerEventType::ContainerStoppedEvent) => Some(ContainerState::Exited),
        Ok(v1::ContainerEventType::ContainerDeletedEvent) | Err(_) => None,
    }
}

impl From<ExecOutput> for v1::ExecSyncResponse {
    fn from(output: ExecOutput) -> Self {
        Self {
            stdout: output.stdout.into(),
            stderr: output.stderr.into(),
            exit_code: output.exit_code,
        }
    }
}

impl From<v1::ExecSyncResponse> for ExecOutput {
    fn from(response: v1::ExecSyncResponse) -> Self {
        Self {
            stdout: response.stdout.into(),
            stderr: response.stderr.into(),
            exit_code: response.exit_code,
        }
    }
}

/// With the container it is for.
impl From<(cri::ContainerId, ExecRequest)> for v1::ExecRequest {
    fn from((container, request): (cri::ContainerId, ExecRequest)) -> Self {
        let streams = request.streams;
        Self {
            container_id: container.0,
            cmd: request.command,
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        }
    }
}

impl From<v1::ExecRequest> for (cri::ContainerId, ExecRequest) {
    fn from(request: v1::ExecRequest) -> Self {
        let streams = Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        let command = request.cmd;
        (cri::ContainerId(request.container_id), ExecRequest { command, streams })
    }
}

/// With the container it is for.
impl From<(cri::ContainerId, Streams)> for v1::AttachRequest {
    fn from((container, streams): (cri::ContainerId, Streams)) -> Self {
        Self {
            container_id: container.0,
            stdin: streams.stdin,
            tty: streams.tty,
            stdout: streams.stdout,
            stderr: streams.stderr,
        }
    }
}

impl From<v1::AttachRequest> for (cri::ContainerId, Streams) {
    fn from(request: v1::AttachRequest) -> Self {
        let streams = Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        (cri::ContainerId(request.container_id), streams)
    }
}
