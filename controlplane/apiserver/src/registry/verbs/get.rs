//! get: one object, from the cache once it is as fresh as the caller asks.

use std::time::Duration;

use api::Status;
use store::Revision;

use super::Call;
use crate::http::accept::Form;
use crate::http::respond::store_error;
use crate::registry::catalog::{CachedItem, Kind};
use crate::registry::custom::convert;

/// How long a read waits for a revision that the cache has not come to, as Kubernetes does.
const REVISION_WAIT: Duration = Duration::from_secs(3);

pub(crate) async fn get(call: &Call<'_>) -> Result<CachedItem, Status> {
    let kind = &call.endpoint.kind;
    at_least(kind, revision(call.query.get("resourceVersion"))?).await?;
    let item = kind.cache.get(&kind.key(call.namespace(), call.name()));
    let item = item.ok_or_else(|| call.not_found(call.name()))?;
    if call.accepted.form != Form::Metadata {
        convert::prepare(call.endpoint, std::slice::from_ref(&item)).await?;
    }
    Ok(item)
}

/// A `resourceVersion` parameter: `None` when it was not given.
pub(super) fn revision(text: Option<&str>) -> Result<Option<Revision>, Status> {
    let Some(text) = text else { return Ok(None) };
    let number = text.parse().map_err(|_| {
        let path = api::Path::root("resourceVersion");
        let error = api::FieldError::invalid(
            &path,
            text,
            format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
        );
        Status::invalid(&api::GroupKind::new("meta.k8s.io", "ListOptions"), "", vec![error])
    })?;
    Ok(Some(Revision(number)))
}

/// Returns when the cache shows every acknowledged write (`None`), anything (0), or that revision.
pub(super) async fn at_least(kind: &Kind, revision: Option<Revision>) -> Result<(), Status> {
    match revision {
        None => kind.cache.fresh().await.map(drop).map_err(store_error),
        Some(Revision(0)) => Ok(()),
        Some(wanted) => match kind.cache.wait_for(wanted, REVISION_WAIT).await {
            Ok(()) => Ok(()),
            Err(store::Error::Timeout { .. }) => Err(too_large(wanted, kind.cache.revision())),
            Err(error) => Err(store_error(error)),
        },
    }
}

fn too_large(wanted: Revision, current: Revision) -> Status {
    let mut status = Status::timeout(&format!("Too large resource version: {wanted}, current: {current}"), 1);
    if let Some(details) = &mut status.details {
        details.causes.push(api::StatusCause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        });
    }
    status
}
