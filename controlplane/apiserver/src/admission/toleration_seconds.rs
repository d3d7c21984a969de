//! DefaultTolerationSeconds: a pod stays for five minutes on a node that is not ready or cannot be reached.

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Admission, AdmissionRequest, is_core};
use crate::registry::resource::{Operation, Resource};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;

pub(super) struct DefaultTolerationSeconds;

#[async_trait]
impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update { .. });
        is_core(resource, "pods") && subresource.is_none() && writes
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(pod) = request.object.as_deref_mut() else {
            return Ok(());
        };
        let mut tolerations = pod.list_at("spec.tolerations").to_vec();
        let before = tolerations.len();
        for taint in TAINTS {
            if !tolerations.iter().any(|toleration| speaks_of(toleration, taint)) {
                tolerations.push(
                    json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}),
                );
            }
        }
        if tolerations.len() > before {
            pod.set("spec.tolerations", tolerations);
        }
        Ok(())
    }
}

/// Whether a toleration already says what happens on eviction for this taint.
fn speaks_of(toleration: &Value, taint: &str) -> bool {
    let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or_default();
    matches!(text("key"), key if key == taint || key.is_empty()) && matches!(text("effect"), "" | "NoExecute")
}
