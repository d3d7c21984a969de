//! What only Linux containers have: namespaces, profiles, capabilities, hidden paths, and who they run as. Pure.
//!
//! Defaults are the kubelet's: a container without a profile is unconfined by seccomp and confined by AppArmor where the
//! node has it; a pod's own sandbox is confined by the runtime's seccomp profile.

use std::path::Path;

use cri::{ContainerId, MASKED_PATHS, PidNamespace, READONLY_PATHS, SupplementalGroupsPolicy};

use crate::{
    pod::{Container, Pod, Profile, ProfileKind, SeLinuxOptions, SecurityContext},
    resources,
};

/// Facts of the node that containers are made by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Platform {
    /// The kernel confines by AppArmor.
    pub(crate) apparmor: bool,
    /// All memory of the machine, bytes.
    pub(crate) memory_bytes: i64,
    /// The runtime of Linux containers mounts read-only also what is mounted below.
    pub(crate) recursive_readonly: bool,
    /// It heeds `supplementalGroupsPolicy`.
    pub(crate) strict_groups: bool,
    /// It gives pods users of their own.
    pub(crate) user_namespaces: bool,
}

/// A container cannot be made as its pod wants it; the message of `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})")]
    RunsAsRoot { pod: String, container: String },
    #[error("container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})")]
    ImageRunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \
         \"{pod}\", container: {container})"
    )]
    UserUnknown {
        user: String,
        pod: String,
        container: String,
    },
    #[error("unable to find target container \"{0}\"")]
    NoTarget(String),
    #[error("invalid seccomp localhost profile \"{0}\"")]
    SeccompProfile(String),
}

/// The sandbox's part; `user`: the pod's users on this node, if they are its own.
pub(super) fn sandbox(pod: &Pod, user: Option<cri::UserNamespace>) -> cri::LinuxSandbox {
    let context = pod.spec.security_context.as_deref();
    let sysctls = context.map(|c| &*c.sysctls).unwrap_or_default().iter();
    cri::LinuxSandbox {
        cgroup_parent: String::new(),
        namespaces: cri::Namespaces {
            pid: pid(pod),
            host_ipc: pod.spec.host_ipc,
            user,
        },
        sysctls: sysctls.map(|s| (s.name.replace('/', "."), s.value.clone())).collect(),
        run_as_user: context.and_then(|c| c.run_as_user),
        run_as_group: context.and_then(|c| c.run_as_group),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        readonly_rootfs: false,
        privileged: pod
            .all_containers()
            .any(|(_, c)| c.security_context.as_ref().is_some_and(|s| s.privileged)),
        seccomp: cri::Profile::RuntimeDefault,
        apparmor: cri::Profile::Unconfined,
        selinux: context.and_then(|c| c.se_linux_options.as_ref()).map(selinux),
        overhead: resources::overhead(pod),
        resources: resources::sum_of_limits(pod),
    }
}

fn pid(pod: &Pod) -> PidNamespace {
    match (pod.spec.host_pid, pod.spec.share_process_namespace) {
        (true, _) => PidNamespace::Node,
        (_, true) => PidNamespace::Pod,
        _ => PidNamespace::Container,
    }
}

/// The pod's groups, `fsGroup` among them.
pub(super) fn groups(pod: &Pod) -> Vec<i64> {
    let context = pod.spec.security_context.as_deref();
    let mut groups = context.map(|p| p.supplemental_groups.clone()).unwrap_or_default();
    groups.extend(context.and_then(|p| p.fs_group).filter(|group| !groups.contains(group)));
    groups
}

fn groups_policy(pod: &Pod) -> SupplementalGroupsPolicy {
    match pod.spec.security_context.as_deref() {
        Some(context) if context.supplemental_groups_policy == "Strict" => SupplementalGroupsPolicy::Strict,
        _ => SupplementalGroupsPolicy::Merge,
    }
}

fn selinux(options: &SeLinuxOptions) -> cri::SelinuxLabel {
    cri::SelinuxLabel {
        user: options.user.clone(),
        role: options.role.clone(),
        kind: options.kind.clone(),
        level: options.level.clone(),
    }
}

