//! TLS in both directions, and users who may not.

use std::{path::Path, process::Command};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use store::{Backend, Outcome, Write};
use store_etcd::{Etcd, OpenError, Options, Tls};

use crate::members::{Cluster, Version, need_etcd};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "etcd-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key of a user or of a member on 127.0.0.1.
    fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params
            .subject_alt_names
            .push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn options(cluster: &Cluster, authority: &Authority, identity: Option<(String, String)>) -> Options {
    Options {
        tls: Some(Tls {
            authority: authority.pem.clone(),
            identity,
        }),
        ..cluster.options()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_in_both_directions_and_refusals_named() {
    let program = need_etcd!(Version::V3_5);
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    let write = |name: &str, (certificate, key): &(String, String)| {
        std::fs::write(path(&format!("{name}.crt")), certificate).unwrap();
        std::fs::write(path(&format!("{name}.key")), key).unwrap();
    };
    std::fs::write(path("ca.crt"), &authority.pem).unwrap();
    let root = authority.sign("root");
    write("member", &authority.sign("member"));
    write("root", &root);
    let flags = [
        ("--cert-file", path("member.crt")),
        ("--key-file", path("member.key")),
        ("--trusted-ca-file", path("ca.crt")),
        ("--client-cert-auth", "true".to_owned()),
    ];
    let flags: Vec<String> = flags.iter().map(|(flag, value)| format!("{flag}={value}")).collect();
    let cluster = Cluster::start(&program, 1, "https", &flags);

    let etcd = cluster
        .connect_with(options(&cluster, &authority, Some(root.clone())))
        .await;
    let written = etcd.write(Write::create("a", "1")).await.unwrap();
    assert!(matches!(written, Outcome::Committed(_)));

    let strangers = [
        options(&cluster, &authority, None),
        options(&cluster, &authority, Some(Authority::new().sign("root"))),
        options(&cluster, &Authority::new(), Some(root.clone())),
    ];
    for options in strangers {
        let error = Etcd::connect(options).await.unwrap_err();
        let words = error.to_string();
        // Which alert an authority that is not known brings depends on what built the etcd.
        let named = words.contains("ertificate") || words.contains("UnknownCA");
        assert!(matches!(error, OpenError::Away { .. }) && named, "{words}");
    }

    let control = |words: &[&str]| control(&program, &cluster, &path, words);
    control(&["user", "add", "root", "--no-password"]);
    control(&["user", "grant-role", "root", "root"]);
    control(&["user", "add", "reader", "--no-password"]);
    control(&["role", "add", "reading"]);
    control(&[
        "role",
        "grant-permission",
        "reading",
        "read",
        "--prefix=true",
        "/wherry/",
    ]);
    control(&["user", "grant-role", "reader", "reading"]);
    control(&["user", "add", "nobody", "--no-password"]);
    control(&["auth", "enable"]);
    let user = |name: &str| options(&cluster, &authority, Some(authority.sign(name)));
    let error = Etcd::connect(user("nobody")).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { .. }), "{error}");
    assert!(
        error.to_string().contains("permission denied") && error.to_string().contains("\"/wherry/\""),
        "{error}"
    );
    let reader = Etcd::connect(user("reader")).await.unwrap();
    assert!(reader.get("a").await.unwrap().value.is_some());
    let error = reader.write(Write::create("b", "1")).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("permission denied"), "{error}: {cause}");
    Etcd::connect(user("root")).await.unwrap();
}

fn control(etcd: &Path, cluster: &Cluster, path: &impl Fn(&str) -> String, words: &[&str]) {
    let output = Command::new(etcd.with_file_name("etcdctl"))
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &cluster.members[0].client])
        .args([
            "--cacert",
            &path("ca.crt"),
            "--cert",
            &path("root.crt"),
            "--key",
            &path("root.key"),
        ])
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
