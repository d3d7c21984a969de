//! Containers, their environment, probes and hooks, as the API describes them.

use serde::{Deserialize, Serialize};

use super::{Amounts, QuantityText, RestartPolicy, Role, SecurityContext};

/// `Container`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_pull_policy: PullPolicy,
    #[serde(deserialize_with = "super::exact")]
    pub(crate) command: Vec<String>,
    #[serde(deserialize_with = "super::exact")]
    pub(crate) args: Vec<String>,
    pub(crate) working_dir: String,
    #[serde(deserialize_with = "super::exact")]
    pub(crate) ports: Vec<Port>,
    #[serde(deserialize_with = "super::exact")]
    pub(crate) env: Vec<EnvVar>,
    #[serde(deserialize_with = "super::exact")]
    pub(crate) env_from: Vec<EnvFrom>,
    pub(crate) resources: Resources,
    pub(crate) restart_policy: Option<RestartPolicy>,
    #[serde(deserialize_with = "super::exact")]
    pub(crate) volume_mounts: Vec<VolumeMount>,
    pub(crate) liveness_probe: Option<Box<Probe>>,
    pub(crate) readiness_probe: Option<Box<Probe>>,
    pub(crate) startup_probe: Option<Box<Probe>>,
    pub(crate) lifecycle: Option<Box<Lifecycle>>,
    pub(crate) security_context: Option<Box<SecurityContext>>,
    /// Where the program leaves its last words; empty: `/dev/termination-log`.
    pub(crate) termination_message_path: String,
    pub(crate) termination_message_policy: MessagePolicy,
    /// What a resize does to the container, by resource (KEP-1287).
    #[serde(deserialize_with = "super::exact")]
    pub(crate) resize_policy: Vec<ResizePolicy>,
    /// By exit code, before `restart_policy` (KEP-5307).
    #[serde(deserialize_with = "super::exact")]
    pub(crate) restart_policy_rules: Vec<RestartRule>,
    /// Of an ephemeral container: whose processes it sees.
    pub(crate) target_container_name: String,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
}

/// Where a container's last words come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum MessagePolicy {
    /// The file alone.
    #[default]
    File,
    /// The end of the log, where the container failed and left the file empty.
    FallbackToLogsOnError,
}

/// `ContainerResizePolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResizePolicy {
    pub(crate) resource_name: String,
    pub(crate) restart_policy: String,
}

/// `ContainerRestartRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RestartRule {
    /// `Restart`, or what later versions may add.
    pub(crate) action: String,
    pub(crate) exit_codes: Option<ExitCodes>,
}

/// `ContainerRestartRuleOnExitCodes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ExitCodes {
    /// `In` or `NotIn`.
    pub(crate) operator: String,
    #[serde(deserialize_with = "super::exact")]
    pub(crate) values: Vec<i32>,
}

impl RestartRule {
    /// The rule is about this exit code.
    pub(crate) fn matches(&self, code: i32) -> bool {
        self.exit_codes.as_ref().is_some_and(|codes| match &*codes.operator {
            "In" => codes.values.contains(&code),
            "NotIn" => !codes.values.contains(&code),
            _ => false,
        })
    }
}

impl Container {
    /// The role this container plays among the init containers.
    pub(crate) fn init_role(&self) -> Role {
        match self.restart_policy {
            Some(RestartPolicy::Always) => Role::Sidecar,
            _ => Role::Init,
        }
    }

    /// The number a port reference means in this container.
    pub(crate) fn port(&self, reference: &IntOrString) -> Result<u16, String> {
        match reference {
            IntOrString::Int(number) => u16::try_from(*number)
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| format!("invalid port number: {number}")),
            IntOrString::String(name) => {
                let named = self.ports.iter().find(|p| p.name == *name).map(|p| p.container_port);
                named
                    .or_else(|| name.parse().ok())
                    .ok_or_else(|| format!("couldn't find port: {name}"))
            }
        }
    }
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// `ContainerPort`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) container_port: u16,
    pub(crate) host_port: u16,
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: String,
    pub(crate) protocol: String,
}

/// `EnvVar`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvVar {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) value_from: Option<Box<EnvSource>>,
}

/// `EnvVarSource`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvSource {
    pub(crate) field_ref: Option<FieldRef>,
    pub(crate) resource_field_ref: Option<ResourceFieldRef>,
    pub(crate) config_map_key_ref: Option<KeyRef>,
    pub(crate) secret_key_ref: Option<KeyRef>,
}

/// A key of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct KeyRef {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) optional: bool,
}

/// `ObjectFieldSelector`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FieldRef {
    pub(crate) field_path: String,
}

/// `ResourceFieldSelector`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResourceFieldRef {
    pub(crate) container_name: String,
    pub(crate) resource: String,
    pub(crate) divisor: Option<QuantityText>,
}

/// `EnvFromSource`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvFrom {
    pub(crate) prefix: String,
    pub(crate) config_map_ref: Option<ObjectRef>,
    pub(crate) secret_ref: Option<ObjectRef>,
}

/// A whole ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ObjectRef {
    pub(crate) name: String,
    pub(crate) optional: bool,
}

/// `ResourceRequirements`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    pub(crate) requests: Amounts,
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    pub(crate) limits: Amounts,
}

/// `MountPropagationMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Propagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}

/// `VolumeMount`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct VolumeMount {
    pub(crate) name: String,
    pub(crate) mount_path: String,
    pub(crate) sub_path: String,
    pub(crate) sub_path_expr: String,
    pub(crate) read_only: bool,
    /// `Disabled`, `IfPossible` or `Enabled`.
    pub(crate) recursive_read_only: String,
    pub(crate) mount_propagation: Propagation,
}

/// `Probe`; a missing number is 0 and means Kubernetes' default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Probe {
    #[serde(flatten)]
    pub(crate) handler: Handler,
    pub(crate) initial_delay_seconds: i64,
    pub(crate) timeout_seconds: i64,
    pub(crate) period_seconds: i64,
    pub(crate) success_threshold: u32,
    pub(crate) failure_threshold: u32,
    pub(crate) termination_grace_period_seconds: Option<i64>,
}

/// What a probe or hook does; at most one is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Handler {
    pub(crate) http_get: Option<HttpGet>,
    pub(crate) tcp_socket: Option<TcpSocket>,
    pub(crate) exec: Option<Exec>,
    pub(crate) grpc: Option<Grpc>,
    pub(crate) sleep: Option<Sleep>,
}

/// `HTTPGetAction`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HttpGet {
    pub(crate) path: String,
    pub(crate) port: IntOrString,
    pub(crate) host: String,
    pub(crate) scheme: String,
    #[serde(deserialize_with = "super::exact")]
    pub(crate) http_headers: Vec<HttpHeader>,
}

/// `HTTPHeader`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct HttpHeader {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// `TCPSocketAction`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct TcpSocket {
    pub(crate) port: IntOrString,
    pub(crate) host: String,
}

/// `ExecAction`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Exec {
    #[serde(deserialize_with = "super::exact")]
    pub(crate) command: Vec<String>,
}

/// `GRPCAction`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Grpc {
    pub(crate) port: u16,
    pub(crate) service: Option<String>,
}

/// `SleepAction`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Sleep {
    pub(crate) seconds: u64,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum IntOrString {
    Int(i64),
    String(String),
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

/// `Lifecycle`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Lifecycle {
    pub(crate) post_start: Option<Handler>,
    pub(crate) pre_stop: Option<Handler>,
    pub(crate) stop_signal: String,
}
