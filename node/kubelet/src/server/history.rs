//! `GET /history`, `/history/{namespace}` and `/history/{namespace}/{pod}`: what was used in the last hour, or in so many
//! seconds as `seconds` says.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use crate::{history::Scope, shared::Shared};

const HOUR: u64 = 3600;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    seconds: Option<u64>,
}

pub(super) async fn node(shared: State<Arc<Shared>>, asked: Query<Asked>) -> Response {
    answer(&shared, &Scope::Node, &asked)
}

pub(super) async fn namespace(
    shared: State<Arc<Shared>>,
    Path(namespace): Path<String>,
    asked: Query<Asked>,
) -> Response {
    answer(&shared, &Scope::Namespace(namespace), &asked)
}

pub(super) async fn pod(
    shared: State<Arc<Shared>>,
    Path((namespace, name)): Path<(String, String)>,
    asked: Query<Asked>,
) -> Response {
    answer(&shared, &Scope::Pod(namespace, name), &asked)
}

fn answer(shared: &Shared, scope: &Scope, asked: &Asked) -> Response {
    let told = shared.history.lock().tell(scope, asked.seconds.unwrap_or(HOUR));
    match told {
        Some(told) => Json(told).into_response(),
        None => (StatusCode::NOT_FOUND, "nothing is known of it").into_response(),
    }
}
