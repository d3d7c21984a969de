//! CertificateApproval: who approves or denies a request for a certificate must have the verb `approve` for its signer.

use std::sync::Arc;

use api::Status;
use async_trait::async_trait;

use super::{Admission, AdmissionRequest};
use crate::authz::{Attributes, Authorizer, Decision};
use crate::registry::resource::{Operation, Resource};

pub(super) const GROUP: &str = "certificates.k8s.io";
const SIGNER: &str = "spec.signerName";

pub(super) struct CertificateApproval {
    pub(super) authorizer: Arc<dyn Authorizer>,
}

#[async_trait]
impl Admission for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, _operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        is_request(resource) && subresource == Some("approval")
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        require(&*self.authorizer, request, "approve").await
    }
}

pub(super) fn is_request(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == "certificatesigningrequests"
}

/// Refuses who may not `verb` for the signer of the stored request: by its name, or for all of its domain.
pub(super) async fn require(
    authorizer: &dyn Authorizer,
    request: &AdmissionRequest<'_>,
    verb: &str,
) -> Result<(), Status> {
    let signer = request.old.and_then(|old| old.str_at(SIGNER)).unwrap_or_default();
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer, &format!("{domain}/*")] {
        let attributes = Attributes {
            user: request.user,
            verb,
            namespace: "",
            group: GROUP,
            version: "*",
            resource: "signers",
            subresource: "",
            name,
            field_selector: "",
            path: "",
            is_resource: true,
        };
        if authorizer.authorize(&attributes).await == Decision::Allow {
            return Ok(());
        }
    }
    Err(request.forbidden(&format!(
        "user not permitted to {verb} requests with signerName {signer:?}"
    )))
}
