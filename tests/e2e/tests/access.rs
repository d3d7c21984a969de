//! Who may, as stock kubectl meets it: a certificate that is asked for and approved, a bootstrap token, the audit log.

use std::process::Command;

use e2e::{Cluster, Options, Output, Tool, control_plane, need_root};

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]
- level: Metadata
  resources: [{group: "", resources: [secrets]}]
- level: RequestResponse
  resources: [{group: "", resources: [configmaps]}]
  userGroups: ["system:masters"]
"#;

fn kubectl(cluster: &Cluster, tool: Tool, arguments: &str, stdin: &str) -> Output {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    cluster.kubectl_with(tool, &arguments, stdin)
}

/// Makes a key and a request for a certificate, with openssl; gives the request in base64 as one line.
fn key_and_request(directory: &std::path::Path, name: &str) -> String {
    let script = format!(
        "openssl req -new -newkey rsa:2048 -nodes -keyout {name}.key -subj /O=dev/O=ops/CN={name} 2>/dev/null | base64 -w0"
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(directory).output();
    String::from_utf8(output.expect("openssl runs").stdout).expect("base64")
}

#[test]
fn an_approved_request_is_a_working_kubeconfig() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    for (tool, name) in [(Tool::Kubectl132, "jane"), (Tool::Kubectl136, "joe")] {
        let request = key_and_request(cluster.scratch(), name);
        let manifest = format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\nspec:\n  \
             request: {request}\n  signerName: kubernetes.io/kube-apiserver-client\n  expirationSeconds: 3600\n  \
             usages: [client auth]\n"
        );
        kubectl(&cluster, tool, "create -f -", &manifest).ok();
        let listed = kubectl(&cluster, tool, "get csr", "").ok();
        assert!(listed.contains("Pending"), "{listed}");
        let approved = kubectl(&cluster, tool, &format!("certificate approve {name}"), "").ok();
        assert!(approved.contains("approved"), "{approved}");
        let certificate = format!("wait csr/{name} --for=jsonpath={{.status.certificate}} --timeout=30s");
        kubectl(&cluster, tool, &certificate, "").ok();
        let listed = kubectl(&cluster, tool, "get csr", "").ok();
        assert!(listed.contains("Approved,Issued"), "{listed}");
        let field = format!("get csr {name} -o jsonpath={{.status.certificate}}");
        let pem = cluster.scratch().join(format!("{name}.crt"));
        let decode = format!("base64 -d > {}", pem.display());
        let field = kubectl(&cluster, tool, &field, "").ok();
        let mut child = Command::new("sh")
            .args(["-c", &decode])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        std::io::Write::write_all(&mut child.stdin.take().expect("its input"), field.as_bytes()).expect("it reads");
        assert!(child.wait().expect("it ends").success());
        let key = cluster.scratch().join(format!("{name}.key"));
        let credentials = format!(
            "config set-credentials {name} --client-certificate={} --client-key={}",
            pem.display(),
            key.display()
        );
        kubectl(&cluster, tool, &credentials, "").ok();
        let whoami = kubectl(&cluster, tool, &format!("--user={name} auth whoami"), "").ok();
        for part in [name, "dev", "ops", "system:authenticated"] {
            assert!(whoami.contains(part), "{part} is missing:\n{whoami}");
        }
    }
    kubectl(&cluster, Tool::Kubectl136, "certificate deny jane", "").err();
}

#[test]
fn a_bootstrap_token_lets_in_until_its_end() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    let tool = Tool::Kubectl136;
    let create = "-n kube-system create secret generic bootstrap-token-abcdef --type=bootstrap.kubernetes.io/token \
         --from-literal=token-id=abcdef --from-literal=token-secret=0123456789abcdef \
         --from-literal=usage-bootstrap-authentication=true";
    kubectl(&cluster, tool, create, "").ok();
    kubectl(
        &cluster,
        tool,
        "config set-credentials machine --token=abcdef.0123456789abcdef",
        "",
    )
    .ok();
    let whoami = kubectl(&cluster, tool, "--user=machine auth whoami", "").ok();
    assert!(
        whoami.contains("system:bootstrap:abcdef") && whoami.contains("system:bootstrappers"),
        "{whoami}"
    );
    let ended = r#"{"stringData":{"expiration":"2020-01-01T00:00:00Z"}}"#;
    kubectl(
        &cluster,
        tool,
        &format!("-n kube-system patch secret bootstrap-token-abcdef -p {ended}"),
        "",
    )
    .ok();
    let wait = "-n kube-system wait --for=delete secret/bootstrap-token-abcdef --timeout=30s";
    kubectl(&cluster, tool, wait, "").ok();
    kubectl(&cluster, tool, "--user=machine auth whoami", "").err();
}

