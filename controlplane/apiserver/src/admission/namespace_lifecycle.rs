//! NamespaceLifecycle: nothing is made in a namespace that is not there or is going, nothing is changed in one that is not
//! there, and some namespaces never go.

use api::{GroupResource, Object, Status, StatusCause};
use async_trait::async_trait;

use super::{Admission, AdmissionRequest, is_core};
use crate::registry::resource::{Operation, Resource};

const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

pub(super) struct NamespaceLifecycle;

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, _subresource: Option<&str>) -> bool {
        match operation {
            Operation::Create | Operation::Update { .. } | Operation::UpdateStatus { .. } => resource.is_namespaced(),
            Operation::Delete { .. } => is_core(resource, "namespaces"),
        }
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if matches!(request.operation, Operation::Delete { .. }) {
            return match IMMORTAL.contains(&request.name) {
                true => Err(request.forbidden("this namespace may not be deleted")),
                false => Ok(()),
            };
        }
        let namespace = request.namespace.unwrap_or_default();
        let kind = GroupResource::new("", "namespaces");
        let creates = matches!(request.operation, Operation::Create);
        let phase = || request.reader.field(&kind, None, namespace, "status.phase");
        if !creates && phase().is_some() {
            return Ok(());
        }
        let found = match request.reader.get(&kind, None, namespace) {
            Some(found) => Some(found),
            None => request.reader.get_fresh(&kind, None, namespace).await?,
        };
        match found {
            None => Err(Status::not_found(&kind, namespace)),
            Some(found) if creates && is_terminating(&found) => Err(terminating(request, namespace)),
            Some(_) => Ok(()),
        }
    }
}

fn is_terminating(namespace: &Object) -> bool {
    namespace.is_deleting() || namespace.str_at("status.phase") == Some("Terminating")
}

fn terminating(request: &AdmissionRequest<'_>, namespace: &str) -> Status {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = request.forbidden(&why);
    if let Some(details) = &mut status.details {
        details.causes.push(StatusCause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    status
}
