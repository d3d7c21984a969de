//! One client that lists hundreds of objects from a hundred connections at once, beside another that reads one object at
//! a time: API priority and fairness sees to it that the other is served, and soon.

use std::process::Command;

use e2e::{Cluster, Going, control_plane, need_root};

const OBJECTS: usize = 500;
const CONNECTIONS: usize = 100;
const READS: usize = 20;
/// Milliseconds within which the quiet client is answered, whatever the other does. Nothing here is optimised, and other tests
/// may have the machine meanwhile.
const SOON: f64 = 3000.0;

/// Reads one object after the other, or lists on many connections until it is killed. Prints latencies in milliseconds.
const CLIENT: &str = r#"
import http.client, json, ssl, sys, threading, time
does, token = sys.argv[1], sys.argv[2]
context = ssl._create_unverified_context()
def ask(connection, path):
    begun = time.monotonic()
    connection.request("GET", path, headers={"Authorization": "Bearer " + token})
    answer = connection.getresponse()
    answer.read()
    return answer.status, (time.monotonic() - begun) * 1000
def connect():
    return http.client.HTTPSConnection("127.0.0.1", 6443, context=context, timeout=60)
counts = {}
def crowd():
    while True:
        try:
            connection = connect()
            while True:
                status, _ = ask(connection, "/api/v1/namespaces/default/configmaps?labelSelector=a%21%3Db")
                counts[status] = counts.get(status, 0) + 1
                if counts.get(200, 0) == 20:
                    print("busy", flush=True)
        except OSError:
            pass
if does == "crowd":
    for _ in range(int(sys.argv[3])):
        threading.Thread(target=crowd, daemon=True).start()
    time.sleep(600)
connection = connect()
taken = []
for _ in range(int(sys.argv[3])):
    status, milliseconds = ask(connection, "/api/v1/namespaces/default/configmaps/one")
    assert status == 200, status
    taken.append(milliseconds)
print(json.dumps(sorted(taken)))
"#;

fn client(cluster: &Cluster, does: &str, account: &str, count: usize) -> Command {
    let token = cluster.kubectl(&["create", "token", account]).ok();
    let mut python = cluster.on_machine("python3");
    python.args(["-c", CLIENT, does, token.trim(), &count.to_string()]);
    python
}

/// The median and the second worst of a quiet client's latencies.
fn quiet(cluster: &Cluster) -> (f64, f64) {
    let said = e2e::run(&mut client(cluster, "read", "quiet", READS), "").ok();
    let taken: Vec<f64> = serde_json::from_str(&said).expect("a list");
    (taken[READS / 2], taken[READS - 2])
}

#[test]
fn a_noisy_client_does_not_starve_a_quiet_one() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    for account in ["quiet", "noisy"] {
        cluster.kubectl(&["create", "serviceaccount", account]).ok();
        let subject = format!("--serviceaccount=default:{account}");
        cluster
            .kubectl(&["create", "rolebinding", account, "--clusterrole=view", &subject])
            .ok();
    }
    let filler = "x".repeat(200);
    let maps: String = (0..OBJECTS)
        .map(|nth| {
            format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: map-{nth}}}\ndata: {{k: {filler}}}\n")
        })
        .collect();
    cluster.kubectl(&["create", "configmap", "one"]).ok();
    cluster
        .kubectl_with(e2e::Tool::Kubectl136, &["create", "-f", "-"], &maps)
        .ok();
    let alone = quiet(&cluster);

    let mut crowd = Going::start(&mut client(&cluster, "crowd", "noisy", CONNECTIONS));
    crowd.line("busy");
    let beside = quiet(&cluster);
    println!(
        "alone: p50 {:.1}, second worst {:.1} ms; beside the crowd: p50 {:.1}, second worst {:.1} ms",
        alone.0, alone.1, beside.0, beside.1
    );
    assert!(beside.1 < SOON, "the quiet client waited {} ms", beside.1);
    // Those who keep the cluster going are not asked to wait at all.
    cluster.kubectl(&["get", "configmap", "one"]).ok();
}
