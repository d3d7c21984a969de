//! Admission webhooks in the hands of stock kubectl of both versions: a real server with a certificate of its own that
//! denies, changes, hangs, lies, and is not there.

use std::{process::Command, time::Duration};

use e2e::{Cluster, Going, Options, Output, Tool, need_root, run, until};

/// Where it listens: clusters of a user have their endpoints on loopback.
const PORT: u16 = 8443;

/// Its certificate signs itself, and is for the Service and for the address. As plain openssl makes it, it says of itself
/// that it is an authority.
const CERTIFICATE: &str = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout hook.key -out hook.crt
    -subj /CN=hook.hooks.svc -addext subjectAltName=DNS:hook.hooks.svc,IP:127.0.0.1";

/// What it does is in the path.
const SERVER: &str = r#"
import base64, http.server, json, ssl, sys, time
def patch(response, *steps):
    response["patchType"] = "JSONPatch"
    response["patch"] = base64.b64encode(json.dumps(steps).encode()).decode()
def add(response, data, name, value):
    if name not in data:
        patch(response, {"op": "add", "path": "/data/" + name, "value": value})
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        does = self.path.partition("?")[0]
        response = {"uid": request["uid"], "allowed": True}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        data = (request.get("object") or {}).get("data") or {}
        if does == "/deny":
            response["allowed"] = False
            response["status"] = {"message": "not today", "reason": "Forbidden", "code": 403}
        elif does == "/refuse":
            response["allowed"] = False
        elif does == "/warn":
            response["warnings"] = ["look out"]
        elif does == "/first":
            # Has something to add once the second has been here.
            if "second" in data:
                add(response, data, "first", "again")
        elif does == "/second":
            add(response, data, "second", "dry" if request["dryRun"] else "wet")
        elif does == "/hang":
            time.sleep(60)
        elif does == "/stranger":
            response["uid"] = "of-another-request"
        elif does == "/patch":
            patch(response, {"op": "remove", "path": "/data/nothing"})
        text = json.dumps(review) if does != "/text" else "<html>"
        self.send_response(500 if does == "/fail" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *args):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("hook.crt", "hook.key")
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, address):
        pass
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
server.daemon_threads = True
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("listening", flush=True)
server.serve_forever()
"#;

