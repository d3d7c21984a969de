//! Requests of the server to itself, for what it keeps of itself: the same path as everybody's, as an administrator.

use std::sync::Arc;

use api::Status;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::authn::{AUTHENTICATED, MASTERS, UserInfo};
use crate::http::body::Body;
use crate::http::pipeline::{Caller, handle};
use crate::server::{Shared, in_process};

const AGENT: &str = "kube-apiserver";
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// Sends a change; what has changed or gone meanwhile is as good, since the loop comes by again.
pub(crate) async fn send(shared: &Arc<Shared>, method: Method, path: &str, body: &Value) {
    let media = if method == Method::PATCH { MERGE } else { JSON };
    let request = Request::builder()
        .method(&method)
        .uri(path)
        .header(CONTENT_TYPE, media)
        .header(USER_AGENT, AGENT)
        .body(Body::from(body.to_string().into_bytes()));
    let Ok(request) = request else { return };
    let response = handle(shared.clone(), Caller::Internal(Arc::new(administrator())), request).await;
    let code = response.status();
    if code.is_success() || matches!(code, StatusCode::CONFLICT | StatusCode::NOT_FOUND) {
        return;
    }
    let body = response.into_body().collect().await.map(|body| body.to_bytes());
    let status: Option<Status> = body.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let why = status.map(|status| status.message).unwrap_or_default();
    tracing::warn!(%method, path, %why, "the server could not write what it keeps");
}

/// A client that acts as the same.
pub(crate) fn client(shared: &Arc<Shared>) -> kube::Client {
    in_process(shared.clone(), Arc::new(administrator()))
}

fn administrator() -> UserInfo {
    UserInfo {
        username: "system:apiserver".to_owned(),
        groups: [MASTERS, AUTHENTICATED].map(str::to_owned).to_vec(),
        ..UserInfo::default()
    }
}
