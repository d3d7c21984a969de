//! `GET /programs/{namespace}/{pod}`: what the Wasm programs of a pod's containers say of themselves.

use std::sync::Arc;

use api::NamespacedName;
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::shared::Shared;

pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    let Some(pod) = shared.pods.get(&NamespacedName::new(&namespace, &name)) else {
        return (StatusCode::NOT_FOUND, format!("pod \"{name}\" not found")).into_response();
    };
    let running = shared.running_for(&pod);
    let observed = shared.observer.pod(&running.metadata.uid);
    let mut containers: Vec<Value> = Vec::new();
    for spec in running.spec.init_containers.iter().chain(&running.spec.containers) {
        let Some(container) = observed.latest(&spec.name) else {
            continue;
        };
        match shared.runtime.wasm_program(&container.id).await {
            Ok(Some(program)) => {
                containers.push(json!({"name": container.name, "image": container.image, "program": program}));
            }
            Ok(None) | Err(cri::Error::NotFound { .. }) => {}
            Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.chain()).into_response(),
        }
    }
    Json(json!({ "containers": containers })).into_response()
}
