//! What went wrong, as a Status.

use api::names::GroupResource;
use api::{Status, StatusCause, StatusDetails};
use apiserver::images::{GROUP, RESOURCE};

use crate::inspect::Looked;
use crate::store::StoreError;

pub(crate) fn resource() -> GroupResource {
    GroupResource::new(GROUP, RESOURCE)
}

pub(crate) fn not_found(name: &str) -> Status {
    Status::not_found(&resource(), name)
}

/// 507 says that there is no room (RFC 4918); what else goes wrong on the disk is ours alone to know.
pub(crate) fn of_store(error: &StoreError) -> Status {
    match error {
        StoreError::Full(full) => insufficient(&full.to_string()),
        StoreError::Many => insufficient(&error.to_string()),
        StoreError::Gone => Status::bad_request(error.to_string()),
        StoreError::Away(full @ ::store::Error::Full { .. }) => insufficient(&full.to_string()),
        StoreError::Away(source) => {
            let source = source as &dyn std::error::Error;
            tracing::warn!(error = source, "the store of the image registry failed");
            Status::service_unavailable("the store of the image registry does not answer; try again")
        }
        StoreError::Damaged(_) => {
            let mut status = Status::internal("");
            status.message = error.to_string();
            status
        }
        StoreError::Io(source) => {
            tracing::error!(
                error = source as &dyn std::error::Error,
                "the image registry cannot be written"
            );
            Status::internal("the image registry cannot be written; the server's log has more")
        }
    }
}

fn insufficient(message: &str) -> Status {
    let mut status = Status::internal(message);
    status.code = 507;
    status.reason = "InsufficientStorage".to_owned();
    status.message = message.to_owned();
    status.details = None;
    status
}

/// 422 for a program that no node could run: why, and what it lacks, name by name.
pub(crate) fn not_runnable(name: &str, refusal: &str, looked: Option<&Looked>) -> Status {
    let missing = looked.map(|looked| looked.missing.as_slice()).unwrap_or_default();
    let cause = |import: &String| StatusCause {
        reason: "FieldValueNotSupported".to_owned(),
        message: format!("nodes offer no {import}"),
        field: format!("imports[{import}]"),
    };
    let mut status = Status::invalid(&api::names::GroupKind::new(GROUP, "Image"), name, Vec::new());
    status.message = format!("{name} was not stored, since it cannot run: {refusal}");
    status.details = Some(Box::new(StatusDetails {
        group: GROUP.to_owned(),
        kind: "Image".to_owned(),
        name: name.to_owned(),
        causes: missing.iter().map(cause).collect(),
        ..StatusDetails::default()
    }));
    status
}
