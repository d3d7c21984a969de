//! The part of `metadata` that components read, small: the types components flatten into their own structs.

use std::fmt;

use api::names::NamespacedName;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Labels or annotations, sorted by key. A boxed slice: a fifth of the memory of a tree map.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        self.0.get(at).map(|(_, v)| v.as_ref())
    }

    /// All pairs in order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_ref(), v.as_ref()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Box<str>, Box<str>)> = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        pairs.sort();
        pairs.dedup_by(|later, earlier| later.0 == earlier.0);
        Self(pairs.into_boxed_slice())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs.into_iter().collect())
            }
            fn visit_unit<E: de::Error>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerRef {
    pub api_version: Box<str>,
    pub kind: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

/// `metadata`, less what only the server needs. Absent strings are empty, absent lists are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: Box<str>,
    /// Empty for cluster-scoped objects.
    pub namespace: Box<str>,
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    pub generation: i64,
    pub creation_timestamp: Option<jiff::Timestamp>,
    pub deletion_timestamp: Option<jiff::Timestamp>,
    pub deletion_grace_period_seconds: Option<i64>,
    pub labels: Labels,
    pub annotations: Labels,
    pub owner_references: Box<[OwnerRef]>,
    pub finalizers: Box<[Box<str>]>,
}

impl Meta {
    /// The reference marked `controller: true`.
    pub fn controller(&self) -> Option<&OwnerRef> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    /// Whether the object has a deletion timestamp.
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// Namespace and name as a key.
    pub fn key(&self) -> NamespacedName {
        key(&self.namespace, &self.name)
    }
}

/// The key of an object whose metadata says so; an empty namespace is none.
pub(crate) fn key(namespace: &str, name: &str) -> NamespacedName {
    if namespace.is_empty() {
        NamespacedName::cluster(name)
    } else {
        NamespacedName::new(namespace, name)
    }
}

/// Any object seen through its metadata alone: what metadata-only informers hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct MetaObject {
    pub metadata: Meta,
}

/// Whether two objects are controlled by the same owner.
pub fn same_controller(a: &Meta, b: &Meta) -> bool {
    a.controller().map(|owner| &owner.uid) == b.controller().map(|owner| &owner.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_found() {
        let labels: Labels = serde_json::from_str(r#"{"b":"2","a":"1","c":""}"#).unwrap();
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2"), ("c", "")]);
        assert_eq!(
            (labels.get("b"), labels.get("c"), labels.get("d")),
            (Some("2"), Some(""), None)
        );
    }

    #[test]
    fn absent_and_null_fields_are_empty() {
        let meta: Meta = serde_json::from_str(r#"{"name":"x","labels":null}"#).unwrap();
        assert_eq!(meta.key().to_string(), "x");
        assert!(meta.labels.is_empty() && meta.controller().is_none() && !meta.is_deleting());
    }
}
