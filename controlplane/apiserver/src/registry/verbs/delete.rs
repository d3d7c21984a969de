//! delete: at once, after a grace period, or when the last finalizer is gone.
//!
//! [`plan`] decides; what it decides is written by compare-and-set, and decided anew when the object has changed.

use api::time::{Timestamp, parse};
use api::{Object, Status, StatusDetails};
use bytes::Bytes;
use store::{Expect, Outcome, Write};

use super::approve::approve_delete;
use super::modify::{Current, answered};
use super::options::{DeleteOptions, Propagation};
use super::{Call, Reply};
use crate::http::respond::store_error;
use crate::registry::custom::convert;
use crate::registry::resource::{EffectsContext, Operation, Resource};
use crate::registry::{encode, metadata};

const ATTEMPTS: usize = 8;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What became of a delete, with the object to show.
pub(crate) enum Deletion {
    /// It is gone; its last state and uid, and warnings.
    Removed(Bytes, String, Vec<String>),
    /// It is marked, and goes when its grace period or finalizers have ended; warnings.
    Pending(Bytes, Vec<String>),
}

impl Deletion {
    /// Whether it is this object that was removed, and not one of the same name.
    fn is_of(&self, object: &Object) -> bool {
        matches!(self, Deletion::Removed(_, uid, _) if uid == object.uid())
    }
}

/// What a delete does to an object.
#[derive(Debug, PartialEq)]
enum Plan {
    Remove,
    /// Replace it by this one, which is marked as being deleted.
    Mark(Box<Object>),
    /// The same, and remove it: who watches sees that it was given no time before it is gone, as in Kubernetes.
    End(Box<Object>),
    /// It is being deleted already, and this delete changes nothing about that.
    Nothing,
}

pub(crate) async fn delete(call: &Call<'_>, options: &DeleteOptions) -> Result<Answer, Status> {
    let resource = call.endpoint.resource();
    let code = http::StatusCode::OK;
    match delete_object(call, call.name(), options).await? {
        Deletion::Removed(bytes, _, warnings) if resource.returns_deleted => {
            Ok(Answer::Object(Reply { code, bytes, warnings }))
        }
        Deletion::Removed(_, uid, warnings) => Ok(Answer::Status(
            Box::new(Status::success(StatusDetails {
                name: call.name().to_owned(),
                group: call.endpoint.served().group.clone().into_owned(),
                kind: resource.plural.clone().into_owned(),
                uid,
                ..StatusDetails::default()
            })),
            warnings,
        )),
        Deletion::Pending(bytes, warnings) => Ok(Answer::Object(Reply { code, bytes, warnings })),
    }
}

/// What a delete answers with.
pub(crate) enum Answer {
    Object(Reply),
    Status(Box<Status>, Vec<String>),
}

/// Deletes one object of the call's kind and namespace.
pub(crate) async fn delete_object(call: &Call<'_>, name: &str, options: &DeleteOptions) -> Result<Deletion, Status> {
    let removed = |gone: Current, warnings| Deletion::Removed(gone.bytes, gone.object.uid().to_owned(), warnings);
    // What it was when it was marked, where somebody has come before it was removed.
    let mut ended: Option<Deletion> = None;
    for _ in 0..ATTEMPTS {
        let Some(current) = Current::load(call.endpoint, call.namespace(), name).await? else {
            return ended.ok_or_else(|| call.not_found(name));
        };
        match ended {
            Some(ended) if !ended.is_of(&current.object) => return Ok(ended),
            Some(_) => {}
            None => check_preconditions(call, &current.object, options)?,
        }
        let warnings = approve_delete(call, &current.object, options).await?;
        match plan(call.endpoint.resource(), &current.object, options, call.now) {
            Plan::Nothing => return Ok(Deletion::Pending(current.bytes, warnings)),
            Plan::Remove => {
                if options.dry_run || remove(call, &current).await? {
                    return Ok(ended.unwrap_or_else(|| removed(current, warnings)));
                }
            }
            Plan::Mark(new) => {
                if let Some(marked) = mark(call, &current, *new, options.dry_run).await? {
                    return Ok(Deletion::Pending(marked.bytes, warnings));
                }
            }
            Plan::End(new) => {
                if let Some(marked) = mark(call, &current, *new, options.dry_run).await? {
                    let gone = options.dry_run || remove(call, &marked).await?;
                    let deletion = removed(marked, warnings);
                    if gone {
                        return Ok(deletion);
                    }
                    ended = Some(deletion);
                }
            }
        }
    }
    Err(Status::modified(&call.endpoint.group_resource(), name))
}

fn check_preconditions(call: &Call<'_>, object: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let current = object.resource_version().unwrap_or_default();
    let checks = [
        ("UID", options.uid.as_deref(), object.uid()),
        ("ResourceVersion", options.resource_version.as_deref(), current),
    ];
    for (what, wanted, found) in checks {
        let Some(wanted) = wanted.filter(|wanted| *wanted != found) else {
            continue;
        };
        let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
        return Err(Status::conflict(&call.endpoint.group_resource(), object.name(), &why));
    }
    Ok(())
}

