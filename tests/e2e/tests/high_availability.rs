//! Three control planes on three etcd members, as docs/operations.md starts them: one member and two control planes die
//! under a client that retries.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use e2e::{Output, Reader, etcd, kill, need_root, repository, run, until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// For three members and three control planes to start.
const START: Duration = Duration::from_secs(120);
/// A lease of 15 seconds, and what an election takes on a busy machine.
const FAILOVER: Duration = Duration::from_secs(40);

/// Runs kubectl against control plane `nth`, 1 to 3.
fn kubectl(reader: &Reader, nth: usize, arguments: &[&str]) -> Output {
    let kubeconfig = format!("wherry-{nth}/kubeconfig");
    let mut command = reader.command("kubectl");
    command
        .args(["--kubeconfig", &kubeconfig, "--request-timeout", "10s"])
        .args(arguments);
    run(&mut command, "")
}

fn get(reader: &Reader, nth: usize, arguments: &[&str]) -> Result<Value, String> {
    let output = kubectl(reader, nth, &[arguments, &["-o", "json"]].concat());
    match output.success {
        true => serde_json::from_str(&output.stdout).map_err(|error| error.to_string()),
        false => Err(output.stderr),
    }
}

/// Creates one ConfigMap after the other, each at whichever control plane takes it; answers how many there are.
fn client(reader: Arc<Reader>, stop: Arc<AtomicBool>) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut made = 0;
        let mut nth = 0;
        while !stop.load(Ordering::SeqCst) {
            let name = format!("map-{made:04}");
            let started = Instant::now();
            loop {
                let output = kubectl(&reader, nth % 3 + 1, &["create", "configmap", &name]);
                // One whose answer was lost is there when it is tried again.
                if output.success || output.stderr.contains("AlreadyExists") || output.stderr.contains("already exists")
                {
                    made += 1;
                    break;
                }
                assert!(started.elapsed() < FAILOVER, "nobody takes {name}: {}", output.stderr);
                nth += 1;
            }
        }
        made
    })
}

fn holder(reader: &Reader, nth: usize, lease: &str) -> Result<String, String> {
    let lease = get(reader, nth, &["get", "lease", "-n", "kube-system", lease])?;
    lease["spec"]["holderIdentity"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| "nobody".to_owned())
}

/// Control planes by number.
fn control_planes(reader: &Reader) -> BTreeMap<usize, u32> {
    numbered(reader.left_behind(), "wherry-")
}

fn members(reader: &Reader) -> BTreeMap<usize, u32> {
    numbered(
        reader.processes(&etcd().canonicalize().expect("etcd is there")),
        "etcd-",
    )
}

/// Processes by the number behind `mark` on their command line.
fn numbered(pids: Vec<u32>, mark: &str) -> BTreeMap<usize, u32> {
    let number = |pid: u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let digit = line.split(mark).nth(1)?.chars().next()?;
        Some((usize::try_from(digit.to_digit(10)?).ok()?, pid))
    };
    pids.into_iter().filter_map(number).collect()
}

