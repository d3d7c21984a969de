//! A node whose disk is full can be taken down.

use std::{fs::File, io::Write, path::Path, time::Duration};

use e2e::{Cluster, Options, need_root, repository, run, until};

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

#[test]
fn a_node_is_taken_down_on_a_full_disk() {
    need_root!();
    let mut cluster = Cluster::start(Options {
        disk: Some(96),
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
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
        .ok();
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
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
        .ok();
}
