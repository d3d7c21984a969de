use api::Object;
use api::names::GroupResource;
use api::time::Timestamp;
use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;

use super::claims::{Claims, Private, Reference};
use super::*;
use crate::authn::TokenAuthenticator;
use crate::registry::reader::{Happened, Trail};

/// Objects by plural and name.
#[derive(Default)]
struct Objects(Mutex<Vec<(String, Arc<Object>)>>);

impl Objects {
    fn put(&self, plural: &str, name: &str, uid: &str) {
        let mut object = Object::new("v1", "X");
        object.set_name(name);
        object.set_uid(uid);
        self.remove(plural);
        self.0.lock().push((plural.into(), Arc::new(object)));
    }

    fn remove(&self, plural: &str) {
        self.0.lock().retain(|(p, _)| p != plural);
    }
}

#[async_trait]
impl Reader for Objects {
    fn get(&self, kind: &GroupResource, _namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        let objects = self.0.lock();
        objects
            .iter()
            .find(|(plural, o)| *plural == kind.resource && o.name() == name)
            .map(|(_, o)| o.clone())
    }

    async fn get_fresh(
        &self,
        kind: &GroupResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, api::Status> {
        Ok(self.get(kind, namespace, name))
    }

    async fn fresh(&self, _kind: &GroupResource) -> Result<(), api::Status> {
        Ok(())
    }

    fn field(&self, _kind: &GroupResource, _namespace: Option<&str>, _name: &str, _field: &str) -> Option<String> {
        None
    }

    fn list(&self, _kind: &GroupResource, _namespace: Option<&str>) -> Vec<Arc<Object>> {
        Vec::new()
    }

    fn trail(&self, _kind: &GroupResource) -> Box<dyn Trail> {
        Box::new(Nothing)
    }

    fn changes(&self, _kind: &GroupResource) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

struct Nothing;

impl Trail for Nothing {
    fn next(&mut self) -> Option<Happened> {
        None
    }
}

fn key() -> String {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    )
}

const NOW: i64 = 1_800_000_000;

struct Fixture {
    objects: Arc<Objects>,
    tokens: Tokens,
    now: Arc<Mutex<i64>>,
}

fn fixture() -> Fixture {
    let objects = Arc::new(Objects::default());
    objects.put("serviceaccounts", "default", "sa-uid");
    objects.put("pods", "web", "pod-uid");
    let now = Arc::new(Mutex::new(NOW));
    let seconds = now.clone();
    let config = Config {
        key: key(),
        issuer: "https://issuer".into(),
        audiences: vec!["https://issuer".into()],
        jwks_uri: "https://here/openid/v1/jwks".into(),
    };
    let tokens = Tokens {
        keys: Arc::new(Keys::from_pem(&config.key).unwrap()),
        config,
        reader: objects.clone(),
        clock: Arc::new(move || Timestamp::from_second(*seconds.lock()).unwrap()),
    };
    Fixture { objects, tokens, now }
}

fn claims() -> Claims {
    let reference = |name: &str, uid: &str| Reference {
        name: name.into(),
        uid: uid.into(),
    };
    Claims {
        aud: vec!["https://issuer".into()],
        exp: NOW + 600,
        iat: NOW,
        iss: "https://issuer".into(),
        jti: "id".into(),
        nbf: NOW,
        sub: "system:serviceaccount:default:default".into(),
        private: Private {
            namespace: "default".into(),
            serviceaccount: reference("default", "sa-uid"),
            pod: Some(reference("web", "pod-uid")),
            node: None,
            secret: None,
        },
    }
}

fn sign(fixture: &Fixture, claims: &Claims) -> String {
    Signer::new(fixture.tokens.keys.clone()).sign(claims).unwrap()
}

async fn accepts(fixture: &Fixture, token: &str) -> bool {
    fixture.tokens.authenticate(token).await.unwrap().is_some()
}

#[tokio::test]
async fn a_token_stands_for_its_service_account() {
    let fixture = fixture();
    let user = fixture
        .tokens
        .authenticate(&sign(&fixture, &claims()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (user.username.as_str(), user.uid.as_str()),
        ("system:serviceaccount:default:default", "sa-uid")
    );
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ]
    );
    assert_eq!(user.extra["authentication.kubernetes.io/pod-uid"], ["pod-uid"]);
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let fixture = fixture();
    let token = sign(&fixture, &claims());
    for (at, accepted) in [(NOW - 1, false), (NOW, true), (NOW + 599, true), (NOW + 600, false)] {
        *fixture.now.lock() = at;
        assert_eq!(accepts(&fixture, &token).await, accepted, "at {at}");
    }
}

