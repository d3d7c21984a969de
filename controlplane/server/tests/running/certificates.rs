//! Certificates that are asked for, approved and signed, and bootstrap tokens: what comes of them lets a client in.

use api::{NamespacedName, Object};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Client, Kind, Scope, kinds};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use crate::{Plane, until};

static SELF_REVIEW: Kind = Kind::cluster("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews");

impl Plane {
    /// A client of the same server with other credentials: lines of a kubeconfig's user.
    async fn as_one_with(&self, credentials: &str) -> Client {
        let kubeconfig = std::fs::read_to_string(self.directory.path().join("kubeconfig")).unwrap();
        let others = |line: &&str| !line.contains("client-certificate-data") && !line.contains("client-key-data");
        let lines: Vec<&str> = kubeconfig.lines().filter(others).collect();
        let text = lines
            .join("\n")
            .replace("  user:\n", &format!("  user:\n{credentials}"));
        let path = self.directory.path().join("other-kubeconfig");
        std::fs::write(&path, text).unwrap();
        Client::from_kubeconfig(&path).await.unwrap()
    }
}

async fn who(client: &Client) -> Value {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = client.create(&SELF_REVIEW, None, &review).await.unwrap();
    assert!(answer.str_at("metadata.creationTimestamp").is_some());
    answer.at("status.userInfo").cloned().unwrap()
}

/// A request for a client certificate.
fn request(name: &str, common_name: &str, organization: &str, signer: &str, key: &KeyPair) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, common_name);
    let pem = params.serialize_request(key).unwrap().pem().unwrap();
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": STANDARD.encode(pem), "signerName": format!("kubernetes.io/{signer}"),
            "usages": ["digital signature", "client auth"], "expirationSeconds": 3600}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_request_becomes_a_certificate_that_lets_in() {
    let plane = Plane::start().await;
    let kind = &kinds::CERTIFICATE_SIGNING_REQUEST;
    let key = KeyPair::generate().unwrap();
    let asked = request("jane", "jane", "dev", "kube-apiserver-client", &key);
    let mut made = plane.admin.create(kind, None, &asked).await.unwrap();
    made.set(
        "status.conditions",
        json!([{"type": "Approved", "status": "True", "reason": "KubectlApprove", "message": "fine"}]),
    );
    plane.admin.replace(kind, &made, Some("approval")).await.unwrap();
    let requests = plane.informers.get::<Object>(kind, Scope::All);
    let issued = |all: &[&Object]| match all.iter().any(|r| r.str_at("status.certificate").is_some()) {
        true => Ok(()),
        false => Err(format!("{all:?}")),
    };
    until(&requests, issued).await;
    let signed: Object = plane.admin.get(kind, &NamespacedName::cluster("jane")).await.unwrap();
    let certificate = signed.str_at("status.certificate").unwrap();
    let key = STANDARD.encode(key.serialize_pem());
    let credentials = format!("    client-certificate-data: {certificate}\n    client-key-data: {key}\n");
    let jane = who(&plane.as_one_with(&credentials).await).await;
    assert_eq!(jane["username"], "jane");
    assert_eq!(jane["groups"], json!(["dev", "system:authenticated"]));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_joins_by_a_bootstrap_token() {
    let plane = Plane::start().await;
    let data = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:ours"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token", "stringData": data});
    plane
        .admin
        .create(&kinds::SECRET, Some("kube-system"), &secret)
        .await
        .unwrap();
    let binding = |name: &str, role: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers:ours"}]})
    };
    for (name, role) in [
        ("bootstrap", "system:node-bootstrapper"),
        (
            "approve",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        ),
    ] {
        plane
            .admin
            .create(&kinds::CLUSTER_ROLE_BINDING, None, &binding(name, role))
            .await
            .unwrap();
    }
    let machine = plane.as_one_with("    token: abcdef.0123456789abcdef\n").await;
    assert_eq!(who(&machine).await["username"], "system:bootstrap:abcdef");

    let kind = &kinds::CERTIFICATE_SIGNING_REQUEST;
    let key = KeyPair::generate().unwrap();
    let asked = request(
        "node",
        "system:node:n9",
        "system:nodes",
        "kube-apiserver-client-kubelet",
        &key,
    );
    machine.create(kind, None, &asked).await.unwrap();
    let requests = plane.informers.get::<Object>(kind, Scope::All);
    until(&requests, |all| {
        let issued = |r: &&Object| {
            let approved = r
                .list_at("status.conditions")
                .iter()
                .any(|c| c["reason"] == "AutoApproved");
            approved && r.str_at("status.certificate").is_some()
        };
        all.iter()
            .copied()
            .any(|r| issued(&r))
            .then_some(())
            .ok_or_else(|| format!("{all:?}"))
    })
    .await;
    plane.stop().await;
}
