//! Another server that answers for a group and version, over TLS in this process.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, UPGRADE};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::ProxyClient;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const FLUNDERS: &str = "/apis/wardle.example.com/v1/namespaces/a/flunders";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

fn leaf(by: &Authority, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, by).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    (vec![certificate.der().clone()], key)
}

/// A server that believes only the front proxy, and the one before it.
struct Pair {
    fixture: Fixture,
    port: u16,
    bundle: String,
    stop: CancellationToken,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Pair {
    async fn new() -> Self {
        let (servers, proxies) = (authority("servers"), authority("front-proxy-ca"));
        let mut trusted = RootCertStore::empty();
        trusted.add(proxies.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider.clone());
        let (chain, key) = leaf(&servers, "sample.a.svc");
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(chain, key)
            .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        let stop = CancellationToken::new();
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(serve(listener, TlsAcceptor::from(Arc::new(tls)))),
        );
        let (certificates, key) = leaf(&proxies, "front-proxy-client");
        let fixture = Fixture::made(Given {
            proxy_client: Some(ProxyClient { certificates, key }),
            ..Given::default()
        })
        .await;
        fixture.aggregate();
        let pair = Pair {
            fixture,
            port,
            bundle: STANDARD.encode(servers.pem()),
            stop,
        };
        pair.service().await;
        pair
    }

    /// The Service in front of the server; its endpoint is on loopback, where no API client may put one.
    async fn service(&self) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sample", "namespace": "a",
            "uid": "s"}, "spec": {"type": "ClusterIP", "ports": [{"port": 443, "protocol": "TCP"}]}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "sample",
            "namespace": "a", "uid": "e", "labels": {"kubernetes.io/service-name": "sample"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
            "ports": [{"name": "", "port": self.port, "protocol": "TCP"}]});
        for (key, object) in [
            ("core/services/a/sample", service),
            ("discovery.k8s.io/endpointslices/a/sample", slice),
        ] {
            let write = store::Write::create(key, object.to_string().into_bytes());
            self.fixture.backend.write(write).await.expect("it is written");
        }
    }

    async fn register(&self, bundle: &str) {
        let body = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1.wardle.example.com"}, "spec": {"group": "wardle.example.com", "version": "v1",
            "service": {"namespace": "a", "name": "sample"}, "caBundle": bundle,
            "groupPriorityMinimum": 17950, "versionPriority": 15}});
        let answer = self.fixture.post(SERVICES, body).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");
    }

    /// The first condition of the server that satisfies a test.
    async fn condition(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let target = format!("{SERVICES}?watch=true&fieldSelector=metadata.name%3Dv1.wardle.example.com");
        let mut events = self.fixture.watch(&target).await;
        loop {
            let event = events.next().await.expect("the watch goes on");
            let condition = &event["object"]["status"]["conditions"][0];
            if wanted(condition) {
                return condition.clone();
            }
        }
    }

    /// Returns when requests are passed on.
    async fn available(&self) {
        self.register(&self.bundle).await;
        self.condition(|condition| condition["status"] == "True").await;
        let mut table = self.fixture.server.shared.registry.watch_version();
        while !self
            .fixture
            .server
            .shared
            .aggregator
            .remotes()
            .iter()
            .any(|remote| remote.available)
        {
            table.changed().await.expect("the server runs");
        }
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(stream) = acceptor.accept(stream).await else {
            continue;
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .with_upgrades();
        tokio::spawn(connection);
    }
}

