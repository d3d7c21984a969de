//! Sandbox and container configurations for the runtime, from the pod. Pure, but for `subPath`, which is resolved before.

mod linux;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use client::Labels;
pub(crate) use linux::{Error, Given, Platform};

use crate::{
    env::expand,
    observed::{GRACE_ANNOTATION, remember_limits},
    pod::{Container, Pod, Port},
    resources,
};

/// The directory of a pod's logs: `logs/pods/<namespace>_<name>_<uid>`.
pub(crate) fn log_directory(data_dir: &Path, pod: &Pod) -> PathBuf {
    let meta = &pod.metadata;
    data_dir
        .join("logs/pods")
        .join(format!("{}_{}_{}", meta.namespace, meta.name, meta.uid))
}

fn owned(labels: &Labels) -> impl Iterator<Item = (String, String)> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// The log file of one attempt of a container, relative to the pod's log directory.
pub(crate) fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

/// Labels by which the runtime's records name their pod, as every kubelet sets them.
fn labels(pod: &Pod, container: Option<&str>) -> BTreeMap<String, String> {
    let meta = &pod.metadata;
    let known = [("name", &meta.name), ("namespace", &meta.namespace), ("uid", &meta.uid)];
    let mut out: BTreeMap<_, _> = known
        .into_iter()
        .map(|(key, value)| (format!("io.kubernetes.pod.{key}"), value.to_string()))
        .collect();
    if let Some(container) = container {
        out.insert("io.kubernetes.container.name".into(), container.into());
    }
    out
}

/// What a sandbox of Linux containers is made with.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinuxParts {
    /// The pod's users on this node, if they are its own.
    pub(crate) user: Option<cri::UserNamespace>,
}

/// The configuration of a pod's sandbox; `domain`: the cluster's; `linux`: it is to hold Linux containers.
///
/// # Errors
/// The pod's host name is longer than the kernel takes.
pub(crate) fn sandbox(
    pod: &Pod,
    attempt: u32,
    dns: cri::DnsConfig,
    domain: &str,
    data_dir: &Path,
    linux: Option<LinuxParts>,
) -> Result<cri::SandboxConfig, String> {
    let meta = &pod.metadata;
    let mut labels = labels(pod, None);
    labels.extend(owned(&meta.labels));
    let mut annotations: BTreeMap<String, String> = owned(&meta.annotations).collect();
    annotations.insert(GRACE_ANNOTATION.into(), pod.grace_seconds().to_string());
    Ok(cri::SandboxConfig {
        name: meta.name.to_string(),
        namespace: meta.namespace.to_string(),
        uid: meta.uid.to_string(),
        attempt,
        hostname: if pod.spec.host_network {
            String::new()
        } else {
            pod.kernel_host_name(domain)?
        },
        log_directory: log_directory(data_dir, pod).to_string_lossy().into_owned(),
        host_network: pod.spec.host_network,
        dns,
        ports: pod
            .lasting_containers()
            .flat_map(|(_, c)| &c.ports)
            .map(mapping)
            .collect(),
        labels,
        annotations,
        linux: linux.map(|parts| Box::new(linux::sandbox(pod, parts.user))),
        join: None,
    })
}

fn protocol(port: &Port) -> String {
    if port.protocol.is_empty() {
        "TCP".into()
    } else {
        port.protocol.clone()
    }
}

fn mapping(port: &Port) -> cri::PortMapping {
    cri::PortMapping {
        protocol: protocol(port),
        container_port: port.container_port,
        host_port: port.host_port,
        host_ip: port.host_ip.clone(),
    }
}

/// What a container's configuration takes beside the pod.
pub(crate) struct Parts {
    pub(crate) attempt: u32,
    pub(crate) image_id: String,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<cri::Mount>,
}

