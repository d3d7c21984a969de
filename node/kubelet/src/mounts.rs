//! What a container sees of its pod's volumes, and the two files that the kubelet gives it. Blocking.

use std::{cell::Cell, collections::BTreeMap, path::Path};

use cri::{ImageMount, Mount};

use crate::{
    env, hosts, lastwords,
    pod::{Container, Pod, Propagation, Volume, VolumeMount},
    volumes,
};

/// Where a container's last words go, unless it says otherwise.
const LAST_WORDS: &str = "/dev/termination-log";
const HOSTS: &str = "/etc/hosts";

/// What mounts are made from beside the pod.
pub(crate) struct Given<'a> {
    pub(crate) data_dir: &'a Path,
    /// The container's environment, for `subPathExpr`.
    pub(crate) env: &'a [(String, String)],
    /// Where the volumes that are claims lie, by volume name.
    pub(crate) claims: &'a BTreeMap<String, volumes::Claimed>,
    /// Ids of the images of image volumes, by volume name.
    pub(crate) images: &'a BTreeMap<String, String>,
    /// The runtime can mount read-only also what is mounted below.
    pub(crate) recursive_readonly: bool,
    /// What a Linux container gets beside its volumes.
    pub(crate) files: Option<Files>,
}

/// What the files of a Linux container are made from.
pub(crate) struct Files {
    /// Content of `/etc/hosts`.
    pub(crate) hosts: Option<String>,
    pub(crate) attempt: u32,
}

/// The container's mounts, with every `subPath` resolved.
///
/// # Errors
/// The first that cannot be made, worded for `CreateContainerConfigError`.
pub(crate) fn make(pod: &Pod, spec: &Container, given: &Given<'_>) -> Result<Vec<Mount>, String> {
    let mut out = Vec::with_capacity(spec.volume_mounts.len());
    for mount in &spec.volume_mounts {
        let volume = pod.spec.volumes.iter().find(|v| v.name == mount.name);
        let volume = volume.ok_or_else(|| format!("volume \"{}\" not found", mount.name))?;
        out.push(one(pod, spec, mount, volume, given)?);
    }
    if let Some(files) = &given.files {
        let failed =
            |what: &str, e: std::io::Error| format!("failed to make {what} of container \"{}\": {e}", spec.name);
        let taken = |path: &str| spec.volume_mounts.iter().any(|m| m.mount_path == path);
        let directory = volumes::pod_dir(given.data_dir, &pod.metadata.uid);
        if let Some(hosts) = files.hosts.as_ref().filter(|_| !taken(HOSTS)) {
            let path = directory.join("etc-hosts");
            hosts::write(&path, hosts).map_err(|e| failed(HOSTS, e))?;
            out.push(file(&path, HOSTS));
        }
        let words = match &*spec.termination_message_path {
            "" => LAST_WORDS,
            chosen => chosen,
        };
        if !taken(words) {
            let path = lastwords::path(given.data_dir, &pod.metadata.uid, &spec.name, files.attempt);
            lastwords::make(&path).map_err(|e| failed("the termination message file", e))?;
            out.push(file(&path, words));
        }
    }
    Ok(out)
}

fn file(from: &Path, to: &str) -> Mount {
    Mount {
        host_path: from.to_string_lossy().into_owned(),
        container_path: to.to_owned(),
        ..Mount::default()
    }
}

