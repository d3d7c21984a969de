//! The core group: pods and what they are made of, namespaces, nodes.

use serde_json::{Map, Value};

use super::{Tree, complete, ensure, maps_of, text};

/// `latest`, and no tag at all, may change under the same name: such images are always pulled.
pub(super) fn container(container: &mut Tree) {
    if text(container, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text(container, "image"));
        container.insert("imagePullPolicy".to_owned(), policy.into());
    }
}

pub(super) fn image_volume(volume: &mut Tree) {
    if text(volume, "pullPolicy").is_empty() {
        let policy = pull_policy(text(volume, "reference"));
        volume.insert("pullPolicy".to_owned(), policy.into());
    }
}

fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(name, digest)| (name, Some(digest)));
    let file = name.rsplit('/').next().unwrap_or_default();
    match file.split_once(':').map(|(_, tag)| tag) {
        Some("latest") => "Always",
        None if digest.is_none() => "Always",
        _ => "IfNotPresent",
    }
}

/// What holds for pods but not for templates: limits are requests where none are given, and so on.
pub(super) fn pod(pod: &mut Tree) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    ensure(spec, "enableServiceLinks", || Value::Bool(true));
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or_default();
    for field in ["containers", "initContainers"] {
        for container in maps_of(spec, field) {
            if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) {
                complete(resources, "requests", "limits");
            }
            if host_network {
                host_ports(container);
            }
        }
    }
}

fn host_ports(container: &mut Tree) {
    for port in maps_of(container, "ports") {
        let unset = port.get("hostPort").and_then(Value::as_i64).unwrap_or_default() == 0;
        if let Some(number) = port.get("containerPort").filter(|_| unset).cloned() {
            port.insert("hostPort".to_owned(), number);
        }
    }
}

/// A volume that names no source is an empty directory.
pub(super) fn volume(volume: &mut Tree) {
    if volume.iter().all(|(field, value)| field == "name" || value.is_null()) {
        volume.insert("emptyDir".to_owned(), Value::Object(Map::new()));
    }
}

/// Every namespace can be selected by its name.
pub(super) fn namespace(namespace: &mut Tree) {
    let Some(metadata) = namespace.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let name = text(metadata, "name").to_owned();
    if name.is_empty() {
        return;
    }
    ensure(metadata, "labels", || Value::Object(Map::new()));
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
}

/// A node that reserves nothing has all of its capacity to give.
pub(super) fn node_status(status: &mut Tree) {
    if !status.contains_key("allocatable")
        && let Some(capacity) = status.get("capacity").cloned()
    {
        status.insert("allocatable".to_owned(), capacity);
    }
}

/// For containers: the default limit is the maximum, the default request the default limit or the minimum.
pub(super) fn limit_range_item(item: &mut Tree) {
    if text(item, "type") != "Container" {
        return;
    }
    for (to, from) in [
        ("default", "max"),
        ("defaultRequest", "default"),
        ("defaultRequest", "min"),
    ] {
        complete(item, to, from);
    }
}

/// A controller without a selector or labels takes those of its template.
pub(super) fn replication_controller(controller: &mut Tree) {
    let labels = controller
        .get("spec")
        .and_then(|spec| spec.pointer("/template/metadata/labels"))
        .cloned();
    let Some(labels) = labels else { return };
    if let Some(spec) = controller.get_mut("spec").and_then(Value::as_object_mut) {
        ensure(spec, "selector", || labels.clone());
    }
    if let Some(metadata) = controller.get_mut("metadata").and_then(Value::as_object_mut) {
        ensure(metadata, "labels", || labels);
    }
}