#[test]
fn one_member_and_two_control_planes_are_not_missed() {
    need_root!();
    let program: PathBuf = etcd();
    if !program.is_file() {
        eprintln!(
            "SKIPPED: {} needs an etcd of 3.5; scripts/etcd.sh unpacks one",
            module_path!()
        );
        return;
    }
    let reader = Arc::new(Reader::new());
    reader.follow("docs/operations.md", "three", START);
    let planes = control_planes(&reader);
    assert_eq!(planes.len(), 3);

    let endpoints = |nth| {
        let slice = get(&reader, nth, &["get", "endpointslice", "kubernetes"])?;
        let all = slice["endpoints"].as_array().cloned().unwrap_or_default();
        let mut addresses: Vec<String> = all.iter().map(|e| e["addresses"][0].to_string()).collect();
        addresses.sort();
        Ok::<_, String>(addresses.join(" "))
    };
    // Each looks every few seconds at who is there.
    until("all three are endpoints", FAILOVER, || match endpoints(2)?.as_str() {
        r#""192.0.2.1" "192.0.2.2" "192.0.2.3""# => Ok(()),
        others => Err(others.to_owned()),
    });
    // One identity: a kubeconfig of one control plane is good at each.
    for nth in 1..=3 {
        let server = format!("https://127.0.0.{nth}:6443");
        kubectl(&reader, 1, &["--server", &server, "get", "namespaces"]).ok();
    }
    let leader = until("somebody schedules", FAILOVER, || holder(&reader, 1, "kube-scheduler"));
    kubectl(
        &reader,
        1,
        &["create", "secret", "generic", "s", "--from-literal=p=hunter2"],
    )
    .ok();
    let secret = get(&reader, 3, &["get", "secret", "s"]).expect("another control plane reads it");
    assert_eq!(secret["data"]["p"], "aHVudGVyMg==");

    let mut push = reader.command("wherry");
    push.args(["image", "push", "--kubeconfig", "wherry-1/kubeconfig"]);
    push.arg(repository().join("examples/hello/hello.wasm"));
    run(push.arg("wherry.internal/default/hello:1"), "").ok();
    assert_eq!(pulled(&reader, 2), hello(), "the image is in the store");

    let stop = Arc::new(AtomicBool::new(false));
    let writing = client(reader.clone(), stop.clone());
    let first = *members(&reader).keys().next().expect("members run");
    kill(members(&reader)[&first], Signal::SIGKILL);
    deploy(&reader, 2, "before");
    until("controllers act without a member", FAILOVER, || {
        pods(&reader, 2, "before", 2)
    });

    // The two that die are the ones that started first, and most likely lead.
    kill(planes[&1], Signal::SIGKILL);
    kill(planes[&2], Signal::SIGKILL);
    deploy(&reader, 3, "after");
    until("controllers fail over", FAILOVER, || pods(&reader, 3, "after", 2));
    until("the scheduler fails over", FAILOVER, || {
        let pods = get(&reader, 3, &["get", "pods", "-l", "app=after"])?;
        match pods["items"][0]["status"]["conditions"][0]["reason"].as_str() {
            Some("Unschedulable") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // Nobody has asked this one for it while the one that took it lived.
    assert_eq!(pulled(&reader, 3), hello(), "an image outlives who took it");
    kubectl(&reader, 3, &["delete", "image", "hello:1"]).ok();
    for lease in ["kube-scheduler", "kube-controller-manager"] {
        holder(&reader, 3, lease).expect("the one that is left holds it");
    }
    until("the dead leave the endpoints", FAILOVER, || match endpoints(3)? {
        left if left == r#""192.0.2.3""# => Ok(()),
        more => Err(more),
    });
    stop.store(true, Ordering::SeqCst);
    let made = writing.join().expect("the client never gave up");
    let there = get(&reader, 3, &["get", "configmaps"]).expect("listed");
    let names: Vec<&str> = there["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|m| m["metadata"]["name"].as_str())
        .collect();
    for n in 0..made {
        assert!(
            names.contains(&&*format!("map-{n:04}")),
            "map-{n:04} was acknowledged ({leader} led first)"
        );
    }
}

fn hello() -> Vec<u8> {
    std::fs::read(repository().join("examples/hello/hello.wasm")).expect("the example's program")
}

/// The program of the image, as a node pulls it from control plane `nth`.
fn pulled(reader: &Reader, nth: usize) -> Vec<u8> {
    let manifest = kubectl(reader, nth, &["get", "--raw", "/v2/default/hello/manifests/1"]).ok();
    let manifest: Value = serde_json::from_str(&manifest).expect("a manifest");
    let digest = manifest["layers"][0]["digest"].as_str().expect("a digest");
    kubectl(reader, nth, &["create", "serviceaccount", &format!("puller-{nth}")]).ok();
    let role = format!("--serviceaccount=default:puller-{nth}");
    let binding = [
        "create",
        "rolebinding",
        &format!("puller-{nth}"),
        "--clusterrole=view",
        &role,
    ];
    kubectl(reader, nth, &binding).ok();
    let token = kubectl(reader, nth, &["create", "token", &format!("puller-{nth}")]).ok();
    let mut curl = reader.command("curl");
    curl.args([
        "-sSf",
        "--max-time",
        "20",
        "--cacert",
        &format!("wherry-{nth}/pki/ca.crt"),
        "-u",
    ]);
    curl.arg(format!("any:{}", token.trim())).args(["-o", "pulled"]);
    run(
        curl.arg(format!("https://127.0.0.{nth}:6443/v2/default/hello/blobs/{digest}")),
        "",
    )
    .ok();
    std::fs::read(reader.path("work/pulled")).expect("curl wrote it")
}

/// Creates a deployment of two replicas as a client that retries. A store that loses a member meanwhile may not say
/// whether it carried a request out, and kubectl does not look by itself.
fn deploy(reader: &Reader, nth: usize, name: &str) {
    until("the deployment is taken", FAILOVER, || {
        let output = kubectl(
            reader,
            nth,
            &["create", "deployment", name, "--image=none", "--replicas=2"],
        );
        match output.success || output.stderr.contains("already exists") {
            true => Ok(()),
            false => Err(output.stderr),
        }
    });
}

fn pods(reader: &Reader, nth: usize, app: &str, count: usize) -> Result<(), String> {
    let label = format!("app={app}");
    let pods = get(reader, nth, &["get", "pods", "-l", &label])?;
    match pods["items"].as_array().map(Vec::len) {
        Some(found) if found == count => Ok(()),
        found => Err(format!("{found:?} pods")),
    }
}
