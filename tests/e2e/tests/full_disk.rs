//! A node whose disk is full can be taken down, and one whose disk fills loses nothing that it needs.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    time::Duration,
};

use e2e::{Cluster, Options, kill, need_root, repository, run, until};
use nix::sys::{signal::Signal, statvfs::statvfs};

const SOON: Duration = Duration::from_secs(60);
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: hello, image: 'hello:1', \
    ports: [{containerPort: 8080}], readinessProbe: {httpGet: {path: /healthz, port: 8080}}}]}\n";

/// Takes all the space there is, to the last byte.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("a file");
    for size in [1 << 20, 1 << 10, 1] {
        let block = vec![b'x'; size];
        while file.write_all(&block).is_ok() {}
    }
}

/// A cluster with the pod, its data on a disk of so many MiB.
fn with_a_pod(disk: u32) -> Cluster {
    let cluster = Cluster::start(Options {
        arguments: vec!["--image-gc-high-threshold=85".into()],
        disk: Some(disk),
        ..Options::default()
    });
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    until("the namespace has its service account", SOON, || {
        let made = cluster.kubectl(&["get", "serviceaccount", "default"]);
        if made.success { Ok(()) } else { Err(made.stderr) }
    });
    cluster.apply(POD).ok();
    until_ready(&cluster);
    cluster
}

fn until_ready(cluster: &Cluster) {
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
        .ok();
}

#[test]
fn a_node_is_taken_down_on_a_full_disk() {
    need_root!();
    let mut cluster = with_a_pod(96);
    assert_eq!(cluster.processes("sandbox-host").len(), 1);

    let filler = cluster.data().join("filler");
    fill(&filler);
    cluster.crash();
    fill(&cluster.data().join("filler-2"));
    let said = run(&mut cluster.wherry("down"), "").ok();
    assert!(said.contains("is down"), "{said}");
    assert!(cluster.processes("sandbox-host").is_empty());
    let links = run(cluster.on_machine("ip").args(["-br", "link"]), "").ok();
    assert_eq!(links.lines().count(), 1, "only lo is left: {links}");
    assert!(
        !run(cluster.on_machine("nft").args(["list", "tables"]), "")
            .ok()
            .contains("wherry")
    );

    std::fs::remove_file(&filler).expect("the disk has room again");
    cluster.up();
    until_ready(&cluster);
}

/// Leaves this share of the disk, in percent.
fn leave(share: u64, path: &Path) {
    let disk = statvfs(path).expect("a mounted disk");
    let bytes = |blocks: u64| blocks * disk.fragment_size();
    let (capacity, free) = (bytes(disk.blocks()), bytes(disk.blocks_available()));
    let size = free.saturating_sub(capacity * share / 100);
    let mut file = File::create(path.join("filler")).expect("a file");
    std::io::copy(&mut std::io::repeat(b'x').take(size), &mut file).expect("it fits");
}

#[test]
fn a_reboot_while_the_disk_fills_leaves_the_images_of_pods() {
    need_root!();
    let mut cluster = with_a_pod(256);
    // Above the threshold of 85 % at which images go, below that at which pods do.
    leave(13, &cluster.data());
    cluster.crash();
    for host in cluster.processes("sandbox-host") {
        kill(host, Signal::SIGKILL);
    }
    cluster.up();
    until("the pod runs again", SOON, || {
        let pod = cluster.get(&["pod", "web"]);
        let status = &pod["status"]["containerStatuses"][0];
        match status["ready"] == true && status["restartCount"] == 1 {
            true => Ok(()),
            false => Err(pod["status"].to_string()),
        }
    });
}
