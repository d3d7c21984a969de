//! The documents as their readers follow them: every block of README.md and docs/ that can be pasted is pasted.
//!
//! Guests in C, JavaScript and Python need npm, Python and clang, and their registries; what is missing fails the test.

use std::{process::Stdio, time::Duration};

use e2e::{
    Cluster, Options, Reader,
    document::{self, Kind, Step},
    need_root, repository, until,
};

/// For what needs no downloads.
const SOON: Duration = Duration::from_secs(120);
/// For a toolchain's first download, and a guest that carries a language's engine.
const PATIENT: Duration = Duration::from_secs(480);

#[test]
fn every_block_of_shell_commands_is_pasted_or_says_why_not() {
    let docs = std::fs::read_dir(repository().join("docs")).expect("there are documents");
    let files = docs.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    for file in files.chain([repository().join("README.md")]) {
        let text = std::fs::read_to_string(&file).expect("a text");
        if let Err(error) = document::steps(&text) {
            panic!("{}: {error}", file.display());
        }
    }
}

#[test]
fn make_up_is_all_it_takes() {
    need_root!();
    let reader = Reader::new();
    reader.clone_repository();
    let steps = reader.steps("README.md", "try");
    let [up, down] = steps.as_slice() else {
        panic!("one block that starts the cluster, one that ends it: {steps:?}");
    };
    let said = reader.paste(std::slice::from_ref(up), SOON);
    // The lines to paste are indented.
    let text: String = said
        .lines()
        .filter(|line| line.starts_with("  "))
        .map(|line| format!("{}\n", line.trim()))
        .collect();
    assert!(text.contains("kubectl") && text.contains("curl"), "{said}");
    let said = reader.paste(
        &[Step {
            text,
            kind: Kind::Paste,
            ..up.clone()
        }],
        SOON,
    );
    assert!(said.contains("Running") && said.contains("Hello"), "{said}");
    reader.paste(std::slice::from_ref(down), SOON);
    assert_eq!(reader.left_behind(), [0; 0]);
}

#[test]
fn a_cluster_is_used_as_the_readme_shows() {
    need_root!();
    let reader = Reader::new();
    reader.clone_repository();
    let said = reader.paste(&reader.steps("README.md", "use"), SOON);
    assert!(said.contains("Hello, WebAssembly from hello-"), "{said}");
    assert_eq!(reader.left_behind(), [0; 0]);
}

#[test]
fn a_service_in_rust() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    Reader::of(&cluster).follow("README.md", "rust", PATIENT);
    answers_many(&cluster, "hello-rust", "Hello from Rust");
}

#[test]
fn a_service_in_c() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    Reader::of(&cluster).follow("docs/guests.md", "c", PATIENT);
    answers_many(&cluster, "hello-c", "Hello from C");
}

#[test]
fn a_service_in_python() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    Reader::of(&cluster).follow("docs/guests.md", "python", PATIENT);
    answers_many(&cluster, "hello-python", "Hello from Python");
}

/// The large component shows the rest of what such ones need: compiled once, told of in the pods' events, bounded.
#[test]
fn a_service_in_javascript() {
    need_root!();
    let mut cluster = Cluster::start(Options::default());
    Reader::of(&cluster).follow("docs/guests.md", "javascript", PATIENT);
    answers_many(&cluster, "hello-js", "Hello from JavaScript");
    a_limit_that_is_too_low_is_named(&cluster);
    lost_code_is_compiled_once_and_told_of(&mut cluster);
}

/// Requests of four clients at once are all answered as they should be, each by a fresh instance.
fn answers_many(cluster: &Cluster, name: &str, wanted: &str) {
    let service = cluster.get(&["service", name]);
    let address = service["spec"]["clusterIP"].as_str().expect("an address");
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut curl = cluster.on_machine("curl");
            curl.args(["-sS", "--fail", "--max-time", "60", &format!("http://{address}/[1-50]")]);
            curl.stdout(Stdio::piped()).spawn().expect("curl starts")
        })
        .collect();
    for client in clients {
        let output = client.wait_with_output().expect("curl ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{:?}", output.status);
        assert_eq!(text, format!("{wanted}\n").repeat(50));
    }
}

fn run_pod(cluster: &Cluster, name: &str, limit: &str) {
    cluster
        .apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: main, image: 'hello-js:1', \
             ports: [{{containerPort: 8080}}], resources: {{limits: {{memory: {limit}}}}}}}]}}\n"
        ))
        .ok();
}

fn ready(cluster: &Cluster, name: &str) {
    until("the pod is Ready", PATIENT, || {
        let pod = cluster.get(&["pod", name]);
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.any(|c| c["type"] == "Ready" && c["status"] == "True");
        if ready { Ok(()) } else { Err(pod["status"].to_string()) }
    });
}

fn address(cluster: &Cluster, name: &str) -> String {
    let pod = cluster.get(&["pod", name]);
    format!("http://{}:8080/", pod["status"]["podIP"].as_str().expect("an address"))
}

/// An instance of the engine does not fit into 4 MiB, and the pod says that memory is why it does not run.
fn a_limit_that_is_too_low_is_named(cluster: &Cluster) {
    run_pod(cluster, "small", "4Mi");
    until("the pod says why", SOON, || {
        let pod = cluster.get(&["pod", "small"]);
        let status = pod["status"]["containerStatuses"][0].clone();
        let reasons = [&status["state"], &status["lastState"]].map(|state| state["terminated"]["reason"].clone());
        if reasons.contains(&"OOMKilled".into()) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}

/// Two pods at once need code that is gone, as after an upgrade: it is compiled once, and both say what they wait for. The
/// next pod does not wait.
fn lost_code_is_compiled_once_and_told_of(cluster: &mut Cluster) {
    cluster.stop();
    std::fs::remove_dir_all(cluster.data().join("aot")).expect("the cache of compiled code");
    cluster.up();
    for pod in ["first", "second"] {
        run_pod(cluster, pod, "64Mi");
    }
    for pod in ["first", "second"] {
        ready(cluster, pod);
        assert_eq!(compilations(cluster, pod), 1, "{pod}");
    }
    let made = std::fs::read_dir(cluster.data().join("aot")).expect("the cache is made anew");
    let made = made
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "code"));
    assert_eq!(made.count(), 1);
    run_pod(cluster, "third", "64Mi");
    ready(cluster, "third");
    assert_eq!(compilations(cluster, "third"), 0);
    cluster.curl(&address(cluster, "third")).ok();
}

/// How often a pod was told that its image is compiled.
fn compilations(cluster: &Cluster, pod: &str) -> usize {
    let field = format!("involvedObject.name={pod}");
    let events = cluster.get(&["events", "--field-selector", &field]);
    let events = events["items"].as_array().expect("a list").iter();
    let told = events.filter(|event| event["reason"] == "Compiling");
    told.filter(|event| {
        event["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("Compiling image"))
    })
    .count()
}
