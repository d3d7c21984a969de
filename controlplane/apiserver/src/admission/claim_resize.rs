//! PersistentVolumeClaimResize: a claim grows only when it is bound and its class lets it.

use api::{GroupResource, Object, Quantity, Status};
use async_trait::async_trait;

use super::{Admission, AdmissionRequest, is_core};
use crate::registry::resource::{Operation, Resource};

const ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct PersistentVolumeClaimResize;

#[async_trait]
impl Admission for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        is_core(resource, "persistentvolumeclaims")
            && subresource.is_none()
            && matches!(operation, Operation::Update { .. })
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let (Some(old), Some(new)) = (request.old, request.object.as_deref()) else {
            return Ok(());
        };
        if size(new) <= size(old) {
            return Ok(());
        }
        if old.str_at("status.phase") != Some("Bound") {
            return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let kind = GroupResource::new("storage.k8s.io", "storageclasses");
        let same = !class(new).is_empty() && class(new) == class(old);
        let found = same.then(|| request.reader.get(&kind, None, class(new))).flatten();
        match found.and_then(|class| class.bool_at("allowVolumeExpansion")) {
            Some(true) => Ok(()),
            _ => Err(request.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            )),
        }
    }
}

fn size(claim: &Object) -> Quantity {
    let text = claim.str_at("spec.resources.requests.storage").unwrap_or("0");
    text.parse().unwrap_or_else(|_| Quantity::from_units(0))
}

fn class(claim: &Object) -> &str {
    let named = claim.str_at("spec.storageClassName").unwrap_or_default();
    claim.annotation(ANNOTATION).unwrap_or(named)
}
