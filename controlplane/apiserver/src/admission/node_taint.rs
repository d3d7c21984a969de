//! TaintNodesByCondition: a new node takes no pods until the node lifecycle controller has seen it ready.

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Admission, AdmissionRequest, is_core};
use crate::registry::resource::{Operation, Resource};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        is_core(resource, "nodes") && subresource.is_none() && matches!(operation, Operation::Create)
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(node) = request.object.as_deref_mut() else {
            return Ok(());
        };
        let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
        let same = |t: &Value| ["key", "effect"].iter().all(|field| t.get(field) == taint.get(field));
        if !node.list_at("spec.taints").iter().any(same) {
            let mut taints = node.list_at("spec.taints").to_vec();
            taints.push(taint);
            node.set("spec.taints", taints);
        }
        Ok(())
    }
}
