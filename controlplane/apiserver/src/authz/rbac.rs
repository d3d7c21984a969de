//! RBAC over the caches: the policy is compiled when a request finds that roles or bindings have changed.

use std::sync::Arc;

use api::GroupResource;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::policy::{Policy, Sources};
use super::rule::Rule;
use super::{Attributes, Authorizer, Decision};
use crate::authn::UserInfo;
use crate::registry::reader::Reader;

const GROUP: &str = "rbac.authorization.k8s.io";
const KINDS: [&str; 4] = ["roles", "clusterroles", "rolebindings", "clusterrolebindings"];

pub(super) struct Rbac {
    reader: Arc<dyn Reader>,
    compiled: Mutex<Option<Compiled>>,
}

struct Compiled {
    /// What the counters stood at when the objects were read.
    at: [u64; 4],
    changes: [watch::Receiver<u64>; 4],
    policy: Arc<Policy>,
}

impl Rbac {
    pub(super) fn new(reader: Arc<dyn Reader>) -> Self {
        Rbac {
            reader,
            compiled: Mutex::new(None),
        }
    }

    fn policy(&self) -> Arc<Policy> {
        let mut slot = self.compiled.lock();
        let changes = match slot.take() {
            Some(compiled) if compiled.at == counters(&compiled.changes) => {
                return slot.insert(compiled).policy.clone();
            }
            Some(compiled) => compiled.changes,
            None => KINDS.map(|plural| self.reader.changes(&GroupResource::new(GROUP, plural))),
        };
        // Counters first: a change during the reading is then seen by the next request.
        let at = counters(&changes);
        let policy = Arc::new(compile(self.reader.as_ref()));
        slot.insert(Compiled { at, changes, policy }).policy.clone()
    }
}

fn counters(changes: &[watch::Receiver<u64>; 4]) -> [u64; 4] {
    changes.each_ref().map(|receiver| *receiver.borrow())
}

/// Compiles what the caches hold now.
pub(crate) fn compile(reader: &dyn Reader) -> Policy {
    let [roles, cluster_roles, role_bindings, cluster_role_bindings] =
        KINDS.map(|plural| reader.list(&GroupResource::new(GROUP, plural), None));
    Policy::compile(&Sources {
        roles: &roles,
        cluster_roles: &cluster_roles,
        role_bindings: &role_bindings,
        cluster_role_bindings: &cluster_role_bindings,
    })
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if self.policy().allows(attributes) {
            Decision::Allow
        } else {
            Decision::NoOpinion(String::new())
        }
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.policy().rules(user, namespace)
    }
}
