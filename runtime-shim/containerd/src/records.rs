//! What is written into containerd's records, and read back: whose they are, and what CRI does not carry. Pure.
//!
//! A containerd may serve others as well, such as another cluster's kubelet: every sandbox and container of ours has a
//! label with our name, and what does not have it is never listed, and so never touched.

use std::{collections::BTreeMap, path::PathBuf};

use cri::{
    ContainerConfig, ContainerId, Error, LinuxContainer, MASKED_PATHS, PidNamespace, Profile, READONLY_PATHS, Sandbox,
    SandboxConfig, SandboxId,
};
use proto::v1;

/// The label with the owner's name.
pub(crate) const OWNER: &str = "wherry.dev/owner";
/// The annotation of a sandbox with its whole configuration, as JSON.
const CONFIG: &str = "wherry.dev/sandbox-config";
/// The annotation of a container with the image as its pod names it.
const IMAGE: &str = "wherry.dev/image";
/// What ids of this runtime begin with.
pub(crate) const PREFIX: &str = cri::CONTAINERD_IDS;
/// The label by which kubelets name a container's pod.
const POD_UID: &str = "io.kubernetes.pod.uid";

/// An id as the rest of the node knows it.
pub(crate) fn sandbox_id(id: &str) -> SandboxId {
    SandboxId(format!("{PREFIX}{id}"))
}

/// The same of a container.
pub(crate) fn container_id(id: &str) -> ContainerId {
    ContainerId(format!("{PREFIX}{id}"))
}

/// The id as containerd knows it.
pub(crate) fn own_id(id: &str) -> &str {
    id.strip_prefix(PREFIX).unwrap_or(id)
}

/// What lists are asked for with.
pub(crate) fn selector(owner: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(OWNER.to_owned(), owner.to_owned())])
}

/// A sandbox's configuration as containerd is told it.
pub(crate) fn sandbox_config(config: &SandboxConfig, owner: &str) -> Result<v1::PodSandboxConfig, Error> {
    let whole = SandboxConfig {
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ..config.clone()
    };
    let whole = serde_json::to_string(&whole).map_err(|error| Error::failed("writing a sandbox's record", error))?;
    let mut told: v1::PodSandboxConfig = config.clone().into();
    told.labels.insert(OWNER.to_owned(), owner.to_owned());
    told.annotations.insert(CONFIG.to_owned(), whole);
    Ok(told)
}

/// What a sandbox's status says beyond the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) ips: Vec<std::net::IpAddr>,
    pub(crate) network_namespace: Option<PathBuf>,
}

/// A listed sandbox.
pub(crate) fn sandbox(listed: v1::PodSandbox, details: Details) -> Sandbox {
    let mut sandbox = Sandbox::from(listed);
    sandbox.config.labels.remove(OWNER);
    let whole = sandbox.config.annotations.remove(CONFIG);
    let whole = whole.and_then(|whole| serde_json::from_str::<SandboxConfig>(&whole).ok());
    if let Some(whole) = whole {
        sandbox.config = SandboxConfig {
            labels: sandbox.config.labels,
            annotations: sandbox.config.annotations,
            ..whole
        };
    }
    sandbox.id = sandbox_id(&sandbox.id.0);
    sandbox.ips = details.ips;
    sandbox.network_namespace = details.network_namespace;
    sandbox
}

/// Reads addresses and namespace off a sandbox's verbose status.
pub(crate) fn details(status: v1::PodSandboxStatusResponse) -> Result<Details, Error> {
    let network_namespace = status.info.get("info").and_then(|info| network_namespace(info));
    let sandbox = Sandbox::try_from(status.status.unwrap_or_default())?;
    Ok(Details {
        ips: sandbox.ips,
        network_namespace,
    })
}

/// The path among the namespaces of the sandbox's OCI configuration, which a sandbox in the node's network has not.
fn network_namespace(info: &str) -> Option<PathBuf> {
    let info: serde_json::Value = serde_json::from_str(info).ok()?;
    let namespaces = info.pointer("/runtimeSpec/linux/namespaces")?.as_array()?;
    let network = namespaces
        .iter()
        .find(|namespace| namespace.get("type").is_some_and(|kind| kind == "network"))?;
    let path = network.get("path")?.as_str().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(path))
}

/// A container's configuration as containerd is told it.
pub(crate) fn container_config(mut config: ContainerConfig, owner: &str) -> v1::ContainerConfig {
    let mut linux = config.linux.take().unwrap_or_else(|| Box::new(unsaid()));
    if let PidNamespace::Target(target) = &mut linux.namespaces.pid {
        *target = ContainerId(own_id(&target.0).to_owned());
    }
    config.linux = Some(linux);
    config.labels.insert(OWNER.to_owned(), owner.to_owned());
    config.annotations.insert(IMAGE.to_owned(), config.image.clone());
    config.into()
}

