//! Images from registries: Debian's `docker-registry` beside the cluster, in the clear and behind TLS, up and down, open
//! and closed; and what becomes of images when the disk fills.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use e2e::{Cluster, Options, kill, need_root, oci::Image, repository, run, until};
use nix::sys::signal::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(90);
/// `secret`, as bcrypt keeps it.
const PASSWORD: &str = "user:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// A registry on the cluster's machine; what was pushed outlives the process.
struct Registry {
    process: Option<Child>,
    address: String,
    config: PathBuf,
}

/// How a registry is guarded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    Open,
    /// TLS by an authority of its own, `ca.crt` in its directory, and a password.
    Closed,
}

impl Registry {
    fn start(cluster: &Cluster, port: u16, guard: Guard) -> Self {
        let directory = cluster.scratch().join(format!("registry-{port}"));
        fs::create_dir_all(&directory).expect("a directory");
        let place = directory.display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {place}/content}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n"
        );
        if guard == Guard::Closed {
            fs::write(directory.join("users"), PASSWORD).expect("a file");
            certify(&directory);
            config.push_str(&format!(
                "  tls: {{certificate: {place}/server.crt, key: {place}/server.key}}\n"
            ));
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {place}/users}}}}\n"));
        }
        let file = directory.join("config.yml");
        fs::write(&file, config).expect("a file");
        let mut registry = Self {
            process: None,
            address: format!("127.0.0.1:{port}"),
            config: file,
        };
        registry.up(cluster);
        registry
    }

    fn directory(&self) -> &Path {
        self.config.parent().expect("a file lies in a directory")
    }

    fn up(&mut self, cluster: &Cluster) {
        let log = fs::File::create(self.directory().join("log")).expect("a log file");
        let mut command = cluster.on_machine("docker-registry");
        command
            .arg("serve")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(command.spawn().expect("docker-registry is installed"));
        until("the registry listens", SOON, || {
            let probe = format!("exec 3<>/dev/tcp/{}", self.address.replace(':', "/"));
            let output = run(cluster.on_machine("bash").args(["-c", &probe]), "");
            if output.success { Ok(()) } else { Err(output.stderr) }
        });
    }

    fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            kill(process.id(), Signal::SIGKILL);
            let _ = process.wait();
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.down();
    }
}

/// A certificate for 127.0.0.1, by an authority made for it.
fn certify(directory: &Path) {
    let script = "set -eu; cd \"$1\"
        curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'
        openssl req -x509 $curve -keyout ca.key -out ca.crt -subj /CN=test-authority
        openssl req $curve -keyout server.key -out server.csr -subj /CN=registry
        printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth\\n' > server.ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out server.crt -extfile server.ext";
    run(Command::new("bash").args(["-c", script, "certify"]).arg(directory), "").ok();
}

fn hello() -> PathBuf {
    repository().join("examples/hello/hello.wasm")
}

fn run_pod(cluster: &Cluster, name: &str, image: &str, more: &str) {
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{terminationGracePeriodSeconds: 1{more}, containers: [{{name: main, image: '{image}', ports: [{{containerPort: 8080}}]}}]}}\n"
    );
    cluster.apply(&manifest).ok();
}

fn wait_ready(cluster: &Cluster, pod: &str) {
    let pod = format!("pod/{pod}");
    cluster
        .kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=90s"])
        .ok();
}

/// The waiting message of a pod's container, once the reason is one of these.
fn waiting(cluster: &Cluster, pod: &str, reasons: &[&str]) -> String {
    until("the container waits", SOON, || {
        let pod = cluster.get(&["pod", pod]);
        let waiting: &Value = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        let reason = waiting["reason"].as_str().unwrap_or_default();
        match reasons.contains(&reason) {
            true => Ok(waiting["message"].as_str().unwrap_or_default().to_owned()),
            false => Err(pod["status"].to_string()),
        }
    })
}