#[tokio::test]
async fn a_token_ends_with_what_it_is_bound_to() {
    let fixture = fixture();
    let token = sign(&fixture, &claims());
    fixture.objects.put("pods", "web", "another-uid");
    assert!(!accepts(&fixture, &token).await, "the pod was made anew");
    fixture.objects.put("pods", "web", "pod-uid");
    assert!(accepts(&fixture, &token).await);
    fixture.objects.remove("serviceaccounts");
    assert!(!accepts(&fixture, &token).await, "the account is gone");
}

#[tokio::test]
async fn only_our_signature_issuer_audience_and_subject_count() {
    let fixture = fixture();
    let other = self::fixture();
    assert!(!accepts(&fixture, &sign(&other, &claims())).await, "another key");
    type Change = fn(&mut Claims);
    let changes: [(&str, Change); 3] = [
        ("issuer", |c| c.iss = "https://other".into()),
        ("audience", |c| c.aud = vec!["vault".into()]),
        ("subject", |c| {
            c.sub = "system:serviceaccount:kube-system:default".into()
        }),
    ];
    for (what, change) in changes {
        let mut claims = claims();
        change(&mut claims);
        assert!(!accepts(&fixture, &sign(&fixture, &claims)).await, "{what}");
    }
    for garbage in ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
        assert!(!accepts(&fixture, garbage).await, "{garbage:?}");
    }
}

#[test]
fn claims_are_written_as_kubernetes_writes_them() {
    let value = serde_json::to_value(claims()).unwrap();
    assert_eq!(value["kubernetes.io"]["pod"], json!({"name": "web", "uid": "pod-uid"}));
    assert!(value["kubernetes.io"].get("secret").is_none());
}

#[tokio::test]
async fn a_review_tells_for_which_audience_a_token_is() {
    let fixture = fixture();
    let token = sign(&fixture, &claims());
    let audiences = &claims().aud;
    let wanted = [audiences.clone(), vec!["vault".to_owned()]].concat();
    let (user, matched) = fixture.tokens.identify(&token, &wanted).await.unwrap().unwrap();
    assert_eq!(
        (user.username.as_str(), &matched),
        ("system:serviceaccount:default:default", audiences)
    );
    assert!(
        fixture
            .tokens
            .identify(&token, &["vault".to_owned()])
            .await
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_node_gets_tokens_of_its_own_pods_only() {
    let private = |pod: Option<Reference>, node: Option<Reference>| Private {
        pod,
        node,
        ..claims().private
    };
    let reference = |name: &str, uid: &str| Reference {
        name: name.into(),
        uid: uid.into(),
    };
    let (pod, node) = (reference("web", "pod-uid"), reference("n1", "node-uid"));
    assert_eq!(
        request::refusal("n1", &private(Some(pod.clone()), Some(node.clone()))),
        None
    );
    assert_eq!(
        request::refusal("n2", &private(Some(pod), Some(node.clone()))),
        Some("node requested token bound to a pod scheduled on a different node")
    );
    assert_eq!(
        request::refusal("n1", &private(None, Some(node))),
        Some("node requested token not bound to a pod")
    );
}
