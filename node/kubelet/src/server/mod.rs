//! The kubelet API, by which the API server reaches containers: logs, and what metrics collectors read.
//!
//! Every request needs a client certificate of the cluster; only `system:masters` and the API server's own identity are
//! let in. Deliberately absent: exec, attach and port-forward.

mod auth;
mod logs;
mod metrics;

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, Router, extract::State, middleware, routing::get};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::auth::{Allowed, Peer};
use crate::{Error, Tls, shared::Shared};

/// For the TLS handshake and the request's head.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    app: Router,
}

impl Server {
    /// A server that is bound but does not accept yet.
    pub(crate) fn new(shared: Arc<Shared>, listener: std::net::TcpListener, tls: Tls) -> Result<Self, Error> {
        listener.set_nonblocking(true).map_err(Error::Listen)?;
        let allowed = Arc::new(Allowed {
            names: tls.allowed_names.clone(),
        });
        Ok(Self {
            listener: TcpListener::from_std(listener).map_err(Error::Listen)?,
            tls: TlsAcceptor::from(Arc::new(config(tls)?)),
            app: app(shared).layer(middleware::from_fn_with_state(allowed, auth::check)),
        })
    }

    /// Serves until `shutdown`.
    pub(crate) async fn run(self, tasks: TaskTracker, shutdown: CancellationToken) {
        while let Some(accepted) = shutdown.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let (tls, app, shutdown) = (self.tls.clone(), self.app.clone(), shutdown.clone());
                    tasks.spawn(async move { shutdown.run_until_cancelled(serve(tls, app, stream)).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the kubelet API");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn config(tls: Tls) -> Result<rustls::ServerConfig, Error> {
    let provider = rustls::crypto::CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let mut roots = rustls::RootCertStore::empty();
    for authority in tls.client_authorities {
        roots.add(authority).map_err(Error::Tls)?;
    }
    // Without a certificate the handshake succeeds and the answer is 401, which says more than a broken connection.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(Error::ClientAuthorities)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(tls.certificates, tls.key)
        .map_err(Error::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn serve(tls: TlsAcceptor, app: Router, stream: TcpStream) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await else {
        return;
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = certificates
        .and_then(|chain| chain.first())
        .and_then(|own| Peer::read(own));
    let service = TowerToHyperService::new(app.layer(Extension(peer)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(error, "a connection to the kubelet API broke");
    }
}

fn app(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/pods", get(pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::serve))
        .route("/metrics", get(metrics::text))
        .route("/stats/summary", get(metrics::summary))
        .with_state(shared)
}

/// The pods of this node, as far as the kubelet keeps them: names and status.
async fn pods(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let pods = shared.pods.snapshot();
    let item = |pod: &crate::pod::Pod| {
        let meta = &pod.metadata;
        json!({
            "metadata": {"name": &*meta.name, "namespace": &*meta.namespace, "uid": &*meta.uid, "labels": meta.labels},
            "spec": {"nodeName": pod.spec.node_name, "containers": pod.spec.containers.iter().map(|c| json!({"name": c.name, "image": c.image})).collect::<Vec<_>>()},
            "status": pod.status,
        })
    };
    let items: Vec<Value> = pods.iter().map(|(_, pod)| item(pod)).collect();
    Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}
