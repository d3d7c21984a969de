//! The server on a real socket: TLS, client certificates, both HTTP versions, and how it ends.

use std::net::SocketAddr;

use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::authn::certificate::optional;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

fn issue(
    by: &Authority,
    name: &str,
    group: &str,
    usage: ExtendedKeyUsagePurpose,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.extended_key_usages = vec![usage];
    // The server's clock stands at the beginning of 2026.
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, by).expect("a certificate");
    (
        certificate.der().clone(),
        PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
    )
}

pub(super) struct Socket {
    pub(super) fixture: Fixture,
    address: SocketAddr,
    roots: Arc<RootCertStore>,
    clients: Authority,
    pub(super) stop: CancellationToken,
    pub(super) served: tokio::task::JoinHandle<()>,
}

impl Socket {
    async fn new() -> Self {
        Self::with(Box::new(|_| Vec::new())).await
    }

    /// With endpoints of the test's own.
    pub(super) async fn with(virtuals: crate::Virtuals) -> Self {
        let clients = authority("clients");
        let servers = authority("servers");
        let fixture = Fixture::with(Arc::new(Memory::default()), vec![clients.der().clone()], virtuals).await;
        let (certificate, key) = issue(&servers, "server", "", ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(optional())
            .with_single_cert(vec![certificate], key)
            .expect("a certificate");
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let mut roots = RootCertStore::empty();
        roots.add(servers.der().clone()).expect("a certificate");
        let stop = CancellationToken::new();
        let (server, token) = (fixture.server.clone(), stop.clone());
        let served = tokio::spawn(async move { server.serve(listener, Arc::new(tls), token).await });
        Socket {
            fixture,
            address,
            roots: Arc::new(roots),
            clients,
            stop,
            served,
        }
    }

    /// A connection as the test's user.
    pub(super) async fn connect_as_tester(&self, protocol: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let identity = issue(&self.clients, "tester", "people", ExtendedKeyUsagePurpose::ClientAuth);
        self.connect(Some(identity), protocol).await
    }

    async fn connect(
        &self,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        protocol: &str,
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots.clone());
        let mut config = match identity {
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate], key)
                .expect("an identity"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await.expect("connects");
        let name = ServerName::IpAddress(self.address.ip().into());
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .expect("a handshake")
    }

    /// The status of a GET over HTTP/1.1.
    async fn get(
        &self,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        target: &str,
    ) -> StatusCode {
        let stream = self.connect(identity, "http/1.1").await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP");
        tokio::spawn(connection);
        let request = Request::get(target)
            .header("host", "api")
            .body(Body::empty())
            .expect("a request");
        sender.send_request(request).await.expect("an answer").status()
    }
}

#[tokio::test]
async fn a_client_is_who_its_certificate_says() {
    let socket = Socket::new().await;
    let usage = || ExtendedKeyUsagePurpose::ClientAuth;
    let known = issue(&socket.clients, "tester", "people", usage());
    let nobody = issue(&socket.clients, "nobody", "people", usage());
    let master = issue(&socket.clients, "nobody", "system:masters", usage());
    let foreign = issue(&authority("others"), "tester", "people", usage());
    let server = issue(&socket.clients, "tester", "people", ExtendedKeyUsagePurpose::ServerAuth);
    let cases = [
        ("a user who may", Some(known), StatusCode::OK),
        ("a user who may not", Some(nobody), StatusCode::FORBIDDEN),
        ("an administrator", Some(master), StatusCode::OK),
        ("another authority's user", Some(foreign), StatusCode::UNAUTHORIZED),
        ("a server's certificate", Some(server), StatusCode::UNAUTHORIZED),
        ("a stranger", None, StatusCode::FORBIDDEN),
    ];
    for (what, identity, code) in cases {
        assert_eq!(socket.get(identity, "/api/v1/namespaces").await, code, "{what}");
    }
    assert_eq!(socket.get(None, "/readyz").await, StatusCode::OK);
}

#[tokio::test]
async fn http_2_serves_many_requests_and_ends_with_the_watches() {
    let socket = Socket::new().await;
    let identity = issue(&socket.clients, "tester", "people", ExtendedKeyUsagePurpose::ClientAuth);
    let stream = socket.connect(Some(identity), "h2").await;
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let get = |target: String| {
        let mut sender = sender.clone();
        let request = Request::get(format!("https://api{target}"))
            .body(Body::empty())
            .expect("a request");
        async move { sender.send_request(request).await.expect("an answer") }
    };
    socket.fixture.config_map("x", json!({"k": "v"})).await;
    let codes = futures::future::join_all((0..50).map(|_| get("/api/v1/namespaces/a/configmaps/x".to_owned()))).await;
    assert!(codes.iter().all(|response| response.status() == StatusCode::OK));
    let watch = get("/api/v1/namespaces/a/configmaps?watch=1".to_owned()).await;
    let mut events = watch.into_body();
    assert!(events.frame().await.expect("an event").is_ok());
    // The order of an end: no new connections, watches end, connections close.
    socket.stop.cancel();
    let rest = events.collect().await.expect("the watch ends in good order").to_bytes();
    assert_eq!(rest, "");
    drop(sender);
    socket.served.await.expect("the server ends");
    connection.await.expect("the connection ends").expect("in good order");
    assert!(TcpStream::connect(socket.address).await.is_err());
}

/// A request for health with so many headers of so many bytes each.
fn laden(host: &str, headers: usize, size: usize) -> Request<Body> {
    let mut request = Request::get(format!("{host}/readyz")).header("host", "api");
    for nth in 0..headers {
        request = request.header(format!("x-{nth}"), "x".repeat(size));
    }
    request.body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn heads_may_be_large_but_not_of_any_size() {
    let socket = Socket::new().await;
    let large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let cases = [
        (1, 100_000, StatusCode::OK),
        (500, 500, StatusCode::OK),
        (1, 600_000, large),
        (500, 1200, large),
    ];
    for (headers, size, code) in cases {
        let stream = socket.connect(None, "http/1.1").await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP");
        tokio::spawn(connection);
        let answer = sender.send_request(laden("", headers, size)).await.expect("an answer");
        assert_eq!(answer.status(), code, "{headers} headers of {size} bytes over HTTP/1.1");

        let stream = socket.connect(None, "h2").await;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        let answer = sender.send_request(laden("https://api", headers, size)).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), code, "{headers} headers of {size} bytes over HTTP/2");
    }
}
