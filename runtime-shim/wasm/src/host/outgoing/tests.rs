use std::net::Ipv4Addr;

use http_body_util::{Empty, Full};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{host::resolver::Resolver, protocol::Network};

const POD: Ipv4Addr = Ipv4Addr::new(127, 33, 11, 1);
const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 11);

fn outgoing(cluster_authorities: Option<Vec<u8>>) -> Outgoing {
    let network = Network::Pod {
        address: POD,
        loopback: LOOPBACK,
        dialable_loopback: Vec::new(),
    };
    let resolver = Resolver::new(&cri::DnsConfig::default(), "web-0", POD);
    Outgoing::new(Addresses::new(network, resolver), cluster_authorities)
}

async fn get(outgoing: &mut Outgoing, uri: String) -> Result<String, Error> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get(uri).body(body).expect("a request");
    let sent = outgoing.send_request(request, None, Box::new(std::future::ready(Ok(()))));
    let (response, _) = Pin::from(sent).await?;
    let body = response.into_body().collect().await?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// Answers every request with the client's address, over connections that are kept; counts them.
async fn serve<S, F>(
    listener: TcpListener,
    connections: Arc<std::sync::atomic::AtomicUsize>,
    wrap: impl Fn(TcpStream) -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    while let Ok((stream, peer)) = listener.accept().await {
        connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let Ok(stream) = wrap(stream).await else { continue };
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|_request| async move {
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(bytes::Bytes::from(peer.ip().to_string()))))
            });
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    tokio::spawn(serve(listener, Arc::clone(&connections), async |stream| Ok(stream)));
    let mut outgoing = outgoing(None);
    for _ in 0..3 {
        let told = get(&mut outgoing.clone(), format!("http://localhost:{port}/"))
            .await
            .expect("answered");
        assert_eq!(told, LOOPBACK.to_string());
    }
    assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 1);
    let refused = get(&mut outgoing, "http://localhost:1/".to_owned()).await;
    assert!(matches!(refused, Err(Error::ConnectionRefused)), "{refused:?}");
}

#[tokio::test]
async fn tls_trusts_the_clusters_authorities_and_no_strangers() {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(authority.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![authority.cert.der().clone()], key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((LOOPBACK, 0)).await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    tokio::spawn(serve(listener, connections, move |stream| acceptor.accept(stream)));
    let uri = format!("https://localhost:{port}/");
    let pem = authority.cert.pem().into_bytes();
    assert_eq!(
        get(&mut outgoing(Some(pem)), uri.clone()).await.expect("answered"),
        LOOPBACK.to_string()
    );
    let refused = get(&mut outgoing(None), uri).await;
    assert!(matches!(refused, Err(Error::TlsCertificateError)), "{refused:?}");
}