#[test]
fn the_audit_log_says_who_did_what() {
    need_root!();
    let scratch = tempfile::tempdir().expect("a directory");
    let (policy, log) = (scratch.path().join("policy.yaml"), scratch.path().join("audit.log"));
    std::fs::write(&policy, POLICY).expect("a policy");
    let mut arguments = control_plane().arguments;
    arguments.extend([
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log.display()),
    ]);
    let mut cluster = Cluster::start(Options {
        arguments,
        ..control_plane()
    });
    let tool = Tool::Kubectl136;
    kubectl(&cluster, tool, "create configmap seen --from-literal=a=b", "").ok();
    kubectl(
        &cluster,
        tool,
        "create secret generic hidden --from-literal=a=hunter2",
        "",
    )
    .ok();
    assert!(cluster.stop());
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(!text.contains("aHVudGVyMg"), "a secret is in the log");
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"))
        .collect();
    let created = |name: &str| {
        let is = |event: &&serde_json::Value| event["objectRef"]["name"] == name && event["verb"] == "create";
        events
            .iter()
            .find(is)
            .unwrap_or_else(|| panic!("{name} is missing:\n{text}"))
    };
    let map = created("seen");
    assert_eq!(map["user"]["username"], "kubernetes-admin");
    assert_eq!(map["stage"], "ResponseComplete");
    assert_eq!(map["responseStatus"]["code"], 201);
    assert_eq!(map["responseObject"]["data"]["a"], "b");
    let secret = created("hidden");
    assert_eq!(secret["level"], "Metadata");
    assert_eq!(secret.get("requestObject"), None);
}

/// Makes an issuer of tokens in a directory: its certificate, its key, and the documents that lead to the key.
const ISSUER: &str = r#"
set -e
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=authority -days 2 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -subj /CN=issuer -CA ca.crt -CAkey ca.key \
  -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -days 2 2>/dev/null
openssl genrsa -out signing.key 2048 2>/dev/null
modulus=$(openssl rsa -in signing.key -noout -modulus | cut -d= -f2 | sed 's/../\\x&/g')
n=$(printf "$modulus" | base64 -w0 | tr '+/' '-_' | tr -d =)
mkdir -p .well-known
echo '{"issuer": "https://127.0.0.1:8443", "jwks_uri": "https://127.0.0.1:8443/keys"}' > .well-known/openid-configuration
echo '{"keys": [{"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256", "e": "AQAB", "n": "'$n'"}]}' > keys
"#;

/// Signs a token of it.
const TOKEN: &str = r#"
set -e
encode() { base64 -w0 | tr '+/' '-_' | tr -d =; }
head=$(printf '{"alg": "RS256", "kid": "one"}' | encode)
signed=$head.$(printf '%s' "$CLAIMS" | encode)
printf '%s.%s' "$signed" "$(printf '%s' "$signed" | openssl dgst -sha256 -sign signing.key -binary | encode)"
"#;

fn bash(directory: &std::path::Path, script: &str, claims: &str) -> String {
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .current_dir(directory)
        .env("CLAIMS", claims);
    e2e::run(&mut command, "").ok()
}