/// Waits until the pod's events, as `kubectl` shows them, hold all of these.
fn told(cluster: &Cluster, pod: &str, expected: &[&str]) {
    let field = format!("involvedObject.name={pod}");
    until("the pod's events", SOON, || {
        let columns = "custom-columns=REASON:.reason,MESSAGE:.message";
        let events = cluster
            .kubectl(&["get", "events", "--field-selector", &field, "-o", columns])
            .ok();
        let events = events.split_whitespace().collect::<Vec<_>>().join(" ");
        match expected.iter().find(|text| !events.contains(**text)) {
            None => Ok(()),
            Some(missing) => Err(format!("{missing:?} is not in: {events}")),
        }
    });
}

#[test]
fn in_the_clear_on_loopback_is_pushed_to_and_pulled_from_and_recovers() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    let mut registry = Registry::start(&cluster, 5000, Guard::Open);
    let image = format!("{}/team/hello", registry.address);
    let push = |tag: &str| {
        run(
            cluster.wherry("image push").arg(hello()).arg(format!("{image}:{tag}")),
            "",
        )
    };
    let pushed = push("1").ok();
    assert!(pushed.contains(&format!("as {image}:1 (sha256:")), "{pushed}");

    run_pod(&cluster, "web", &format!("{image}:1"), "");
    wait_ready(&cluster, "web");
    let pulling = format!("Pulling Pulling image \"{image}:1\"");
    let pulled = format!("Pulled Successfully pulled image \"{image}:1\" in ");
    told(
        &cluster,
        "web",
        &[&pulling, &pulled, "including waiting). Image size: "],
    );
    let address = cluster.get(&["pod", "web"])["status"]["podIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    cluster.curl(&format!("http://{address}:8080/")).ok();

    run_pod(&cluster, "second", &format!("{image}:1"), "");
    wait_ready(&cluster, "second");
    told(
        &cluster,
        "second",
        &[&format!("Container image \"{image}:1\" already present on machine")],
    );

    // A second client finds what was pushed, and what it copies runs.
    let (from, to) = (
        format!("docker://{image}:1"),
        format!("docker://{}/copied:1", registry.address),
    );
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    run(
        cluster.on_machine("skopeo").arg("copy").args(tls).args([&from, &to]),
        "",
    )
    .ok();
    run_pod(&cluster, "copied", &format!("{}/copied:1", registry.address), "");
    wait_ready(&cluster, "copied");

    run_pod(&cluster, "early", &format!("{image}:2"), "");
    let message = waiting(&cluster, "early", &["ErrImagePull", "ImagePullBackOff"]);
    let absent = format!("failed to resolve reference \"{image}:2\": not found");
    assert!(message.contains(&absent), "{message}");
    registry.down();
    run_pod(&cluster, "down", &format!("{image}:3"), "");
    let message = waiting(&cluster, "down", &["ImagePullBackOff"]);
    let back_off = format!("Back-off pulling image \"{image}:3\": ErrImagePull: ");
    let refused = format!("cannot reach http://{}: Connection refused", registry.address);
    assert!(
        message.starts_with(&back_off) && message.contains(&refused),
        "{message}"
    );
    told(
        &cluster,
        "down",
        &[
            &format!("Failed Failed to pull image \"{image}:3\": "),
            "Failed Error: ErrImagePull",
            &format!("BackOff Back-off pulling image \"{image}:3\""),
            "Failed Error: ImagePullBackOff",
        ],
    );
    registry.up(&cluster);
    push("2").ok();
    push("3").ok();
    wait_ready(&cluster, "early");
    wait_ready(&cluster, "down");
}

