//! Counting anew: keeps every quota's status what its spec grants and what its namespace uses.
//!
//! Runs after every change of a quota or of a kind that one counts, and now and then in any case.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::{GroupResource, Object, Timestamp};
use futures::future::select_all;
use serde_json::Value;
use store::Backend;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::usage::{kinds_of, usage};
use super::{scope, to_json, zero};
use crate::admission::amounts::{Amounts, add, amounts};
use crate::registry::reader::Reader;
use crate::server::Clock;

/// Changes of this long are counted together; by then what was charged has mostly been committed.
const TOGETHER: Duration = Duration::from_millis(500);
const RESYNC: Duration = Duration::from_secs(300);

/// Counts until the server ends.
pub(crate) async fn run(reader: Arc<dyn Reader>, backend: Arc<dyn Backend>, clock: Clock, shutdown: CancellationToken) {
    let mut counters: HashMap<String, watch::Receiver<u64>> = HashMap::new();
    loop {
        let kinds = pass(&*reader, &*backend, clock()).await;
        counters.retain(|name, _| kinds.iter().any(|kind| kind.to_string() == *name));
        for kind in &kinds {
            counters.entry(kind.to_string()).or_insert_with(|| reader.changes(kind));
        }
        let changed = counters.values_mut().map(|counter| Box::pin(change(counter)));
        tokio::select! {
            _ = select_all(changed) => {}
            () = tokio::time::sleep(RESYNC) => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(TOGETHER) => {}
            () = shutdown.cancelled() => return,
        }
        counters.values_mut().for_each(watch::Receiver::mark_unchanged);
    }
}

/// Of a kind that is not served there is never any.
async fn change(counter: &mut watch::Receiver<u64>) {
    if counter.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Writes what is not as it should be; gives the kinds that quotas count, quotas among them.
async fn pass(reader: &dyn Reader, backend: &dyn Backend, now: Timestamp) -> Vec<GroupResource> {
    let mut kinds = vec![super::kind()];
    for quota in reader.list(&super::kind(), None) {
        let counted = counted(&quota);
        if let Some(write) = corrected(reader, &quota, &counted, now)
            && let Err(error) = backend.write(write).await
        {
            tracing::debug!(
                quota = quota.name(),
                error = &error as &dyn std::error::Error,
                "not counted"
            );
        }
        kinds.extend(
            counted
                .into_iter()
                .filter(|kind| !kinds.contains(kind))
                .collect::<Vec<_>>(),
        );
    }
    kinds
}

/// The kinds that a quota counts.
fn counted(quota: &Object) -> Vec<GroupResource> {
    let names = quota.map_at("spec.hard").into_iter().flatten();
    let mut seen = BTreeSet::new();
    let kinds = names.filter_map(|(name, _)| kinds_of(name));
    kinds.filter(|kind| seen.insert(kind.to_string())).collect()
}

/// The write that makes a quota's status right, if it is not.
fn corrected(reader: &dyn Reader, quota: &Object, kinds: &[GroupResource], now: Timestamp) -> Option<store::Write> {
    let hard = amounts(quota.at("spec.hard"));
    let used = used(reader, quota, &hard, kinds, now);
    let right = amounts(quota.at("status.hard")) == hard && amounts(quota.at("status.used")) == used;
    let known = quota.at("status.hard").is_some_and(Value::is_object);
    match right && known || quota.is_deleting() {
        true => None,
        false => super::write(quota, Some(to_json(&hard)), &used),
    }
}

/// What the namespace of a quota uses of what it grants.
pub(super) fn used(
    reader: &dyn Reader,
    quota: &Object,
    hard: &Amounts,
    kinds: &[GroupResource],
    now: Timestamp,
) -> Amounts {
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), zero())).collect();
    for kind in kinds {
        for object in reader.list(kind, quota.namespace()) {
            if scope::matches(quota, kind, &object) {
                let mut own = usage(kind, &object, Some(now));
                own.retain(|name, _| hard.contains_key(name));
                add(&mut used, &own);
            }
        }
    }
    used
}