/// What a container has of which nobody said what only Linux has: as a pod without a security context.
fn unsaid() -> LinuxContainer {
    LinuxContainer {
        masked_paths: MASKED_PATHS.map(str::to_owned).into(),
        readonly_paths: READONLY_PATHS.map(str::to_owned).into(),
        seccomp: Profile::Unconfined,
        ..LinuxContainer::default()
    }
}

/// A container from its list entry and its status; the latter says neither its sandbox nor the image's id in all versions.
pub(crate) fn container(listed: v1::Container, status: v1::ContainerStatus) -> Result<cri::Container, Error> {
    let pod_uid = listed.labels.get(POD_UID).cloned().unwrap_or_default();
    let listed = proto::listed_container(listed, pod_uid.clone());
    let mut container = proto::reported_container(status, sandbox_id(&listed.sandbox.0), pod_uid)?;
    container.id = container_id(&container.id.0);
    container.config.image_id = listed.config.image_id;
    container.config.labels.remove(OWNER);
    if let Some(image) = container.config.annotations.remove(IMAGE) {
        container.config.image = image;
    }
    Ok(container)
}

#[cfg(test)]
mod tests {
    use cri::{DnsConfig, LinuxSandbox};

    use super::*;

    fn config() -> SandboxConfig {
        SandboxConfig {
            name: "p".into(),
            namespace: "ns".into(),
            uid: "u".into(),
            attempt: 1,
            hostname: "p".into(),
            log_directory: "/logs/p".into(),
            dns: DnsConfig {
                servers: vec!["10.96.0.10".into()],
                ..DnsConfig::default()
            },
            labels: BTreeMap::from([("app".into(), "a".into())]),
            annotations: BTreeMap::from([("note".into(), "n".into())]),
            linux: Some(Box::new(LinuxSandbox {
                cgroup_parent: "/kubepods/u".into(),
                ..LinuxSandbox::default()
            })),
            ..SandboxConfig::default()
        }
    }

    #[test]
    fn a_sandbox_is_read_back_as_it_was_made() {
        let told = sandbox_config(&config(), "me").unwrap();
        assert_eq!(told.labels[OWNER], "me");
        let listed = v1::PodSandbox {
            id: "0123".into(),
            metadata: told.metadata,
            labels: told.labels,
            annotations: told.annotations,
            ..v1::PodSandbox::default()
        };
        let read = sandbox(listed, Details::default());
        assert_eq!(read.config, config());
        assert_eq!(read.id.0, "containerd-0123");
        assert_eq!(own_id(&read.id.0), "0123");
    }

    #[test]
    fn the_network_namespace_stands_in_the_verbose_status() {
        let info = r#"{"runtimeSpec": {"linux": {"namespaces": [
            {"type": "pid"}, {"type": "network", "path": "/run/netns/cni-1"}]}}}"#;
        assert_eq!(network_namespace(info), Some(PathBuf::from("/run/netns/cni-1")));
        let of_node = r#"{"runtimeSpec": {"linux": {"namespaces": [{"type": "pid"}]}}}"#;
        assert_eq!(network_namespace(of_node), None);
    }

    #[test]
    fn a_container_names_the_image_as_its_pod_does() {
        let config = ContainerConfig {
            name: "c".into(),
            image: "nginx".into(),
            image_id: "sha256:1".into(),
            labels: BTreeMap::from([(POD_UID.into(), "u".into())]),
            ..ContainerConfig::default()
        };
        let told = container_config(config, "me");
        let linux = told.linux.clone().unwrap().security_context.unwrap();
        assert!(linux.masked_paths.contains(&"/proc/kcore".to_owned()));
        let listed = v1::Container {
            id: "c1".into(),
            pod_sandbox_id: "s1".into(),
            image_ref: "sha256:1".into(),
            labels: told.labels.clone(),
            ..v1::Container::default()
        };
        let status = v1::ContainerStatus {
            id: "c1".into(),
            metadata: told.metadata,
            labels: told.labels,
            annotations: told.annotations,
            image: Some(v1::ImageSpec {
                image: "docker.io/library/nginx:latest".into(),
                ..v1::ImageSpec::default()
            }),
            image_ref: "docker.io/library/nginx@sha256:2".into(),
            ..v1::ContainerStatus::default()
        };
        let read = container(listed, status).unwrap();
        assert_eq!(read.config.image, "nginx");
        assert_eq!(read.config.image_id, "sha256:1");
        assert_eq!(
            (&*read.id.0, &*read.sandbox.0, &*read.pod_uid),
            ("containerd-c1", "containerd-s1", "u")
        );
        assert!(!read.config.labels.contains_key(OWNER));
    }
}
