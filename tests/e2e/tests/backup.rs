//! Backups of a cluster that runs, a store made of one, and a new encryption key, by the commands.

use std::time::Duration;

use e2e::{Cluster, control_plane, need_root, run, until};

const SOON: Duration = Duration::from_secs(30);

/// Pushes the example's program to the cluster's own registry.
fn push(cluster: &Cluster, name: &str) {
    let mut command = cluster.wherry("image push");
    command.arg("--kubeconfig").arg(cluster.kubeconfig());
    command.arg(e2e::repository().join("examples/hello/hello.wasm"));
    run(command.arg(format!("wherry.internal/default/{name}")), "").ok();
}

#[test]
fn what_was_backed_up_comes_back_and_what_came_later_does_not() {
    need_root!();
    let mut cluster = Cluster::start(control_plane());
    cluster
        .kubectl(&["create", "secret", "generic", "kept", "--from-literal=p=hunter2"])
        .ok();
    let said = run(&mut cluster.wherry("rotate-encryption-key"), "").ok();
    assert!(
        said.contains("key \"key2\" seals now; ") && said.contains("sealed anew"),
        "{said}"
    );
    push(&cluster, "kept:1");
    let file = cluster.scratch().join("backup");
    let said = run(cluster.wherry("backup").arg(&file), "").ok();
    assert!(
        said.contains("keys at revision") && said.contains(" and 1 images ("),
        "{said}"
    );
    cluster.kubectl(&["create", "configmap", "later"]).ok();
    push(&cluster, "later:1");
    let before = cluster
        .kubectl(&[
            "get",
            "configmap",
            "later",
            "-o",
            "jsonpath={.metadata.resourceVersion}",
        ])
        .ok();
    assert!(cluster.stop());

    let said = run(cluster.wherry("restore").arg(&file), "").err();
    assert!(said.contains("move it away"), "{said}");
    std::fs::remove_file(cluster.data().join("store.redb")).expect("our own file");
    let said = run(cluster.wherry("restore").arg(&file), "").err();
    assert!(
        said.contains("registry holds images already; move it away") && !cluster.data().join("store.redb").exists(),
        "{said}"
    );
    std::fs::rename(cluster.data().join("registry"), cluster.scratch().join("registry")).expect("our own directory");
    // What a restore that was killed has left is in nobody's way.
    std::fs::write(cluster.data().join("store.restoring"), "half").expect("our own file");
    std::fs::create_dir_all(cluster.data().join("registry.unfinished/blobs")).expect("our own directory");
    let said = run(cluster.wherry("restore").arg(&file), "").ok();
    assert!(
        said.contains("goes on at revision") && said.contains("1 images"),
        "{said}"
    );
    cluster.up();
    let images = cluster.kubectl(&["get", "images", "-o", "name"]).ok();
    assert_eq!(images.trim(), "image.registry.wherry.dev/kept:1");
    let kept = cluster
        .kubectl(&["get", "secret", "kept", "-o", "jsonpath={.data.p}"])
        .ok();
    assert_eq!(kept, "aHVudGVyMg==");
    let gone = cluster.kubectl(&["get", "configmap", "later"]).err();
    assert!(gone.contains("not found"), "{gone}");
    let watch = format!("/api/v1/configmaps?watch=1&timeoutSeconds=5&resourceVersion={before}");
    until("a watch from what is lost is told so", SOON, || {
        let said = cluster.kubectl(&["get", "--raw", &watch]);
        let text = format!("{}{}", said.stdout, said.stderr);
        match text.contains("too old") || text.contains("Expired") {
            true => Ok(()),
            false => Err(text),
        }
    });

    // A stopped one is backed up the same way.
    assert!(cluster.stop());
    let other = cluster.scratch().join("other");
    run(cluster.wherry("backup").arg(&other), "").ok();
    assert!(other.is_file());
    let foreign = run(
        cluster
            .on_machine(e2e::binary().to_str().expect("a path in UTF-8"))
            .args(["restore", "--data-dir"])
            .arg(cluster.scratch().join("fresh"))
            .arg(&other),
        "",
    );
    let said = foreign.ok();
    assert!(said.contains("1 images"), "{said}");
    assert!(cluster.scratch().join("fresh/registry/index.json").is_file());
}
