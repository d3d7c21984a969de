use std::os::unix::fs::PermissionsExt;

use api::Object;
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{fake::Fake, kinds};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    SanType,
};
use serde_json::json;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

fn node(data_dir: &Path, authority: &Authority) -> Node {
    Node {
        name: "n1".to_owned(),
        addresses: vec!["10.0.0.7".parse().expect("an address")],
        authorities: vec![authority.der().clone()],
        data_dir: data_dir.to_owned(),
    }
}

/// The certificate and key of `user`, valid for 2026.
fn pem(by: &Authority, user: &str) -> String {
    let mut params = CertificateParams::new(vec!["n1".to_owned()]).expect("a name");
    params
        .subject_alt_names
        .push(SanType::IpAddress("10.0.0.7".parse().expect("an address")));
    params.distinguished_name.push(DnType::CommonName, user);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, by).expect("a certificate");
    format!("{}{}", certificate.pem(), key.serialize_pem())
}

#[test]
fn a_certificate_is_replaced_in_the_last_part_of_its_life() {
    let by = authority();
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let mut seen = Vec::new();
    for _ in 0..20 {
        let held = Held::parse(&pem(&by, "u")).expect("a certificate");
        let days = held.renew_at().duration_since(start).as_hours() / 24;
        assert!((255..=329).contains(&days), "{days}");
        assert_eq!(held.renew_at(), held.renew_at());
        seen.push(days);
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 3, "not all at once: {seen:?}");
}

#[test]
fn what_was_kept_counts_while_it_is_this_nodes_and_this_clusters() {
    let (by, directory) = (authority(), tempfile::tempdir().expect("a directory"));
    let node = node(directory.path(), &by);
    let file = Purpose::Serving.file(directory.path());
    assert!(node.kept(Purpose::Serving).is_none());
    store::write(&file, &pem(&by, "system:node:n1")).expect("written");
    assert!(node.kept(Purpose::Serving).is_some());
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let moved = Node {
        addresses: vec!["10.0.0.8".parse().expect("an address")],
        ..node.clone()
    };
    assert!(moved.kept(Purpose::Serving).is_none(), "another address");
    for (whose, text) in [
        ("another node's", pem(&by, "system:node:n2")),
        ("another cluster's", pem(&authority(), "system:node:n1")),
        ("nobody's", "-----BEGIN CERTIFICATE-----\n".to_owned()),
    ] {
        store::write(&file, &text).expect("written");
        assert!(node.kept(Purpose::Serving).is_none(), "{whose}");
    }
}

#[test]
fn an_answer_is_a_certificate_or_a_reason() {
    let request = |status| Object::from_value(json!({"metadata": {"name": "r"}, "status": status})).expect("an object");
    let condition = |kind: &str| json!([{"type": kind, "status": "True", "reason": "Why", "message": "because"}]);
    let read = |status| ask::read(&request(status));
    assert_eq!(read(json!({})), None);
    assert_eq!(read(json!({"conditions": condition("Approved")})), None);
    assert_eq!(
        read(json!({"conditions": condition("Denied")})),
        Some(Err("Why: because".to_owned()))
    );
    assert_eq!(
        read(json!({"conditions": condition("Failed"), "certificate": ""})),
        Some(Err("Why: because".to_owned()))
    );
    let certificate = STANDARD.encode("PEM");
    assert_eq!(
        read(json!({"conditions": condition("Approved"), "certificate": certificate})),
        Some(Ok("PEM".to_owned()))
    );
}

/// Answers every request that comes, as the cluster's signer does.
async fn sign(api: Fake, by: Authority, days: i64) {
    let kind = &kinds::CERTIFICATE_SIGNING_REQUEST;
    let client = api.client();
    loop {
        for request in api.all(kind) {
            if request.str_at("status.certificate").is_some() {
                continue;
            }
            let asked = STANDARD
                .decode(request.str_at("spec.request").expect("a request"))
                .expect("base64");
            let asked = String::from_utf8(asked).expect("text");
            let mut parsed = CertificateSigningRequestParams::from_pem(&asked).expect("a request");
            let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            parsed.params.not_before = now.into();
            parsed.params.not_after = (now + Duration::from_secs(u64::try_from(days).expect("days") * 86_400)).into();
            let signed = parsed.signed_by(&by).expect("a certificate");
            let mut answered = request.clone();
            answered.set("status.certificate", STANDARD.encode(signed.pem()));
            client
                .replace(kind, &answered, Some("status"))
                .await
                .expect("it is written");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_asked_for_kept_and_replaced_in_time() {
    let (by, directory) = (authority(), tempfile::tempdir().expect("a directory"));
    let (node, api) = (node(directory.path(), &by), Fake::new());
    let clock = Clock::anchored(Timestamp::from_second(1_000_000).expect("a time"));
    let signer = tokio::spawn(sign(api.clone(), by, 10));
    let (told, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let take = move |held: &Held| told.send((held.names.clone(), held.until)).expect("somebody listens");
    let keeping = keep(
        node.clone(),
        Purpose::Serving,
        api.client(),
        clock.clone(),
        take,
        shutdown.clone(),
    );
    let keeping = tokio::spawn(keeping);
    let (names, until) = taken.recv().await.expect("a certificate");
    assert_eq!(names, ["10.0.0.7", "n1"]);
    let first = std::fs::read_to_string(Purpose::Serving.file(directory.path())).expect("kept");
    assert!(
        first.contains("BEGIN CERTIFICATE") && first.contains("BEGIN PRIVATE KEY"),
        "{first}"
    );
    taken.recv().await.expect("another, in time");
    assert!(clock.now() < until, "before the first has ended");
    assert!(
        clock.now() > until - SignedDuration::from_hours(10 * 24),
        "and not at once"
    );
    assert_ne!(
        std::fs::read_to_string(Purpose::Serving.file(directory.path())).expect("kept"),
        first
    );
    shutdown.cancel();
    keeping.await.expect("it ends");
    signer.abort();
}
