//! Services and their endpoints.

use client::{Labels, Meta};
use serde::{Deserialize, Serialize};

use super::apps::IntOrString;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) metadata: Meta,
    pub(crate) spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    pub(crate) r#type: Box<str>,
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: Box<str>,
    pub(crate) selector: Labels,
    pub(crate) ports: Box<[ServicePort]>,
    pub(crate) publish_not_ready_addresses: bool,
    pub(crate) ip_families: Box<[Box<str>]>,
    pub(crate) traffic_distribution: Box<str>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServicePort {
    pub(crate) name: Box<str>,
    pub(crate) protocol: Box<str>,
    pub(crate) port: u16,
    pub(crate) target_port: Option<IntOrString>,
    pub(crate) app_protocol: Option<Box<str>>,
}

impl Service {
    /// Whether its endpoints are made from pods.
    pub(crate) fn selects(&self) -> bool {
        !self.spec.selector.is_empty() && &*self.spec.r#type != "ExternalName"
    }

    pub(crate) fn selects_labels(&self, labels: &Labels) -> bool {
        self.selects()
            && self
                .spec
                .selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    }

    pub(crate) fn is_headless(&self) -> bool {
        &*self.spec.cluster_ip == "None"
    }
}

/// A port of an endpoint, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub(crate) name: Box<str>,
    pub(crate) port: u16,
    pub(crate) protocol: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app_protocol: Option<Box<str>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TargetRef {
    pub(crate) kind: Box<str>,
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Endpoint {
    pub(crate) addresses: Vec<Box<str>>,
    pub(crate) conditions: Conditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostname: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node_name: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target_ref: Option<TargetRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hints: Option<Hints>,
}

/// From where an endpoint had better be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Hints {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) for_zones: Vec<For>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) for_nodes: Vec<For>,
}

/// A node or a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct For {
    pub(crate) name: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Conditions {
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EndpointSlice {
    pub(crate) metadata: Meta,
    pub(crate) address_type: Box<str>,
    pub(crate) endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) ports: Vec<Port>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Port>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    pub(crate) metadata: Meta,
    pub(crate) subsets: serde_json::Value,
}
