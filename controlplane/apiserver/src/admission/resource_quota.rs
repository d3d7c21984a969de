//! ResourceQuota: a write is charged to the quotas of its namespace before it is committed, by a compare-and-set on each
//! one's status, and refused where one would be exceeded.

use std::sync::Arc;

use api::{GroupResource, Object, Status};
use async_trait::async_trait;
use store::{Backend, Outcome};

use super::{Admission, AdmissionRequest};
use crate::http::respond::store_error;
use crate::quota;
use crate::quota::charge::{Charge, write};
use crate::registry::resource::{Operation, Resource};

/// How often a charge is tried anew when others charge at the same time.
const ATTEMPTS: usize = 8;

pub(super) struct ResourceQuotas {
    pub(super) backend: Arc<dyn Backend>,
}

#[async_trait]
impl Admission for ResourceQuotas {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update { .. });
        resource.is_namespaced() && subresource.is_none() && writes
    }

    fn is_last(&self) -> bool {
        true
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let quotas = request.reader.list(&quota::kind(), request.namespace);
        let Some(new) = request.object.as_deref().filter(|_| !quotas.is_empty()) else {
            return Ok(());
        };
        let charge = Charge {
            kind: GroupResource::new(&request.resource.group, &request.resource.plural),
            new,
            old: request.old,
        };
        if !charge.is_due() {
            return Ok(());
        }
        // All are asked before any is charged.
        for quota in &quotas {
            charge.under(quota).map_err(|why| request.forbidden(&why))?;
        }
        for quota in quotas {
            if !request.dry_run {
                self.charge(request, &charge, quota).await?;
            }
        }
        Ok(())
    }
}

impl ResourceQuotas {
    async fn charge(
        &self,
        request: &AdmissionRequest<'_>,
        charge: &Charge<'_>,
        first: Arc<Object>,
    ) -> Result<(), Status> {
        let name = first.name().to_owned();
        let mut current = Some(first);
        for _ in 0..ATTEMPTS {
            let Some(quota) = current else { return Ok(()) };
            let used = charge.under(&quota).map_err(|why| request.forbidden(&why))?;
            let Some(write) = used.and_then(|used| write(&quota, &used)) else {
                return Ok(());
            };
            match self.backend.write(write).await.map_err(store_error)? {
                Outcome::Committed(_) | Outcome::Unchanged(_) => return Ok(()),
                Outcome::Conflict { .. } => {
                    let kind = quota::kind();
                    current = request.reader.get_fresh(&kind, request.namespace, &name).await?;
                }
            }
        }
        Err(Status::modified(&quota::kind(), &name))
    }
}
