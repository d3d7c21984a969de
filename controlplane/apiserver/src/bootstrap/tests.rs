//! A whole server in this process, over the in-memory store: bootstrapped twice, then used by different people.

use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use serde_json::{Value, json};
use store::memory::Memory;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Cluster, reconcile};
use crate::resources::testing::now;
use crate::{ApiServer, Config, tokens};

struct World {
    server: Arc<ApiServer>,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn cluster() -> Cluster {
    Cluster {
        advertise: vec![Ipv4Addr::new(10, 128, 0, 1).into()],
        advertise_port: 6443,
        service_range: "10.96.0.0/16".parse().expect("a range"),
        kubernetes_address: Ipv4Addr::new(10, 96, 0, 1),
        client_ca: "PEM".to_owned(),
        front_proxy_ca: "PROXY".to_owned(),
    }
}

fn signing_key() -> String {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(key.as_ref())
    )
}

impl World {
    async fn new() -> Self {
        let shutdown = CancellationToken::new();
        let config = Config {
            backend: Arc::new(Memory::new()),
            version: "v1.36.2+wherry".to_owned(),
            clock: Arc::new(now),
            client_ca: Vec::new(),
            proxy_client: None,
            max_inflight: crate::MaxInflight::default(),
            service_accounts: tokens::Config {
                key: signing_key(),
                issuer: "https://kubernetes.default.svc".to_owned(),
                audiences: vec!["https://kubernetes.default.svc".to_owned()],
                jwks_uri: "https://10.128.0.1:6443/openid/v1/jwks".to_owned(),
            },
            service_range: cluster().service_range,
            kubernetes_address: cluster().kubernetes_address,
            node_ports: 30000..=32767,
            admission: Vec::new(),
            virtuals: Box::new(|_| Vec::new()),
            checks: Vec::new(),
            audit: None,
            authentication: crate::authn::Config::fixed(Default::default()),
            authorization: crate::authz::Config::fixed(Default::default()),
            sign_in: None,
            pages: None,
        };
        let server = ApiServer::start(config, TaskTracker::new(), shutdown.clone())
            .await
            .expect("the server starts");
        server.wait_ready().await;
        let world = World { server, shutdown };
        reconcile(&world.admin(), &cluster()).await.expect("bootstrapped");
        world
    }

    fn admin(&self) -> kube::Client {
        self.server.as_user("admin", &["system:masters"])
    }

    /// One request; the answer, or the message of the refusal.
    async fn ask(
        &self,
        client: &kube::Client,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let body = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        let request = request.body(body).expect("a request");
        client.request::<Value>(request).await.map_err(|error| match error {
            kube::Error::Api(status) => status.message,
            other => format!("{other:?}"),
        })
    }

    async fn create(&self, path: &str, body: Value) -> Value {
        self.ask(&self.admin(), Method::POST, path, Some(body))
            .await
            .expect("created")
    }
}

/// `resourceVersion`s by name.
fn versions(list: &Value) -> Vec<(String, String)> {
    let text = |item: &Value, field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items
        .iter()
        .map(|item| (text(item, "name"), text(item, "resourceVersion")))
        .collect()
}

