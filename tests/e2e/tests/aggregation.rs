//! Another API server behind an APIService, in the hands of stock kubectl: a small one in Python that believes whoever the
//! cluster says that it believes.

use std::{path::Path, process::Command, time::Duration};

use e2e::{Cluster, Going, Options, Tool, need_root, run, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// Where it listens: clusters of a user have their endpoints on loopback.
const PORT: u16 = 8443;

/// Its certificate must be for the Service.
const CERTIFICATES: &str = "set -e; curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'
    openssl req -x509 $curve -keyout ca.key -out ca.crt -subj /CN=servers
    openssl req $curve -keyout server.key -out server.csr -subj /CN=sample
    echo subjectAltName=DNS:sample.wardle.svc > server.ext
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out server.crt -extfile server.ext";

const SERVER: &str = r#"
import http.server, json, ssl, sys, time
FLUNDERS = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1", "resources": [
    {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["get", "list", "watch"]}]}
def flunder(user):
    return {"apiVersion": "wardle.example.com/v1", "kind": "Flunder", "metadata": {"name": "f", "namespace": "default",
        "uid": "1", "resourceVersion": "1", "annotations": {"asked-by": user}}}
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        user = self.headers.get("X-Remote-User", "nobody")
        path, _, query = self.path.partition("?")
        if path == "/apis/wardle.example.com/v1":
            body = FLUNDERS
        elif path.endswith("/flunders") and "watch=" in query:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            for name in ["one", "two"]:
                event = flunder(user)
                event["metadata"]["name"] = name
                self.wfile.write((json.dumps({"type": "ADDED", "object": event}) + "\n").encode())
                self.wfile.flush()
            time.sleep(600)
            return
        elif path.endswith("/flunders"):
            body = {"apiVersion": "wardle.example.com/v1", "kind": "FlunderList", "metadata": {"resourceVersion": "1"},
                "items": [flunder(user)]}
        elif path.endswith("/flunders/f"):
            body = flunder(user)
        else:
            body = None
        code = 200 if body else 404
        text = json.dumps(body or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
            "message": "not found"}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *args):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.crt", "server.key")
context.load_verify_locations("front-proxy.crt")
context.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.daemon_threads = True
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

const SERVICE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: wardle}
---
apiVersion: v1
kind: Service
metadata: {name: sample, namespace: wardle}
spec: {ports: [{name: https, port: 443, targetPort: 8443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sample, namespace: wardle, labels: {kubernetes.io/service-name: sample}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
ports: [{name: https, port: 8443, protocol: TCP}]
"#;

fn serve(cluster: &Cluster) -> Going {
    let mut python = cluster.on_machine("python3");
    python
        .args(["-c", SERVER, &PORT.to_string()])
        .current_dir(cluster.scratch());
    Going::start(&mut python)
}

fn make_certificates(directory: &Path) {
    run(Command::new("sh").args(["-c", CERTIFICATES]).current_dir(directory), "").ok();
}

fn api_service(directory: &Path) -> String {
    let bundle = run(
        Command::new("base64").args(["-w0", "ca.crt"]).current_dir(directory),
        "",
    )
    .ok();
    format!(
        "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {{name: v1.wardle.example.com}}\n\
         spec: {{group: wardle.example.com, version: v1, groupPriorityMinimum: 2000, versionPriority: 200,\n\
         \x20 service: {{namespace: wardle, name: sample}}, caBundle: {}}}\n",
        bundle.trim()
    )
}

/// Waits until kubectl prints something.
fn prints(cluster: &Cluster, tool: Tool, arguments: &[&str], expected: &str) {
    until(expected, PATIENCE, || {
        let output = cluster.kubectl_with(tool, arguments, "");
        let said = if output.success { output.stdout } else { output.stderr };
        if said.contains(expected) { Ok(()) } else { Err(said) }
    });
}

#[test]
fn another_server_answers_for_a_group() {
    need_root!();
    let mut options = Options::as_a_user();
    options.arguments.push("--no-node".to_owned());
    let cluster = Cluster::start(options);
    prints(&cluster, Tool::Kubectl136, &["get", "apiservices"], "v1.apps");
    let local = cluster.kubectl(&["get", "apiservice", "v1.apps", "--no-headers"]).ok();
    assert_eq!(
        local.split_whitespace().take(3).collect::<Vec<_>>(),
        ["v1.apps", "Local", "True"]
    );

    // The server believes whom the cluster tells it to believe.
    make_certificates(cluster.scratch());
    let believed = "jsonpath={.data.requestheader-client-ca-file}";
    let map = [
        "get",
        "configmap",
        "extension-apiserver-authentication",
        "-n",
        "kube-system",
        "-o",
        believed,
    ];
    std::fs::write(cluster.scratch().join("front-proxy.crt"), cluster.kubectl(&map).ok()).expect("a file");
    cluster.apply(&api_service(cluster.scratch())).ok();
    prints(
        &cluster,
        Tool::Kubectl136,
        &["get", "apiservice", "v1.wardle.example.com"],
        "False (ServiceNotFound)",
    );
    cluster.apply(SERVICE).ok();
    prints(
        &cluster,
        Tool::Kubectl136,
        &["get", "apiservice", "v1.wardle.example.com"],
        "False (FailedDiscoveryCheck)",
    );
    let server = serve(&cluster);
    let wait = [
        "wait",
        "--for=condition=Available",
        "apiservice/v1.wardle.example.com",
        "--timeout=60s",
    ];
    cluster.kubectl(&wait).ok();

    for tool in [Tool::Kubectl132, Tool::Kubectl136] {
        prints(
            &cluster,
            tool,
            &["api-resources", "--api-group=wardle.example.com"],
            "flunders",
        );
        prints(
            &cluster,
            tool,
            &["get", "flunders", "-o", "name"],
            "flunder.wardle.example.com/f",
        );
        prints(
            &cluster,
            tool,
            &["get", "flunder", "f", "-o", "yaml"],
            "asked-by: kubernetes-admin",
        );
    }
    let watch = [
        "get",
        "--raw",
        "/apis/wardle.example.com/v1/flunders?watch=true",
        "--request-timeout=3s",
    ];
    let heard = cluster.kubectl(&watch);
    assert!(
        heard.stdout.contains(r#""name": "two""#),
        "{}{}",
        heard.stdout,
        heard.stderr
    );

    // While it is away, namespaces wait, and nothing of ours is touched.
    drop(server);
    prints(
        &cluster,
        Tool::Kubectl136,
        &["get", "apiservice", "v1.wardle.example.com"],
        "False (FailedDiscoveryCheck)",
    );
    let refused = cluster
        .kubectl(&["get", "--raw", "/apis/wardle.example.com/v1/flunders"])
        .err();
    assert!(
        refused.contains("the server is currently unable to handle the request"),
        "{refused}"
    );
    cluster.kubectl(&["create", "namespace", "doomed"]).ok();
    cluster.kubectl(&["delete", "namespace", "doomed", "--wait=false"]).ok();
    let condition = r#"jsonpath={.status.conditions[?(@.type=="NamespaceDeletionDiscoveryFailure")].message}"#;
    prints(
        &cluster,
        Tool::Kubectl136,
        &["get", "namespace", "doomed", "-o", condition],
        "wardle.example.com/v1: stale GroupVersion discovery: wardle.example.com/v1",
    );
    cluster.kubectl(&["delete", "apiservice", "v1.wardle.example.com"]).ok();
    cluster
        .kubectl(&["wait", "--for=delete", "namespace/doomed", "--timeout=60s"])
        .ok();
}
