//! The kubelet API of a node, as administrators and collectors reach it through the API server; and the node's certificates.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use e2e::{Cluster, Options, need_root, repository, run, until};

const MINUTE: Duration = Duration::from_secs(60);

fn node(cluster: &Cluster) -> String {
    cluster.get(&["nodes"])["items"][0]["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned()
}

#[test]
fn a_node_tells_its_configuration_its_logs_and_its_probes() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    let proxy = format!("/api/v1/nodes/{}/proxy", node(&cluster));
    let raw = |path: &str| cluster.kubectl(&["get", "--raw", &format!("{proxy}/{path}")]);
    let configz: serde_json::Value = serde_json::from_str(&raw("configz").ok()).expect("JSON");
    let config = &configz["kubeletconfig"];
    assert_eq!(
        (&config["port"], &config["clusterDomain"]),
        (&10250.into(), &"cluster.local".into())
    );
    assert_eq!(config["authorization"]["mode"], "Webhook");
    assert!(config["maxPods"].as_i64().is_some_and(|pods| pods > 100), "{config}");

    // A file of this test's own: what else lies there is the machine's.
    let name = format!("wherry-e2e-{}.log", std::process::id());
    let file = std::path::Path::new("/var/log").join(&name);
    std::fs::write(&file, "one\ntwo\n").expect("a log");
    let listed = raw("logs/");
    let content = raw(&format!("logs/{name}"));
    let queried = raw(&format!("logs/?query=/{name}"));
    let service = raw(&format!("logs/?query={}", name.trim_end_matches(".log")));
    let refused = raw("logs/?query=kubelet&boot=1");
    let outside = raw("logs/../../etc/passwd");
    std::fs::remove_file(&file).expect("it was there");
    assert!(listed.ok().contains(&format!("<a href=\"{name}\">{name}</a>")));
    for answer in [content, queried, service] {
        assert_eq!(answer.ok(), "one\ntwo\n");
    }
    let why = refused.err();
    // What is wrong with it stands in the answer, of which kubectl shows the code.
    assert!(why.contains("BadRequest"), "{why}");
    assert!(!outside.success && !outside.stdout.contains("root:"), "{outside:?}");

    let refused = cluster.kubectl_with(
        e2e::Tool::Kubectl136,
        &["create", "--raw", &format!("{proxy}/checkpoint/default/p/c"), "-f", "-"],
        "{}",
    );
    let why = refused.err();
    assert!(why.contains("could not find the requested resource"), "{why}");

    cluster
        .load(&repository().join("tests/workloads/http-hello.wasm"), "hello:1")
        .ok();
    let pod = r"
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  containers:
  - name: hello
    image: 'hello:1'
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
";
    cluster.apply(pod).ok();
    cluster
        .kubectl(&["wait", "pod/probed", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    let probes = raw("metrics/probes").ok();
    let counted = probes.lines().find(|line| {
        line.starts_with("prober_probe_total{container=\"hello\",namespace=\"default\",pod=\"probed\"")
            && line.contains("probe_type=\"Readiness\",result=\"successful\"")
    });
    assert!(counted.is_some(), "{probes}");
    let metrics = raw("metrics").ok();
    let made = |suffix: &str| format!("kubelet_runtime_operations_{suffix}{{operation_type=\"run_podsandbox\"}} ");
    for head in [made("total"), made("duration_seconds_count")] {
        assert!(metrics.contains(&format!("{head}1\n")), "{head} {metrics}");
    }
}

#[test]
fn a_node_gets_certificates_of_its_own_and_keeps_them() {
    need_root!();
    let mut cluster = Cluster::start(Options::default());
    let pki = cluster.data().join("pki");
    let read = |name: &str| std::fs::read_to_string(pki.join(name)).unwrap_or_default();
    let files = ["kubelet-client-current.pem", "kubelet-server-current.pem"];
    until("both certificates are there", MINUTE, || {
        match files.iter().all(|file| !read(file).is_empty()) {
            true => Ok(()),
            false => Err(cluster.kubectl(&["get", "csr"]).stdout),
        }
    });
    for file in files {
        let mode = std::fs::metadata(pki.join(file)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let requests = cluster.kubectl(&["get", "csr"]).ok();
    for signer in ["kube-apiserver-client-kubelet", "kubelet-serving"] {
        let issued = |line: &&str| line.contains(signer) && line.contains("Approved,Issued");
        assert_eq!(requests.lines().filter(issued).count(), 1, "{requests}");
    }
    // The one is the node's identity to the API.
    let name = node(&cluster);
    let own = pki.join("kubelet-client-current.pem").display().to_string();
    let kubeconfig = std::fs::read_to_string(cluster.kubeconfig()).expect("a kubeconfig");
    let lines = kubeconfig
        .lines()
        .filter(|line| !line.contains("client-certificate-data") && !line.contains("client-key-data"));
    let lines: Vec<String> = lines
        .map(|line| match line.trim() == "user:" {
            true => format!("{line}\n    client-certificate: {own}\n    client-key: {own}"),
            false => line.to_owned(),
        })
        .collect();
    let as_node = cluster.scratch().join("node-kubeconfig");
    std::fs::write(&as_node, lines.join("\n")).expect("written");
    let who = cluster.kubectl(&[
        "--kubeconfig",
        &as_node.display().to_string(),
        "auth",
        "whoami",
        "-o",
        "json",
    ]);
    let who: serde_json::Value = serde_json::from_str(&who.ok()).expect("JSON");
    assert_eq!(who["status"]["userInfo"]["username"], format!("system:node:{name}"));
    // By the other the kubelet API is known, and goes on being known.
    let shown = || {
        let mut command = cluster.on_machine("curl");
        let address = cluster.get(&["nodes"])["items"][0]["status"]["addresses"][0]["address"].clone();
        let url = format!("https://{}:10250/healthz", address.as_str().expect("an address"));
        command.args(["-sk", "--max-time", "10", "-o", "/dev/null", "-w", "%{certs}", &url]);
        e2e::run(&mut command, "").stdout
    };
    let kept = read("kubelet-server-current.pem");
    let certificate = kept
        .split("-----END CERTIFICATE-----")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    assert!(!certificate.is_empty() && shown().contains(&certificate), "{}", shown());
    cluster
        .kubectl(&["get", "--raw", &format!("/api/v1/nodes/{name}/proxy/healthz")])
        .ok();
    let before = files.map(read);
    assert!(cluster.stop());
    cluster.up();
    assert_eq!(files.map(read), before, "nothing is asked for again");
    cluster
        .kubectl(&["get", "--raw", &format!("/api/v1/nodes/{name}/proxy/healthz")])
        .ok();
    // Another node's serving certificate is not approved by itself.
    assert_eq!(cluster.kubectl(&["get", "csr", "-o", "name"]).ok().lines().count(), 2);
}

/// Makes journals of text, in place of the services that a test does not have.
const JOURNAL_WRITER: &str = "/lib/systemd/systemd-journal-remote";

/// A directory with a journal, and a `journalctl` that reads it: the machine's own, pointed there.
fn journal(entries: &[(&str, u32, &str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let entry = |(boot, second, unit, message): &(&str, u32, &str, &str)| {
        format!(
            "__REALTIME_TIMESTAMP=17672256{second:02}000000\n__MONOTONIC_TIMESTAMP={second}000000\n_BOOT_ID={}\n\
             _MACHINE_ID={}\n_SYSTEMD_UNIT={unit}.service\nSYSLOG_IDENTIFIER={unit}\n_HOSTNAME=n\nMESSAGE={message}\n\n",
            boot.repeat(32),
            "c".repeat(32)
        )
    };
    let text: String = entries.iter().map(entry).collect();
    let file = directory.path().join("test.journal");
    run(Command::new(JOURNAL_WRITER).arg("-o").arg(&file).arg("-"), &text).ok();
    let reader = directory.path().join("journalctl");
    let script = format!("#!/bin/sh\nexec /usr/bin/journalctl --file={} \"$@\"\n", file.display());
    fs::write(&reader, script).expect("a script");
    fs::set_permissions(&reader, fs::Permissions::from_mode(0o755)).expect("it is ours");
    directory
}

#[test]
fn a_node_shows_the_journal_of_its_services() {
    need_root!();
    if !Path::new(JOURNAL_WRITER).exists() {
        eprintln!("SKIPPED: systemd-journal-remote is not installed");
        return;
    }
    let journal = journal(&[
        ("a", 0, "wherry", "before the boot"),
        ("b", 10, "wherry", "first"),
        ("b", 11, "wherry", "second"),
        ("b", 12, "other", "somebody else"),
    ]);
    let path = std::env::var("PATH").unwrap_or_default();
    let cluster = Cluster::start(Options {
        environment: vec![("PATH".into(), format!("{}:{path}", journal.path().display()))],
        ..Options::default()
    });
    let node = node(&cluster);
    for (query, said) in [
        // This kubelet's lines are its service's, whatever that is called.
        ("query=kubelet", "10 n wherry: first\n11 n wherry: second\n"),
        ("query=wherry&boot=-1", "00 n wherry: before the boot\n"),
        (
            "query=kubelet&query=other&tailLines=2",
            "11 n wherry: second\n12 n other: somebody else\n",
        ),
        ("query=kubelet&pattern=FIRS.", "10 n wherry: first\n"),
        ("query=kubelet&sinceTime=2026-01-01T00:00:11Z", "11 n wherry: second\n"),
        ("query=kubelet&untilTime=2026-01-01T00:00:10Z", "10 n wherry: first\n"),
        ("query=nobody", "\nlog not found for nobody\n"),
    ] {
        let answer = cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/logs/?{query}")]);
        let text = answer.ok().replace("Jan 01 00:00:", "").replace(".000000", "");
        assert_eq!(text, said, "{query}");
    }
}
