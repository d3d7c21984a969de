//! CertificateSigning: who issues a certificate, or says why not, must have the verb `sign` for its signer.

use std::sync::Arc;

use api::Status;
use async_trait::async_trait;

use super::certificate_approval::{is_request, require};
use super::{Admission, AdmissionRequest};
use crate::authz::Authorizer;
use crate::registry::resource::{Operation, Resource};

pub(super) struct CertificateSigning {
    pub(super) authorizer: Arc<dyn Authorizer>,
}

#[async_trait]
impl Admission for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, _operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        is_request(resource) && subresource == Some("status")
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let (old, new) = (request.old, request.object.as_deref());
        let same = |field: &str| old.and_then(|o| o.at(field)) == new.and_then(|o| o.at(field));
        if same("status.certificate") && same("status.conditions") {
            return Ok(());
        }
        require(&*self.authorizer, request, "sign").await
    }
}
