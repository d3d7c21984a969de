//! Starting where one cannot: a line that says what to do, and nothing broken.

use e2e::{Cluster, control_plane, need_root, run};

#[test]
fn a_second_wherry_on_the_same_data_directory_is_refused() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    let said = run(
        cluster.wherry("up").args(["--api-bind", "127.0.0.1:7443", "--no-node"]),
        "",
    )
    .err();
    assert!(said.contains("another wherry") && said.contains("--data-dir"), "{said}");
    assert_eq!(said.lines().filter(|l| l.starts_with("wherry:")).count(), 1, "{said}");
    cluster.kubectl(&["get", "namespaces"]).ok();
}

#[test]
fn a_taken_port_is_named() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    let other = cluster.scratch().join("other");
    let mut up = cluster.on_machine(e2e::binary().to_str().expect("a path in UTF-8"));
    up.args(["up", "--no-node", "--api-bind", "127.0.0.1:6443", "--data-dir"])
        .arg(&other);
    let said = run(&mut up, "").err();
    assert!(said.contains("127.0.0.1:6443") && said.contains("--api-bind"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    let file = cluster.scratch().join("file");
    std::fs::write(&file, "").expect("a scratch file");
    let mut up = cluster.on_machine(e2e::binary().to_str().expect("a path in UTF-8"));
    up.args(["up", "--no-node", "--data-dir"]).arg(file.join("data"));
    let said = run(&mut up, "").err();
    assert!(said.contains("cannot create") && said.contains("--data-dir"), "{said}");
}

#[test]
fn down_without_a_cluster_says_so() {
    need_root!();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut down = std::process::Command::new(e2e::binary());
    down.args(["down", "--data-dir"]).arg(directory.path());
    let said = run(&mut down, "").err();
    assert!(said.contains("no cluster in"), "{said}");
}

#[test]
fn down_ends_a_running_cluster_also_after_a_restart() {
    need_root!();
    let mut cluster = Cluster::start(control_plane());
    assert!(cluster.stop(), "SIGTERM is a good end");
    cluster.up();
    e2e::run(&mut cluster.wherry("down"), "").ok();
    assert!(cluster.ended(), "wherry up has ended, and well");
}
