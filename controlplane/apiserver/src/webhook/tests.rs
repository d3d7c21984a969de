use serde_json::json;

use super::*;

#[test]
fn client_configs_lead_somewhere() {
    let seconds = Duration::from_secs(5);
    for (config, url) in [
        (json!({"url": "https://a.example/b"}), "https://a.example/b?timeout=5s"),
        (
            json!({"url": "https://a.example/b?c=d"}),
            "https://a.example/b?c=d&timeout=5s",
        ),
        (
            json!({"service": {"namespace": "n", "name": "s", "path": "/p", "port": 8443}}),
            "https://s.n.svc:8443/p?timeout=5s",
        ),
        (
            json!({"service": {"namespace": "n", "name": "s"}}),
            "https://s.n.svc:443/?timeout=5s",
        ),
    ] {
        assert_eq!(Target::read(&config).url(seconds), url);
    }
}

#[test]
fn only_certificates_are_a_ca_bundle() {
    let authority = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
    assert_eq!(check_ca_bundle(authority.cert.pem().as_bytes()), None);
    for broken in [
        &b"junk"[..],
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(check_ca_bundle(broken).is_some());
    }
}

#[test]
fn slices_tell_where_a_service_is_ready() {
    let slice = api::Object::from_value(json!({"ports": [{"name": "https", "port": 9443}], "endpoints": [
        {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
        {"addresses": ["10.0.0.3"]}]}))
    .expect("an object");
    let found: Vec<String> = ready(&slice, "https").iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.1:9443", "10.0.0.3:9443"]);
    assert_eq!(ready(&slice, "other"), Vec::new());
}