#[tokio::test]
async fn bootstrapping_twice_writes_nothing_the_second_time() {
    let world = World::new().await;
    let admin = world.admin();
    let paths = [
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/rbac.authorization.k8s.io/v1/rolebindings",
        "/api/v1/namespaces",
        "/api/v1/services",
        "/api/v1/endpoints",
        "/apis/networking.k8s.io/v1/ipaddresses",
        "/apis/node.k8s.io/v1/runtimeclasses",
        "/api/v1/namespaces/kube-system/configmaps",
    ];
    let mut before = Vec::new();
    for path in paths {
        before.push(versions(
            &world.ask(&admin, Method::GET, path, None).await.expect("listed"),
        ));
        assert!(before.last().is_some_and(|list| !list.is_empty()), "{path}");
    }
    reconcile(&admin, &cluster()).await.expect("bootstrapped again");
    for (path, before) in paths.into_iter().zip(before) {
        assert_eq!(
            versions(&world.ask(&admin, Method::GET, path, None).await.expect("listed")),
            before,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_default_binding_to_another_role_is_made_anew_unless_it_is_somebodys() {
    let world = World::new().await;
    let admin = world.admin();
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    for (name, hands_off) in [("system:discovery", "true"), ("system:basic-user", "false")] {
        let path = format!("{bindings}/{name}");
        world.ask(&admin, Method::DELETE, &path, None).await.expect("deleted");
        let annotation = "rbac.authorization.kubernetes.io/autoupdate";
        let other = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name, "annotations": {annotation: hands_off}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
        world.create(bindings, other).await;
    }
    reconcile(&admin, &cluster()).await.expect("bootstrapped again");
    let role = async |name: &str| {
        let binding = world
            .ask(&admin, Method::GET, &format!("{bindings}/{name}"), None)
            .await;
        binding.expect("there")["roleRef"]["name"].clone()
    };
    assert_eq!(role("system:discovery").await, "system:discovery");
    assert_eq!(role("system:basic-user").await, "view");
}

#[tokio::test]
async fn people_may_do_what_their_roles_say() {
    let world = World::new().await;
    let jane = world.server.as_user("jane", &[]);
    let list = "/api/v1/namespaces/default/pods";
    assert_eq!(
        world.ask(&jane, Method::GET, list, None).await.expect_err("refused"),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "jane"},
        "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "User", "name": "jane"}]});
    world
        .create(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            binding,
        )
        .await;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    // The policy follows the caches, which follow the write.
    let mut allowed = json!(false);
    for _ in 0..1000 {
        allowed = world
            .ask(&jane, Method::POST, reviews, Some(review.clone()))
            .await
            .expect("reviewed")["status"]["allowed"]
            .clone();
        if allowed == json!(true) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(allowed, json!(true));
    world.ask(&jane, Method::GET, list, None).await.expect("listed");
    assert!(
        world
            .ask(&jane, Method::GET, "/api/v1/namespaces/default/secrets", None)
            .await
            .is_err()
    );
    let whoami = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let who = world
        .ask(
            &jane,
            Method::POST,
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            Some(whoami),
        )
        .await
        .expect("known");
    assert_eq!(who["status"]["userInfo"]["username"], "jane");
}

#[tokio::test]
async fn a_pod_gets_a_token_that_names_it() {
    let world = World::new().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    world
        .create("/api/v1/namespaces/default/serviceaccounts", account)
        .await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = world.create("/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(
        pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web"}, "target": {"kind": "Node", "name": "n1"}});
    world
        .create("/api/v1/namespaces/default/pods/web/binding", binding)
        .await;

    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"boundObjectRef": {"kind": "Pod", "name": "web", "uid": pod["metadata"]["uid"]}}});
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let stranger = world.server.as_user("system:node:n2", &["system:nodes"]);
    assert_eq!(
        world
            .ask(&stranger, Method::POST, path, Some(request.clone()))
            .await
            .expect_err("refused"),
        "serviceaccounts \"default\" is forbidden: node requested token bound to a pod scheduled on a different node"
    );
    let agent = world.server.as_user("system:node:n1", &["system:nodes"]);
    let issued = world
        .ask(&agent, Method::POST, path, Some(request))
        .await
        .expect("issued");
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": issued["status"]["token"]}});
    let found = world
        .create("/apis/authentication.k8s.io/v1/tokenreviews", review)
        .await;
    assert_eq!(
        found["status"]["user"]["username"],
        "system:serviceaccount:default:default"
    );
    assert_eq!(
        found["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["web"])
    );
    assert!(found["spec"].get("token").is_none());
}

#[tokio::test]
async fn a_node_reads_what_its_pods_name_and_nothing_else() {
    let world = World::new().await;
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let secrets = "/api/v1/namespaces/default/secrets";
    world.create(secrets, secret("mine")).await;
    world.create(secrets, secret("other")).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    world
        .create("/api/v1/namespaces/default/serviceaccounts", account)
        .await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "mine"}}]}]}});
    world.create("/api/v1/namespaces/default/pods", pod).await;
    let node = |name: &str| world.server.as_user(&format!("system:node:{name}"), &["system:nodes"]);
    let (n1, n2) = (node("n1"), node("n2"));
    let may = async |client: &kube::Client, name: &str| {
        world.ask(client, Method::GET, &format!("{secrets}/{name}"), None).await
    };
    let refusal = |name: &str, node: &str| {
        format!(
            "secrets \"{name}\" is forbidden: User \"system:node:{node}\" cannot get resource \"secrets\" in API group \"\" in the \
             namespace \"default\": no relationship found between node '{node}' and this object"
        )
    };
    assert_eq!(
        may(&n1, "mine").await.expect_err("not bound yet"),
        refusal("mine", "n1")
    );
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web"}, "target": {"kind": "Node", "name": "n1"}});
    world
        .create("/api/v1/namespaces/default/pods/web/binding", binding)
        .await;
    may(&n1, "mine").await.expect("its pod names it");
    assert_eq!(
        may(&n1, "other").await.expect_err("no pod names it"),
        refusal("other", "n1")
    );
    assert_eq!(
        may(&n2, "mine").await.expect_err("another node's"),
        refusal("mine", "n2")
    );
    let watch = format!("{secrets}?fieldSelector=metadata.name%3Dmine");
    world.ask(&n1, Method::GET, &watch, None).await.expect("by its name");
    assert!(world.ask(&n1, Method::GET, secrets, None).await.is_err());

    let pods = "/api/v1/pods";
    assert!(world.ask(&n1, Method::GET, pods, None).await.is_err());
    let own = format!("{pods}?fieldSelector=spec.nodeName%3Dn1");
    world.ask(&n1, Method::GET, &own, None).await.expect("its own pods");
    assert!(world.ask(&n2, Method::GET, &own, None).await.is_err());
    let web = "/api/v1/namespaces/default/pods/web";
    world.ask(&n1, Method::GET, web, None).await.expect("its own pod");
    assert!(world.ask(&n2, Method::GET, web, None).await.is_err());

    let gone = format!("{web}?gracePeriodSeconds=0");
    world.ask(&n1, Method::DELETE, &gone, None).await.expect("its own pod");
    assert_eq!(
        may(&n1, "mine").await.expect_err("the pod is gone"),
        refusal("mine", "n1")
    );
}