fn one(pod: &Pod, spec: &Container, mount: &VolumeMount, volume: &Volume, given: &Given<'_>) -> Result<Mount, String> {
    let missing = Cell::new(false);
    let lookup = |name: &str| {
        let found = given.env.iter().find(|(key, _)| key == name);
        missing.set(missing.get() || found.is_none());
        found.map(|(_, value)| value.as_str())
    };
    let sub_path = match &*mount.sub_path_expr {
        "" => mount.sub_path.clone(),
        expression => env::expand(expression, lookup),
    };
    if missing.get() {
        return Err(format!("failed to expand subPathExpr \"{}\"", mount.sub_path_expr));
    }
    let recursive = mount.read_only && matches!(&*mount.recursive_read_only, "Enabled" | "IfPossible");
    if recursive && mount.recursive_read_only == "Enabled" && !given.recursive_readonly {
        return Err(format!(
            "failed to resolve recursive read-only mode of volumeMount \"{}\": the container runtime does not support it",
            mount.name
        ));
    }
    let mut made = Mount {
        container_path: mount.mount_path.clone(),
        readonly: mount.read_only
            || volume.is_read_only()
            || given.claims.get(&volume.name).is_some_and(|c| c.read_only),
        recursive_readonly: recursive && given.recursive_readonly,
        propagation: match mount.mount_propagation {
            Propagation::None => cri::Propagation::Private,
            Propagation::HostToContainer => cri::Propagation::HostToContainer,
            Propagation::Bidirectional => cri::Propagation::Bidirectional,
        },
        ..Mount::default()
    };
    if let Some(image) = &volume.image {
        made.readonly = true;
        made.image = Some(Box::new(ImageMount {
            image: image.reference.clone(),
            image_id: given.images.get(&volume.name).cloned().unwrap_or_default(),
            sub_path,
        }));
        return Ok(made);
    }
    let claimed = given.claims.get(&volume.name).map(|claim| claim.path.clone());
    let root = claimed
        .or_else(|| volumes::path(given.data_dir, &pod.metadata.uid, volume))
        .ok_or_else(|| format!("volume \"{}\" not found", mount.name))?;
    let host = if sub_path.is_empty() {
        root
    } else {
        let failed = |e| {
            format!(
                "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {e}",
                mount.name, spec.name
            )
        };
        volumes::resolve_sub_path(&root, &sub_path).map_err(failed)?
    };
    made.host_path = host.to_string_lossy().into_owned();
    Ok(made)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn mounts(dir: &Path, spec: Value, files: Option<Files>) -> Result<Vec<Mount>, String> {
        let metadata = json!({"name": "p", "namespace": "ns", "uid": "u"});
        let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("pod");
        let given = Given {
            data_dir: dir,
            env: &[("A".to_owned(), "a".to_owned())],
            claims: &BTreeMap::new(),
            images: &BTreeMap::from([("img".to_owned(), "sha256:1".to_owned())]),
            recursive_readonly: true,
            files,
        };
        make(&pod, &pod.spec.containers[0], &given)
    }

    #[test]
    fn a_linux_container_gets_its_hosts_and_a_place_for_its_last_words() {
        let dir = tempfile::tempdir().expect("dir");
        let files = || {
            Some(Files {
                hosts: Some("x\n".to_owned()),
                attempt: 2,
            })
        };
        let made = mounts(dir.path(), json!({"containers": [{"name": "c"}]}), files()).expect("made");
        let paths: Vec<&str> = made.iter().map(|m| &*m.container_path).collect();
        assert_eq!(paths, ["/etc/hosts", "/dev/termination-log"]);
        assert!(made.iter().all(|m| Path::new(&m.host_path).is_file()), "{made:?}");
        let own = json!({
            "volumes": [{"name": "v", "hostPath": {"path": "/tmp"}}],
            "containers": [{"name": "c", "terminationMessagePath": "/words", "volumeMounts": [{"name": "v", "mountPath": "/etc/hosts"}]}],
        });
        let made = mounts(dir.path(), own, files()).expect("made");
        let paths: Vec<&str> = made.iter().map(|m| &*m.container_path).collect();
        assert_eq!(paths, ["/etc/hosts", "/words"], "the pod's own wins");
        assert_eq!(made[0].host_path, "/tmp");
    }

    #[test]
    fn mounts_are_as_read_only_and_as_shared_as_the_pod_says() {
        let dir = tempfile::tempdir().expect("dir");
        let made = |volume: Value, mount: Value| {
            let mut mount = mount;
            mount["name"] = volume["name"].clone();
            mount["mountPath"] = "/m".into();
            let spec = json!({"volumes": [volume], "containers": [{"name": "c", "volumeMounts": [mount]}]});
            mounts(dir.path(), spec, None).map(|mut m| m.remove(0))
        };
        let host = || json!({"name": "h", "hostPath": {"path": "/tmp"}});
        let shared = made(host(), json!({"mountPropagation": "Bidirectional"})).expect("made");
        assert_eq!(
            (shared.readonly, shared.propagation),
            (false, cri::Propagation::Bidirectional)
        );
        let closed = made(host(), json!({"readOnly": true, "recursiveReadOnly": "Enabled"})).expect("made");
        assert!(closed.readonly && closed.recursive_readonly);
        let config = made(json!({"name": "c", "configMap": {"name": "x"}}), json!({})).expect("made");
        assert!(config.readonly);
        let image = made(
            json!({"name": "img", "image": {"reference": "r"}}),
            json!({"subPathExpr": "d/$(A)"}),
        )
        .expect("made");
        assert!(image.host_path.is_empty() && image.readonly);
        let source = image.image.expect("an image");
        assert_eq!((&*source.image_id, &*source.sub_path), ("sha256:1", "d/a"));
        assert_eq!(
            made(host(), json!({"subPathExpr": "$(NO)"})),
            Err("failed to expand subPathExpr \"$(NO)\"".to_owned())
        );
    }
}
