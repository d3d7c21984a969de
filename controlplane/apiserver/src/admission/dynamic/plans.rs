//! Everything that decides on requests, compiled when it changes: requests find it behind one pointer.

use std::collections::HashMap;
use std::sync::Arc;

use api::{GroupResource, Object};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::hooks::Hook;
use super::policies::{Binding, Bound, Policy};
use super::status;
use crate::server::Shared;

const GROUP: &str = "admissionregistration.k8s.io";
const MUTATING_HOOKS: &str = "mutatingwebhookconfigurations";
const VALIDATING_HOOKS: &str = "validatingwebhookconfigurations";
const MUTATING_POLICIES: &str = "mutatingadmissionpolicies";
const MUTATING_BINDINGS: &str = "mutatingadmissionpolicybindings";
const VALIDATING_POLICIES: &str = "validatingadmissionpolicies";
const VALIDATING_BINDINGS: &str = "validatingadmissionpolicybindings";
const KINDS: [&str; 6] = [
    MUTATING_HOOKS,
    VALIDATING_HOOKS,
    MUTATING_POLICIES,
    MUTATING_BINDINGS,
    VALIDATING_POLICIES,
    VALIDATING_BINDINGS,
];

/// What decides on requests, each list in the order of names.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    pub(crate) mutating_hooks: Vec<Arc<Hook>>,
    pub(crate) validating_hooks: Vec<Arc<Hook>>,
    pub(crate) mutating_policies: Vec<Bound>,
    pub(crate) validating_policies: Vec<Bound>,
}

impl Plans {
    pub(crate) fn mutates(&self) -> bool {
        !self.mutating_hooks.is_empty() || !self.mutating_policies.is_empty()
    }

    pub(crate) fn validates(&self) -> bool {
        !self.validating_hooks.is_empty() || !self.validating_policies.is_empty()
    }
}

/// What has been compiled, by uid and generation.
struct Remembered<T>(HashMap<String, Arc<T>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Remembered(HashMap::new())
    }
}

impl<T> Remembered<T> {
    /// Compiles what is new; forgets what is gone.
    fn take(&mut self, objects: &[Arc<Object>], compile: impl Fn(&Object) -> T) -> Vec<Arc<T>> {
        let mut kept = HashMap::new();
        let mut all = Vec::with_capacity(objects.len());
        for object in objects {
            let key = format!("{}/{}", object.uid(), object.generation());
            let compiled = self.0.remove(&key).unwrap_or_else(|| Arc::new(compile(object)));
            kept.insert(key, compiled.clone());
            all.push(compiled);
        }
        self.0 = kept;
        all
    }
}

#[derive(Default)]
struct Compiled {
    mutating_hooks: Remembered<Vec<Arc<Hook>>>,
    validating_hooks: Remembered<Vec<Arc<Hook>>>,
    mutating_policies: Remembered<Policy>,
    mutating_bindings: Remembered<Binding>,
    validating_policies: Remembered<Policy>,
    validating_bindings: Remembered<Binding>,
}

impl Compiled {
    fn plans(&mut self, list: impl Fn(&str) -> Vec<Arc<Object>>) -> Plans {
        let hooks = |configuration: &Object| Hook::read_all(configuration).into_iter().map(Arc::new).collect();
        let flat = |all: Vec<Arc<Vec<Arc<Hook>>>>| all.iter().flat_map(|hooks| hooks.iter().cloned()).collect();
        Plans {
            mutating_hooks: flat(self.mutating_hooks.take(&list(MUTATING_HOOKS), hooks)),
            validating_hooks: flat(self.validating_hooks.take(&list(VALIDATING_HOOKS), hooks)),
            mutating_policies: bound(
                self.mutating_policies.take(&list(MUTATING_POLICIES), Policy::read),
                &self.mutating_bindings.take(&list(MUTATING_BINDINGS), Binding::read),
            ),
            validating_policies: bound(
                self.validating_policies.take(&list(VALIDATING_POLICIES), Policy::read),
                &self.validating_bindings.take(&list(VALIDATING_BINDINGS), Binding::read),
            ),
        }
    }
}

/// Policies that are put to work, with what does so.
fn bound(policies: Vec<Arc<Policy>>, bindings: &[Arc<Binding>]) -> Vec<Bound> {
    let with = |policy: Arc<Policy>| Bound {
        bindings: bindings
            .iter()
            .filter(|binding| binding.is_of(&policy.name))
            .cloned()
            .collect(),
        policy,
    };
    let all = policies.into_iter().map(with);
    all.filter(|bound| !bound.bindings.is_empty()).collect()
}

/// Follows what decides on requests until the server ends.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    tokio::select! {
        () = follow(&shared) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn follow(shared: &Shared) {
    let kind = |plural: &str| GroupResource::new(GROUP, plural);
    let served = KINDS
        .iter()
        .filter(|plural| shared.registry.kind(GROUP, plural).is_some());
    let mut changes: Vec<watch::Receiver<u64>> = served.map(|plural| shared.reader.changes(&kind(plural))).collect();
    for counter in &mut changes {
        // The first count says that the first listing is there. An error means that the server ends.
        if counter.wait_for(|count| *count > 0).await.is_err() {
            return;
        }
    }
    let mut compiled = Compiled::default();
    if changes.is_empty() {
        return shared.dynamic.store(Plans::default());
    }
    loop {
        changes.iter_mut().for_each(watch::Receiver::mark_unchanged);
        let plans = compiled.plans(|plural| shared.reader.list(&kind(plural), None));
        shared.dynamic.store(plans);
        status::settle(shared, &shared.reader.list(&kind(VALIDATING_POLICIES), None)).await;
        let waits = changes.iter_mut().map(|counter| Box::pin(counter.changed()));
        if changes_end(futures::future::select_all(waits)).await {
            return;
        }
    }
}

/// Waits for the first change; tells whether there will be none.
async fn changes_end<F>(first: futures::future::SelectAll<F>) -> bool
where
    F: Future<Output = Result<(), watch::error::RecvError>> + Unpin,
{
    let (changed, _, _) = first.await;
    changed.is_err()
}
