//! Programs of the operator's that say who asks and what they may: an authentication and an authorization webhook, in the
//! hands of stock kubectl of both versions.

use std::{path::Path, process::Command, time::Duration};

use e2e::{Cluster, Going, Options, Output, Tool, control_plane, need_root, run, until};

const CERTIFICATE: &str =
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout hook.key
    -out hook.crt -subj /CN=hook -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";

/// Knows one token, and lets whoever it belongs to read ConfigMaps; forbids Secrets in so many words.
const SERVER: &str = r#"
import http.server, json, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        spec = review["spec"]
        if self.path.startswith("/tokens"):
            known = spec["token"] == "let-me-in"
            review["status"] = {"authenticated": known}
            if known:
                review["status"]["user"] = {"username": "jane", "groups": ["readers"], "extra": {"example.com/from": ["afar"]}}
        else:
            asked = spec.get("resourceAttributes", {})
            reads = "readers" in spec.get("groups", []) and asked.get("verb") in ("get", "list")
            allowed = reads and asked.get("resource") == "configmaps"
            denied = reads and asked.get("resource") == "secrets"
            review["status"] = {"allowed": allowed, "denied": denied, "reason": "secrets are nobody's business" if denied else ""}
        text = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *args):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("hook.crt", "hook.key")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Handler)
server.daemon_threads = True
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("listening", flush=True)
server.serve_forever()
"#;

fn serve(cluster: &Cluster, directory: &Path) -> Going {
    let mut python = cluster.on_machine("python3");
    let mut server = Going::start(python.args(["-c", SERVER]).current_dir(directory));
    server.line("listening");
    server
}

/// A kubeconfig file, which is how Kubernetes is told where such a program is.
fn configuration(directory: &Path, path: &str) -> String {
    let file = directory.join(format!("{path}.yaml"));
    let authority = directory.join("hook.crt");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: \
         \"https://127.0.0.1:8443/{path}\", certificate-authority: {}}}}}]\ncontexts: [{{name: c, context: {{cluster: c, \
         user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n",
        authority.display()
    );
    std::fs::write(&file, text).expect("a file");
    file.display().to_string()
}

#[test]
fn they_say_who_asks_and_what_they_may() {
    need_root!();
    let directory = tempfile::tempdir().expect("a directory");
    let words: Vec<&str> = CERTIFICATE.split_whitespace().collect();
    run(
        Command::new(words[0]).args(&words[1..]).current_dir(directory.path()),
        "",
    )
    .ok();
    let mut options: Options = control_plane();
    options.arguments.extend([
        format!(
            "--authentication-token-webhook-config-file={}",
            configuration(directory.path(), "tokens")
        ),
        "--authentication-token-webhook-version=v1".to_owned(),
        "--authentication-token-webhook-cache-ttl=1s".to_owned(),
        "--authorization-mode=Node,Webhook,RBAC".to_owned(),
        format!(
            "--authorization-webhook-config-file={}",
            configuration(directory.path(), "access")
        ),
        "--authorization-webhook-version=v1".to_owned(),
        "--authorization-webhook-cache-authorized-ttl=1s".to_owned(),
        "--authorization-webhook-cache-unauthorized-ttl=1s".to_owned(),
    ]);
    let cluster = Cluster::start(options);
    // The cluster starts without them, and its administrators are not asked about.
    cluster.kubectl(&["create", "configmap", "one"]).ok();
    for (user, token) in [("jane", "let-me-in"), ("joe", "let-me-in-too")] {
        let token = format!("--token={token}");
        cluster.kubectl(&["config", "set-credentials", user, &token]).ok();
    }
    let server = serve(&cluster, directory.path());
    for tool in [Tool::Kubectl132, Tool::Kubectl136] {
        let with = |arguments: &str| -> Output {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            cluster.kubectl_with(tool, &arguments, "")
        };
        let whoami = until("the program is asked", Duration::from_secs(30), || {
            let said = with("--user=jane auth whoami");
            if said.success {
                Ok(said.stdout)
            } else {
                Err(said.stderr)
            }
        });
        for part in ["jane", "readers", "system:authenticated", "afar"] {
            assert!(whoami.contains(part), "{part} is missing:\n{whoami}");
        }
        with("--user=joe auth whoami").err();
        with("--user=jane get configmap one").ok();
        // Neither the program nor a role allows it.
        let refused = with("--user=jane get pods").err();
        let words = "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\" in API \
                     group \"\" in the namespace \"default\"";
        assert!(refused.starts_with(words), "{refused}");
        let denied = with("--user=jane get secrets").err();
        assert!(denied.contains("secrets are nobody's business"), "{denied}");
        let may = |what: &str| with(&format!("--user=jane auth can-i {what}")).stdout;
        assert_eq!(may("list configmaps").trim(), "yes");
        assert!(may("list secrets").starts_with("no"), "{}", may("list secrets"));
    }
    drop(server);
    // Without it nobody whom only it knows comes in, and everybody else does.
    until("its answers have grown old", Duration::from_secs(30), || {
        let said = cluster.kubectl(&["--user=jane", "get", "configmap", "one"]);
        if said.success { Err(said.stdout) } else { Ok(()) }
    });
    cluster.kubectl(&["get", "configmap", "one"]).ok();
}
