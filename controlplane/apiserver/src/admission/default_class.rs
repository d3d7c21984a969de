//! DefaultStorageClass and DefaultIngressClass: who names no class gets the one that is marked as the default. Of several,
//! the newest counts.

use std::cmp::Reverse;
use std::sync::Arc;

use api::{GroupResource, Object, Status};
use async_trait::async_trait;

use super::{Admission, AdmissionRequest, is_core};
use crate::registry::resource::{Operation, Resource};
use crate::resources::is_default_storage_class;

const CLAIM_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const INGRESS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_INGRESS: &str = "ingressclass.kubernetes.io/is-default-class";

pub(super) struct DefaultStorageClass;

#[async_trait]
impl Admission for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        creates(operation, subresource) && is_core(resource, "persistentvolumeclaims")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let kind = GroupResource::new("storage.k8s.io", "storageclasses");
        fill(
            request,
            &kind,
            is_default_storage_class,
            "spec.storageClassName",
            CLAIM_ANNOTATION,
        );
        Ok(())
    }
}

pub(super) struct DefaultIngressClass;

#[async_trait]
impl Admission for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        creates(operation, subresource) && resource.group == "networking.k8s.io" && resource.plural == "ingresses"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let kind = GroupResource::new("networking.k8s.io", "ingressclasses");
        let default = |class: &Object| class.annotation(DEFAULT_INGRESS) == Some("true");
        fill(request, &kind, default, "spec.ingressClassName", INGRESS_ANNOTATION);
        Ok(())
    }
}

fn creates(operation: &Operation<'_>, subresource: Option<&str>) -> bool {
    matches!(operation, Operation::Create) && subresource.is_none()
}

/// Names the default class in `field`, unless that or the older annotation says something, be it the empty name.
fn fill(
    request: &mut AdmissionRequest<'_>,
    kind: &GroupResource,
    is_default: fn(&Object) -> bool,
    field: &str,
    annotation: &str,
) {
    let Some(object) = request.object.as_deref_mut() else {
        return;
    };
    let said = object.at(field).is_some_and(|value| !value.is_null()) || object.annotation(annotation).is_some();
    if said {
        return;
    }
    let classes = request.reader.list(kind, None);
    let defaults = classes.iter().filter(|class| is_default(class));
    let newest = |class: &&Arc<Object>| {
        let born = class.creation_timestamp().unwrap_or_default().to_owned();
        (born, Reverse(class.name().to_owned()))
    };
    if let Some(class) = defaults.max_by_key(newest) {
        object.set(field, class.name());
    }
}