#[test]
fn behind_tls_with_a_password_is_used_with_its_authority_and_pull_secrets() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    let registry = Registry::start(&cluster, 5443, Guard::Closed);
    let image = "registry.example/team/hello";
    let folder = cluster.data().join("certs.d/registry.example");
    fs::create_dir_all(&folder).expect("a directory");
    let server = format!("server = \"https://{}\"\n", registry.address);
    fs::write(folder.join("hosts.toml"), &server).expect("a file");

    run_pod(&cluster, "distrustful", &format!("{image}:1"), "");
    let message = waiting(&cluster, "distrustful", &["ErrImagePull", "ImagePullBackOff"]);
    assert!(message.contains("invalid peer certificate: UnknownIssuer"), "{message}");

    fs::copy(registry.directory().join("ca.crt"), folder.join("ca.crt")).expect("a copy");
    fs::write(folder.join("hosts.toml"), format!("{server}ca = \"ca.crt\"\n")).expect("a file");
    let push = |arguments: &[&str]| {
        let mut command = cluster.wherry("image push");
        command
            .args(arguments)
            .arg(hello())
            .arg(format!("{image}:1"))
            .env("HOME", cluster.scratch());
        run(&mut command, "secret\n")
    };
    let refused = push(&[]).err();
    assert!(
        refused.contains("pull access denied") || refused.contains("authorization failed"),
        "{refused}"
    );
    push(&["--username", "user", "--password-stdin"]).ok();

    run_pod(&cluster, "stranger", &format!("{image}:1"), "");
    let message = waiting(&cluster, "stranger", &["ErrImagePull", "ImagePullBackOff"]);
    let denied = "pull access denied, repository does not exist or may require authorization";
    assert!(message.contains(denied), "{message}");

    for (name, password) in [("wrong", "guess"), ("right", "secret")] {
        let (server, password) = (
            "--docker-server=registry.example",
            format!("--docker-password={password}"),
        );
        let user = "--docker-username=user";
        cluster
            .kubectl(&["create", "secret", "docker-registry", name, server, user, &password])
            .ok();
    }
    run_pod(
        &cluster,
        "own-secrets",
        &format!("{image}:1"),
        ", imagePullSecrets: [{name: wrong}, {name: right}]",
    );
    wait_ready(&cluster, "own-secrets");
    let patch = r#"{"imagePullSecrets": [{"name": "right"}]}"#;
    cluster
        .kubectl(&["patch", "serviceaccount", "default", "-p", patch])
        .ok();
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: of-account}}\nspec: {{containers: [{{name: main, image: '{image}:1', imagePullPolicy: Always}}]}}\n"
    );
    cluster.apply(&manifest).ok();
    wait_ready(&cluster, "of-account");
    told(&cluster, "of-account", &["Successfully pulled image"]);
}

#[test]
fn images_of_the_node_are_listed_inspected_and_removed() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    cluster.load(&hello(), "hello:1").ok();
    let lacking = cluster.load(&repository().join("tests/workloads/missing-import.wasm"), "lacking:1");
    assert!(lacking.success && lacking.stdout.starts_with("loaded "), "{lacking:?}");
    assert!(
        lacking.stderr.contains("warning: ") && lacking.stderr.contains("acme:billing/api"),
        "{lacking:?}"
    );

    let listed = run(&mut cluster.wherry("image ls"), "").ok();
    assert!(listed.starts_with("IMAGE "), "{listed}");
    assert!(
        listed.contains("docker.io/library/hello ") && listed.contains("docker.io/library/lacking "),
        "{listed}"
    );
    let json: Value = serde_json::from_str(&run(&mut cluster.wherry("image ls -o json"), "").ok()).expect("JSON");
    assert_eq!(json["images"].as_array().map(Vec::len), Some(2), "{json}");

    let inspect = |what: &str| {
        let text = run(cluster.wherry("image inspect -o json").arg(what), "").ok();
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let (of_image, of_file) = (inspect("hello:1"), inspect(hello().to_str().expect("a path")));
    assert_eq!(of_image["digest"], of_file["digest"]);
    assert_eq!(of_image["image"]["tags"][0], "docker.io/library/hello:1");
    assert!(
        of_file["worlds"][0]
            .as_str()
            .is_some_and(|world| world.starts_with("wasi:http/proxy@0.2")),
        "{of_file}"
    );
    let lacking = inspect("lacking:1");
    assert!(lacking["missing"].to_string().contains("acme:billing/api"), "{lacking}");
    let text = run(cluster.wherry("image inspect").arg("lacking:1"), "").ok();
    assert!(text.contains("Lacking here: "), "{text}");

    run_pod(&cluster, "web", "hello:1", "");
    wait_ready(&cluster, "web");
    let in_use = run(cluster.wherry("image rm").arg("hello:1"), "").err();
    assert!(in_use.contains("it is in use by container"), "{in_use}");
    run(cluster.wherry("image rm").arg("lacking:1"), "").ok();
    let absent = run(cluster.wherry("image rm").arg("lacking:1"), "").err();
    assert!(absent.contains("image \"lacking:1\" not found"), "{absent}");
}

