//! The one loop by which stored objects change: read, make the new object, approve, compare-and-set, and again when
//! somebody else was faster.

use api::{FieldError, Object, Path, Status};
use bytes::Bytes;
use http::StatusCode;
use store::{Expect, Outcome, Revision, Write};

use super::approve::{Claims, approve};
use super::delete::remove;
use super::{Call, Reply};
use crate::http::respond::store_error;
use crate::registry::catalog::{Endpoint, Kind};
use crate::registry::custom::convert;
use crate::registry::index::parse;
use crate::registry::resource::Operation;
use crate::registry::{encode, managed, metadata};

/// How often a write that did not name a resourceVersion is tried anew.
const ATTEMPTS: usize = 6;

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Whole,
    Status,
    /// `spec.finalizers` of a namespace.
    Finalizers,
    /// What the server itself decided, such as a binding: no rule for callers applies.
    Decided,
}

/// A stored object as it is now, in the version in which its kind is worked on, resourceVersion included.
pub(crate) struct Current {
    pub(crate) object: Object,
    pub(crate) bytes: Bytes,
    pub(crate) revision: Revision,
    /// Whether it rests in another version than it would now.
    stale: bool,
}

impl Current {
    /// An object as it was just written.
    pub(super) fn written(object: Object, bytes: Bytes, revision: Revision) -> Self {
        Current {
            object,
            bytes,
            revision,
            stale: false,
        }
    }

    /// Reads an object as of now; every write acknowledged before is seen.
    pub(crate) async fn load(endpoint: &Endpoint, namespace: Option<&str>, name: &str) -> Result<Option<Self>, Status> {
        let kind = &endpoint.kind;
        kind.cache.fresh().await.map_err(store_error)?;
        let Some(item) = kind.cache.get(&kind.key(namespace, name)) else {
            return Ok(None);
        };
        let (revision, bytes) = (item.revision, item.bytes.clone());
        let stored = parse(&bytes);
        let stale = kind.custom.is_some() && stored.api_version() != kind.resource.storage().api_version;
        if kind.custom.is_none() || stored.api_version() == endpoint.hub().api_version {
            return Ok(Some(Current {
                object: stored,
                bytes,
                revision,
                stale,
            }));
        }
        let object = convert::to_hub(endpoint, stored).await?;
        Ok(Some(Current {
            bytes: encode::served(&object),
            object,
            revision,
            stale,
        }))
    }
}

/// What a write wants to store, in the storage version.
pub(crate) struct New {
    pub(crate) object: Object,
    pub(crate) warnings: Vec<String>,
    /// Whether the object's managed fields are as they shall be, so that the caller comes to own nothing by the write.
    pub(crate) managed: bool,
}

/// Changes the object the call names to what `make` says, given the object as it is. `make` runs again when the object
/// has changed meanwhile. A result that equals what is stored commits nothing.
pub(crate) async fn modify(
    call: &Call<'_>,
    flavour: Flavour,
    dry_run: bool,
    make: impl Fn(&Object) -> Result<New, Status>,
) -> Result<Reply, Status> {
    let name = call.name();
    let mut current = Current::load(call.endpoint, call.namespace(), name).await?;
    for _ in 0..ATTEMPTS {
        let old = current.ok_or_else(|| call.not_found(name))?;
        let mut new = make(&old.object)?;
        let conditional = check_preconditions(call, &old.object, &mut new.object)?;
        let claims = settle(call, flavour, dry_run, &old.object, &mut new).await?;
        let done = Reply {
            code: StatusCode::OK,
            bytes: Bytes::new(),
            warnings: new.warnings,
        };
        if dry_run {
            return Ok(Reply {
                bytes: encode::served(&new.object),
                ..done
            });
        }
        if new.object == old.object && !old.stale {
            claims.rollback().await;
            return Ok(Reply {
                bytes: old.bytes,
                ..done
            });
        }
        match commit(call, &old, &new.object, claims).await? {
            Written::At(bytes) => return Ok(Reply { bytes, ..done }),
            Written::Conflict if conditional => {
                return Err(Status::modified(&call.endpoint.group_resource(), name));
            }
            Written::Conflict => current = Current::load(call.endpoint, call.namespace(), name).await?,
        }
    }
    Err(Status::modified(&call.endpoint.group_resource(), name))
}

