//! Issuers of this process: what their tokens are taken for, while they change their keys and while they are away.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{Configuration, Settings};
use super::keys::Pace;
use crate::authn::outside::Outside;
use crate::authn::{TokenAuthenticator, UserInfo};
use crate::resources::testing::now;

pub(crate) const PACE: Pace = Pace {
    retry: Duration::from_millis(5),
    again: Duration::ZERO,
    refresh: Duration::from_secs(3600),
    patience: Duration::from_secs(5),
};

/// A key to sign with.
pub(crate) enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
}

impl Signer {
    fn rsa() -> Self {
        Signer::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")))
    }

    pub(crate) fn ec() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expect("a key").as_ref());
        Signer::Ec(pair.expect("a pair"))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Signer::Rsa(_) => "RS256",
            Signer::Ec(_) => "ES256",
        }
    }

    /// The public key as a set has it.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Signer::Rsa(pair) => {
                let key = pair.public_key();
                json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256",
                    "n": encode(key.modulus().big_endian_without_leading_zero()),
                    "e": encode(key.exponent().big_endian_without_leading_zero())})
            }
            Signer::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "kid": id, "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])})
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let (message, random) = (signed.as_bytes(), SystemRandom::new());
        let signature = match self {
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("signed");
                signature
            }
            Signer::Ec(pair) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn token(&self, id: &str, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm(), "kid": id}), claims)
    }
}

/// What an issuer's server knows.
#[derive(Default)]
pub(crate) struct Served {
    keys: Mutex<Vec<Value>>,
    /// How often its keys were asked for.
    asked: AtomicUsize,
    away: AtomicBool,
    /// Who it says it is, if not who it is.
    lie: Mutex<Option<String>>,
    /// What its token endpoint answers, and what that was sent.
    pub(crate) gives: Mutex<Value>,
    pub(crate) sent: Mutex<Vec<String>>,
}