/// Decides what a delete does, as Kubernetes' `BeforeDelete` and its finalizer rules do.
fn plan(resource: &Resource, old: &Object, options: &DeleteOptions, now: Timestamp) -> Plan {
    if old.is_deleting() && resource.strategy.held(old) {
        return Plan::Nothing;
    }
    let mut new = old.clone();
    set_propagation(&mut new, propagation(resource, old, options));
    let held = !new.finalizers().is_empty() || resource.strategy.held(&new);
    // A negative period counts as one second.
    let asked = options.grace.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let graceful = resource.strategy.graceful(old, asked);
    let period = old.i64_at("metadata.deletionGracePeriodSeconds").unwrap_or_default();
    let grace = match (graceful, old.is_deleting()) {
        (Some(_), true) if period > 0 => match asked.filter(|asked| *asked < period) {
            Some(grace) => {
                shorten(&mut new, old, grace);
                grace
            }
            // What is going gracefully may only be hurried: what becomes of its dependents is settled.
            None => return Plan::Nothing,
        },
        (Some(_), true) => 0,
        (Some(grace), false) => {
            metadata::mark_deleted(&mut new, now, grace);
            grace
        }
        (None, true) => 0,
        (None, false) => {
            if held {
                metadata::mark_deleted(&mut new, now, 0);
            }
            0
        }
    };
    let is_news = graceful.is_some() && (!old.is_deleting() || period > 0);
    match (held, grace) {
        (false, 0) if is_news => Plan::End(Box::new(new)),
        (false, 0) => Plan::Remove,
        _ if new == *old => Plan::Nothing,
        _ => Plan::Mark(Box::new(new)),
    }
}

fn shorten(new: &mut Object, old: &Object, grace: i64) {
    let period = old.i64_at("metadata.deletionGracePeriodSeconds").unwrap_or_default();
    let begun = old.deletion_timestamp().and_then(parse);
    let at = begun.and_then(|t| t.checked_sub(jiff::SignedDuration::from_secs(period - grace)).ok());
    if let Some(at) = at {
        new.set("metadata.deletionTimestamp", api::time::rfc3339(at));
    }
    new.set("metadata.deletionGracePeriodSeconds", grace);
}

/// What becomes of dependents: as the caller says, as the object's finalizers say, or as is usual for its kind.
fn propagation(resource: &Resource, old: &Object, options: &DeleteOptions) -> Option<Propagation> {
    let decided = || {
        old.finalizers()
            .iter()
            .any(|finalizer| [ORPHAN, FOREGROUND].contains(finalizer))
    };
    match options.propagation {
        None if resource.orphans_dependents && !decided() => Some(Propagation::Orphan),
        given => given,
    }
}

/// Sets the finalizers by which the garbage collector knows what to do with dependents.
fn set_propagation(object: &mut Object, propagation: Option<Propagation>) {
    let (add, drop) = match propagation {
        None => return,
        Some(Propagation::Orphan) => (Some(ORPHAN), vec![FOREGROUND]),
        Some(Propagation::Foreground) => (Some(FOREGROUND), vec![ORPHAN]),
        Some(Propagation::Background) => (None, vec![ORPHAN, FOREGROUND]),
    };
    for finalizer in drop {
        object.remove_finalizer(finalizer);
    }
    if let Some(finalizer) = add {
        object.add_finalizer(finalizer);
    }
}

/// Writes the marked object; `None` when it has changed meanwhile.
async fn mark(call: &Call<'_>, old: &Current, mut new: Object, dry_run: bool) -> Result<Option<Current>, Status> {
    let kind = &call.endpoint.kind;
    kind.resource.strategy.prepare(
        &call.context(dry_run),
        &Operation::Delete { old: &old.object },
        &mut new,
    );
    if dry_run {
        let bytes = encode::served(&new);
        return Ok(Some(Current::written(new, bytes, old.revision)));
    }
    let bytes = encode::stored(&*convert::to_storage(call.endpoint, &new).await?);
    let mut write = Write::update(kind.key(call.namespace(), new.name()), bytes.clone(), old.revision);
    write.ttl = kind.resource.ttl;
    match call.server.backend.write(write).await.map_err(store_error)? {
        Outcome::Committed(revision) | Outcome::Unchanged(revision) => {
            let bytes = answered(kind, &new, &bytes, revision);
            Ok(Some(Current::written(new, bytes, revision)))
        }
        Outcome::Conflict { .. } => Ok(None),
    }
}

/// Removes an object for good and releases what it held elsewhere; false when it has changed meanwhile.
pub(super) async fn remove(call: &Call<'_>, old: &Current) -> Result<bool, Status> {
    let kind = &call.endpoint.kind;
    let operation = Operation::Delete { old: &old.object };
    let claims = match &kind.resource.effects {
        Some(effects) => {
            let cx = EffectsContext {
                cx: call.context(false),
                reader: &*call.server.reader,
            };
            Some(effects.begin(&cx, &operation, &mut old.object.clone()).await?)
        }
        None => None,
    };
    let write = Write::delete(kind.key(call.namespace(), old.object.name()), Expect::At(old.revision));
    let outcome = call.server.backend.write(write).await;
    let removed = matches!(outcome, Ok(Outcome::Committed(_) | Outcome::Unchanged(_)));
    match claims {
        Some(claims) if removed => claims.commit(&old.object).await,
        Some(claims) => claims.rollback().await,
        None => {}
    }
    outcome.map_err(store_error)?;
    Ok(removed)
}