/// What a Linux container is made with beside the pod.
pub(crate) struct Given<'a> {
    pub(crate) platform: &'a Platform,
    /// Holds `seccomp/`.
    pub(crate) data_dir: &'a Path,
    /// The user that the image itself asks for.
    pub(crate) image_user: Option<&'a cri::ImageUser>,
    /// The running container that an ephemeral one joins.
    pub(crate) target: Option<ContainerId>,
    /// The pod's users on this node, if they are its own.
    pub(crate) user: Option<cri::UserNamespace>,
}

/// The container's part. `security` gets the image's user where the pod names none.
///
/// # Errors
/// What the pod demands that this image or node does not meet.
pub(super) fn container(
    pod: &Pod,
    spec: &Container,
    given: &Given<'_>,
    security: &mut cri::SecurityContext,
) -> Result<cri::LinuxContainer, Error> {
    let (of_pod, own) = (pod.spec.security_context.as_deref(), spec.security_context.as_deref());
    verify_non_root(pod, spec, security.run_as_user, given.image_user)?;
    let mut username = String::new();
    if security.run_as_user.is_none() {
        match given.image_user {
            Some(cri::ImageUser::Id(id)) => security.run_as_user = Some(*id),
            Some(cri::ImageUser::Name(name)) => username.clone_from(name),
            None => security.run_as_user = Some(0),
        }
    }
    let seccomp = own
        .and_then(|c| c.seccomp_profile.as_ref())
        .or(of_pod.and_then(|p| p.seccomp_profile.as_ref()));
    let masks = !security.privileged && own.is_none_or(|c| c.proc_mount != "Unmasked");
    let hidden = |paths: &[&str]| match masks {
        true => paths.iter().map(|path| (*path).to_owned()).collect(),
        false => Vec::new(),
    };
    let capabilities = own.and_then(|c| c.capabilities.clone()).unwrap_or_default();
    let selinux_options = own
        .and_then(|c| c.se_linux_options.as_ref())
        .or(of_pod.and_then(|p| p.se_linux_options.as_ref()));
    Ok(cri::LinuxContainer {
        oom_score_adj: resources::oom_score_adj(pod, spec, given.platform.memory_bytes),
        hugepage_limits: resources::hugepages(spec),
        capabilities: cri::Capabilities {
            add: capabilities.add,
            drop: capabilities.drop,
            ..cri::Capabilities::default()
        },
        namespaces: cri::Namespaces {
            pid: container_pid(pod, spec, given)?,
            host_ipc: pod.spec.host_ipc,
            user: given.user.clone(),
        },
        supplemental_groups_policy: groups_policy(pod),
        run_as_username: username,
        seccomp: seccomp_profile(seccomp, security.privileged, given.data_dir)?,
        apparmor: apparmor_profile(pod.apparmor(&spec.name, own), own, given.platform),
        selinux: selinux_options.map(selinux),
        masked_paths: hidden(&MASKED_PATHS),
        readonly_paths: hidden(&READONLY_PATHS),
        stop_signal: spec
            .lifecycle
            .as_ref()
            .map(|l| l.stop_signal.clone())
            .unwrap_or_default(),
        ..cri::LinuxContainer::default()
    })
}

fn container_pid(pod: &Pod, spec: &Container, given: &Given<'_>) -> Result<PidNamespace, Error> {
    match (&*spec.target_container_name, pid(pod)) {
        ("", namespace) => Ok(namespace),
        // Whoever shares all processes needs no target.
        (_, shared @ (PidNamespace::Node | PidNamespace::Pod)) => Ok(shared),
        (name, _) => match &given.target {
            Some(id) => Ok(PidNamespace::Target(id.clone())),
            None => Err(Error::NoTarget(name.to_owned())),
        },
    }
}