/// The configuration of one container. Command and arguments may refer to its environment. `linux`: what a Linux
/// container is made with.
///
/// # Errors
/// What the pod demands that a Linux container's image or node does not meet.
pub(crate) fn container(
    pod: &Pod,
    spec: &Container,
    parts: Parts,
    linux: Option<&Given<'_>>,
) -> Result<cri::ContainerConfig, Error> {
    let lookup = |name: &str| {
        parts
            .env
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let expanded = |words: &[String]| words.iter().map(|word| expand(word, lookup)).collect();
    let port = |p: &Port| cri::ContainerPort {
        name: p.name.clone(),
        protocol: protocol(p),
        port: p.container_port,
    };
    let limits = resources::for_runtime(spec);
    let mut security = security(pod, spec);
    // What is mounted shows its owners as the pod's users see them.
    let mut mounts = parts.mounts;
    if let Some(user) = linux.and_then(|given| given.user.as_ref()) {
        for mount in mounts.iter_mut().filter(|mount| mount.image.is_none()) {
            mount.id_mapping = Some(user.clone());
        }
    }
    let linux = linux
        .map(|given| linux::container(pod, spec, given, &mut security))
        .transpose()?;
    Ok(cri::ContainerConfig {
        name: spec.name.clone(),
        attempt: parts.attempt,
        image: spec.image.clone(),
        image_id: parts.image_id,
        command: expanded(&spec.command),
        args: expanded(&spec.args),
        working_dir: spec.working_dir.clone(),
        mounts,
        ports: spec.ports.iter().map(port).collect(),
        log_path: log_path(&spec.name, parts.attempt),
        resources: limits,
        security,
        labels: labels(pod, Some(&spec.name)),
        annotations: BTreeMap::from([
            ("io.kubernetes.container.restartCount".into(), parts.attempt.to_string()),
            remember_limits(&limits),
        ]),
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        env: parts.env,
        linux: linux.map(Box::new),
    })
}

/// The container's settings win over the pod's.
fn security(pod: &Pod, spec: &Container) -> cri::SecurityContext {
    let (of_pod, own) = (pod.spec.security_context.as_deref(), spec.security_context.as_deref());
    cri::SecurityContext {
        run_as_user: own.and_then(|c| c.run_as_user).or(of_pod.and_then(|p| p.run_as_user)),
        run_as_group: own.and_then(|c| c.run_as_group).or(of_pod.and_then(|p| p.run_as_group)),
        supplemental_groups: linux::groups(pod),
        readonly_rootfs: own.is_some_and(|c| c.read_only_root_filesystem),
        privileged: own.is_some_and(|c| c.privileged),
        no_new_privs: own.is_some_and(|c| c.allow_privilege_escalation == Some(false)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_with_users_of_its_own_sees_its_mounts_through_them() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"hostUsers": false, "containers": [{"name": "web", "image": "i:1"}]},
        }))
        .expect("pod");
        let user = cri::UserNamespace {
            host_id: 65_536,
            length: 65_536,
        };
        let mount = |image: Option<&str>| cri::Mount {
            container_path: "/m".to_owned(),
            image: image.map(|image| {
                Box::new(cri::ImageMount {
                    image: image.to_owned(),
                    ..cri::ImageMount::default()
                })
            }),
            ..cri::Mount::default()
        };
        let parts = Parts {
            attempt: 0,
            image_id: "sha256:1".into(),
            env: Vec::new(),
            mounts: vec![mount(None), mount(Some("sha256:2"))],
        };
        let given = Given {
            platform: &Platform::default(),
            data_dir: Path::new("/d"),
            image_user: None,
            target: None,
            user: Some(user.clone()),
        };
        let made = container(&pod, &pod.spec.containers[0], parts, Some(&given)).expect("made");
        let mapped: Vec<_> = made.mounts.iter().map(|mount| mount.id_mapping.clone()).collect();
        assert_eq!(mapped, [Some(user.clone()), None]);
        assert_eq!(made.linux.expect("Linux").namespaces.user, Some(user.clone()));
        let linux = Some(LinuxParts {
            user: Some(user.clone()),
        });
        let sandbox = sandbox(&pod, 0, cri::DnsConfig::default(), "x", Path::new("/d"), linux).expect("made");
        assert_eq!(sandbox.linux.expect("Linux").namespaces.user, Some(user));
    }

    #[test]
    fn commands_see_the_environment_and_the_container_overrides_the_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {
                "securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3},
                "containers": [{
                    "name": "web", "image": "i:1", "command": ["/x"], "args": ["--a=$(A)", "$(B)"],
                    "ports": [{"containerPort": 80}], "securityContext": {"runAsUser": 9},
                }],
            },
        }))
        .expect("pod");
        let parts = Parts {
            attempt: 2,
            image_id: "sha256:1".into(),
            env: vec![("A".into(), "1".into())],
            mounts: vec![],
        };
        let made = container(&pod, &pod.spec.containers[0], parts, None).expect("made");
        assert_eq!(made.args, ["--a=1", "$(B)"]);
        assert_eq!(made.log_path, "web/2.log");
        assert_eq!(
            made.ports,
            [cri::ContainerPort {
                name: String::new(),
                protocol: "TCP".into(),
                port: 80
            }]
        );
        assert_eq!(
            (made.security.run_as_user, made.security.run_as_group),
            (Some(9), Some(2))
        );
        assert_eq!(made.security.supplemental_groups, [3]);
        let sandbox = sandbox(
            &pod,
            1,
            cri::DnsConfig::default(),
            "cluster.local",
            Path::new("/d"),
            None,
        )
        .expect("made");
        assert_eq!(sandbox.log_directory, "/d/logs/pods/ns_p_u");
        assert_eq!(sandbox.labels["io.kubernetes.pod.uid"], "u");
        assert_eq!(sandbox.annotations[GRACE_ANNOTATION], "30");
    }
}