/// A module with this many bytes of nothing in it.
fn module_of(bytes: usize) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0\0".to_vec();
    let mut length = bytes + 1;
    while length >= 0x80 {
        module.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    module.push(u8::try_from(length).expect("seven bits"));
    module.push(0);
    module.resize(module.len() + bytes, 0);
    module
}

#[test]
fn a_disk_that_fills_costs_the_images_that_nothing_uses() {
    need_root!();
    let mut cluster = Cluster::start(Options {
        arguments: vec!["--image-gc-high-threshold=85".into()],
        disk: Some(96),
        ..Options::default()
    });
    let large = cluster.scratch().join("large.wasm");
    fs::write(&large, module_of(12 << 20)).expect("a file");
    cluster.load(&large, "large:1").ok();
    cluster.load(&hello(), "hello:1").ok();
    run_pod(&cluster, "web", "hello:1", "");
    wait_ready(&cluster, "web");
    // What is there when an agent starts counts as old.
    cluster.stop();
    cluster.up();
    let used = |data: &Path| {
        let output = run(Command::new("df").args(["--output=used", "-BM"]).arg(data), "").ok();
        let last = output
            .lines()
            .last()
            .unwrap_or_default()
            .trim()
            .trim_end_matches('M')
            .to_owned();
        last.parse::<usize>().expect("df prints a number")
    };
    let filler = (96 * 87 / 100_usize).saturating_sub(used(&cluster.data()));
    fs::write(cluster.data().join("filler"), vec![0_u8; filler << 20]).expect("it fits");
    until("the large image goes", SOON, || {
        let listed = run(&mut cluster.wherry("image ls"), "").ok();
        if listed.contains("/large ") {
            Err(listed)
        } else {
            Ok(())
        }
    });
    let listed = run(&mut cluster.wherry("image ls"), "").ok();
    assert!(listed.contains("/hello "), "an image in use stays: {listed}");
    assert!(used(&cluster.data()) < 96 * 85 / 100);
    let address = cluster.get(&["pod", "web"])["status"]["podIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    cluster.curl(&format!("http://{address}:8080/")).ok();
}

#[test]
fn an_image_of_a_container_is_pulled_by_containerd_and_one_of_wasm_is_not() {
    need_root!();
    let cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    let registry = Registry::start(&cluster, 5000, Guard::Open);
    let file = Image::web("pulled").write(cluster.scratch(), "web");
    let name = format!("{}/team/web:1", registry.address);
    let mut push = cluster.on_machine("skopeo");
    push.args(["copy", "--dest-tls-verify=false"])
        .arg(format!("oci-archive:{}", file.display()))
        .arg(format!("docker://{name}"));
    run(&mut push, "").ok();
    run_pod(&cluster, "web", &name, "");
    wait_ready(&cluster, "web");
    told(
        &cluster,
        "web",
        &["Pulling image", "Successfully pulled image", "Started container"],
    );
    let ip = cluster.get(&["pod", "web"])["status"]["podIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    let answer = cluster.curl(&format!("http://{ip}:8080/")).ok();
    assert!(answer.contains("pulled"), "{answer}");
}
