//! What tests of kinds share: a fixed time, a context, a reader of fixed objects, and the form of a kind's cases.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{FieldErrors, GroupResource, Object, Status, Timestamp};
use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::watch;

use crate::authn::UserInfo;
use crate::registry::Deps;
use crate::registry::reader::{Happened, Reader, Trail};
use crate::registry::resource::Context;

/// What every kind of the catalogue shows about itself; the test over the catalogue runs them.
pub(crate) struct Cases {
    /// Objects as a user writes them; nothing is wrong with them.
    pub(crate) valid: Vec<Value>,
    /// Objects with the exact messages they earn.
    pub(crate) invalid: Vec<(Value, Vec<&'static str>)>,
    /// Objects as stored, for a look at the table.
    pub(crate) table: Vec<Value>,
}

/// Two hours into 2026.
pub(crate) fn now() -> Timestamp {
    "2026-01-01T02:00:00Z".parse().expect("a timestamp")
}

pub(crate) fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

pub(crate) fn messages(errors: FieldErrors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// Calls `f` with the context of a create by nobody in particular.
pub(crate) fn context<R>(namespace: Option<&str>, f: impl FnOnce(&Context<'_>) -> R) -> R {
    let user = UserInfo::default();
    f(&Context {
        user: &user,
        now: now(),
        namespace,
        version: "v1",
        subresource: None,
        dry_run: false,
    })
}

/// A reader of objects that never change, by plural, namespace and name.
pub(crate) struct Fixed {
    objects: BTreeMap<(String, String, String), Arc<Object>>,
    counter: watch::Sender<u64>,
}

impl Fixed {
    pub(crate) fn new(objects: Vec<(&str, Value)>) -> Self {
        let entry = |(plural, value): (&str, Value)| {
            let object = object(value);
            let namespace = object.namespace().unwrap_or_default().to_owned();
            (
                (plural.to_owned(), namespace, object.name().to_owned()),
                Arc::new(object),
            )
        };
        Fixed {
            objects: objects.into_iter().map(entry).collect(),
            counter: watch::channel(0).0,
        }
    }
}

#[async_trait]
impl Reader for Fixed {
    fn get(&self, kind: &GroupResource, namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        let key = (
            kind.resource.to_string(),
            namespace.unwrap_or_default().to_owned(),
            name.to_owned(),
        );
        self.objects.get(&key).cloned()
    }

    async fn get_fresh(
        &self,
        kind: &GroupResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        Ok(self.get(kind, namespace, name))
    }

    async fn fresh(&self, _kind: &GroupResource) -> Result<(), Status> {
        Ok(())
    }

    fn field(&self, kind: &GroupResource, namespace: Option<&str>, name: &str, field: &str) -> Option<String> {
        let object = self.get(kind, namespace, name)?;
        Some(object.str_at(field).unwrap_or_default().to_owned())
    }

    fn list(&self, kind: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let wanted = |(plural, ns, _): &(String, String, String)| {
            *plural == *kind.resource && namespace.is_none_or(|namespace| ns == namespace)
        };
        self.objects
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn changes(&self, _kind: &GroupResource) -> watch::Receiver<u64> {
        self.counter.subscribe()
    }

    fn trail(&self, kind: &GroupResource) -> Box<dyn Trail> {
        let all = self
            .list(kind, None)
            .iter()
            .map(|object| object.to_vec().into())
            .collect();
        Box::new(Once(Some(Happened::Anew(all))))
    }
}

/// A trail to which nothing is added.
struct Once(Option<Happened>);

impl Trail for Once {
    fn next(&mut self) -> Option<Happened> {
        self.0.take()
    }
}

/// What kinds need from outside, over an empty store.
pub(crate) fn deps(objects: Vec<(&str, Value)>) -> Deps {
    Deps {
        reader: Arc::new(Fixed::new(objects)),
        backend: Arc::new(store::memory::Memory::new()),
        service_range: "10.96.0.0/16".parse().expect("a range"),
        kubernetes_address: [10, 96, 0, 1].into(),
        node_ports: 30000..=32767,
    }
}
