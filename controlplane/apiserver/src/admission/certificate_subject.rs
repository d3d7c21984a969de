//! CertificateSubjectRestriction: the signer of clients' certificates makes nobody an administrator of everything.

use api::Status;
use async_trait::async_trait;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::certificate_approval::is_request;
use super::{Admission, AdmissionRequest};
use crate::authn::MASTERS;
use crate::registry::resource::{Operation, Resource};
use crate::resources::certificate_request_der;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct CertificateSubjectRestriction;

#[async_trait]
impl Admission for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        is_request(resource) && subresource.is_none() && matches!(operation, Operation::Create)
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let field = |path: &str| {
            request
                .object
                .as_deref()
                .and_then(|o| o.str_at(path))
                .unwrap_or_default()
        };
        if field("spec.signerName") != SIGNER {
            return Ok(());
        }
        let der = certificate_request_der(field("spec.request"));
        let der = der.map_err(|why| request.forbidden(&format!("failed to parse CSR: {why}")))?;
        match asks_for_masters(&der) {
            true => Err(request.forbidden(&format!("use of {SIGNER} signer with {MASTERS} group is not allowed"))),
            false => Ok(()),
        }
    }
}

/// Whether the subject is a member of `system:masters`; what cannot be read might be.
fn asks_for_masters(der: &[u8]) -> bool {
    let Ok((_, request)) = X509CertificationRequest::from_der(der) else {
        return true;
    };
    let mut organizations = request.certification_request_info.subject.iter_organization();
    organizations.any(|organization| organization.as_str().map_or(true, |text| text == MASTERS))
}
