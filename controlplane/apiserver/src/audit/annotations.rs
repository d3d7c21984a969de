//! What the steps of a request tell the audit log about it, as annotations of its event: the authorizer its decision,
//! admission what a policy found.
//!
//! They belong to the request that the current task answers: [`add`] reaches them from wherever in it. While the request
//! is not audited nothing holds them, and the value is not even made.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use api::Object;
use parking_lot::Mutex;

tokio::task_local! {
    static CURRENT: Annotations;
}

/// Bytes that the annotations of one request may have in all; webhooks and policies of users make them.
const MAX: usize = 1 << 20;

/// The annotations of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Annotations(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    annotations: Mutex<BTreeMap<Cow<'static, str>, String>>,
    /// What an object that is created says of itself.
    sent: Mutex<Option<Sent>>,
}

/// By what an object is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

impl Annotations {
    /// Runs the answering of a request whose annotations these are.
    pub(crate) async fn scope<F: Future>(&self, work: F) -> F::Output {
        CURRENT.scope(self.clone(), work).await
    }

    /// What has been said up to now.
    pub(crate) fn said(&self) -> BTreeMap<Cow<'static, str>, String> {
        self.0.annotations.lock().clone()
    }

    /// What an object that is created says of itself, if the request has come so far.
    pub(crate) fn sent(&self) -> Option<Sent> {
        self.0.sent.lock().clone()
    }
}

/// Tells what is created, as it was sent: its path does not.
pub(crate) fn sent(object: &Object) {
    let _ = CURRENT.try_with(|annotations| {
        let text = |field: &str| object.str_at(field).unwrap_or_default().to_owned();
        *annotations.0.sent.lock() = Some(Sent {
            namespace: text("metadata.namespace"),
            name: text("metadata.name"),
            uid: text("metadata.uid"),
            resource_version: text("metadata.resourceVersion"),
        });
    });
}

/// Whether somebody would read an annotation.
pub(crate) fn wanted() -> bool {
    CURRENT.try_with(|_| ()).is_ok()
}

/// Annotates the audit event of the request that the current task answers. What was said first under a key stays, as in
/// Kubernetes. `key` is a qualified name, such as `validation.policy.admission.k8s.io/validation_failure`.
pub(crate) fn add(key: impl Into<Cow<'static, str>>, value: impl FnOnce() -> String) {
    let _ = CURRENT.try_with(|annotations| {
        let key = key.into();
        let mut said = annotations.0.annotations.lock();
        if said.contains_key(&key) {
            return tracing::warn!(%key, "an audit annotation is set already; the first value stays");
        }
        let value = value();
        let before: usize = said.iter().map(|(key, value)| key.len() + value.len()).sum();
        if before + key.len() + value.len() > MAX {
            return tracing::warn!(%key, "an audit annotation is dropped: there are too many already");
        }
        said.insert(key, value);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_first_in_a_request_stays() {
        let annotations = Annotations::default();
        annotations
            .scope(async {
                assert!(wanted());
                add("a.io/x", || "first".to_owned());
                add("a.io/x", || "second".to_owned());
                add("a.io/y", || "other".to_owned());
            })
            .await;
        let said: Vec<String> = annotations
            .said()
            .into_iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(said, ["a.io/x=first", "a.io/y=other"]);
    }

    #[tokio::test]
    async fn outside_of_an_audited_request_nothing_is_made() {
        assert!(!wanted());
        add("a.io/x", || unreachable!("nobody reads this"));
    }
}
