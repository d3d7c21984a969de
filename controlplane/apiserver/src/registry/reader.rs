//! Reading stored objects from within the server: what admission, authorization and tokens may see of the registry.
//!
//! Reads come from the watch caches and never touch the store, except where a caller asks for a fresh one. Parsed
//! objects are shared and immutable.

use std::sync::Arc;

use api::names::GroupResource;
use api::{LabelSelector, NamespacedName, Object, Status};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

/// Objects by kind, in their storage version.
#[async_trait]
pub trait Reader: Send + Sync {
    /// The object as the cache has it; `None` also for kinds that are not served.
    fn get(&self, kind: &GroupResource, namespace: Option<&str>, name: &str) -> Option<Arc<Object>>;

    /// The object after every write acknowledged before this call.
    async fn get_fresh(
        &self,
        kind: &GroupResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status>;

    /// Returns when every write of this kind that was acknowledged before the call can be read here.
    async fn fresh(&self, kind: &GroupResource) -> Result<(), Status>;

    /// The value of one of the kind's selectable fields, without parsing the object; `None` when there is no object.
    fn field(&self, kind: &GroupResource, namespace: Option<&str>, name: &str, field: &str) -> Option<String>;

    /// All objects of a kind, in one namespace or (`None`) everywhere, as the cache has them, in key order.
    fn list(&self, kind: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Object>>;

    /// Those objects of [`Reader::list`] that a selector picks, by their labels and the values of these selectable fields of
    /// the kind; nothing is parsed.
    fn select(
        &self,
        kind: &GroupResource,
        namespace: Option<&str>,
        labels: &LabelSelector,
        fields: &[&str],
    ) -> Vec<Selected> {
        let listed = self.list(kind, namespace);
        let picked = listed.iter().filter(|object| labels.matches(|key| object.label(key)));
        picked.map(|object| Selected::of(object, fields)).collect()
    }

    /// A counter that rises whenever an object of the kind was added, changed or removed; for those who keep something
    /// computed from [`Reader::list`].
    fn changes(&self, kind: &GroupResource) -> watch::Receiver<u64>;

    /// The changes of a kind one after the other, for those who keep something computed from every object without
    /// keeping the objects.
    fn trail(&self, kind: &GroupResource) -> Box<dyn Trail>;
}

/// What is known of an object without parsing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    pub name: NamespacedName,
    pub labels: Vec<(String, String)>,
    /// The values of the fields that were asked for, in that order.
    pub fields: Vec<String>,
}

impl Selected {
    /// The same of an object that has been parsed.
    pub fn of(object: &Object, fields: &[&str]) -> Self {
        let labels = object.labels();
        let value = |field: &&str| object.str_at(field).unwrap_or_default().to_owned();
        Selected {
            name: NamespacedName::of(object),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            fields: fields.iter().map(value).collect(),
        }
    }
}

/// A place in the history of a kind. It holds nothing back: who comes too late begins anew.
pub trait Trail: Send {
    /// What has happened since, one thing at a time; `None` when nothing has.
    fn next(&mut self) -> Option<Happened>;
}

/// What a [`Trail`] tells.
pub enum Happened {
    /// Forget what was told: this is all there is.
    Anew(Vec<Bytes>),
    /// An object as it was and as it is.
    Changed {
        before: Option<Bytes>,
        after: Option<Bytes>,
    },
}
