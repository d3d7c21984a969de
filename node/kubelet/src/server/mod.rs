//! The kubelet API, by which the API server reaches containers: logs, and what metrics collectors read.
//!
//! Callers are known by certificates or tokens of the cluster; the API server says what they may ([`auth`]).

mod auth;
mod cadvisor;
mod configz;
mod history;
mod logs;
mod metrics;
mod nodelog;
mod programs;
mod rights;
mod streams;
mod summary;
pub(crate) mod usage;
mod wasm;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
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

use self::{
    auth::{Allowed, Peer},
    streams::Sessions,
};
pub(crate) use configz::Told;

use crate::{Error, Tls, certificates::Resolver, shared::Shared};

/// For the TLS handshake and the request's head.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    certificate: Arc<Resolver>,
    app: Router,
}

impl Server {
    /// A server that is bound but does not accept yet.
    pub(crate) fn new(
        shared: Arc<Shared>,
        listener: std::net::TcpListener,
        tls: Tls,
        told: Told,
    ) -> Result<Self, Error> {
        let address = listener.local_addr().map_err(Error::Listen)?;
        listener.set_nonblocking(true).map_err(Error::Listen)?;
        let (client, node) = (shared.client.clone(), shared.node_name.clone());
        let allowed = Arc::new(Allowed::new(tls.allowed_names.clone(), client, node));
        let (tls, certificate) = config(tls)?;
        Ok(Self {
            listener: TcpListener::from_std(listener).map_err(Error::Listen)?,
            tls: TlsAcceptor::from(Arc::new(tls)),
            certificate,
            app: app(shared, address, told).layer(middleware::from_fn_with_state(allowed, auth::check)),
        })
    }

    /// By which it is known.
    pub(crate) fn certificate(&self) -> &Arc<Resolver> {
        &self.certificate
    }

    /// Serves until `shutdown`.
    pub(crate) async fn run(self, tasks: TaskTracker, shutdown: CancellationToken) {
        let sessions = Sessions {
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        };
        let served = self.app.layer(Extension(sessions));
        while let Some(accepted) = shutdown.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let (tls, app, shutdown) = (self.tls.clone(), served.clone(), shutdown.clone());
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

fn config(tls: Tls) -> Result<(rustls::ServerConfig, Arc<Resolver>), Error> {
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
    let resolver = Resolver::new(provider.clone(), tls.certificates, tls.key).map_err(Error::Tls)?;
    let resolver = Arc::new(resolver);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, resolver))
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
    if let Err(error) = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(error, "a connection to the kubelet API broke");
    }
}

fn app(shared: Arc<Shared>, address: SocketAddr, told: Told) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/pods", get(pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::serve))
        .merge(streams())
        .route("/checkpoint/{namespace}/{pod}/{container}", post(no_checkpoints))
        .route("/metrics", get(metrics::text))
        .route("/metrics/resource", get(metrics::resource))
        .route("/metrics/cadvisor", get(cadvisor::serve))
        .route("/metrics/probes", get(probes))
        .route("/logs", get(nodelog::serve))
        .route("/logs/", get(nodelog::serve))
        .route("/logs/{*path}", get(nodelog::serve))
        .merge(configz::routes(address, told))
        .route("/history", get(history::node))
        .route("/history/{namespace}", get(history::namespace))
        .route("/history/{namespace}/{pod}", get(history::pod))
        .route("/programs/{namespace}/{pod}", get(programs::serve))
        .route("/stats/summary", get(summary::summary))
        .route("/runningpods", get(running_pods))
        .route("/runningpods/", get(running_pods))
        .with_state(shared)
}

/// Into containers; by GET as well, for WebSockets.
fn streams() -> Router<Arc<Shared>> {
    let container = "{namespace}/{pod}/{container}";
    let with_uid = "{namespace}/{pod}/{uid}/{container}";
    let mut router = Router::new()
        .route(
            "/portForward/{namespace}/{pod}",
            get(streams::port_forward).post(streams::port_forward),
        )
        .route(
            "/portForward/{namespace}/{pod}/{uid}",
            get(streams::port_forward).post(streams::port_forward),
        );
    for place in [container, with_uid] {
        router = router
            .route(&format!("/exec/{place}"), get(streams::exec).post(streams::exec))
            .route(&format!("/attach/{place}"), get(streams::attach).post(streams::attach))
            .route(&format!("/run/{place}"), post(streams::run));
    }
    router
}

async fn no_checkpoints() -> (StatusCode, &'static str) {
    let reason = "checkpoints are not made here: neither runtime can freeze a container and restore it";
    (StatusCode::NOT_FOUND, reason)
}

async fn probes(State(shared): State<Arc<Shared>>) -> Response {
    let media = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (media, shared.probes.text()).into_response()
}

/// The pods that the runtime runs, whether or not the API knows them.
async fn running_pods(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let listed = shared.runtime.list_sandboxes().await.unwrap_or_default();
    let ready = listed
        .iter()
        .filter(|sandbox| sandbox.state == cri::SandboxState::Ready);
    let items = ready.map(|sandbox| {
        let config = &sandbox.config;
        let observed = shared.observer.pod(&config.uid);
        let running = observed.containers.iter().filter(|c| c.is_running());
        let containers: Vec<Value> = running.map(|c| json!({"name": c.name, "image": c.image})).collect();
        json!({
            "metadata": {"name": config.name, "namespace": config.namespace, "uid": config.uid},
            "spec": {"containers": containers}, "status": {},
        })
    });
    let items: Vec<Value> = items.collect();
    Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
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
