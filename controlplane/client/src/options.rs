//! What requests can ask for, and what lists look like.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Which objects a list or watch selects. Empty strings select all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListOptions {
    pub labels: String,
    pub fields: String,
    /// Page size; 0 for all at once.
    pub limit: usize,
    /// Token of the next page.
    pub continue_token: String,
}

/// A page of objects and the revision they were read at.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub struct List<T> {
    #[serde(default)]
    pub metadata: ListMeta,
    pub items: Vec<T>,
}

/// `metadata` of a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    pub resource_version: String,
    #[serde(rename = "continue")]
    pub continue_token: String,
}

/// A change to part of an object. A merge or strategic patch that holds `metadata.resourceVersion` is refused with a
/// conflict if the object has changed since.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' strategic merge: lists are merged by key.
    Strategic(Value),
    /// RFC 6902.
    Json(Value),
}

impl Patch {
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Merge(_) => "application/merge-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
            Self::Json(_) => "application/json-patch+json",
        }
    }

    pub(crate) fn body(&self) -> &Value {
        match self {
            Self::Merge(body) | Self::Strategic(body) | Self::Json(body) => body,
        }
    }
}

/// What happens to an object's dependents when it is deleted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Options of a delete; the default deletes whatever has the name, with the kind's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Grace period in seconds.
    pub grace: Option<i64>,
    pub propagation: Option<Propagation>,
    /// Delete only the object with this uid.
    pub precondition_uid: Option<String>,
    /// Delete only the object at this resource version.
    pub precondition_rv: Option<String>,
}

impl DeleteOptions {
    /// Deletes only the object with this uid, never a namesake made since.
    pub fn of_uid(uid: &str) -> Self {
        Self {
            precondition_uid: Some(uid.to_owned()),
            ..Self::default()
        }
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(map) = body.as_object_mut() {
            if let Some(grace) = self.grace {
                map.insert("gracePeriodSeconds".into(), grace.into());
            }
            if let Some(propagation) = self.propagation {
                map.insert("propagationPolicy".into(), format!("{propagation:?}").into());
            }
            let mut preconditions = serde_json::Map::new();
            if let Some(uid) = &self.precondition_uid {
                preconditions.insert("uid".into(), uid.as_str().into());
            }
            if let Some(rv) = &self.precondition_rv {
                preconditions.insert("resourceVersion".into(), rv.as_str().into());
            }
            if !preconditions.is_empty() {
                map.insert("preconditions".into(), preconditions.into());
            }
        }
        body
    }
}
