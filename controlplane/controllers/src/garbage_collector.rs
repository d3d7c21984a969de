//! The garbage collector: deletes what has lost all its owners, and carries out foreground and orphan deletion.
//!
//! It follows the metadata of every kind that can be listed and deleted ([`monitor`]), keeps who owns whom ([`graph`]),
//! and for each object that may concern somebody decides from the live object ([`decide`]). An owner counts as gone only
//! if the API server says so, by uid, at that moment: a cache that lags behind deletes nothing.

mod decide;
mod graph;
mod monitor;

use std::{collections::HashMap, sync::Arc, time::Duration};

use api::NamespacedName;
use client::{
    Client, DeleteOptions, Error, Kind, Meta, MetaObject, OptionalExt, OwnerRef, Patch, Propagation,
    events::{ObjectRef, Recorder, Type},
    kinds,
    reconcile::{self, Action},
};
use futures::StreamExt;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::{
    decide::{Decision, OwnerState},
    graph::{Graph, Uid},
};
use crate::{Context, pods};

/// Uids that wait for the loop; the monitor waits when it is full, and changes coalesce behind it.
const QUEUE: usize = 1024;
const WORKERS: usize = 20;
/// An owner that exists but that no informer shows yet is looked at again after this long.
const UNSEEN: Duration = Duration::from_secs(5);
/// A full queue will have room after this long.
const FULL: Duration = Duration::from_secs(1);

pub(crate) async fn run(context: Context) {
    let (send, mut receive) = mpsc::channel::<Uid>(QUEUE);
    let collector = Collector {
        client: context.client.clone(),
        recorder: context.recorder.clone(),
        shared: Arc::default(),
        queue: send.clone(),
    };
    let monitor = monitor::run(context.client, context.informers, collector.shared.clone(), send);
    let triggers = vec![futures::stream::poll_fn(move |cx| receive.poll_recv(cx)).boxed()];
    let collect = reconcile::keyed("garbage-collector", WORKERS, triggers, |uid| collector.collect(uid));
    tokio::join!(monitor, collect);
}

/// What the monitor writes and the collector reads.
#[derive(Default)]
struct Shared {
    graph: RwLock<Graph>,
    /// Kinds by group and kind, as owner references name them.
    kinds: RwLock<HashMap<(String, String), Kind>>,
}

#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Api(#[from] Error),
    #[error("owner kind {kind:?} of {api_version:?} is not served")]
    UnknownKind { api_version: Box<str>, kind: Box<str> },
}

struct Collector {
    client: Client,
    recorder: Recorder,
    shared: Arc<Shared>,
    queue: mpsc::Sender<Uid>,
}

impl Collector {
    async fn collect(&self, uid: Uid) -> Result<Action, CollectError> {
        let Some((kind, key)) = self
            .shared
            .graph
            .read()
            .get(&uid)
            .map(|node| (node.kind.clone(), node.key.clone()))
        else {
            return Ok(Action::Done);
        };
        let live: Option<MetaObject> = self.client.get_opt(&kind, &key).await?;
        let Some(live) = live.map(|live| live.metadata).filter(|live| *live.uid == *uid) else {
            return Ok(Action::Done); // its informer will say so
        };
        let dependents = self.shared.graph.read().dependents(&uid);
        let (mut owners, mut again) = (Vec::new(), Action::Done);
        if !live.is_deleting() {
            for owner in &live.owner_references {
                let (state, unseen) = self.state_of(&kind, &live, owner).await?;
                owners.push((owner, state));
                if unseen {
                    again = Action::After(UNSEEN);
                }
            }
        }
        let decision = decide::decide(&live, &owners, &dependents);
        Ok(self.carry_out(&kind, &key, &live, decision).await?.or_sooner(again))
    }

    /// What is the matter with an owner; and whether it exists without our informers knowing.
    async fn state_of(&self, kind: &Kind, object: &Meta, owner: &OwnerRef) -> Result<(OwnerState, bool), CollectError> {
        if let Some(state) = self.shared.graph.read().owner_state(&object.namespace, owner) {
            return Ok((state, false));
        }
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let owner_kind = self
            .shared
            .kinds
            .read()
            .get(&(group.to_owned(), owner.kind.to_string()))
            .cloned();
        let Some(owner_kind) = owner_kind else {
            return Err(CollectError::UnknownKind {
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
            });
        };
        if owner_kind.namespaced && object.namespace.is_empty() {
            let note = format!(
                "ownerRef {:?}/{:?} is namespaced, but its dependent is not",
                owner.kind, owner.name
            );
            let reference = ObjectRef::of(kind, object);
            self.recorder
                .event(&reference, Type::Warning, "OwnerRefInvalidNamespace", "", note);
            return Ok((OwnerState::Present, false)); // it cannot be looked up, so it cannot be said to be gone
        }
        let at = if owner_kind.namespaced {
            NamespacedName::new(&object.namespace, &owner.name)
        } else {
            NamespacedName::cluster(&owner.name)
        };
        let live: Option<MetaObject> = self.client.get_opt(&owner_kind, &at).await?;
        Ok(match live.filter(|live| live.metadata.uid == owner.uid) {
            Some(live) if graph::waits_for_dependents(&live.metadata) => (OwnerState::Waiting, true),
            Some(_) => (OwnerState::Present, true),
            None => (OwnerState::Absent, false),
        })
    }

