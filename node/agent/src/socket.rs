//! `agent.sock`: what commands on the same machine ask of the running node. Only the owner of the data directory can
//! connect.

mod images;

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// Sent to whoever runs the node; the answer is what went wrong.
pub(crate) type Down = oneshot::Sender<Result<(), String>>;

/// What the socket serves from.
pub(crate) struct Socket {
    pub(crate) runtime: cri::SharedRuntime,
    pub(crate) data_dir: PathBuf,
    pub(crate) node_name: String,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) down: mpsc::Sender<Down>,
}

/// A socket that is bound.
pub(crate) struct Served {
    listener: UnixListener,
    app: Router,
}

/// Where the socket of a data directory is.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("agent.sock")
}

impl Socket {
    /// Binds the socket, in place of one that an agent before left.
    pub(crate) fn listen(self) -> Result<Served, Error> {
        let path = path(&self.data_dir);
        let bind = || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = bind().map_err(|source| Error::Socket {
            path: path.clone(),
            source,
        })?;
        Ok(Served {
            listener,
            app: app(self),
        })
    }
}

impl Served {
    /// Serves until `quit`, then finishes the requests it has taken.
    pub(crate) async fn run(self, quit: CancellationToken) {
        let served = axum::serve(self.listener, self.app).with_graceful_shutdown(quit.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the agent's socket ended");
        }
    }
}

fn app(socket: Socket) -> Router {
    Router::new()
        .route("/images", post(images::import).get(images::list).delete(images::remove))
        .route("/images/program", get(images::program))
        .route("/status", get(status))
        .route("/down", post(down))
        .with_state(Arc::new(socket))
}

fn failed(code: StatusCode, error: impl ToString) -> Response {
    (code, Json(json!({"error": error.to_string()}))).into_response()
}

async fn status(State(socket): State<Arc<Socket>>) -> Response {
    let sandboxes = match socket.runtime.list_sandboxes().await {
        Ok(sandboxes) => sandboxes,
        Err(error) => return failed(StatusCode::INTERNAL_SERVER_ERROR, error.chain()),
    };
    let running = sandboxes.iter().filter(|s| s.state == cri::SandboxState::Ready).count();
    Json(json!({"node": socket.node_name, "ready": *socket.ready.borrow(), "pods": running})).into_response()
}

async fn down(State(socket): State<Arc<Socket>>) -> Response {
    let (answer, answered) = oneshot::channel();
    if socket.down.send(answer).await.is_err() {
        return failed(StatusCode::SERVICE_UNAVAILABLE, "the node is ending already");
    }
    match answered.await {
        Ok(Ok(())) => Json(json!({})).into_response(),
        Ok(Err(error)) => failed(StatusCode::INTERNAL_SERVER_ERROR, error),
        Err(_gone) => failed(StatusCode::SERVICE_UNAVAILABLE, "the node ended before its pods did"),
    }
}

#[cfg(test)]
mod tests;