/// `runAsNonRoot`: the user, be it the pod's or the image's, is known and not root.
fn verify_non_root(
    pod: &Pod,
    spec: &Container,
    user: Option<i64>,
    image_user: Option<&cri::ImageUser>,
) -> Result<(), Error> {
    let (of_pod, own) = (pod.spec.security_context.as_deref(), spec.security_context.as_deref());
    let wanted = own
        .and_then(|c| c.run_as_non_root)
        .or(of_pod.and_then(|p| p.run_as_non_root));
    if wanted != Some(true) {
        return Ok(());
    }
    let (pod, container) = (pod.full_name(), spec.name.clone());
    match (user, image_user) {
        (Some(0), _) => Err(Error::RunsAsRoot { pod, container }),
        (Some(_), _) => Ok(()),
        (None, None | Some(cri::ImageUser::Id(0))) => Err(Error::ImageRunsAsRoot { pod, container }),
        (None, Some(cri::ImageUser::Id(_))) => Ok(()),
        (None, Some(cri::ImageUser::Name(user))) => Err(Error::UserUnknown {
            user: user.clone(),
            pod,
            container,
        }),
    }
}

fn seccomp_profile(profile: Option<&Profile>, privileged: bool, data_dir: &Path) -> Result<cri::Profile, Error> {
    let Some(profile) = profile.filter(|_| !privileged) else {
        return Ok(cri::Profile::Unconfined);
    };
    match profile.kind {
        ProfileKind::Unconfined => Ok(cri::Profile::Unconfined),
        ProfileKind::RuntimeDefault => Ok(cri::Profile::RuntimeDefault),
        ProfileKind::Localhost => {
            let name = Path::new(&profile.localhost_profile);
            let plain = name
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !plain || profile.localhost_profile.is_empty() {
                return Err(Error::SeccompProfile(profile.localhost_profile.clone()));
            }
            let path = data_dir.join("seccomp").join(name);
            Ok(cri::Profile::Localhost(path.to_string_lossy().into_owned()))
        }
    }
}