/// An issuer on a socket of its own.
pub(crate) struct Provider {
    pub(crate) url: String,
    authority: String,
    pub(crate) served: std::sync::Arc<Served>,
    stop: CancellationToken,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Provider {
    pub(crate) async fn new(keys: Vec<Value>) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
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
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let served = std::sync::Arc::new(Served {
            keys: Mutex::new(keys),
            ..Served::default()
        });
        let stop = CancellationToken::new();
        let acceptor = TlsAcceptor::from(std::sync::Arc::new(tls));
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(serve(listener, acceptor, url.clone(), served.clone())),
        );
        Provider {
            url,
            authority: certificate.pem(),
            served,
            stop,
        }
    }

    fn asked(&self) -> usize {
        self.served.asked.load(Ordering::Relaxed)
    }

    /// Believes it, with what a test has to say beside.
    pub(crate) fn jwt(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut jwt = json!({"issuer": {"url": self.url, "audiences": ["me"], "certificateAuthority": self.authority},
            "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}}});
        change(&mut jwt);
        jwt
    }

    pub(crate) fn claims(&self, change: impl FnOnce(&mut Value)) -> Value {
        let now = now().as_second();
        let mut claims = json!({"iss": self.url, "aud": "me", "sub": "jane", "exp": now + 60, "iat": now});
        change(&mut claims);
        claims
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, url: String, served: std::sync::Arc<Served>) {
    while let Ok((stream, _)) = listener.accept().await {
        if served.away.load(Ordering::Relaxed) {
            continue;
        }
        let Ok(stream) = acceptor.accept(stream).await else {
            continue;
        };
        let (url, served) = (url.clone(), served.clone());
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let answer = match request.uri().path() {
                "/keys" => {
                    served.asked.fetch_add(1, Ordering::Relaxed);
                    json!({"keys": served.keys.lock().clone()})
                }
                "/.well-known/openid-configuration" => {
                    let issuer = served.lie.lock().clone().unwrap_or_else(|| url.clone());
                    json!({"issuer": issuer, "jwks_uri": format!("{url}/keys"),
                        "authorization_endpoint": format!("{url}/auth"), "token_endpoint": format!("{url}/token"),
                        "end_session_endpoint": format!("{url}/logout?a=b")})
                }
                "/token" => served.gives.lock().clone(),
                _ => json!({}),
            };
            let code = if answer.get("error").is_some() { 400 } else { 200 };
            let served = served.clone();
            async move {
                let body = request.into_body().collect().await.map(|body| body.to_bytes());
                if let Some(body) = body.ok().filter(|body| !body.is_empty()) {
                    served.sent.lock().push(String::from_utf8_lossy(&body).into_owned());
                }
                if served.away.load(Ordering::Relaxed) {
                    return Err("away");
                }
                let body = Full::new(Bytes::from(answer.to_string()));
                let answer = http::Response::builder()
                    .status(code)
                    .header("content-type", "application/json");
                Ok(answer.body(body).expect("an answer"))
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn settings(issuers: &[Value]) -> Result<Settings, String> {
    let text =
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": issuers});
    let configuration = Configuration::parse(&text.to_string()).map_err(|error| error.to_string())?;
    let compiled = configuration.compile(&["https://kubernetes.default.svc".to_owned()], true);
    compiled.map_err(|error| error.to_string())
}

pub(crate) fn believing(issuers: &[Value], pace: Pace) -> Outside {
    let settings = settings(issuers).expect("a configuration");
    let clock = std::sync::Arc::new(now);
    Outside::new(&settings, clock, pace, TaskTracker::new(), CancellationToken::new())
}

async fn ask(outside: &Outside, token: &str) -> Option<UserInfo> {
    outside.authenticate(token).await.expect("an answer")
}

/// Waits until a token is taken: keys are fetched beside.
pub(crate) async fn until_taken(outside: &Outside, token: &str) -> UserInfo {
    let taken = async {
        loop {
            match ask(outside, token).await {
                Some(user) => return user,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken)
        .await
        .expect("it is taken")
}

/// What is changed, and the words by which that is refused.
type Refused = (fn(&mut Value), &'static str);

#[tokio::test]
async fn tokens_of_both_kinds_of_keys_are_taken() {
    let (rsa, ec) = (Signer::rsa(), Signer::ec());
    let provider = Provider::new(vec![rsa.jwk("r"), ec.jwk("e"), json!({"kty": "oct", "k": "x"})]).await;
    let mapped = provider.jwt(|jwt| jwt["claimMappings"]["groups"] = json!({"claim": "groups", "prefix": "g:"}));
    let outside = believing(&[mapped], PACE);
    let claims = provider.claims(|claims| claims["groups"] = json!(["dev", "ops"]));
    let user = until_taken(&outside, &rsa.token("r", &claims)).await;
    assert_eq!(user.username, "oidc:jane");
    assert_eq!(user.groups, ["g:dev", "g:ops", "system:authenticated"]);
    let one = provider.claims(|claims| claims["groups"] = json!("dev"));
    let user = ask(&outside, &ec.token("e", &one)).await.expect("the other key");
    assert_eq!(user.groups, ["g:dev", "system:authenticated"]);
    let nameless = ec.sign(&json!({"alg": "ES256"}), &one);
    assert!(
        ask(&outside, &nameless).await.is_some(),
        "a token need not name its key"
    );
    assert_eq!(provider.asked(), 1, "keys are kept");
}

#[tokio::test]
async fn what_is_not_in_order_is_refused() {
    let (signer, other) = (Signer::ec(), Signer::ec());
    let provider = Provider::new(vec![signer.jwk("k")]).await;
    let outside = believing(&[provider.jwt(|_| {})], PACE);
    until_taken(&outside, &signer.token("k", &provider.claims(|_| {}))).await;
    let now = now().as_second();
    type Change = (&'static str, fn(&mut Value, i64));
    let changes: [Change; 8] = [
        ("expired", |claims, now| claims["exp"] = json!(now - 1)),
        ("without an end", |claims, _| {
            claims.as_object_mut().expect("claims").remove("exp");
        }),
        ("before its time", |claims, now| claims["nbf"] = json!(now + 301)),
        ("for another", |claims, _| claims["aud"] = json!(["you", "him"])),
        ("for nobody", |claims, _| claims["aud"] = json!(null)),
        ("of another issuer", |claims, _| {
            claims["iss"] = json!("https://b.example")
        }),
        ("of no issuer", |claims, _| claims["iss"] = json!(7)),
        ("without a name", |claims, _| claims["sub"] = json!(null)),
    ];
    for (what, change) in changes {
        let token = signer.token("k", &provider.claims(|claims| change(claims, now)));
        assert_eq!(ask(&outside, &token).await, None, "{what}");
    }
    let claims = provider.claims(|_| {});
    let late = provider.claims(|claims| {
        claims["nbf"] = json!(now + 299);
        claims["aud"] = json!(["you", "me"]);
    });
    assert!(
        ask(&outside, &signer.token("k", &late)).await.is_some(),
        "clocks differ a little"
    );
    let good = signer.token("k", &claims);
    let (head, signature) = good.rsplit_once('.').expect("a signature");
    for (what, token) in [
        ("signed by another", other.token("k", &claims)),
        ("not signed", signer.sign(&json!({"alg": "none", "kid": "k"}), &claims)),
        (
            "as another algorithm",
            signer.sign(&json!({"alg": "HS256", "kid": "k"}), &claims),
        ),
        (
            "of another curve",
            signer.sign(&json!({"alg": "ES384", "kid": "k"}), &claims),
        ),
        (
            "with an extension",
            signer.sign(&json!({"alg": "ES256", "kid": "k", "crit": ["x"]}), &claims),
        ),
        ("without a signature", format!("{head}.")),
        ("cut", format!("{head}.{}", &signature[1..])),
        ("of two parts", head.to_owned()),
        ("no token", "abcdef.0123456789abcdef".to_owned()),
        ("nothing", String::new()),
    ] {
        assert_eq!(ask(&outside, &token).await, None, "{what}");
    }
    assert_eq!(ask(&outside, &good).await.expect("the first").username, "oidc:jane");
}

#[tokio::test]
async fn keys_that_are_new_are_fetched_once_they_are_needed() {
    let (old, new) = (Signer::ec(), Signer::ec());
    let provider = Provider::new(vec![old.jwk("old")]).await;
    let outside = believing(&[provider.jwt(|_| {})], PACE);
    let claims = provider.claims(|_| {});
    until_taken(&outside, &old.token("old", &claims)).await;
    assert_eq!(ask(&outside, &new.token("new", &claims)).await, None);
    *provider.served.keys.lock() = vec![new.jwk("new")];
    let token = new.token("new", &claims);
    let (one, two) = tokio::join!(ask(&outside, &token), ask(&outside, &token));
    assert!(one.is_some() && two.is_some());
    assert_eq!(
        ask(&outside, &old.token("old", &claims)).await,
        None,
        "it was withdrawn"
    );
}

#[tokio::test]
async fn an_issuer_is_not_asked_for_every_unknown_key() {
    let (signer, stranger) = (Signer::ec(), Signer::ec());
    let provider = Provider::new(vec![signer.jwk("k")]).await;
    let pace = Pace {
        again: Duration::from_secs(60),
        ..PACE
    };
    let outside = believing(&[provider.jwt(|_| {})], pace);
    let claims = provider.claims(|_| {});
    until_taken(&outside, &signer.token("k", &claims)).await;
    for nth in 0..20 {
        assert_eq!(ask(&outside, &stranger.token(&format!("k{nth}"), &claims)).await, None);
    }
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn an_issuer_may_be_away() {
    let (signer, new) = (Signer::ec(), Signer::ec());
    let provider = Provider::new(vec![signer.jwk("k")]).await;
    let other = Provider::new(vec![signer.jwk("k")]).await;
    provider.served.away.store(true, Ordering::Relaxed);
    let outside = believing(&[provider.jwt(|_| {}), other.jwt(|_| {})], PACE);
    until_taken(&outside, &signer.token("k", &other.claims(|_| {}))).await;
    let token = signer.token("k", &provider.claims(|_| {}));
    assert_eq!(ask(&outside, &token).await, None, "nothing is known of its keys");
    provider.served.away.store(false, Ordering::Relaxed);
    until_taken(&outside, &token).await;
    provider.served.away.store(true, Ordering::Relaxed);
    assert_eq!(ask(&outside, &new.token("new", &provider.claims(|_| {}))).await, None);
    assert!(ask(&outside, &token).await.is_some(), "its keys are what they were");
}

#[tokio::test]
async fn an_issuer_must_say_who_it_is() {
    let signer = Signer::ec();
    let provider = Provider::new(vec![signer.jwk("k")]).await;
    *provider.served.lie.lock() = Some("https://b.example".to_owned());
    let outside = believing(&[provider.jwt(|_| {})], PACE);
    let token = signer.token("k", &provider.claims(|_| {}));
    tokio::time::timeout(Duration::from_millis(200), until_taken(&outside, &token))
        .await
        .map(|user| user.username)
        .expect_err("it never is");
    assert_eq!(provider.asked(), 0);
}

#[tokio::test]
async fn another_configuration_takes_the_place_of_the_first() {
    let signer = Signer::ec();
    let (one, two) = (
        Provider::new(vec![signer.jwk("k")]).await,
        Provider::new(vec![signer.jwk("k")]).await,
    );
    let outside = believing(&[one.jwt(|_| {})], PACE);
    let (of_one, of_two) = (
        signer.token("k", &one.claims(|_| {})),
        signer.token("k", &two.claims(|_| {})),
    );
    until_taken(&outside, &of_one).await;
    let renamed = one.jwt(|jwt| jwt["claimMappings"]["username"]["prefix"] = json!("new:"));
    outside.apply(&settings(&[renamed, two.jwt(|_| {})]).expect("a configuration"));
    assert_eq!(ask(&outside, &of_one).await.expect("kept keys").username, "new:jane");
    until_taken(&outside, &of_two).await;
    assert_eq!(one.asked(), 1, "an issuer that stays keeps its keys");
    outside.apply(&settings(&[two.jwt(|_| {})]).expect("a configuration"));
    assert_eq!(ask(&outside, &of_one).await, None);
}

/// What claims are taken for under a configuration; nothing is signed.
fn mapped(change: impl FnOnce(&mut Value), claims: Value) -> Result<UserInfo, String> {
    let mut jwt = json!({"issuer": {"url": "https://a.example", "audiences": ["me"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}}});
    change(&mut jwt);
    let settings = settings(&[jwt])?;
    settings.issuers[0].1.user(claims.as_object().expect("claims"))
}

#[test]
fn expressions_make_users() {
    let mappings = json!({
        "username": {"expression": "'ext:' + claims.name"},
        "groups": {"expression": "claims.roles.split(',')"},
        "uid": {"expression": "claims.sub"},
        "extra": [
            {"key": "example.com/tenant", "valueExpression": "claims.tenant"},
            {"key": "example.com/none", "valueExpression": "has(claims.nothing) ? claims.nothing : ''"},
            {"key": "example.com/both", "valueExpression": "[claims.tenant, claims['odd/name']]"}]});
    let claims = json!({"sub": "1", "name": "jane", "roles": "dev,ops", "tenant": "t", "odd/name": "o"});
    let user = mapped(|jwt| jwt["claimMappings"] = mappings, claims).expect("a user");
    assert_eq!((user.username.as_str(), user.uid.as_str()), ("ext:jane", "1"));
    assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
    let extra: Vec<(String, Vec<String>)> = user.extra.into_iter().collect();
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        extra,
        [
            ("example.com/both".to_owned(), texts(&["t", "o"])),
            ("example.com/tenant".to_owned(), texts(&["t"]))
        ]
    );
}

#[test]
fn rules_refuse_in_words() {
    let rules = |jwt: &mut Value| {
        jwt["claimValidationRules"] = json!([{"claim": "hd", "requiredValue": "example.com"},
            {"expression": "claims.exp - claims.iat <= 86400", "message": "too long"}]);
        jwt["userValidationRules"] = json!([{"expression": "!user.username.startsWith('system:')", "message": "reserved"},
            {"expression": "user.groups.all(group, group != 'banned')"}]);
        jwt["claimMappings"]["groups"] = json!({"claim": "groups", "prefix": ""});
    };
    let claims = |change: fn(&mut Value)| {
        let mut claims = json!({"sub": "jane", "hd": "example.com", "iat": 1, "exp": 61});
        change(&mut claims);
        mapped(rules, claims).map(|user| user.username)
    };
    assert_eq!(claims(|_| {}), Ok("jane".to_owned()));
    let refused: [Refused; 6] = [
        (
            |claims| claims["hd"] = json!("b.example"),
            "oidc: required claim hd value does not match. Got = b.example, want = example.com",
        ),
        (
            |claims| claims["exp"] = json!(90_000),
            "oidc: error evaluating claim validation expression: validation expression 'claims.exp - claims.iat <= \
             86400' failed: too long",
        ),
        (
            |claims| claims["sub"] = json!("system:admin"),
            "oidc: error evaluating user info validation rule: validation expression \
             '!user.username.startsWith('system:')' failed: reserved",
        ),
        (
            |claims| claims["groups"] = json!(["banned"]),
            "oidc: error evaluating user info validation rule: validation expression 'user.groups.all(group, group \
             != 'banned')' failed",
        ),
        (
            |claims| claims["groups"] = json!([7]),
            "oidc: parse groups claim \"groups\": it is neither a string nor a list of strings",
        ),
        (
            |claims| claims["iat"] = json!("yesterday"),
            "oidc: error evaluating claim validation expression: expression 'claims.exp - claims.iat <= 86400' \
             resulted in error: no such overload",
        ),
    ];
    for (change, words) in refused {
        assert_eq!(claims(change), Err(words.to_owned()));
    }
}

#[test]
fn an_email_address_must_be_verified_where_its_issuer_says() {
    let email = |jwt: &mut Value| jwt["claimMappings"]["username"] = json!({"claim": "email", "prefix": ""});
    let ask = |verified: Value| {
        let mut claims = json!({"email": "jane@example.com"});
        if !verified.is_null() {
            claims["email_verified"] = verified;
        }
        mapped(email, claims).map(|user| user.username)
    };
    assert_eq!(ask(json!(null)), Ok("jane@example.com".to_owned()));
    assert_eq!(ask(json!(true)), Ok("jane@example.com".to_owned()));
    assert_eq!(ask(json!(false)), Err("oidc: email not verified".to_owned()));
    assert!(ask(json!("true")).is_err());
}

#[test]
fn configurations_are_checked_in_kubernetes_words() {
    let refused: [Refused; 16] = [
        (
            |jwt| jwt["issuer"]["url"] = json!(""),
            "jwt[0].issuer.url: Required value",
        ),
        (
            |jwt| jwt["issuer"]["url"] = json!("http://a.example"),
            "jwt[0].issuer.url: Invalid value: \"http://a.example\": URL scheme must be https",
        ),
        (
            |jwt| jwt["issuer"]["url"] = json!("https://me:x@a.example"),
            "URL must not contain a username or password",
        ),
        (
            |jwt| jwt["issuer"]["url"] = json!("https://a.example?a=b"),
            "URL must not contain a query",
        ),
        (
            |jwt| jwt["issuer"]["url"] = json!("https://a.example#a"),
            "URL must not contain a fragment",
        ),
        (
            |jwt| jwt["issuer"]["url"] = json!("https://kubernetes.default.svc"),
            "URL must not overlap with disallowed issuers: [https://kubernetes.default.svc]",
        ),
        (
            |jwt| jwt["issuer"]["discoveryURL"] = json!("https://a.example/"),
            "jwt[0].issuer.discoveryURL: Invalid value: \"https://a.example/\": discoveryURL must be different from URL",
        ),
        (
            |jwt| jwt["issuer"]["audiences"] = json!([]),
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
        ),
        (
            |jwt| jwt["issuer"]["audiences"] = json!(["a", "b"]),
            "audienceMatchPolicy must be MatchAny for multiple audiences",
        ),
        (
            |jwt| jwt["issuer"]["certificateAuthority"] = json!("junk"),
            "jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\"",
        ),
        (
            |jwt| jwt["claimMappings"]["username"] = json!({"claim": "sub"}),
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set",
        ),
        (
            |jwt| jwt["claimMappings"]["username"] = json!({}),
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        ),
        (
            |jwt| jwt["claimMappings"]["username"] = json!({"expression": "claims.email"}),
            "claims.email_verified must be used in claimMappings.username.expression or",
        ),
        (
            |jwt| jwt["claimMappings"]["extra"] = json!([{"key": "authentication.k8s.io/x", "valueExpression": "'a'"}]),
            "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
        ),
        (
            |jwt| jwt["claimValidationRules"] = json!([{"expression": "'text'"}]),
            "jwt[0].claimValidationRules[0].expression: Invalid value: \"'text'\": must evaluate to bool",
        ),
        (
            |jwt| jwt["userValidationRules"] = json!([{"expression": "user.nothing == ''"}]),
            "jwt[0].userValidationRules[0].expression: Invalid value: \"user.nothing == ''\": compilation failed",
        ),
    ];
    for (change, words) in refused {
        let why = mapped(change, json!({})).map(|user| user.username).expect_err(words);
        assert!(why.contains(words), "{words}\n{why}");
    }
    let verified = json!({"username": {"expression": "claims.email_verified == true ? claims.email : claims.sub"}});
    let claims = json!({"email": "a@b", "email_verified": true});
    let user = mapped(|jwt| jwt["claimMappings"] = verified, claims);
    assert_eq!(user.map(|user| user.username), Ok("a@b".to_owned()));
}

#[test]
fn what_is_no_configuration_is_refused() {
    for (text, words) in [
        ("apiVersion: v1\nkind: Pod", "not Pod of v1"),
        (
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwts: []",
            "unknown field",
        ),
        ("[", "it is not an AuthenticationConfiguration"),
    ] {
        let why = Configuration::parse(text).expect_err(words).to_string();
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn somebody_unknown_comes_where_the_configuration_says() {
    let ask = |anonymous: Value, path: &str| {
        let text = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "anonymous": anonymous});
        let settings = Configuration::parse(&text.to_string())
            .and_then(|read| read.compile(&[], false))
            .map_err(|error| error.to_string())?;
        let clock = std::sync::Arc::new(now);
        let outside = Outside::new(&settings, clock, PACE, TaskTracker::new(), CancellationToken::new());
        Ok::<_, String>(outside.admits_anonymous(path))
    };
    assert_eq!(ask(json!(null), "/livez"), Ok(false), "the flag says so");
    assert_eq!(ask(json!({"enabled": true}), "/api"), Ok(true));
    assert_eq!(ask(json!({"enabled": false}), "/livez"), Ok(false));
    let health = json!({"enabled": true, "conditions": [{"path": "/livez"}, {"path": "/readyz"}]});
    assert_eq!(ask(health.clone(), "/readyz"), Ok(true));
    assert_eq!(ask(health, "/readyz/ping"), Ok(false));
    let why = ask(json!({"enabled": false, "conditions": [{"path": "/livez"}]}), "/livez").expect_err("at odds");
    assert!(
        why.contains("enabled should be set to true when conditions are defined"),
        "{why}"
    );
}

proptest::proptest! {
    #[test]
    fn whatever_is_sent_is_read_without_harm(
        text in ".*",
        header in "\\PC*",
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
    ) {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}.{}", encode(header.as_bytes()), encode(&bytes), encode(&bytes));
        let proper = format!("{}.{}.{}", encode(br#"{"alg": "ES256"}"#), encode(b"{}"), encode(&bytes));
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": encode(&bytes), "y": text},
            {"kty": "EC", "crv": "P-521", "x": encode(&bytes), "y": encode(&bytes)},
            {"kty": "RSA", "n": encode(&bytes), "e": "AQAB"}, {"kty": 7}, header]});
        let keys = super::jwt::read_keys(&keys, 8);
        for text in [text, signed, proper] {
            let Some(token) = super::jwt::Token::read(&text) else { continue };
            for algorithm in super::jwt::Algorithm::ALL {
                proptest::prop_assert!(!keys.iter().any(|key| key.verifies(&token, algorithm)));
            }
        }
    }
}