/// Whether the caller named a resourceVersion other than by leaving it as it is; fails if it or the uid is not current.
fn check_preconditions(call: &Call<'_>, old: &Object, new: &mut Object) -> Result<bool, Status> {
    let resource = call.endpoint.resource();
    let conditional = match new.resource_version() {
        None | Some("0") => {
            // Who scales need not know the object.
            let scales = call.subresource() == Some("scale");
            if !scales && !resource.strategy.allow_unconditional_update() {
                let path = Path::root("metadata").child("resourceVersion");
                // As Go prints an unsigned 0.
                let error = FieldError::invalid_unshown(&path, "0x0: must be specified for an update");
                // Kubernetes speaks of the resource where it means the kind.
                let served = call.endpoint.group_resource();
                let kind = api::GroupKind::new(&served.group, &served.resource);
                return Err(Status::invalid(&kind, call.name(), vec![error]));
            }
            false
        }
        given if given == old.resource_version() => call.info.verb == "update",
        Some(_) => return Err(Status::modified(&call.endpoint.group_resource(), call.name())),
    };
    // Of a patch, validation says that it may not change the uid.
    if call.info.verb == "update" && !new.uid().is_empty() && new.uid() != old.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            new.uid(),
            old.uid()
        );
        return Err(Status::conflict(&call.endpoint.group_resource(), call.name(), &why));
    }
    new.set_resource_version(old.resource_version());
    Ok(conditional)
}

/// Takes the new object through stamping and approval.
async fn settle(
    call: &Call<'_>,
    flavour: Flavour,
    dry_run: bool,
    old: &Object,
    new: &mut New,
) -> Result<Claims, Status> {
    let operation = match flavour {
        Flavour::Decided => return Ok(Claims::default()),
        Flavour::Whole => Operation::Update { old },
        Flavour::Status => {
            metadata::keep_all_but_status(old, &mut new.object);
            // Of what is built in, a status that was left out is an empty one.
            if call.endpoint.kind.custom.is_none() && new.object.at("status").is_none() && old.at("status").is_some() {
                new.object.set("status", serde_json::Map::new());
            }
            Operation::UpdateStatus { old }
        }
        Flavour::Finalizers => {
            metadata::keep_all_but_finalizers(old, &mut new.object);
            Operation::Update { old }
        }
    };
    metadata::on_update(old, &mut new.object);
    if !new.managed {
        managed::track(call, Some(old), &mut new.object);
    }
    let (object, warnings) = (&mut new.object, &mut new.warnings);
    let claims = approve(call, &operation, call.name(), object, dry_run, warnings).await?;
    managed::keep_times(old, &mut new.object);
    Ok(claims)
}

enum Written {
    /// Committed; the bytes to answer with.
    At(Bytes),
    Conflict,
}

async fn commit(call: &Call<'_>, old: &Current, new: &Object, claims: Claims) -> Result<Written, Status> {
    let kind = &call.endpoint.kind;
    if is_finished(kind, new) {
        claims.commit(new).await;
        return Ok(match remove(call, old).await? {
            true => Written::At(encode::served(new)),
            false => Written::Conflict,
        });
    }
    let bytes = encode::stored(&*convert::to_storage(call.endpoint, new).await?);
    let write = Write {
        key: kind.key(call.namespace(), call.name()).into(),
        expect: Expect::At(old.revision),
        value: Some(bytes.clone()),
        guards: Vec::new(),
        ttl: kind.resource.ttl,
    };
    match call.server.backend.write(write).await {
        Ok(Outcome::Committed(revision) | Outcome::Unchanged(revision)) => {
            claims.commit(new).await;
            Ok(Written::At(answered(kind, new, &bytes, revision)))
        }
        Ok(Outcome::Conflict { .. }) => {
            claims.rollback().await;
            Ok(Written::Conflict)
        }
        Err(error) => {
            claims.rollback().await;
            Err(store_error(error))
        }
    }
}

/// What a write answers with: the stored bytes, or the object in the version in which it was worked on.
pub(super) fn answered(kind: &Kind, new: &Object, stored: &Bytes, revision: Revision) -> Bytes {
    if kind.custom.is_none() {
        return kind.index.with_revision(stored, revision);
    }
    let mut object = new.clone();
    object.set_resource_version(Some(&revision.to_string()));
    encode::served(&object)
}

/// Whether nothing keeps an object that is being deleted: no finalizer, no grace, no rule of its kind.
fn is_finished(kind: &Kind, object: &Object) -> bool {
    object.is_deleting()
        && object.finalizers().is_empty()
        && object.i64_at("metadata.deletionGracePeriodSeconds").unwrap_or_default() == 0
        && !kind.resource.strategy.held(object)
}