async fn answer(mut request: Request<hyper::body::Incoming>) -> Result<http::Response<Body>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let text = |body: Value| Body::from(body.to_string().into_bytes());
    if request.headers().contains_key(UPGRADE) {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.expect("an upgrade"));
            let mut heard = [0; 4];
            stream.read_exact(&mut heard).await.expect("it is heard");
            heard.reverse();
            stream.write_all(&heard).await.expect("it is said");
        });
        let mut response = http::Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [("connection", "Upgrade"), ("upgrade", "echo")] {
            response.headers_mut().insert(name, value.parse().expect("a value"));
        }
        return Ok(response);
    }
    let mut response = http::Response::new(match path.as_str() {
        "/apis" => text(
            json!({"kind": "APIGroupDiscoveryList", "items": [{"metadata": {"name": "wardle.example.com"},
            "versions": [{"version": "v1", "resources": [{"resource": "flunders", "scope": "Namespaced",
            "responseKind": {"group": "", "version": "", "kind": "Flunder"}, "verbs": ["get", "list"]}]}]}]}),
        ),
        "/openapi/v2" => text(json!({"swagger": "2.0", "paths": {
            "/apis/wardle.example.com/v1/namespaces/{namespace}/flunders": {"get": {"responses": {"200": {"description": "OK",
                "schema": {"$ref": "#/definitions/com.example.wardle.v1.Flunder"}}}}},
            "/version": {"get": {"description": "theirs"}}},
            "definitions": {"com.example.wardle.v1.Flunder": {"type": "object", "description": "A flunder."}}})),
        "/openapi/v3" => text(json!({"paths": {"apis/wardle.example.com/v1":
            {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1?hash=X"}}})),
        "/apis/wardle.example.com/v1/namespaces/a/flunders" if request.uri().query() == Some("watch=true") => {
            let events =
                futures::stream::iter(["one\n", "two\n"]).map(|event| Ok(Bytes::from_static(event.as_bytes())));
            Body::stream(events.chain(futures::stream::pending()))
        }
        _ => {
            let headers = request.headers();
            let all = |name: &str| -> Vec<String> {
                let values = headers.get_all(name).iter();
                values.map(|value| value.to_str().expect("text").to_owned()).collect()
            };
            let said = json!({"path": request.uri().to_string(), "method": request.method().as_str(),
                "user": all("x-remote-user"), "groups": all("x-remote-group"), "authorization": all("authorization")});
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            text(json!({"said": said, "body": String::from_utf8_lossy(&body)}))
        }
    });
    let media = match path.as_str() {
        "/apis" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json",
    };
    response
        .headers_mut()
        .insert(CONTENT_TYPE, media.parse().expect("a type"));
    Ok(response)
}

#[tokio::test]
async fn requests_are_passed_on_in_the_users_name() {
    let pair = Pair::new().await;
    pair.available().await;
    let headers = [
        ("authorization", "Bearer secret"),
        ("x-remote-user", "admin"),
        ("x-remote-group", "system:masters"),
    ];
    let answer = pair
        .fixture
        .send_with(
            "POST",
            &format!("{FLUNDERS}?dryRun=All"),
            &headers,
            b"a flunder".to_vec(),
        )
        .await;
    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.at("/body"), "a flunder");
    assert_eq!(
        answer.at("/said"),
        json!({"path": format!("{FLUNDERS}?dryRun=All"), "method": "POST", "user": ["tester"],
            "groups": ["system:authenticated"], "authorization": []})
    );
    // Who may not is refused here.
    let request = Request::get(FLUNDERS).body(Body::empty()).expect("a request");
    assert_eq!(
        pair.fixture.request(user("nobody"), request).await.code,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn a_watch_streams_through() {
    let pair = Pair::new().await;
    pair.available().await;
    let request = Request::get(format!("{FLUNDERS}?watch=true"))
        .body(Body::empty())
        .expect("a request");
    let response = handle(pair.fixture.server.shared.clone(), user("tester"), request).await;
    let mut body = BodyStream::new(response.into_body());
    let mut heard = Vec::new();
    while heard != b"one\ntwo\n" {
        let frame = body.next().await.expect("it goes on").expect("it is not cut off");
        heard.extend_from_slice(&frame.into_data().expect("data"));
    }
}

#[tokio::test]
async fn an_upgrade_joins_the_two_ends() {
    let pair = Pair::new().await;
    pair.available().await;
    let (near, far) = tokio::io::duplex(1024);
    let shared = pair.fixture.server.shared.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let shared = shared.clone();
        async move { Ok::<_, std::convert::Infallible>(handle(shared, user("tester"), request.map(Body::from)).await) }
    });
    let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(server.with_upgrades());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near))
        .await
        .expect("a connection");
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(format!("{FLUNDERS}/x/exec"))
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(Body::empty());
    let mut response = sender
        .send_request(request.expect("a request"))
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let upgraded = hyper::upgrade::on(&mut response).await.expect("an upgrade");
    let mut stream = TokioIo::new(upgraded);
    stream.write_all(b"ping").await.expect("it is said");
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).await.expect("it is heard");
    assert_eq!(&heard, b"gnip");
}

