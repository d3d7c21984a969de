//! Deletes what is in a namespace that is being deleted, then lets the namespace go.
//!
//! All namespaced resources that discovery names are deleted, whatever they are, and counted: pods first, and the rest when
//! no pod is left, so that no pod outlives the policies that bind it (KEP-5080). The finalizer `kubernetes` is removed only
//! when every resource could be listed and nothing is left.

use std::{collections::BTreeMap, time::Duration};

use api::{NamespacedName, Object};
use client::{
    Client, DeleteOptions, Delta, Error, Informer, ListOptions, MetaObject, OptionalExt, Propagation, Scope, kinds,
    reconcile::{self, Action},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Context, RESYNC,
    discovery::{self, Resource},
    view::{Namespace, Pod},
};

const FINALIZER: &str = "kubernetes";
/// How long things other than pods are given to finish.
const ESTIMATE: i64 = 15;

pub(crate) async fn run(context: Context) {
    let namespaces: Informer<Namespace> = context.informers.get(&kinds::NAMESPACE, Scope::All);
    let pods: Informer<Pod> = context.informers.get(&kinds::POD, Scope::All);
    namespaces.synced().await;
    let all = namespaces.clone();
    let triggers = vec![
        reconcile::on_change(&namespaces),
        reconcile::mapped(&pods, move |delta| emptied(delta, &all)),
        reconcile::every(RESYNC, &namespaces),
    ];
    match reconcile::keyed("namespace", 10, triggers, |key| finish(&context, &namespaces, key)).await {}
}

/// A pod is gone, perhaps the last thing in a namespace that waits for it.
fn emptied(delta: &Delta<Pod>, namespaces: &Informer<Namespace>) -> Option<NamespacedName> {
    let namespace = NamespacedName::cluster(delta.key.namespace.as_deref()?);
    let waits = delta.new.is_none() && namespaces.get(&namespace).is_some_and(|n| n.metadata.is_deleting());
    waits.then_some(namespace)
}

async fn finish(context: &Context, namespaces: &Informer<Namespace>, key: NamespacedName) -> Result<Action, Error> {
    let Some(namespace) = namespaces
        .get(&key)
        .filter(|namespace| namespace.metadata.is_deleting())
    else {
        return Ok(Action::Done);
    };
    if !namespace
        .spec
        .finalizers
        .iter()
        .any(|finalizer| &**finalizer == FINALIZER)
    {
        return Ok(Action::Done);
    }
    let now = context.config.clock.now();
    let report = delete_content(&context.client, &key.name, namespace.metadata.deletion_timestamp).await;
    write_conditions(&context.client, &key, &report, now).await?;
    if let Some(seconds) = report.seconds_left() {
        return Ok(Action::After(Duration::from_secs(
            u64::try_from(seconds / 2 + 1).unwrap_or(1),
        )));
    }
    finalize(&context.client, &key, &namespace.metadata.uid).await?;
    Ok(Action::Done)
}

/// What was found in the namespace.
#[derive(Debug, Default)]
struct Report {
    discovery: Option<String>,
    failures: Vec<String>,
    /// Objects left, by resource.
    remaining: BTreeMap<String, usize>,
    /// Of the objects left, those that carry each finalizer.
    finalizers: BTreeMap<String, usize>,
    /// Seconds until the pods that are left must have ended.
    grace: i64,
}

impl Report {
    /// How long to wait for the rest; `None` if there is nothing.
    fn seconds_left(&self) -> Option<i64> {
        if self.discovery.is_some() || !self.failures.is_empty() {
            return Some(1);
        }
        let others = self.remaining.keys().any(|resource| resource != "pods");
        let pods = self.remaining.contains_key("pods").then_some(self.grace);
        pods.into_iter().chain(others.then_some(ESTIMATE)).max()
    }

