//! Backups of a cluster that runs, a store made of one, and a new encryption key, by the commands.

use std::time::Duration;

use e2e::{Cluster, control_plane, need_root, run, until};

const SOON: Duration = Duration::from_secs(30);

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
    let file = cluster.scratch().join("backup");
    let said = run(cluster.wherry("backup").arg(&file), "").ok();
    assert!(said.contains("keys at revision"), "{said}");
    cluster.kubectl(&["create", "configmap", "later"]).ok();
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
    let said = run(cluster.wherry("restore").arg(&file), "").ok();
    assert!(said.contains("goes on at revision"), "{said}");
    cluster.up();
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
    foreign.ok();
}