#[tokio::test]
async fn those_who_may_discover_the_issuer_can_check_tokens_themselves() {
    let world = World::new().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    world
        .create("/api/v1/namespaces/default/serviceaccounts", account)
        .await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let issued = world.create(path, request).await;
    let token = issued["status"]["token"].as_str().expect("a token");

    let pod = world
        .server
        .as_user("system:serviceaccount:default:default", &["system:serviceaccounts"]);
    let configuration = "/.well-known/openid-configuration";
    let found = world
        .ask(&pod, Method::GET, configuration, None)
        .await
        .expect("readable");
    assert_eq!(found["issuer"], "https://kubernetes.default.svc");
    assert_eq!(found["jwks_uri"], "https://10.128.0.1:6443/openid/v1/jwks");
    assert_eq!(found["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let jane = world.server.as_user("jane", &[]);
    assert_eq!(
        world
            .ask(&jane, Method::GET, configuration, None)
            .await
            .expect_err("refused"),
        "forbidden: User \"jane\" cannot get path \"/.well-known/openid-configuration\""
    );

    let keys = world
        .ask(&pod, Method::GET, "/openid/v1/jwks", None)
        .await
        .expect("readable");
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys).expect("a key set");
    let id = jsonwebtoken::decode_header(token)
        .expect("a header")
        .kid
        .expect("a key id");
    let key = jsonwebtoken::DecodingKey::from_jwk(keys.find(&id).expect("the key")).expect("a usable key");
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&["https://kubernetes.default.svc"]);
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation)
        .expect("a valid signature")
        .claims;
    assert_eq!(claims["sub"], "system:serviceaccount:default:default");
}

#[tokio::test]
async fn a_service_is_allocated_and_its_deletion_frees_what_it_held() {
    let world = World::new().await;
    let service = |name: &str, port: u16| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "clusterIP": "10.96.0.77", "ports": [{"port": 80, "nodePort": port}]}})
    };
    let path = "/api/v1/namespaces/default/services";
    let made = world.create(path, service("a", 30080)).await;
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.96.0.77"]));
    let admin = world.admin();
    let address = "/apis/networking.k8s.io/v1/ipaddresses/10.96.0.77";
    let claim = world.ask(&admin, Method::GET, address, None).await.expect("claimed");
    assert_eq!(claim["spec"]["parentRef"]["name"], "a");
    let refused = world
        .ask(&admin, Method::POST, path, Some(service("b", 30080)))
        .await
        .expect_err("taken");
    assert!(
        refused.ends_with("failed to allocate IP 10.96.0.77: provided IP is already allocated"),
        "{refused}"
    );
    world
        .ask(&admin, Method::DELETE, &format!("{path}/a"), None)
        .await
        .expect("deleted");
    world.create(path, service("b", 30080)).await;
}

#[tokio::test]
async fn an_administrator_may_look_through_anothers_eyes() {
    let world = World::new().await;
    let request = Request::get("/api/v1/namespaces/default/pods").header("impersonate-user", "jane");
    let request = request.body(Vec::new()).expect("a request");
    let refused = world
        .admin()
        .request::<Value>(request)
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        refused.contains("User \"jane\" cannot list resource \"pods\""),
        "{refused}"
    );
}
