//! HTTP requests of probes and hooks: one GET on a connection of its own, as Kubernetes' prober sends it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::tcp;
use crate::pod::{Container, HttpGet};

/// Sends the request and gives the answer's status code; the body is not read.
///
/// # Errors
/// Why there was no answer, worded as Go's HTTP client does.
pub(crate) async fn get(
    get: &HttpGet,
    container: &Container,
    ip: Option<IpAddr>,
    timeout: Duration,
) -> Result<u16, String> {
    let (host, port) = tcp::target(&get.host, &get.port, container, ip)?;
    let tls = get.scheme.eq_ignore_ascii_case("https");
    let path = if get.path.starts_with('/') {
        get.path.clone()
    } else {
        format!("/{}", get.path)
    };
    let authority = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let scheme = if tls { "https" } else { "http" };
    let shown = format!("Get \"{scheme}://{authority}{path}\"");
    let request = request(get, &authority, &path).map_err(|e| format!("{shown}: {e}"))?;
    let exchange = async {
        let stream = tcp::dial(&host, port, timeout).await?;
        if tls {
            send(handshake(stream, &host).await?, request).await
        } else {
            send(stream, request).await
        }
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(answer) => answer.map_err(|why| format!("{shown}: {why}")),
        Err(_elapsed) => Err(format!(
            "{shown}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

fn request(get: &HttpGet, authority: &str, path: &str) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::get(path).body(Empty::new())?;
    let headers = request.headers_mut();
    for own in &get.http_headers {
        headers.append(HeaderName::try_from(&*own.name)?, HeaderValue::try_from(&*own.value)?);
    }
    headers.entry(header::HOST).or_insert(HeaderValue::try_from(authority)?);
    headers
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static("kube-probe/1.36"));
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers
        .entry(header::CONNECTION)
        .or_insert(HeaderValue::from_static("close"));
    Ok(request)
}

/// One request over a connection that ends with it.
async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    tokio::pin!(connection);
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer.map(|a| a.status().as_u16()).map_err(|e| words(&e)),
            ended = &mut connection, if open => {
                ended.map_err(|e| words(&e))?;
                open = false;
            }
        }
    }
}

fn words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() {
        "EOF".into()
    } else {
        error.to_string()
    }
}

/// Probes check that something answers, not who: certificates are not verified, as Kubernetes documents.
async fn handshake(
    stream: tokio::net::TcpStream,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, String> {
    let provider = rustls::crypto::CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let verifier = Arc::new(AcceptAny(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = rustls_pki_types::ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|e| e.to_string())
}

#[derive(Debug)]
struct AcceptAny(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls_pki_types::CertificateDer<'_>,
        _intermediates: &[rustls_pki_types::CertificateDer<'_>],
        _server_name: &rustls_pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn answer(reply: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("address").port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.expect("reads");
            stream.write_all(reply.as_bytes()).await.expect("writes");
            String::from_utf8_lossy(&buffer[..read]).into_owned()
        });
        (port, served)
    }

    fn handler(port: u16) -> HttpGet {
        let header = json!([{"name": "X-Probe", "value": "yes"}]);
        serde_json::from_value(json!({"path": "healthz", "port": port, "httpHeaders": header})).expect("handler")
    }

    #[tokio::test]
    async fn sends_what_kubernetes_sends_and_gives_the_status() {
        let (port, served) = answer("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        let ip = Some(IpAddr::from([127, 0, 0, 1]));
        let status = get(&handler(port), &Container::default(), ip, Duration::from_secs(5)).await;
        assert_eq!(status, Ok(503));
        let request = served.await.expect("served").to_lowercase();
        assert!(request.starts_with("get /healthz http/1.1\r\n"), "{request}");
        assert!(
            request.contains("user-agent: kube-probe/1.36") && request.contains("x-probe: yes"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn says_why_there_was_no_answer() {
        let (port, _served) = answer("").await;
        let ip = Some(IpAddr::from([127, 0, 0, 1]));
        let why = get(&handler(port), &Container::default(), ip, Duration::from_secs(5)).await;
        assert_eq!(why, Err(format!("Get \"http://127.0.0.1:{port}/healthz\": EOF")));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let free = listener.local_addr().expect("address").port();
        drop(listener);
        let why = get(&handler(free), &Container::default(), ip, Duration::from_secs(5)).await;
        let want =
            format!("Get \"http://127.0.0.1:{free}/healthz\": dial tcp 127.0.0.1:{free}: connect: connection refused");
        assert_eq!(why, Err(want));
    }
}
