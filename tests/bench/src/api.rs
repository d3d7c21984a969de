//! What the API server takes: CPU, latency and memory for each kind of request, on a control plane without a node.

mod load;
mod watchers;

use std::time::{Duration, Instant};

use e2e::{Cluster, control_plane, run, until};

use crate::{creates::load_command, disk, figures::print, processes};

pub(crate) use load::{Load, load};

const SOON: Duration = Duration::from_secs(60);
/// After the load, until the server is idle: what it keeps for watches of recent changes has aged (75 s twice).
const SETTLE: Duration = Duration::from_secs(160);
/// Clients of single requests.
const CLIENTS: usize = 16;

/// Measures every kind of request with `pods` pods in the store.
pub(crate) fn measure(pods: usize) -> anyhow::Result<()> {
    let mut cluster = start()?;
    memory(&cluster, "idle");
    disk::measure(&cluster.data())?;
    let small = 20_000;
    for load in [Load::Create, Load::Get, Load::Update] {
        request(&cluster, load, CLIENTS, small)?;
    }
    watch(&cluster, "paced", 100, Load::Paced)?;
    watch(&cluster, "queued", 100, Load::Queued)?;
    watch(&cluster, "beside_one_that_reads", 1000, Load::Beside)?;
    watch(&cluster, "beside_one_that_stalls", 1000, Load::Stalled)?;
    nodes(&cluster);
    request(&cluster, Load::CreatePods, CLIENTS, pods)?;
    processes::leave(SETTLE);
    memory(&cluster, "full");
    request(&cluster, Load::List, 1, 20)?;
    request(&cluster, Load::List, CLIENTS, 10 * CLIENTS)?;
    processes::leave(SETTLE);
    memory(&cluster, "after_lists");
    restart(&mut cluster)
}

/// Fills the store with pods, starts on it again and prints times and memory.
pub(crate) fn fill(pods: usize) -> anyhow::Result<()> {
    let mut cluster = start()?;
    nodes(&cluster);
    request(&cluster, Load::CreatePods, CLIENTS, pods)?;
    processes::leave(SETTLE);
    memory(&cluster, "full");
    restart(&mut cluster)?;
    memory(&cluster, "restarted");
    Ok(())
}

fn start() -> anyhow::Result<Cluster> {
    let cluster = Cluster::start(control_plane());
    cluster.kubectl(&["create", "namespace", "load"]).ok();
    until("the namespace has its service account", SOON, || {
        let made = cluster.kubectl(&["get", "serviceaccount", "default", "--namespace=load"]);
        if made.success { Ok(()) } else { Err(made.stderr) }
    });
    Ok(cluster)
}

/// Makes the nodes that pods are bound to: pods of nodes that are not there are deleted.
fn nodes(cluster: &Cluster) {
    let nodes = (0..load::NODES).map(|nth| {
        let name = load::node_name(nth);
        format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n")
    });
    cluster.apply(&nodes.collect::<Vec<_>>().join("---\n")).ok();
}

/// Runs a load; prints its figures with the CPU time of the server for each request.
fn request(cluster: &Cluster, load: Load, clients: usize, count: usize) -> anyhow::Result<()> {
    let (figures, used) = under(cluster, load, clients, count)?;
    let each = used.as_secs_f64() * 1e3 / count as f64;
    print(format!(
        "api {} clients={clients} {figures} server_cpu_ms_each={each:.3} load={}",
        load.name(),
        processes::load_average()
    ));
    Ok(())
}

/// Runs watchers; prints their figures with the CPU time of the server for each event that was delivered.
fn watch(cluster: &Cluster, name: &str, watchers: usize, load: Load) -> anyhow::Result<()> {
    let (figures, _) = under(cluster, load, watchers, watchers::WRITES)?;
    print(format!(
        "api watch={name} watchers={watchers} {figures} load={}",
        processes::load_average()
    ));
    Ok(())
}

fn under(cluster: &Cluster, load: Load, clients: usize, count: usize) -> anyhow::Result<(String, Duration)> {
    let before = processes::cpu(cluster.server_pid());
    let server = cluster.server_pid() as usize;
    let mut command = load_command(cluster, &["load-api", load.name()], &[server, clients, count])?;
    let figures = run(&mut command, "").ok().trim().to_owned();
    Ok((figures, processes::cpu(cluster.server_pid()).saturating_sub(before)))
}

fn memory(cluster: &Cluster, when: &str) {
    let rss = processes::memory(cluster.server_pid()).rss;
    print(format!("api memory when={when} rss_mb={:.1}", rss as f64 / 1024.0));
}

/// How long a start on the store takes.
fn restart(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.stop();
    let start = Instant::now();
    cluster.launch();
    until("/readyz answers", SOON, || {
        let answer = cluster.curl_insecure("https://127.0.0.1:6443/readyz");
        if answer.success { Ok(()) } else { Err(answer.stderr) }
    });
    print(format!("api restart readyz_s={:.3}", start.elapsed().as_secs_f64()));
    cluster.wait_ready();
    Ok(())
}