    fn count(&mut self, resource: &Resource, left: &[MetaObject], now: Option<Timestamp>) {
        if left.is_empty() {
            return;
        }
        self.remaining.insert(resource.kind.to_string(), left.len());
        for object in left {
            for finalizer in &object.metadata.finalizers {
                *self.finalizers.entry(finalizer.to_string()).or_default() += 1;
            }
            let grace = object.metadata.deletion_grace_period_seconds.unwrap_or(0);
            let ends = object.metadata.deletion_timestamp.map_or(0, |at| at.as_second());
            let left = ends - now.map_or(ends, |now| now.as_second());
            self.grace = self.grace.max(grace.max(left).max(0));
        }
    }

    /// The five conditions of a namespace that is being deleted, worded as Kubernetes words them.
    fn conditions(&self, now: Timestamp) -> Vec<Value> {
        let condition = |type_: &str, bad: Option<(&str, String)>, good: (&str, &str)| {
            let (status, reason, message) = match bad {
                Some((reason, message)) => ("True", reason.to_owned(), message),
                None => ("False", good.0.to_owned(), good.1.to_owned()),
            };
            json!({"type": type_, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": api::time::rfc3339(now)})
        };
        let listed = |counts: &BTreeMap<String, usize>, what: &str| -> Option<String> {
            let parts: Vec<String> = counts
                .iter()
                .map(|(name, count)| match what {
                    "resources" => format!("{name} has {count} resource instances"),
                    _ => format!("{name} in {count} resource instances"),
                })
                .collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        };
        let failures = (!self.failures.is_empty()).then(|| {
            (
                "ContentDeletionFailed",
                format!(
                    "Failed to delete all resource types, {} remaining: {}",
                    self.failures.len(),
                    self.failures.join(", ")
                ),
            )
        });
        let remaining = listed(&self.remaining, "resources")
            .map(|list| ("SomeResourcesRemain", format!("Some resources are remaining: {list}")));
        let finalizers = listed(&self.finalizers, "finalizers").map(|list| {
            (
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {list}"),
            )
        });
        let discovery = self
            .discovery
            .clone()
            .map(|why| ("DiscoveryFailed", format!("Discovery failed for some groups, {why}")));
        vec![
            condition(
                "NamespaceDeletionDiscoveryFailure",
                discovery,
                ("ResourcesDiscovered", "All resources successfully discovered"),
            ),
            condition(
                "NamespaceDeletionGroupVersionParsingFailure",
                None,
                ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            ),
            condition(
                "NamespaceDeletionContentFailure",
                failures,
                (
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                ),
            ),
            condition(
                "NamespaceContentRemaining",
                remaining,
                ("ContentRemoved", "All content successfully removed"),
            ),
            condition(
                "NamespaceFinalizersRemaining",
                finalizers,
                ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            ),
        ]
    }
}

async fn delete_content(client: &Client, namespace: &str, deleted: Option<Timestamp>) -> Report {
    let mut report = Report::default();
    let served = match discovery::discover(client).await {
        Ok(served) => served,
        Err(error) => {
            report.discovery = Some(error.to_string());
            return report;
        }
    };
    if !served.stale.is_empty() {
        let each = served
            .stale
            .iter()
            .map(|gv| format!("{gv}: stale GroupVersion discovery: {gv}"));
        let each: Vec<String> = each.collect();
        report.discovery = Some(format!(
            "{} failing: unable to retrieve the complete list of server APIs: {}",
            each.len(),
            each.join(", ")
        ));
    }
    for step in steps(&served.resources) {
        for resource in step {
            match delete_all(client, resource, namespace).await {
                Ok(left) => report.count(resource, &left, deleted),
                Err(error) => report.failures.push(format!("{}: {error}", resource.kind)),
            }
        }
        if !report.remaining.is_empty() || !report.failures.is_empty() {
            break;
        }
    }
    report
}

/// What is deleted from a namespace, in steps: the next is for when nothing is left of the one before.
fn steps(resources: &[Resource]) -> [Vec<&Resource>; 2] {
    let (pods, others) = resources
        .iter()
        .filter(|resource| resource.kind.namespaced && resource.can(&["list", "delete"]))
        .partition(|resource| resource.kind == kinds::POD);
    [pods, others]
}

/// Deletes all objects of a resource; gives those that are still there after.
async fn delete_all(client: &Client, resource: &Resource, namespace: &str) -> Result<Vec<MetaObject>, Error> {
    let all = ListOptions::default();
    // Said, since some kinds would leave their dependents alone otherwise.
    let options = DeleteOptions {
        propagation: Some(Propagation::Background),
        ..DeleteOptions::default()
    };
    let list = || client.list::<MetaObject>(&resource.kind, Some(namespace), &all);
    let found = list().await?.items;
    if found.is_empty() {
        return Ok(found);
    }
    if resource.can(&["deletecollection"]) {
        client
            .delete_collection(&resource.kind, Some(namespace), &all, &options)
            .await?;
    } else {
        for object in &found {
            client
                .delete(&resource.kind, &object.metadata.key(), &options)
                .await
                .optional()?;
        }
    }
    Ok(list().await?.items)
}

async fn write_conditions(client: &Client, key: &NamespacedName, report: &Report, now: Timestamp) -> Result<(), Error> {
    let Some(live): Option<Object> = client.get_opt(&kinds::NAMESPACE, key).await? else {
        return Ok(());
    };
    let said = |wanted: &Value| {
        live.list_at("status.conditions").iter().any(|c| {
            ["type", "status", "reason", "message"]
                .iter()
                .all(|field| c.get(*field) == wanted.get(*field))
        })
    };
    let conditions = report.conditions(now);
    let clean = report.seconds_left().is_none() && live.list_at("status.conditions").is_empty();
    if clean || conditions.iter().all(said) {
        return Ok(());
    }
    let is_ours = |other: &&Value| conditions.iter().any(|own| own.get("type") == other.get("type"));
    let others = live.list_at("status.conditions").iter().filter(|other| !is_ours(other));
    let all: Vec<&Value> = others.chain(&conditions).collect();
    let change = json!({"status": {"conditions": all}});
    client
        .update(&kinds::NAMESPACE, key, Some("status"), live.uid(), &change)
        .await
        .map(drop)
}

/// Removes our finalizer, by the subresource that alone may.
async fn finalize(client: &Client, key: &NamespacedName, uid: &str) -> Result<(), Error> {
    let Some(mut live): Option<Object> = client.get_opt(&kinds::NAMESPACE, key).await? else {
        return Ok(());
    };
    if live.uid() != uid {
        return Ok(());
    }
    let left: Vec<Value> = live
        .list_at("spec.finalizers")
        .iter()
        .filter(|finalizer| finalizer.as_str() != Some(FINALIZER))
        .cloned()
        .collect();
    live.set("spec.finalizers", left);
    client
        .replace(&kinds::NAMESPACE, &live, Some("finalize"))
        .await
        .optional()
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(remaining: &[(&str, usize)], grace: i64) -> Report {
        let remaining = remaining
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        Report {
            remaining,
            grace,
            ..Report::default()
        }
    }

    #[test]
    fn it_waits_for_as_long_as_what_is_left_may_take() {
        assert_eq!(report(&[], 0).seconds_left(), None);
        assert_eq!(report(&[("pods", 2)], 30).seconds_left(), Some(30));
        assert_eq!(
            report(&[("pods", 2), ("widgets.example.com", 1)], 3).seconds_left(),
            Some(ESTIMATE)
        );
        assert_eq!(
            Report {
                discovery: Some("away".into()),
                ..Report::default()
            }
            .seconds_left(),
            Some(1)
        );
    }

    #[test]
    fn conditions_name_what_is_left() {
        let mut report = report(&[("pods", 2), ("widgets.example.com", 1)], 30);
        report.finalizers.insert("example.com/keep".into(), 1);
        let conditions = report.conditions(Timestamp::UNIX_EPOCH);
        let message = |n: usize| conditions[n]["message"].as_str().unwrap();
        assert_eq!(conditions.len(), 5);
        assert_eq!(
            message(3),
            "Some resources are remaining: pods has 2 resource instances, widgets.example.com has 1 resource instances"
        );
        assert_eq!(
            message(4),
            "Some content in the namespace has finalizers remaining: example.com/keep in 1 resource instances"
        );
        assert_eq!(
            (message(0), &conditions[0]["status"]),
            ("All resources successfully discovered", &json!("False"))
        );
    }
}