#[test]
fn tokens_of_an_issuer_let_in_once_it_is_there() {
    need_root!();
    let issuer = tempfile::tempdir().expect("a directory");
    bash(issuer.path(), ISSUER, "");
    let authority = std::fs::read_to_string(issuer.path().join("ca.crt")).expect("a certificate");
    let configuration = |prefix: &str| {
        serde_json::json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": [{"issuer": {"url": "https://127.0.0.1:8443", "audiences": ["wherry"], "certificateAuthority": authority},
                "claimMappings": {"username": {"claim": "sub", "prefix": prefix},
                    "groups": {"expression": "claims.roles.map(role, 'role:' + role)"}}}],
            "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}]}})
        .to_string()
    };
    let file = issuer.path().join("authentication.json");
    std::fs::write(&file, configuration("oidc:")).expect("a configuration");
    let mut arguments = control_plane().arguments;
    arguments.push(format!("--authentication-config={}", file.display()));
    let cluster = Cluster::start(Options {
        arguments,
        ..control_plane()
    });
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time")
        .as_secs();
    let claims = |audience: &str, end: u64| {
        let issuer = "https://127.0.0.1:8443";
        serde_json::json!({"iss": issuer, "aud": audience, "sub": "jane", "exp": end, "roles": ["dev"]}).to_string()
    };
    let tool = Tool::Kubectl136;
    for (user, audience, end) in [
        ("jane", "wherry", now + 3600),
        ("late", "wherry", now - 3600),
        ("other", "another", now + 3600),
    ] {
        let token = bash(issuer.path(), TOKEN, &claims(audience, end));
        kubectl(
            &cluster,
            tool,
            &format!("config set-credentials {user} --token={token}"),
            "",
        )
        .ok();
    }
    // The issuer is away: nobody else notices.
    let refused = kubectl(&cluster, tool, "--user=jane auth whoami", "").err();
    assert!(
        refused.contains("Unauthorized") || refused.contains("logged in"),
        "{refused}"
    );
    kubectl(&cluster, tool, "auth whoami", "").ok();
    let mut server = cluster
        .on_machine("openssl")
        .args([
            "s_server",
            "-accept",
            "127.0.0.1:8443",
            "-cert",
            "tls.crt",
            "-key",
            "tls.key",
            "-WWW",
            "-quiet",
        ])
        .current_dir(issuer.path())
        .stdin(std::process::Stdio::null())
        .spawn()
        .expect("an issuer");
    let whoami = |has: &str| {
        let said = kubectl(&cluster, tool, "--user=jane auth whoami", "");
        match said.stdout.contains(has) {
            true => Ok(said.stdout),
            false => Err(said.stderr),
        }
    };
    let patience = std::time::Duration::from_secs(60);
    let said = e2e::until("the token of a known issuer", patience, || whoami("oidc:jane"));
    assert!(
        said.contains("role:dev") && said.contains("system:authenticated"),
        "{said}"
    );
    kubectl(&cluster, tool, "--user=late auth whoami", "").err();
    kubectl(&cluster, tool, "--user=other auth whoami", "").err();
    let forbidden = kubectl(&cluster, tool, "--user=jane get pods", "").err();
    assert!(
        forbidden.contains(
            "User \"oidc:jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        ),
        "{forbidden}"
    );
    kubectl(
        &cluster,
        tool,
        "create rolebinding dev --clusterrole=view --group=role:dev",
        "",
    )
    .ok();
    e2e::until("the binding", patience, || {
        let allowed = kubectl(&cluster, tool, "--user=jane auth can-i list pods", "");
        match allowed.stdout.trim() {
            "yes" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    let anybody = |path: &str| cluster.curl_insecure(&format!("https://127.0.0.1:6443{path}"));
    assert_eq!(anybody("/livez").ok(), "ok");
    assert!(anybody("/version").err().contains("401"), "no longer for everybody");
    std::fs::write(&file, configuration("new:")).expect("a configuration");
    e2e::until("the changed configuration", patience, || whoami("new:jane"));
    std::fs::write(&file, "kind: Nothing").expect("a configuration");
    e2e::until("a word about it", patience, || {
        match cluster.log_text().contains("the one before stays in force") {
            true => Ok(()),
            false => Err("nothing is said".to_owned()),
        }
    });
    whoami("new:jane").expect("what was stays in force");
    server.kill().expect("it ends");
    server.wait().expect("it has ended");
}

#[test]
fn the_server_says_how_it_is_and_binds_by_the_older_way() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    for tool in [Tool::Kubectl132, Tool::Kubectl136] {
        let verbose = kubectl(&cluster, tool, "get --raw /readyz?verbose&exclude=etcd", "").ok();
        for line in [
            "[+]ping ok",
            "[+]etcd excluded: ok",
            "[+]poststarthook/rbac/bootstrap-roles ok",
            "readyz check passed",
        ] {
            assert!(
                verbose.lines().any(|said| said == line),
                "{line} is missing:\n{verbose}"
            );
        }
        assert_eq!(kubectl(&cluster, tool, "get --raw /livez/etcd", "").ok(), "ok");
        let root = kubectl(&cluster, tool, "get --raw /", "").ok();
        for path in [
            "/openid/v1/jwks",
            "/.well-known/openid-configuration",
            "/openapi/v2",
            "/readyz/etcd",
        ] {
            assert!(root.contains(&format!("\"{path}\"")), "{path} is missing:\n{root}");
        }
        let offered = kubectl(&cluster, tool, "api-resources --no-headers", "").ok();
        assert!(offered.lines().any(|line| line.starts_with("bindings ")), "{offered}");
    }
    let tool = Tool::Kubectl136;
    let objects = "{apiVersion: v1, kind: Node, metadata: {name: late}}\n---\n\
         {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}\n";
    kubectl(&cluster, tool, "create -f -", objects).ok();
    let binding = r#"{"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "late"}}"#;
    kubectl(
        &cluster,
        tool,
        "create --raw /api/v1/namespaces/default/bindings -f -",
        binding,
    )
    .ok();
    let bound = kubectl(&cluster, tool, "get pod p -o jsonpath={.spec.nodeName}", "").ok();
    assert_eq!(bound, "late");
    let taints = kubectl(&cluster, tool, "get node late -o jsonpath={.spec.taints[*].effect}", "").ok();
    assert_eq!(
        taints, "NoSchedule",
        "nothing is evicted from a node that has not spoken yet"
    );
}
