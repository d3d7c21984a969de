//! The registry: every kind the server stores, the caches over them, and the verbs on them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use store::Backend;

pub(crate) mod cached;
pub(crate) mod catalog;
pub(crate) mod custom;
pub(crate) mod encode;
pub(crate) mod index;
pub(crate) mod managed;
pub(crate) mod metadata;
pub mod printer;
pub mod reader;
pub(crate) mod render;
pub mod resource;
pub(crate) mod select;
mod texts;
pub(crate) mod verbs;
pub mod virtuals;

/// What the rules of built-in kinds need from outside; see [`crate::resources::catalogue`].
#[derive(Clone)]
pub struct Deps {
    /// Empty until the server has started.
    pub reader: Arc<dyn reader::Reader>,
    /// For [`resource::Effects`] that claim keys of their own.
    pub backend: Arc<dyn Backend>,
    /// The range Service addresses come from.
    pub service_range: ipnet::Ipv4Net,
    /// Address of the `kubernetes` Service, never handed out.
    pub kubernetes_address: Ipv4Addr,
    /// Node ports handed out to Services, both ends included.
    pub node_ports: std::ops::RangeInclusive<u16>,
}

/// The key of an object: `group/plural/namespace/name`, with `core` for the core group and an empty namespace for
/// cluster-scoped kinds.
pub fn key(group: &str, plural: &str, namespace: Option<&str>, name: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    let namespace = namespace.unwrap_or_default();
    let mut key = String::with_capacity(group.len() + plural.len() + namespace.len() + name.len() + 3);
    for part in [group, "/", plural, "/", namespace, "/", name] {
        key.push_str(part);
    }
    key
}

/// The last part of a key.
pub(crate) fn name_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

/// The namespace in a key; empty for cluster-scoped kinds.
pub(crate) fn namespace_of(key: &str) -> &str {
    key.rsplit('/').nth(1).unwrap_or_default()
}
