//! What `metav1.ObjectMeta` holds, read from and written to the tree.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Object;

/// `metav1.OwnerReference`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    /// The one reference with `true` names the managing controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether foreground deletion of the owner waits for this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

impl Object {
    /// `apiVersion`, empty when absent.
    pub fn api_version(&self) -> &str {
        self.str_at("apiVersion").unwrap_or_default()
    }

    /// `kind`, empty when absent.
    pub fn kind(&self) -> &str {
        self.str_at("kind").unwrap_or_default()
    }

    /// `metadata.name`, empty when absent.
    pub fn name(&self) -> &str {
        self.str_at("metadata.name").unwrap_or_default()
    }

    /// `metadata.namespace`; `None` when absent or empty.
    pub fn namespace(&self) -> Option<&str> {
        self.filled("metadata.namespace")
    }

    /// `metadata.uid`, empty when absent.
    pub fn uid(&self) -> &str {
        self.str_at("metadata.uid").unwrap_or_default()
    }

    /// `metadata.generateName`; `None` when absent or empty.
    pub fn generate_name(&self) -> Option<&str> {
        self.filled("metadata.generateName")
    }

    /// `metadata.resourceVersion`; `None` when absent or empty.
    pub fn resource_version(&self) -> Option<&str> {
        self.filled("metadata.resourceVersion")
    }

    /// `metadata.generation`, 0 when absent.
    pub fn generation(&self) -> i64 {
        self.i64_at("metadata.generation").unwrap_or_default()
    }

    /// `metadata.creationTimestamp`.
    pub fn creation_timestamp(&self) -> Option<&str> {
        self.filled("metadata.creationTimestamp")
    }

    /// `metadata.deletionTimestamp`.
    pub fn deletion_timestamp(&self) -> Option<&str> {
        self.filled("metadata.deletionTimestamp")
    }

    /// Whether deletion has begun.
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp().is_some()
    }

    fn filled(&self, path: &str) -> Option<&str> {
        self.str_at(path).filter(|text| !text.is_empty())
    }

    /// One label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.map_at("metadata.labels")?.get(key)?.as_str()
    }

    /// One annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.map_at("metadata.annotations")?.get(key)?.as_str()
    }

    /// All labels, by key.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.strings("metadata.labels")
    }

    /// All annotations, by key.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.strings("metadata.annotations")
    }

    fn strings(&self, path: &str) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.map_at(path).into_iter().flatten();
        entries.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// Sets a label.
    pub fn set_label(&mut self, key: &str, value: &str) {
        self.set_entry("metadata.labels", key, value);
    }

    /// Sets an annotation.
    pub fn set_annotation(&mut self, key: &str, value: &str) {
        self.set_entry("metadata.annotations", key, value);
    }

    /// Removes an annotation; the map goes with its last entry.
    pub fn remove_annotation(&mut self, key: &str) -> Option<Value> {
        let map = self.at_mut("metadata.annotations")?.as_object_mut()?;
        let removed = map.remove(key);
        if map.is_empty() {
            self.remove("metadata.annotations");
        }
        removed
    }

    fn set_entry(&mut self, path: &str, key: &str, value: &str) {
        if self.map_at(path).is_none() {
            self.set(path, Value::Object(serde_json::Map::new()));
        }
        if let Some(map) = self.at_mut(path).and_then(Value::as_object_mut) {
            map.insert(key.to_owned(), value.into());
        }
    }

    /// `metadata.ownerReferences`; malformed entries are left out.
    pub fn owner_references(&self) -> Vec<OwnerReference> {
        let list = self.list_at("metadata.ownerReferences");
        list.iter()
            .filter_map(|owner| OwnerReference::deserialize(owner).ok())
            .collect()
    }

    /// The owner that manages this object.
    pub fn controller(&self) -> Option<OwnerReference> {
        self.owner_references()
            .into_iter()
            .find(|owner| owner.controller == Some(true))
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> Vec<&str> {
        self.list_at("metadata.finalizers")
            .iter()
            .filter_map(Value::as_str)
            .collect()
    }

    /// Adds a finalizer; false when it was there.
    pub fn add_finalizer(&mut self, finalizer: &str) -> bool {
        if self.finalizers().contains(&finalizer) {
            return false;
        }
        match self.at_mut("metadata.finalizers").and_then(Value::as_array_mut) {
            Some(list) => list.push(finalizer.into()),
            None => self.set("metadata.finalizers", vec![finalizer]),
        }
        true
    }

    /// Removes a finalizer, and the list with its last one; false when it was not there.
    pub fn remove_finalizer(&mut self, finalizer: &str) -> bool {
        let Some(list) = self.at_mut("metadata.finalizers").and_then(Value::as_array_mut) else {
            return false;
        };
        let before = list.len();
        list.retain(|item| item.as_str() != Some(finalizer));
        let (after, empty) = (list.len(), list.is_empty());
        if empty {
            self.remove("metadata.finalizers");
        }
        after != before
    }

    /// Sets `metadata.name`.
    pub fn set_name(&mut self, name: &str) {
        self.set("metadata.name", name);
    }

    /// Sets or removes `metadata.namespace`.
    pub fn set_namespace(&mut self, namespace: Option<&str>) {
        self.set_or_remove("metadata.namespace", namespace);
    }

    /// Sets `metadata.uid`.
    pub fn set_uid(&mut self, uid: &str) {
        self.set("metadata.uid", uid);
    }

    /// Sets or removes `metadata.resourceVersion`.
    pub fn set_resource_version(&mut self, version: Option<&str>) {
        self.set_or_remove("metadata.resourceVersion", version);
    }

    fn set_or_remove(&mut self, path: &str, value: Option<&str>) {
        match value {
            Some(value) => self.set(path, value),
            None => {
                self.remove(path);
            }
        }
    }
}
