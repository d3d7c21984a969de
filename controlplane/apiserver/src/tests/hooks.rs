//! A webhook that speaks TLS in this process, for tests of whatever calls webhooks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// How a webhook answers the review it is sent.
pub(crate) type Answering = fn(&Value) -> Value;

/// A webhook on a socket of its own.
pub(crate) struct Hook {
    pub(crate) url: String,
    pub(crate) bundle: String,
    calls: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    /// What it was asked.
    pub(crate) asked: Arc<Mutex<Vec<Value>>>,
    stop: CancellationToken,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone)]
struct Served {
    answer: Answering,
    calls: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    pub(crate) async fn new(answer: Answering) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        let stop = CancellationToken::new();
        let served = Served {
            answer,
            calls: Arc::default(),
            connections: Arc::default(),
            asked: Arc::default(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(serve(listener, acceptor, served.clone())),
        );
        Hook {
            url: format!("https://127.0.0.1:{port}/ask"),
            bundle: STANDARD.encode(certificate.pem()),
            calls: served.calls,
            connections: served.connections,
            asked: served.asked,
            stop,
        }
    }

    /// Who signs its certificate: itself; PEM.
    pub(crate) fn authority(&self) -> Vec<u8> {
        STANDARD.decode(&self.bundle).expect("base64")
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many connections it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, served: Served) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(stream) = acceptor.accept(stream).await else {
            continue;
        };
        served.connections.fetch_add(1, Ordering::Relaxed);
        let served = served.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let served = served.clone();
            async move {
                served.calls.fetch_add(1, Ordering::Relaxed);
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                let review: Value = serde_json::from_slice(&body).expect("a review");
                let answer = (served.answer)(&review);
                served.asked.lock().push(review);
                match answer["does"].as_str() {
                    Some("hang") => tokio::time::sleep(Duration::from_secs(60)).await,
                    Some("die") => return Err("the webhook dies"),
                    Some("fail") => {
                        let mut response = http::Response::new(Body::from(b"{}".to_vec()));
                        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                        return Ok(response);
                    }
                    _ => {}
                }
                let closes = answer["does"] == "close";
                let mut response = http::Response::new(Body::from(answer.to_string().into_bytes()));
                if closes {
                    let close = http::HeaderValue::from_static("close");
                    response.headers_mut().insert(http::header::CONNECTION, close);
                }
                Ok(response)
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// Answers an AdmissionReview.
pub(crate) fn answer(review: &Value, mut response: Value) -> Value {
    response["uid"] = review["request"]["uid"].clone();
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
}

/// Allows with a JSON patch.
pub(crate) fn patch(review: &Value, operations: Value) -> Value {
    let patch = STANDARD.encode(operations.to_string());
    answer(
        review,
        json!({"allowed": true, "patch": patch, "patchType": "JSONPatch"}),
    )
}
