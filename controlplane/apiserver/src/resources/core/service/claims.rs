//! Claims in the store: an `IPAddress` object per address, a key per node port. A claim is one create, so no two Services
//! can hold the same.

use std::net::Ipv4Addr;
use std::sync::Arc;

use api::{Object, Status, Timestamp, time};
use bytes::Bytes;
use serde_json::{Value, json};
use store::{Backend, Expect, Outcome, Write};

use super::plan::Claim;
use crate::registry::{encode, key};

const IP_GROUP: &str = "networking.k8s.io";
const IP_PLURAL: &str = "ipaddresses";
/// The keys of node ports: `core/nodeports//30080`. No kind is served from them.
const PORT_PLURAL: &str = "nodeports";

/// Who claims, and when.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) now: Timestamp,
}

/// Takes and gives back claims.
#[derive(Clone)]
pub(super) struct Claims {
    backend: Arc<dyn Backend>,
}

impl Claims {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Claims { backend }
    }

    /// Takes a claim; `false` when somebody else has it.
    pub(super) async fn take(&self, claim: Claim, owner: &Owner) -> Result<bool, Status> {
        let value = match claim {
            Claim::Address(ip) => encode::stored(&address_object(ip, owner)),
            Claim::NodePort(_) => Bytes::from(port_record(owner).to_string()),
        };
        match self
            .backend
            .write(Write::create(path(claim), value))
            .await
            .map_err(unavailable)?
        {
            Outcome::Committed(_) => Ok(true),
            Outcome::Unchanged(_) | Outcome::Conflict { .. } => Ok(false),
        }
    }

    /// Gives back a claim, if it is still the owner's.
    pub(super) async fn release(&self, claim: Claim, owner: &Owner) -> Result<(), Status> {
        let found = self.backend.get(&path(claim)).await.map_err(unavailable)?;
        let Some(kv) = found
            .value
            .filter(|kv| holder(claim, &kv.value) == Some((owner.namespace.clone(), owner.name.clone())))
        else {
            return Ok(());
        };
        let write = Write::delete(path(claim), Expect::At(kv.revision));
        self.backend.write(write).await.map_err(unavailable)?;
        Ok(())
    }
}

pub(super) fn path(claim: Claim) -> String {
    match claim {
        Claim::Address(ip) => key(IP_GROUP, IP_PLURAL, None, &ip.to_string()),
        Claim::NodePort(port) => key("", PORT_PLURAL, None, &port.to_string()),
    }
}

/// The prefix of all keys that claim node ports.
pub(super) fn port_prefix() -> String {
    key("", PORT_PLURAL, None, "")
}

/// The prefix of all keys that claim addresses.
pub(super) fn address_prefix() -> String {
    key(IP_GROUP, IP_PLURAL, None, "")
}

fn address_object(ip: Ipv4Addr, owner: &Owner) -> Object {
    let mut object = Object::new("networking.k8s.io/v1", "IPAddress");
    object.set_name(&ip.to_string());
    object.set_uid(&uuid::Uuid::new_v4().to_string());
    object.set("metadata.creationTimestamp", time::rfc3339(owner.now));
    object.set_label("ipaddress.kubernetes.io/ip-family", "IPv4");
    object.set_label("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
    let parent = json!({"group": "", "resource": "services", "namespace": owner.namespace, "name": owner.name});
    object.set("spec.parentRef", parent);
    object
}

fn port_record(owner: &Owner) -> Value {
    json!({"namespace": owner.namespace, "name": owner.name, "claimed": time::rfc3339(owner.now)})
}

/// Namespace and name of the Service that a stored claim belongs to; `None` when it is not a Service's.
pub(super) fn holder(claim: Claim, value: &[u8]) -> Option<(String, String)> {
    let tree: Value = serde_json::from_slice(value).ok()?;
    let reference = match claim {
        Claim::Address(_) => tree
            .get("spec")?
            .get("parentRef")
            .filter(|r| r.get("resource") == Some(&json!("services")))?,
        Claim::NodePort(_) => &tree,
    };
    let text = |field: &str| reference.get(field).and_then(Value::as_str).map(str::to_owned);
    Some((text("namespace")?, text("name")?))
}

/// When a stored claim was made.
pub(super) fn claimed_at(claim: Claim, value: &[u8]) -> Option<Timestamp> {
    let tree: Value = serde_json::from_slice(value).ok()?;
    let text = match claim {
        Claim::Address(_) => tree.get("metadata")?.get("creationTimestamp")?.as_str()?.to_owned(),
        Claim::NodePort(_) => tree.get("claimed")?.as_str()?.to_owned(),
    };
    time::parse(&text)
}

pub(super) fn unavailable(error: store::Error) -> Status {
    crate::http::respond::store_error(error)
}
