//! The cluster's own image registry: programs are pushed to it, run from it, kept from those who may not see them, and
//! deleted; stock clients speak to it.

use std::{path::PathBuf, process::Command, time::Duration};

use e2e::{Cluster, Options, control_plane, need_root, repository, run, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(90);
const SERVER: &str = "https://127.0.0.1:6443";

fn hello() -> PathBuf {
    repository().join("examples/hello/hello.wasm")
}

fn workload(name: &str) -> PathBuf {
    repository().join("tests/workloads").join(name)
}

fn push(cluster: &Cluster, file: PathBuf, name: &str) -> e2e::Output {
    let kubeconfig = cluster.kubeconfig();
    let mut command = cluster.wherry("image push");
    run(command.arg("--kubeconfig").arg(kubeconfig).arg(file).arg(name), "")
}

fn pod(name: &str, namespace: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{terminationGracePeriodSeconds: 1, containers: [{{name: main, image: '{image}', imagePullPolicy: Always, ports: [{{containerPort: 8080}}]}}]}}\n"
    )
}

/// curl that trusts the cluster; what it prints ends with the code.
fn curl(cluster: &Cluster, arguments: &[&str], path: &str) -> String {
    let mut command = cluster.on_machine("curl");
    command.args(["-sS", "--max-time", "20", "-w", "\n%{http_code}", "--cacert"]);
    command.arg(cluster.data().join("pki/ca.crt")).args(arguments);
    run(command.arg(format!("{SERVER}{path}")), "").ok()
}

fn token(cluster: &Cluster, account: &str, role: Option<&str>) -> String {
    cluster.kubectl(&["create", "serviceaccount", account]).ok();
    if let Some(role) = role {
        let subject = format!("--serviceaccount=default:{account}");
        let role = format!("--clusterrole={role}");
        cluster
            .kubectl(&["create", "rolebinding", account, &role, &subject])
            .ok();
    }
    cluster.kubectl(&["create", "token", account]).ok().trim().to_owned()
}

