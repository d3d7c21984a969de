//! ServiceAccount: every pod is somebody, and finds its token, the cluster's certificate authority and its namespace under
//! a fixed path.

use std::sync::Arc;
use std::time::Duration;

use api::{GroupResource, Object, Status};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::{Admission, AdmissionRequest, creates_pod};
use crate::registry::resource::{Operation, Resource};
use crate::resources::core::pod::defaults::service_account as agree_on_names;
use crate::resources::defaults::maps_of;

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ROOT_CA: &str = "kube-root-ca.crt";
/// An hour, and seven seconds by which such tokens are told from those asked for.
const TOKEN_SECONDS: i64 = 3607;
/// A new namespace gets its default account within this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct ServiceAccounts;

#[async_trait]
impl Admission for ServiceAccounts {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        creates_pod(operation, resource, subresource)
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(pod) = request.object.as_deref_mut() else {
            return Ok(());
        };
        let mirror = pod.annotation(MIRROR).is_some();
        let Some(spec) = pod.at_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        agree_on_names(spec);
        let named = spec
            .get("serviceAccountName")
            .and_then(Value::as_str)
            .filter(|n| !n.is_empty())
            .map(str::to_owned);
        if mirror {
            return match named {
                Some(_) => Err(request.forbidden("a mirror pod may not reference service accounts")),
                None => Ok(()),
            };
        }
        let name = named.unwrap_or_else(|| DEFAULT.to_owned());
        let account = find(request, &name).await?;
        if let Some(spec) = request
            .object
            .as_deref_mut()
            .and_then(|p| p.at_mut("spec"))
            .and_then(Value::as_object_mut)
        {
            spec.insert("serviceAccountName".to_owned(), name.into());
            let volume = api::names::generate_name(VOLUME_PREFIX, &mut |n| rand::random_range(0..n.max(1)));
            equip(spec, &account, &volume);
        }
        Ok(())
    }
}

async fn find(request: &AdmissionRequest<'_>, name: &str) -> Result<Arc<Object>, Status> {
    let namespace = request.namespace.unwrap_or_default();
    let kind = GroupResource::new("", "serviceaccounts");
    if let Some(account) = request.reader.get(&kind, Some(namespace), name) {
        return Ok(account);
    }
    if let Some(account) = request.reader.get_fresh(&kind, Some(namespace), name).await? {
        return Ok(account);
    }
    let found = if name == DEFAULT {
        wait_for(request, &kind, namespace).await
    } else {
        None
    };
    found.ok_or_else(|| {
        request.forbidden(&format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ))
    })
}

/// The default account of a new namespace is on its way: a controller makes it.
async fn wait_for(request: &AdmissionRequest<'_>, kind: &GroupResource, namespace: &str) -> Option<Arc<Object>> {
    let mut changes = request.reader.changes(kind);
    let seen = async {
        loop {
            if let Some(account) = request.reader.get(kind, Some(namespace), DEFAULT) {
                return Some(account);
            }
            changes.changed().await.ok()?;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.ok().flatten()
}

/// Gives a pod's spec what its account brings: pull secrets, and the mounted token unless the pod or the account declines.
fn equip(spec: &mut Map<String, Value>, account: &Object, volume: &str) {
    let declined = spec.get("automountServiceAccountToken").and_then(Value::as_bool);
    if declined
        .or(account.bool_at("automountServiceAccountToken"))
        .unwrap_or(true)
    {
        mount_token(spec, volume);
    }
    let none = spec
        .get("imagePullSecrets")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty);
    let secrets = account.list_at("imagePullSecrets");
    if none && !secrets.is_empty() {
        spec.insert("imagePullSecrets".to_owned(), json!(secrets));
    }
}

fn mount_token(spec: &mut Map<String, Value>, new_name: &str) {
    let name_of = |v: &Map<String, Value>| v.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let existing = maps_of(spec, "volumes")
        .map(|v| name_of(v))
        .find(|name| name.starts_with(VOLUME_PREFIX));
    let name = existing.clone().unwrap_or_else(|| new_name.to_owned());
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        for container in maps_of(spec, field) {
            let has = maps_of(container, "volumeMounts")
                .any(|m| m.get("mountPath").and_then(Value::as_str) == Some(MOUNT_PATH));
            if !has {
                mounted = true;
                push(
                    container,
                    "volumeMounts",
                    json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}),
                );
            }
        }
    }
    if mounted && existing.is_none() {
        push(spec, "volumes", token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
        {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

fn push(map: &mut Map<String, Value>, field: &str, item: Value) {
    match map.get_mut(field) {
        Some(Value::Array(list)) => list.push(item),
        _ => drop(map.insert(field.to_owned(), Value::Array(vec![item]))),
    }
}