    async fn carry_out(
        &self,
        kind: &Kind,
        key: &NamespacedName,
        live: &Meta,
        decision: Decision,
    ) -> Result<Action, CollectError> {
        match decision {
            Decision::Nothing => {}
            Decision::RemoveFinalizer(finalizer) => self.remove_finalizer(kind, key, live, finalizer).await?,
            Decision::Collect(dependents) => {
                // never waits: the queue is emptied by the loop that this runs in
                let accepted = dependents
                    .into_iter()
                    .all(|dependent| self.queue.try_send(dependent).is_ok());
                if !accepted {
                    return Ok(Action::After(FULL));
                }
            }
            Decision::Orphan(dependents) => {
                for dependent in dependents {
                    self.release(&dependent, &live.uid).await?;
                }
                self.remove_finalizer(kind, key, live, decide::ORPHAN).await?;
            }
            Decision::Disown(owners) => {
                let stays = |owner: &&OwnerRef| !owners.contains(&owner.uid);
                let references: Vec<Value> = live
                    .owner_references
                    .iter()
                    .filter(stays)
                    .map(pods::reference)
                    .collect();
                self.patch_references(kind, key, live, references).await?;
            }
            Decision::Delete { propagation, unblock } => {
                if unblock {
                    let unblocked = |owner: &OwnerRef| OwnerRef {
                        block_owner_deletion: false,
                        ..owner.clone()
                    };
                    let references = live
                        .owner_references
                        .iter()
                        .map(unblocked)
                        .map(|owner| pods::reference(&owner))
                        .collect();
                    self.patch_references(kind, key, live, references).await?;
                }
                self.delete(kind, key, live, propagation).await?;
            }
        }
        Ok(Action::Done)
    }

    async fn delete(
        &self,
        kind: &Kind,
        key: &NamespacedName,
        live: &Meta,
        propagation: Propagation,
    ) -> Result<(), Error> {
        tracing::debug!(kind = %kind, object = %key, ?propagation, "collected");
        let options = DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::of_uid(&live.uid)
        };
        self.client.delete(kind, key, &options).await.optional().map(drop)
    }

    async fn remove_finalizer(
        &self,
        kind: &Kind,
        key: &NamespacedName,
        live: &Meta,
        finalizer: &str,
    ) -> Result<(), Error> {
        let left: Vec<&str> = live
            .finalizers
            .iter()
            .map(|own| &**own)
            .filter(|own| *own != finalizer)
            .collect();
        let patch =
            json!({"metadata": {"uid": live.uid, "resourceVersion": live.resource_version, "finalizers": left}});
        self.client
            .patch(kind, key, None, Patch::Merge(patch))
            .await
            .optional()
            .map(drop)
    }

    async fn release(&self, dependent: &Uid, owner: &str) -> Result<(), Error> {
        let Some((kind, key)) = self
            .shared
            .graph
            .read()
            .get(dependent)
            .map(|node| (node.kind.clone(), node.key.clone()))
        else {
            return Ok(());
        };
        let live: Option<MetaObject> = self.client.get_opt(&kind, &key).await?;
        match live.filter(|live| *live.metadata.uid == **dependent) {
            Some(live) => {
                let patch = Patch::Merge(pods::release(owner, &live.metadata));
                self.client.patch(&kind, &key, None, patch).await.optional().map(drop)
            }
            None => Ok(()),
        }
    }

    async fn patch_references(
        &self,
        kind: &Kind,
        key: &NamespacedName,
        live: &Meta,
        references: Vec<Value>,
    ) -> Result<(), Error> {
        let patch = json!({"metadata": {"uid": live.uid, "ownerReferences": references}});
        self.client
            .patch(kind, key, None, Patch::Merge(patch))
            .await
            .optional()
            .map(drop)
    }
}

/// Events are about objects, not of them, and too many to follow.
fn is_ignored(kind: &Kind) -> bool {
    kind.kind == kinds::EVENT.kind && matches!(&*kind.group, "" | "events.k8s.io")
}
