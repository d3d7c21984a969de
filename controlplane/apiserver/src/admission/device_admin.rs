//! Admin access to devices (KEP-5018): only in namespaces whose label says so may claims ask for devices that others use. In
//! Kubernetes this is part of the kinds' registry.

use api::{FieldError, GroupKind, GroupResource, Object, Path, Status};
use async_trait::async_trait;
use serde_json::Value;

use super::{Admission, AdmissionRequest};
use crate::registry::resource::{Operation, Resource};

const LABEL: &str = "resource.kubernetes.io/admin-access";

pub(super) struct DeviceAdminAccess;

#[async_trait]
impl Admission for DeviceAdminAccess {
    fn name(&self) -> &'static str {
        "DeviceAdminAccess"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        let create = matches!(operation, Operation::Create) && subresource.is_none();
        create && requests(resource).is_some()
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let (Some(object), Some(at)) = (request.object.as_deref(), requests(request.resource)) else {
            return Ok(());
        };
        let Some(error) = asking(object, at) else {
            return Ok(());
        };
        let namespace = request.namespace.unwrap_or_default();
        let found = request
            .reader
            .get(&GroupResource::new("", "namespaces"), None, namespace);
        if found.is_some_and(|namespace| namespace.label(LABEL) == Some("true")) {
            return Ok(());
        }
        let kind = GroupKind::new(&request.resource.group, &request.resource.kind);
        Err(Status::invalid(&kind, object.name(), vec![error]))
    }
}

/// Where a kind says what devices are asked for.
fn requests(resource: &Resource) -> Option<&'static str> {
    match (&*resource.group, &*resource.plural) {
        ("resource.k8s.io", "resourceclaims") => Some("spec.devices.requests"),
        ("resource.k8s.io", "resourceclaimtemplates") => Some("spec.spec.devices.requests"),
        _ => None,
    }
}

/// The first request that asks for admin access, as an error.
fn asking(object: &Object, at: &str) -> Option<FieldError> {
    let asks = |request: &Value| request.pointer("/exactly/adminAccess") == Some(&Value::Bool(true));
    let index = object.list_at(at).iter().position(asks)?;
    // Of templates, too, Kubernetes names the claim's field.
    let path = Path::root("spec.devices.requests").index(index).child("adminAccess");
    let detail = format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
    Some(FieldError::forbidden(&path, detail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::object;

    #[test]
    fn a_request_for_admin_access_is_pointed_out() {
        let claim = object(json!({"spec": {"devices": {"requests": [{"name": "a", "exactly": {}},
            {"name": "b", "exactly": {"adminAccess": true}}]}}}));
        assert_eq!(
            asking(&claim, "spec.devices.requests")
                .map(|error| error.to_string())
                .as_deref(),
            Some(
                "spec.devices.requests[1].adminAccess: Forbidden: admin access to devices requires the \
                 `resource.kubernetes.io/admin-access: true` label on the containing namespace"
            )
        );
    }
}
