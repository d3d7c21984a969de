//! What kubectl is told about manifests that are wrong, as Kubernetes words it; nothing of them is stored.

use e2e::{Cluster, control_plane, need_root};

/// A manifest and parts of what kubectl must print, all of them.
struct Case {
    what: &'static str,
    manifest: String,
    says: &'static [&'static str],
}

fn case(what: &'static str, manifest: impl Into<String>, says: &'static [&'static str]) -> Case {
    Case {
        what,
        manifest: manifest.into(),
        says,
    }
}

fn pod(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: bad}}\nspec: {spec}\n")
}

fn cases() -> Vec<Case> {
    let deep = format!("{}1{}", "{\"a\":".repeat(20_000), "}".repeat(20_000));
    vec![
        case(
            "an unknown field",
            pod("{containers: [{name: a, image: b, imagePullPolicyy: Always}]}"),
            &["strict decoding error: unknown field \"spec.containers[0].imagePullPolicyy\""],
        ),
        case(
            "a wrong type",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {replicas: many}\n",
            &["cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field"],
        ),
        case(
            "every error at once",
            pod("{containers: [{name: A_B, image: '', ports: [{containerPort: 70000}]}], restartPolicy: Sometimes}"),
            &[
                "The Pod \"bad\" is invalid",
                "spec.containers[0].name: Invalid value: \"A_B\"",
                "spec.containers[0].image: Required value",
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        ),
        case(
            "a bad quantity",
            pod("{containers: [{name: a, image: b, resources: {limits: {memory: 1x}}}]}"),
            &["quantities must match the regular expression"],
        ),
        case(
            "a request above its limit",
            pod("{containers: [{name: a, image: b, resources: {requests: {cpu: 2}, limits: {cpu: 1}}}]}"),
            &["must be less than or equal to cpu limit of 1"],
        ),
        case(
            "a bad name",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n",
            &["metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of"],
        ),
        case(
            "an absent namespace",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad, namespace: nowhere}\n",
            &["namespaces \"nowhere\" not found"],
        ),
        case(
            "a selector that misses its template",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {selector: {matchLabels: {a: b}}, \
             template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a, image: b}]}}}\n",
            &["`selector` does not match template `labels`"],
        ),
        case(
            "a huge body",
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: bad}}\ndata: {{a: {}}}\n",
                "x".repeat(4 << 20)
            ),
            &["Request entity too large: limit is 3145728"],
        ),
        case(
            "deep nesting",
            format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","data":{deep}}}"#),
            &["error"],
        ),
    ]
}

#[test]
fn is_refused_in_kubernetes_words_and_stores_nothing() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    for case in cases() {
        let said = cluster
            .kubectl_with(
                e2e::Tool::Kubectl136,
                &["create", "--validate=strict", "-f", "-"],
                &case.manifest,
            )
            .err();
        for part in case.says {
            assert!(said.contains(part), "{}: expected {part:?} in: {said}", case.what);
        }
    }
    for kind in ["pods", "configmaps", "deployments"] {
        let left = cluster
            .kubectl(&["get", kind, "bad", "--ignore-not-found", "-o", "name"])
            .ok();
        assert_eq!(left, "", "{kind}: nothing may be stored");
    }
    assert_eq!(cluster.kubectl(&["get", "--raw", "/readyz"]).ok(), "ok");
    assert!(!cluster.log_text().contains("panicked"), "{}", cluster.log_text());
}

#[test]
fn raw_bodies_get_a_status_that_names_the_problem() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    let file = cluster.scratch().join("body.json");
    let path = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict";
    let deep = format!("{}1{}", "{\"a\":".repeat(20_000), "}".repeat(20_000));
    let huge = format!(
        r#"{{"metadata":{{"name":"bad"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(4 << 20)
    );
    let table: [(&str, String, &str); 5] = [
        (
            "duplicate",
            r#"{"metadata":{"name":"bad"},"data":{"a":"1","a":"2"}}"#.into(),
            "duplicate field \"data.a\"",
        ),
        (
            "deep",
            format!(r#"{{"metadata":{{"name":"bad"}},"unknown":{deep}}}"#),
            "unknown field \"unknown\"",
        ),
        ("huge", huge, "limit is 3145728"),
        ("truncated", r#"{"metadata":{"name":"#.into(), "unexpected end"),
        ("empty", String::new(), ""),
    ];
    for (what, body, says) in table {
        std::fs::write(&file, body).expect("a scratch file");
        let name = file.to_str().expect("a path in UTF-8");
        let said = cluster.kubectl(&["create", "--raw", path, "-f", name]).err();
        assert!(said.contains(says), "{what}: expected {says:?} in: {said}");
    }
    assert!(!cluster.log_text().contains("panicked"), "{}", cluster.log_text());
}

/// Kilobytes of a process that are in memory.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let line = line.expect("a size").trim();
    line.trim_end_matches(" kB").parse().expect("a number")
}

/// Asks over and over with an address of so many bytes, and prints the status of each answer.
const ASKS: &str = r#"
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
for length in map(int, sys.argv[1:]):
    for nth in range(20):
        connection = context.wrap_socket(socket.create_connection(("127.0.0.1", 6443)))
        path = "/api/v1/configmaps?labelSelector=a%20in%20(" + "x," * (length // 2) + "x)"
        answer = b""
        try:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        except OSError:
            pass # It need not be read to the end.
        try:
            while part := connection.recv(65536):
                answer += part
        except OSError:
            pass
        print(length, (answer.split(b" ") + [b"", b""])[1].decode())
        connection.close()
"#;

/// Longer than the longest address that is read, which is 64 KiB, and than the head of a request may be.
const LONG: [&str; 3] = ["70000", "300000", "1000000"];

#[test]
fn addresses_without_end_are_refused_and_cost_nothing() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    let server = cluster.server_pid();
    // What is served: as many terms as kubectl can be given.
    let terms: Vec<String> = (0..6000).map(|nth| format!("!k{nth}")).collect();
    cluster.kubectl(&["create", "configmap", "chosen"]).ok();
    let chosen = cluster
        .kubectl(&["get", "configmaps", "-o", "name", "-l", &terms.join(",")])
        .ok();
    assert!(chosen.contains("configmap/chosen"), "{chosen}");

    let before = resident(server);
    let mut python = cluster.on_machine("python3");
    let said = e2e::run(python.args(["-c", ASKS]).args(LONG), "").ok();
    assert_eq!(said.lines().count(), 20 * LONG.len(), "{said}");
    let refused = |line: &str| ["414", "431"].iter().any(|code| line.ends_with(code));
    assert!(said.lines().all(refused), "{said}");
    let after = resident(server);
    println!("{before} kB before, {after} kB after 60 addresses of up to a megabyte");
    assert!(after < before + 40_000, "{before} kB became {after} kB");
    cluster.kubectl(&["get", "configmap", "chosen"]).ok();
    assert!(!cluster.log_text().contains("panicked"), "{}", cluster.log_text());
}
