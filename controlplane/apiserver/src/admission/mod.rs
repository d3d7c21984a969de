//! Admission: rules over a write that need more than the object itself. Plugins run in order, first all `admit` (which
//! may change the object), then, after validation, all `validate`.

pub(crate) mod amounts;
mod certificate_approval;
mod certificate_signing;
mod certificate_subject;
mod claim_resize;
mod default_class;
mod device_admin;
pub mod dynamic;
mod escalation;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod pod_priority;
mod pod_security;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_protection;
#[cfg(test)]
mod tests;
mod toleration_seconds;

use std::sync::Arc;

use api::{Object, Status};
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::authn::UserInfo;
use crate::authz::Authorizer;
use crate::registry::Deps;
use crate::registry::reader::Reader;
use crate::registry::resource::{Operation, Resource};

/// One write under admission. Objects are in the storage version.
pub struct AdmissionRequest<'a> {
    pub user: &'a UserInfo,
    pub operation: Operation<'a>,
    pub resource: &'a Resource,
    pub subresource: Option<&'a str>,
    pub namespace: Option<&'a str>,
    /// Empty when the server is about to generate it.
    pub name: &'a str,
    /// The object to be stored; `None` on delete.
    pub object: Option<&'a mut Object>,
    /// The object as stored now; `None` on create.
    pub old: Option<&'a Object>,
    pub dry_run: bool,
    pub reader: &'a dyn Reader,
    /// Texts for `Warning` headers; see [`AdmissionRequest::warn`].
    pub warnings: Mutex<Vec<String>>,
}

/// One admission plugin.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// The plugin's name in metrics and logs, e.g. `NamespaceLifecycle`.
    fn name(&self) -> &'static str;

    /// Cheap first test, so that a plugin costs nothing where it has nothing to say.
    fn handles(&self, _operation: &Operation<'_>, _resource: &Resource, _subresource: Option<&str>) -> bool {
        true
    }

    /// Whether it judges after everything else, since what it does has to be undone if somebody refuses.
    fn is_last(&self) -> bool {
        false
    }

    /// May change `request.object`, or refuse.
    async fn admit(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        Ok(())
    }

    /// May refuse; must not change anything.
    async fn validate(&self, _request: &AdmissionRequest<'_>) -> Result<(), Status> {
        Ok(())
    }
}

/// The built-in plugins, in the order in which they run.
pub(crate) fn plugins(deps: &Deps, authorizer: Arc<dyn Authorizer>) -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle),
        Arc::new(limit_ranger::LimitRanger),
        Arc::new(service_account::ServiceAccounts),
        Arc::new(node_restriction::NodeRestriction),
        Arc::new(node_taint::TaintNodesByCondition),
        Arc::new(pod_security::PodSecurity),
        Arc::new(pod_priority::Priority),
        Arc::new(toleration_seconds::DefaultTolerationSeconds),
        Arc::new(default_class::DefaultStorageClass),
        Arc::new(storage_protection::StorageObjectInUseProtection),
        Arc::new(claim_resize::PersistentVolumeClaimResize),
        Arc::new(runtime_class::RuntimeClasses),
        Arc::new(certificate_approval::CertificateApproval {
            authorizer: authorizer.clone(),
        }),
        Arc::new(certificate_signing::CertificateSigning {
            authorizer: authorizer.clone(),
        }),
        Arc::new(certificate_subject::CertificateSubjectRestriction),
        Arc::new(default_class::DefaultIngressClass),
        Arc::new(device_admin::DeviceAdminAccess),
        Arc::new(escalation::Escalation::new(authorizer)),
        Arc::new(resource_quota::ResourceQuotas {
            backend: deps.backend.clone(),
        }),
    ]
}

impl AdmissionRequest<'_> {
    /// Says something to the caller in a `Warning` header; what admission and validation say is sent if the write succeeds.
    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    /// 403 as admission words it: `pods "web" is forbidden: why`.
    fn forbidden(&self, why: &str) -> Status {
        let name = match (self.name, &self.object) {
            ("", Some(object)) => object.name(),
            (name, _) => name,
        };
        Status::forbidden(&self.resource.group_resource(), name, why)
    }
}

/// Whether a resource is the core kind of that plural.
fn is_core(resource: &Resource, plural: &str) -> bool {
    resource.group.is_empty() && resource.plural == plural
}

/// Whether this is the creation of a pod.
fn creates_pod(operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
    is_core(resource, "pods") && subresource.is_none() && matches!(operation, Operation::Create)
}
