//! What is told of sandboxes, containers, images and the runtime beyond CRI's fields, as JSON, where it is asked for.

use std::collections::BTreeMap;

use cri::{Container, Features, Image, Sandbox, Version};
use serde_json::json;

/// CRI's form: one entry, whose value is JSON.
pub(super) type Info = BTreeMap<String, String>;

fn entry(name: &str, value: serde_json::Value) -> Info {
    BTreeMap::from([(name.to_owned(), value.to_string())])
}

pub(super) fn sandbox(sandbox: &Sandbox) -> Info {
    let value = json!({
        "sandboxID": sandbox.id,
        "runtimeHandler": sandbox.handler,
        "networkNamespace": sandbox.network_namespace,
        "config": sandbox.config,
    });
    entry("info", value)
}

pub(super) fn container(container: &Container) -> Info {
    let value = json!({
        "sandboxID": container.sandbox,
        "podUID": container.pod_uid,
        "config": container.config,
    });
    entry("info", value)
}

pub(super) fn image(image: &Image) -> Info {
    entry("info", json!({ "content": image.content }))
}

pub(super) fn runtime(version: &Version, features: &Features) -> Info {
    let handlers: Vec<_> = features.handlers.iter().map(|handler| &handler.name).collect();
    let value = json!({
        "runtimeName": version.name,
        "runtimeVersion": version.version,
        "handlers": handlers,
    });
    entry("config", value)
}
