//! Certificate signing requests from asking to approval, over HTTP.

use http::StatusCode;
use serde_json::json;

use super::Fixture;
use crate::resources::certificate_request_field;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

#[tokio::test]
async fn a_request_is_the_callers_and_is_approved_at_its_own_endpoint() {
    let fixture = Fixture::new().await;
    let asked = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "r"},
        "spec": {"request": certificate_request_field("jane", &[]), "signerName": "example.com/web", "usages": ["client auth"],
            "username": "somebody-else"}});
    let created = fixture.post(REQUESTS, asked).await;
    assert_eq!(created.code, StatusCode::CREATED, "{}", created.message());
    let user = created.at("/spec/username");
    assert_ne!(user, json!("somebody-else"));

    let mut decided = created.json();
    decided["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Fine"}]});
    decided["spec"]["username"] = json!("somebody-else");
    let whole = fixture.put(&format!("{REQUESTS}/r"), decided.clone()).await;
    assert_eq!((whole.code, whole.at("/status")), (StatusCode::OK, json!({})));

    let approved = fixture.put(&format!("{REQUESTS}/r/approval"), decided).await;
    assert_eq!(approved.code, StatusCode::OK, "{}", approved.message());
    assert_eq!(approved.at("/status/conditions/0/type"), json!("Approved"));
    assert_eq!(approved.at("/spec/username"), user);
    let read = fixture.get(&format!("{REQUESTS}/r/approval")).await;
    assert_eq!(read.json(), approved.json());

    let denial = json!({"status": {"conditions": [{"type": "Denied", "status": "True"}]}});
    let denied = fixture.patch(&format!("{REQUESTS}/r/approval"), "merge", denial).await;
    assert_eq!(denied.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        denied.message(),
        "CertificateSigningRequest.certificates.k8s.io \"r\" is invalid: status.conditions: Forbidden: updates may not remove a \
         condition of type \"Approved\""
    );
    let selected = fixture
        .get(&format!("{REQUESTS}?fieldSelector=spec.signerName%3Dexample.com%2Fweb"))
        .await;
    assert_eq!(selected.names(), ["r"]);
}