#[tokio::test]
async fn discovery_shows_it_in_its_place() {
    let pair = Pair::new().await;
    pair.available().await;
    let groups = pair.fixture.get("/apis").await;
    let names: Vec<Value> = groups
        .at("/groups")
        .as_array()
        .expect("groups")
        .iter()
        .map(|g| g["name"].clone())
        .collect();
    assert_eq!(
        names[..3],
        ["apiregistration.k8s.io", "wardle.example.com", "apps"].map(Value::from)
    );
    let group = pair.fixture.get("/apis/wardle.example.com").await;
    assert_eq!(group.at("/preferredVersion/groupVersion"), "wardle.example.com/v1");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let mut changes = pair.fixture.server.shared.registry.watch_version();
    let item = loop {
        let answer = pair
            .fixture
            .send_with("GET", "/apis", &[("accept", accept)], Vec::new())
            .await;
        let item = answer.at("/items/1/versions/0");
        if item["freshness"] == "Current" {
            break item;
        }
        changes.changed().await.expect("the server runs");
    };
    assert_eq!(item["resources"][0]["resource"], "flunders");
    let index = pair.fixture.get("/openapi/v3").await;
    assert_eq!(
        index.json()["paths"]["apis/wardle.example.com/v1"]["serverRelativeURL"],
        "/openapi/v3/apis/wardle.example.com/v1?hash=X"
    );
    let merged = pair.fixture.get("/openapi/v2").await.json();
    let path = &merged["paths"]["/apis/wardle.example.com/v1/namespaces/{namespace}/flunders"];
    let schema = &path["get"]["responses"]["200"]["schema"];
    assert_eq!(schema["$ref"], "#/definitions/com.example.wardle.v1.Flunder");
    let definition = &merged["definitions"]["com.example.wardle.v1.Flunder"];
    assert_eq!(definition["description"], "A flunder.");
    assert!(
        merged["definitions"]["io.k8s.api.core.v1.Pod"].is_object(),
        "ours are there too"
    );
    assert_ne!(merged["paths"]["/version"]["get"]["description"], "theirs");
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let asked = [("accept", protobuf)];
    let protobuf = pair.fixture.send_with("GET", "/openapi/v2", &asked, Vec::new()).await;
    assert!(
        protobuf
            .bytes
            .windows(29)
            .any(|part| part == b"com.example.wardle.v1.Flunder")
    );
    let document = pair.fixture.get("/openapi/v3/apis/wardle.example.com/v1?hash=X").await;
    assert_eq!(document.at("/said/user"), json!(["tester"]));
}

#[tokio::test]
async fn a_server_that_cannot_be_believed_is_not_asked() {
    let pair = Pair::new().await;
    pair.register(&STANDARD.encode(authority("others").pem())).await;
    let condition = pair.condition(|condition| condition["status"] == "False").await;
    assert_eq!(condition["reason"], "FailedDiscoveryCheck");
    let message = condition["message"].as_str().expect("a message");
    assert!(
        message.starts_with("failing or missing response from https://sample.a.svc:443/apis/wardle.example.com/v1")
    );
    assert!(message.contains("certificate signed by unknown authority"), "{message}");
    let answer = pair.fixture.get(FLUNDERS).await;
    assert_eq!(answer.code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.bytes, "service unavailable\n");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answer = pair
        .fixture
        .send_with("GET", "/apis", &[("accept", accept)], Vec::new())
        .await;
    assert_eq!(answer.at("/items/1/versions/0/freshness"), "Stale");
}

#[tokio::test]
async fn what_this_server_serves_is_registered_and_comes_back() {
    let f = Fixture::new().await;
    f.aggregate();
    let mut events = f.watch(&format!("{SERVICES}?watch=true")).await;
    let mut seen = Vec::new();
    while seen.len() < 21 {
        let event = events.next().await.expect("the watch goes on");
        assert_eq!(event["object"]["status"]["conditions"][0]["reason"], "Local");
        assert_eq!(
            event["object"]["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
            "onstart"
        );
        seen.push(event["object"]["metadata"]["name"].as_str().expect("a name").to_owned());
    }
    for endpoint in f.server.shared.registry.endpoints() {
        let served = endpoint.served();
        let name = format!("{}.{}", served.version, served.group);
        let own = served.group == "apiregistration.k8s.io";
        assert!(own || seen.contains(&name), "{name} has no APIService: {seen:?}");
    }
    f.delete(&format!("{SERVICES}/v1.apps")).await;
    assert_eq!(events.brief().await, "DELETED v1.apps");
    assert_eq!(events.brief().await, "ADDED v1.apps");
    let definition = custom::widgets(|_| {});
    f.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        .await;
    assert_eq!(events.brief().await, "ADDED v1.example.com");
    f.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com")
        .await;
    assert_eq!(events.brief().await, "DELETED v1.example.com");
}