const SERVICE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: hooks, labels: {hooks: "on"}}
---
apiVersion: v1
kind: Service
metadata: {name: hook, namespace: hooks}
spec: {ports: [{port: 8443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hook, namespace: hooks, labels: {kubernetes.io/service-name: hook}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
ports: [{port: 8443, protocol: TCP}]
"#;

/// A cluster with the server beside it.
struct Stage {
    cluster: Cluster,
    bundle: String,
    server: Option<Going>,
}

impl Stage {
    fn set() -> Self {
        // Its node proxies the Service.
        let cluster = Cluster::start(Options::as_a_user());
        let words: Vec<&str> = CERTIFICATE.split_whitespace().collect();
        run(
            Command::new(words[0]).args(&words[1..]).current_dir(cluster.scratch()),
            "",
        )
        .ok();
        let encode = Command::new("base64")
            .args(["-w0", "hook.crt"])
            .current_dir(cluster.scratch())
            .output();
        let bundle = String::from_utf8(encode.expect("base64 runs").stdout).expect("text");
        cluster.apply(SERVICE).ok();
        let mut stage = Self {
            cluster,
            bundle,
            server: None,
        };
        stage.serve();
        stage
    }

    /// Starts the server, and returns when it listens.
    fn serve(&mut self) {
        let mut python = self.cluster.on_machine("python3");
        python
            .args(["-c", SERVER, &PORT.to_string()])
            .current_dir(self.cluster.scratch());
        let mut server = Going::start(&mut python);
        server.line("listening");
        self.server = Some(server);
    }

    fn kubectl(&self, tool: Tool, arguments: &str, stdin: &str) -> Output {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        self.cluster.kubectl_with(tool, &arguments, stdin)
    }

    /// A configuration of one webhook about ConfigMaps in namespaces that are labelled for it.
    fn configuration(&self, kind: &str, name: &str, does: &str, more: &str) -> String {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}WebhookConfiguration\nmetadata: {{name: {name}}}\n\
             webhooks:\n- name: {name}.example.com\n  admissionReviewVersions: [v1]\n  sideEffects: None\n  \
             namespaceSelector: {{matchLabels: {{hooks: \"on\"}}}}\n  \
             clientConfig: {{url: \"https://127.0.0.1:{PORT}/{does}\", caBundle: {}}}\n  \
             rules: [{{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}}]\n{more}",
            self.bundle
        )
    }

    /// Creates a ConfigMap as a dry run until what kubectl says has the words: configurations are heeded soon, not at once.
    fn until_said(&self, tool: Tool, words: &str) -> Output {
        until(words, Duration::from_secs(20), || {
            let said = self.kubectl(tool, "create -f - --dry-run=server -o yaml", &map("x", "hooks"));
            match format!("{}{}", said.stdout, said.stderr) {
                both if both.contains(words) => Ok(said),
                both => Err(both),
            }
        })
    }

    /// Until one is created, and nothing is said beside.
    fn until_quiet(&self, tool: Tool) {
        until("nobody has a say", Duration::from_secs(20), || {
            let said = self.kubectl(
                tool,
                "create -f - --dry-run=server -o jsonpath={.data}",
                &map("x", "hooks"),
            );
            match (said.success, &*said.stdout, &*said.stderr) {
                (true, r#"{"k":"v"}"#, "") => Ok(()),
                _ => Err(format!("{said:?}")),
            }
        });
    }
}

fn map(name: &str, namespace: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{k: v}}\n")
}

const BOTH: [Tool; 2] = [Tool::Kubectl132, Tool::Kubectl136];

#[test]
fn a_denial_is_shown_as_the_webhook_words_it() {
    need_root!();
    let stage = Stage::set();
    for tool in BOTH {
        let conditions = "  matchConditions: [{name: not-free, expression: \"object.metadata.name != 'free'\"}]\n";
        let deny = stage.configuration("Validating", "deny", "deny", conditions);
        // By its Service, whose name its certificate bears.
        let url = format!("url: \"https://127.0.0.1:{PORT}/deny\"");
        let deny = deny.replace(&url, "service: {namespace: hooks, name: hook, port: 8443, path: /deny}");
        stage.kubectl(tool, "apply -f -", &deny).ok();
        let refused = stage.until_said(tool, "denied").err();
        let words = "Error from server (Forbidden): error when creating \"STDIN\": admission webhook \"deny.example.com\" \
                     denied the request: not today\n";
        assert_eq!(refused, words);
        // Neither what a condition excepts nor what lies elsewhere is asked about.
        let created = stage.kubectl(tool, "create -f - --dry-run=server", &map("free", "hooks"));
        assert_eq!(created.ok(), "configmap/free created (server dry run)\n");
        stage
            .kubectl(tool, "create -f - --dry-run=server", &map("x", "default"))
            .ok();

        let refuse = stage.configuration("Validating", "deny", "refuse", "");
        stage.kubectl(tool, "apply -f -", &refuse).ok();
        let refused = stage.until_said(tool, "without explanation").err();
        let words = "Error from server: error when creating \"STDIN\": admission webhook \"deny.example.com\" denied the \
                     request without explanation\n";
        assert_eq!(refused, words);

        let warn = stage.configuration("Validating", "deny", "warn", "");
        stage.kubectl(tool, "apply -f -", &warn).ok();
        let warned = stage.until_said(tool, "Warning: ");
        assert_eq!((warned.success, &*warned.stderr), (true, "Warning: look out\n"));
        stage.kubectl(tool, "delete -f -", &warn).ok();
        stage.until_quiet(tool);
    }
}

#[test]
fn a_certificate_is_believed_for_its_own_names_alone() {
    need_root!();
    let stage = Stage::set();
    let warn = stage.configuration("Validating", "warn", "warn", "");
    stage.kubectl(Tool::Kubectl136, "apply -f -", &warn).ok();
    stage.until_said(Tool::Kubectl136, "Warning: look out").ok();
    let elsewhere = warn.replace("https://127.0.0.1", "https://localhost");
    stage.kubectl(Tool::Kubectl136, "apply -f -", &elsewhere).ok();
    let refused = stage
        .until_said(Tool::Kubectl136, "not valid for name \"localhost\"")
        .err();
    assert!(refused.contains("failed to call webhook"), "{refused}");
    // A bundle that has another certificate of the same names.
    let words: Vec<&str> = CERTIFICATE.split_whitespace().collect();
    let other = tempfile::tempdir().expect("a directory");
    run(Command::new(words[0]).args(&words[1..]).current_dir(&other), "").ok();
    let encode = Command::new("base64")
        .args(["-w0", "hook.crt"])
        .current_dir(&other)
        .output();
    let bundle = String::from_utf8(encode.expect("base64 runs").stdout).expect("text");
    let stranger = warn.replace(&stage.bundle, &bundle);
    stage.kubectl(Tool::Kubectl136, "apply -f -", &stranger).ok();
    let refused = stage.until_said(Tool::Kubectl136, "invalid peer certificate").err();
    assert!(refused.contains("failed to call webhook"), "{refused}");
}

#[test]
fn mutations_are_seen_and_made_again_where_needed() {
    need_root!();
    let stage = Stage::set();
    for tool in BOTH {
        let second = stage.configuration("Mutating", "second", "second", "");
        stage.kubectl(tool, "apply -f -", &second).ok();
        // A dry run is told to be one.
        stage.until_said(tool, "second: dry").ok();
        let first = stage.configuration("Mutating", "first", "first", "");
        let never = "create -f - --dry-run=server -o jsonpath={.data}";
        stage.kubectl(tool, "apply -f -", &first).ok();
        let once = stage.kubectl(tool, never, &map("x", "hooks")).ok();
        assert_eq!(once, r#"{"k":"v","second":"dry"}"#);
        let again = stage.configuration("Mutating", "first", "first", "  reinvocationPolicy: IfNeeded\n");
        stage.kubectl(tool, "apply -f -", &again).ok();
        stage.until_said(tool, "first: again").ok();
        stage.kubectl(tool, "apply -f -", &map("kept", "hooks")).ok();
        let kept = "get configmap kept -n hooks -o jsonpath={.data}";
        let kept = stage.kubectl(tool, kept, "").ok();
        assert_eq!(kept, r#"{"first":"again","k":"v","second":"wet"}"#);

        stage.kubectl(tool, "delete configmap kept -n hooks", "").ok();
        stage.kubectl(tool, "delete -f -", &first).ok();
        stage.kubectl(tool, "delete -f -", &second).ok();
        stage.until_quiet(tool);
    }
    // Webhooks of this version must say that they have no side effects, or none on dry runs.
    let side_effects = stage
        .configuration("Mutating", "first", "first", "")
        .replace("sideEffects: None", "sideEffects: Some");
    let refused = stage.kubectl(Tool::Kubectl136, "create -f -", &side_effects).err();
    let words = "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"";
    assert!(refused.contains(words), "{refused}");
}

/// What a webhook that is no good does, and the words for it.
const BAD: [(&str, &str); 5] = [
    (
        "hang",
        "failed to call webhook: Post \"https://127.0.0.1:8443/hang?timeout=1s\": context deadline exceeded",
    ),
    (
        "stranger",
        "received invalid webhook response: expected response.uid=\"",
    ),
    ("patch", "Internal error occurred: "),
    (
        "text",
        "failed to call webhook: couldn't get version/kind; json parse error: ",
    ),
    ("fail", "failed to call webhook: an error on the server (\""),
];

#[test]
fn a_webhook_that_hangs_lies_or_is_dead_counts_as_its_policy_says() {
    need_root!();
    let mut stage = Stage::set();
    for (does, words) in BAD {
        let policy = |policy: &str| format!("  failurePolicy: {policy}\n  timeoutSeconds: 1\n");
        let fail = stage.configuration("Mutating", "bad", does, &policy("Fail"));
        stage.kubectl(Tool::Kubectl136, "apply -f -", &fail).ok();
        let refused = stage.until_said(Tool::Kubectl136, words);
        assert!(!refused.success, "{does}: {refused:?}");
        let head = "Error from server (InternalError): error when creating \"STDIN\": Internal error occurred: ";
        assert!(refused.stderr.starts_with(head), "{does}: {}", refused.stderr);
        let ignore = stage.configuration("Mutating", "bad", does, &policy("Ignore"));
        stage.kubectl(Tool::Kubectl136, "apply -f -", &ignore).ok();
        match does {
            // The answer is one, only not one that can be followed: Kubernetes fails whatever the policy says.
            "patch" => drop(stage.until_said(Tool::Kubectl136, words).err()),
            _ => stage.until_quiet(Tool::Kubectl136),
        }
        stage.kubectl(Tool::Kubectl136, "delete -f -", &ignore).ok();
        stage.until_quiet(Tool::Kubectl136);
    }
    let deny = stage.configuration("Validating", "deny", "deny", "");
    stage.kubectl(Tool::Kubectl136, "apply -f -", &deny).ok();
    stage.until_said(Tool::Kubectl136, "not today").err();
    stage.server = None;
    let refused = stage.until_said(Tool::Kubectl136, "failed calling webhook").err();
    let words = "failed calling webhook \"deny.example.com\": failed to call webhook: Post \
                 \"https://127.0.0.1:8443/deny?timeout=10s\": dial tcp 127.0.0.1:8443: connect: connection refused";
    assert!(refused.contains(words), "{refused}");
    // What it forbade goes on when it is back.
    stage.serve();
    stage.until_said(Tool::Kubectl136, "not today").err();
}