fn apparmor_profile(profile: Option<Profile>, own: Option<&SecurityContext>, platform: &Platform) -> cri::Profile {
    let privileged = own.is_some_and(|c| c.privileged);
    match profile {
        _ if !platform.apparmor => cri::Profile::Unconfined,
        None if privileged => cri::Profile::Unconfined,
        None => cri::Profile::RuntimeDefault,
        Some(profile) => match profile.kind {
            ProfileKind::Unconfined => cri::Profile::Unconfined,
            ProfileKind::RuntimeDefault => cri::Profile::RuntimeDefault,
            ProfileKind::Localhost => cri::Profile::Localhost(profile.localhost_profile),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let metadata = json!({"name": "p", "namespace": "ns", "uid": "u", "annotations": {
            "container.apparmor.security.beta.kubernetes.io/annotated": "localhost/mine",
        }});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("pod")
    }

    fn made(
        spec: Value,
        image_user: Option<&cri::ImageUser>,
    ) -> Result<(cri::LinuxContainer, cri::SecurityContext), String> {
        let pod = pod(spec);
        let (platform, spec) = (
            Platform {
                apparmor: true,
                memory_bytes: 1000 << 20,
                ..Platform::default()
            },
            &pod.spec.containers[0],
        );
        let mut security = super::super::security(&pod, spec);
        let given = Given {
            platform: &platform,
            data_dir: Path::new("/data"),
            image_user,
            target: None,
            user: None,
        };
        let linux = container(&pod, spec, &given, &mut security).map_err(|e| e.to_string())?;
        Ok((linux, security))
    }

    #[test]
    fn non_root_is_verified_in_kubernetes_words() {
        let spec = |context: Value| json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c", "securityContext": context}]});
        let (root, user, name) = (
            cri::ImageUser::Id(0),
            cri::ImageUser::Id(7),
            cri::ImageUser::Name("www".into()),
        );
        let cases = [
            (
                json!({"runAsUser": 0}),
                Some(&user),
                Some("container's runAsUser breaks non-root policy (pod: \"p_ns(u)\", container: c)"),
            ),
            (json!({"runAsUser": 5}), Some(&root), None),
            (
                json!({}),
                Some(&root),
                Some("container has runAsNonRoot and image will run as root (pod: \"p_ns(u)\", container: c)"),
            ),
            (
                json!({}),
                None,
                Some("container has runAsNonRoot and image will run as root (pod: \"p_ns(u)\", container: c)"),
            ),
            (json!({}), Some(&user), None),
            (
                json!({}),
                Some(&name),
                Some(
                    "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root \
                     (pod: \"p_ns(u)\", container: c)",
                ),
            ),
            (json!({"runAsNonRoot": false}), Some(&root), None),
        ];
        for (context, image_user, want) in cases {
            let made = made(spec(context.clone()), image_user).map(|_| ());
            assert_eq!(made, want.map_or(Ok(()), |w| Err(w.to_owned())), "{context}");
        }
    }

    #[test]
    fn the_image_names_the_user_where_the_pod_does_not() {
        let spec = json!({"containers": [{"name": "c"}]});
        let (linux, security) = made(spec.clone(), Some(&cri::ImageUser::Name("www".into()))).expect("made");
        assert_eq!((linux.run_as_username.as_str(), security.run_as_user), ("www", None));
        let (_, security) = made(spec, Some(&cri::ImageUser::Id(7))).expect("made");
        assert_eq!(security.run_as_user, Some(7));
    }

    #[test]
    fn profiles_come_from_the_container_then_the_annotation_then_the_pod() {
        let spec = |name: &str, context: Value| {
            json!({
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "appArmorProfile": {"type": "Unconfined"}},
                "containers": [{"name": name, "securityContext": context}],
            })
        };
        let profiles = |spec| made(spec, None).map(|(linux, _)| (linux.seccomp, linux.apparmor));
        assert_eq!(
            profiles(spec("c", json!({}))),
            Ok((cri::Profile::RuntimeDefault, cri::Profile::Unconfined))
        );
        let local = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}});
        assert_eq!(
            profiles(spec("annotated", local)),
            Ok((
                cri::Profile::Localhost("/data/seccomp/a/b.json".into()),
                cri::Profile::Localhost("mine".into())
            ))
        );
        let outside = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../b.json"}});
        assert_eq!(
            profiles(spec("c", outside)),
            Err("invalid seccomp localhost profile \"../b.json\"".to_owned())
        );
        let bare = json!({"containers": [{"name": "c"}]});
        assert_eq!(
            profiles(bare),
            Ok((cri::Profile::Unconfined, cri::Profile::RuntimeDefault))
        );
        let privileged = json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]});
        assert_eq!(
            profiles(privileged),
            Ok((cri::Profile::Unconfined, cri::Profile::Unconfined))
        );
    }

    #[test]
    fn paths_are_hidden_unless_unmasked_or_privileged() {
        let hidden = |context: Value| {
            let spec = json!({"containers": [{"name": "c", "securityContext": context}]});
            let (linux, _) = made(spec, None).expect("made");
            (linux.masked_paths.len(), linux.readonly_paths.len())
        };
        assert_eq!(hidden(json!({})), (MASKED_PATHS.len(), READONLY_PATHS.len()));
        assert_eq!(hidden(json!({"procMount": "Unmasked"})), (0, 0));
        assert_eq!(hidden(json!({"privileged": true})), (0, 0));
    }

    #[test]
    fn namespaces_are_the_containers_unless_shared() {
        let of = |spec: Value| sandbox(&pod(spec), None).namespaces.pid;
        assert_eq!(of(json!({})), PidNamespace::Container);
        assert_eq!(of(json!({"shareProcessNamespace": true})), PidNamespace::Pod);
        assert_eq!(of(json!({"hostPID": true})), PidNamespace::Node);
        let debug = json!({"containers": [{"name": "c", "targetContainerName": "x"}]});
        assert_eq!(
            made(debug, None).map(|_| ()),
            Err("unable to find target container \"x\"".to_owned())
        );
    }

    #[test]
    fn the_sandbox_has_the_pods_groups_and_sysctls() {
        let made = sandbox(
            &pod(json!({"securityContext": {
                "fsGroup": 9, "supplementalGroups": [5], "supplementalGroupsPolicy": "Strict",
                "sysctls": [{"name": "net/ipv4/tcp_syncookies", "value": "1"}],
            }})),
            None,
        );
        assert_eq!(made.supplemental_groups, [5, 9]);
        assert_eq!(made.supplemental_groups_policy, SupplementalGroupsPolicy::Strict);
        assert_eq!(
            made.sysctls.get("net.ipv4.tcp_syncookies").map(String::as_str),
            Some("1")
        );
    }
}