#[test]
fn what_is_pushed_runs_and_is_seen_by_those_who_may() {
    need_root!();
    let mut cluster = Cluster::start(Options::default());
    let image = "wherry.internal/default/hello:1";
    let pushed = push(&cluster, hello(), image).ok();
    assert!(pushed.contains(&format!("as {image} (sha256:")), "{pushed}");
    let listed = cluster.kubectl(&["get", "images"]).ok();
    let row = listed
        .lines()
        .find(|line| line.starts_with("hello:1"))
        .expect("it is listed");
    assert!(row.contains("component") && row.contains("wasi:http/proxy"), "{row}");

    cluster.apply(&pod("web", "default", image)).ok();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=90s"])
        .ok();
    let address = cluster.get(&["pod", "web"])["status"]["podIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    cluster.curl(&format!("http://{address}:8080/")).ok();

    // Another namespace's pods do not run it, though the node has it.
    cluster.kubectl(&["create", "namespace", "other"]).ok();
    let refused = cluster.apply(&pod("thief", "other", image)).err();
    assert!(
        refused.contains("pods run images of their own namespace only"),
        "{refused}"
    );
    // The node reads what its pods name, by its certificate, and nothing else.
    push(&cluster, hello(), "wherry.internal/default/secret:1").ok();
    let pki = cluster.data().join("pki");
    let node = [
        pki.join("node.crt").display().to_string(),
        pki.join("node.key").display().to_string(),
    ];
    let node = ["--cert", &node[0], "--key", &node[1]];
    assert!(curl(&cluster, &node, "/v2/default/hello/manifests/1").ends_with("\n200"));
    let refused = curl(&cluster, &node, "/v2/default/secret/manifests/1");
    assert!(
        refused.contains("\"DENIED\"") && refused.ends_with("\n403"),
        "{refused}"
    );
    let delete = [&["-X", "DELETE"][..], &node].concat();
    assert!(curl(&cluster, &delete, "/v2/default/hello/manifests/1").ends_with("\n403"));
    // Nobody comes unknown.
    let unknown = curl(&cluster, &["-i"], "/v2/");
    assert!(
        unknown.to_lowercase().contains("www-authenticate: basic") && unknown.ends_with("\n401"),
        "{unknown}"
    );
    assert!(curl(&cluster, &[], "/v2/default/hello/manifests/1").ends_with("\n401"));

    // A reader lists and may not push; RBAC knows the kind.
    let reader = token(&cluster, "reader", Some("view"));
    let user = format!("anything:{reader}");
    let tags = curl(&cluster, &["-u", &user], "/v2/default/hello/tags/list");
    let tags: String = tags.split_whitespace().collect();
    assert_eq!(tags, "{\"name\":\"default/hello\",\"tags\":[\"1\"]}200");
    let refused = curl(
        &cluster,
        &["-u", &user, "-X", "POST"],
        "/v2/default/hello/blobs/uploads/",
    );
    assert!(
        refused.contains("cannot create resource \\\"images\\\"") && refused.ends_with("\n403"),
        "{refused}"
    );
    let may = |verb: &str, who: &str| {
        cluster
            .kubectl(&["auth", "can-i", verb, "images.registry.wherry.dev", "--as", who])
            .stdout
    };
    assert_eq!(may("list", "system:serviceaccount:default:reader").trim(), "yes");
    assert_eq!(may("create", "system:serviceaccount:default:reader").trim(), "no");

    // It outlives a restart, and goes when it is deleted; then a new pod is told so.
    assert!(cluster.stop());
    cluster.up();
    cluster.apply(&pod("again", "default", image)).ok();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/again", "--timeout=90s"])
        .ok();
    cluster.kubectl(&["delete", "image", "hello:1"]).ok();
    cluster.kubectl(&["delete", "pod", "again"]).ok();
    cluster.apply(&pod("late", "default", image)).ok();
    until("the pod waits", SOON, || {
        let status: Value = cluster.get(&["pod", "late"])["status"].take();
        let text = status.to_string();
        let absent = format!("failed to resolve reference \\\"{image}\\\": not found");
        if text.contains(&absent) { Ok(()) } else { Err(text) }
    });
    // A namespace takes its images along.
    push(&cluster, hello(), "wherry.internal/other/hello:1").ok();
    cluster.kubectl(&["delete", "namespace", "other", "--timeout=60s"]).ok();
    assert_eq!(
        cluster.kubectl(&["get", "images", "-A", "-o", "name"]).ok().trim(),
        "image.registry.wherry.dev/secret:1"
    );
}

#[test]
fn what_cannot_run_or_does_not_fit_is_refused_and_leaves_nothing() {
    need_root!();
    let mut arguments = control_plane().arguments;
    arguments.extend(["--image-size-limit=200Ki", "--image-registry-limit=400Ki"].map(str::to_owned));
    let cluster = Cluster::start(Options {
        arguments,
        ..control_plane()
    });
    let name = "wherry.internal/default/bad:1";
    let missing = push(&cluster, workload("missing-import.wasm"), name).err();
    assert!(
        missing.contains("bad:1 was not stored, since it cannot run"),
        "{missing}"
    );
    let inspected = run(cluster.wherry("image inspect").arg(workload("missing-import.wasm")), "").stdout;
    let lacking = inspected
        .split_whitespace()
        .find(|word| missing.contains(word) && word.contains([':', '.']));
    assert!(lacking.is_some(), "what is missing is named: {missing}\n{inspected}");
    for file in ["not-wasm.wasm", "truncated.wasm"] {
        push(&cluster, workload(file), name).err();
    }
    let large = cluster.scratch().join("large.wasm");
    std::fs::write(&large, vec![0; 200 * 1024 + 1]).expect("a file");
    let refused = push(&cluster, large, name).err();
    assert!(
        refused.contains("an image may have 200 KiB (see --image-size-limit)"),
        "{refused}"
    );
    let left = |directory: &str| {
        let directory = cluster.data().join("registry").join(directory);
        std::fs::read_dir(directory).expect("it is there").count()
    };
    assert_eq!((left("blobs/sha256"), left("uploads")), (0, 0));
    let mut pushed = 0;
    let full = loop {
        let more = cluster.scratch().join("more.wasm");
        let mut program = std::fs::read(hello()).expect("a program");
        // A custom section makes it another program.
        program.extend([0, 2, 1, b'a' + pushed]);
        std::fs::write(&more, program).expect("a file");
        let output = push(&cluster, more, &format!("wherry.internal/default/hello:{pushed}"));
        if !output.success {
            break output.err();
        }
        pushed += 1;
    };
    assert!(
        pushed > 0 && full.contains("the image registry is full: it holds"),
        "{full}"
    );
    cluster.kubectl(&["delete", "images", "--all"]).ok();
    assert_eq!((left("blobs/sha256"), left("uploads")), (0, 0));
    push(&cluster, hello(), "wherry.internal/default/hello:1").ok();
}

#[test]
fn stock_clients_push_and_pull() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    let certificates = cluster.scratch().join("certs");
    std::fs::create_dir(&certificates).expect("a directory");
    std::fs::copy(cluster.data().join("pki/ca.crt"), certificates.join("ca.crt")).expect("a certificate");
    let creator = token(&cluster, "creator", Some("edit"));
    let credentials = format!("anything:{creator}");
    push(&cluster, hello(), "wherry.internal/default/hello:1").ok();
    let skopeo = |arguments: &[&str]| {
        let mut command: Command = cluster.on_machine("skopeo");
        run(command.args(["--insecure-policy", "copy"]).args(arguments), "")
    };
    let layout = format!("oci:{}", cluster.scratch().join("layout").display());
    let directory = certificates.display().to_string();
    let at = |name: &str| format!("docker://127.0.0.1:6443/default/{name}");
    skopeo(&[
        "--src-creds",
        &credentials,
        "--src-cert-dir",
        &directory,
        &at("hello:1"),
        &layout,
    ])
    .ok();
    skopeo(&[
        "--dest-creds",
        &credentials,
        "--dest-cert-dir",
        &directory,
        &layout,
        &at("copied:2"),
    ])
    .ok();
    let digest = |name: &str| {
        cluster.get(&["image", name])["status"]["digest"]
            .as_str()
            .map(str::to_owned)
    };
    assert!(digest("hello:1").is_some() && digest("hello:1") == digest("copied:2"));
    let refused = skopeo(&[
        "--src-creds",
        "a:b",
        "--src-cert-dir",
        &directory,
        &at("hello:1"),
        &layout,
    ])
    .err();
    assert!(
        refused.to_lowercase().contains("unauthorized") || refused.contains("authentication"),
        "{refused}"
    );
}
