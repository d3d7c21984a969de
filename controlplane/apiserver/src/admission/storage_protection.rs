//! StorageObjectInUseProtection: volumes, claims and volume attributes classes are held until nobody uses them any more.

use api::Status;
use async_trait::async_trait;

use super::{Admission, AdmissionRequest, is_core};
use crate::registry::resource::{Operation, Resource};

pub(super) struct StorageObjectInUseProtection;

#[async_trait]
impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        matches!(operation, Operation::Create) && subresource.is_none() && finalizer(resource).is_some()
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if let (Some(object), Some(finalizer)) = (request.object.as_deref_mut(), finalizer(request.resource)) {
            object.add_finalizer(finalizer);
        }
        Ok(())
    }
}

fn finalizer(resource: &Resource) -> Option<&'static str> {
    if is_core(resource, "persistentvolumes") {
        Some("kubernetes.io/pv-protection")
    } else if is_core(resource, "persistentvolumeclaims") {
        Some("kubernetes.io/pvc-protection")
    } else if resource.group == "storage.k8s.io" && resource.plural == "volumeattributesclasses" {
        Some("kubernetes.io/vac-protection")
    } else {
        None
    }
}
