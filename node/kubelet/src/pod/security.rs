//! Security contexts of pods and containers, as the API describes them.

use serde::Deserialize;

use super::{Pod, exact};

/// `SecurityContext`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SecurityContext {
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    pub(crate) run_as_non_root: Option<bool>,
    pub(crate) read_only_root_filesystem: bool,
    pub(crate) privileged: bool,
    pub(crate) allow_privilege_escalation: Option<bool>,
    pub(crate) capabilities: Option<Capabilities>,
    /// `Default` or `Unmasked`.
    pub(crate) proc_mount: String,
    pub(crate) seccomp_profile: Option<Profile>,
    pub(crate) app_armor_profile: Option<Profile>,
    pub(crate) se_linux_options: Option<SeLinuxOptions>,
}

/// `PodSecurityContext`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSecurityContext {
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    pub(crate) run_as_non_root: Option<bool>,
    #[serde(deserialize_with = "exact")]
    pub(crate) supplemental_groups: Vec<i64>,
    /// `Merge` or `Strict`.
    pub(crate) supplemental_groups_policy: String,
    pub(crate) fs_group: Option<i64>,
    /// `Always` or `OnRootMismatch`.
    pub(crate) fs_group_change_policy: String,
    #[serde(deserialize_with = "exact")]
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) seccomp_profile: Option<Profile>,
    pub(crate) app_armor_profile: Option<Profile>,
    pub(crate) se_linux_options: Option<SeLinuxOptions>,
}

/// `Capabilities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    #[serde(deserialize_with = "exact")]
    pub(crate) add: Vec<String>,
    #[serde(deserialize_with = "exact")]
    pub(crate) drop: Vec<String>,
}

/// `SeccompProfile` and `AppArmorProfile`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Profile {
    #[serde(rename = "type")]
    pub(crate) kind: ProfileKind,
    pub(crate) localhost_profile: String,
}

/// `SeccompProfileType` and `AppArmorProfileType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum ProfileKind {
    #[default]
    Unconfined,
    RuntimeDefault,
    Localhost,
}

/// `SELinuxOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct SeLinuxOptions {
    pub(crate) user: String,
    pub(crate) role: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) level: String,
}

/// `Sysctl`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Sysctl {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// What annotations said of AppArmor before the fields came (Kubernetes 1.30), and still may.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

impl Pod {
    /// The AppArmor profile of a container: its own, the annotation's, the pod's; `None`: the pod says nothing.
    pub(crate) fn apparmor(&self, name: &str, own: Option<&SecurityContext>) -> Option<Profile> {
        let annotated = || {
            let text = self.metadata.annotations.get(&format!("{APPARMOR_ANNOTATION}{name}"))?;
            let (kind, profile) = match text {
                "runtime/default" => (ProfileKind::RuntimeDefault, ""),
                "unconfined" => (ProfileKind::Unconfined, ""),
                other => (ProfileKind::Localhost, other.strip_prefix("localhost/")?),
            };
            Some(Profile {
                kind,
                localhost_profile: profile.to_owned(),
            })
        };
        let of_pod = || self.spec.security_context.as_deref()?.app_armor_profile.clone();
        own.and_then(|c| c.app_armor_profile.clone())
            .or_else(annotated)
            .or_else(of_pod)
    }
}
