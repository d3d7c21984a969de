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
