//! What volumes hold.

use super::*;

#[test]
fn volumes_hold_what_they_should_and_follow_what_changes() {
    need_root!();
    let cluster = cluster();
    let host = cluster.scratch().join("host");
    std::fs::create_dir(&host).expect("a directory");
    cluster
        .kubectl(&[
            "create",
            "configmap",
            "settings",
            "--from-literal=key=before",
            "--from-literal=other=kept",
        ])
        .ok();
    cluster
        .kubectl(&["create", "secret", "generic", "hidden", "--from-literal=word=sesame"])
        .ok();
    let volumes = format!(
        "  volumes:
  - {{name: config, configMap: {{name: settings}}}}
  - {{name: host, hostPath: {{path: {}, type: Directory}}}}
  - {{name: made, hostPath: {{path: {}/made, type: DirectoryOrCreate}}}}
  - {{name: disk, emptyDir: {{}}}}
  - name: all
    projected:
      defaultMode: 0440
      sources:
      - secret: {{name: hidden, items: [{{key: word, path: deep/word, mode: 0400}}]}}
      - configMap: {{name: settings, items: [{{key: other, path: other}}]}}
      - downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}
      - serviceAccountToken: {{path: token, audience: somebody, expirationSeconds: 600}}
",
        host.display(),
        host.display()
    );
    let script = "cat /config/key /one /all/deep/word /all/other /all/labels; echo; wc -c < /all/token\nstat -c '%a %n' /all/..data/deep/word \
                  /all/..data/other\necho x > /expanded/file; ls /disk/of/volumes; touch /config/no || echo read-only\nuntil grep -q after /config/key; do :; done; \
                  echo follows; cat /one; ls -a /config";
    let mounts = "    env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: config, mountPath: /one, subPath: key}
    - {name: disk, mountPath: /expanded, subPathExpr: of/$(POD)}
    - {name: disk, mountPath: /disk}
    - {name: made, mountPath: /made}
    - {name: all, mountPath: /all}";
    let outer = "mount -t tmpfs none /host/below 2>/dev/null || { mkdir -p /host/below; mount -t tmpfs none /host/below; }; echo deep > \
                 /host/below/file; touch /host/ready; sleep 1000000";
    let inner = "until cat /host/below/file; do :; done 2>/dev/null; echo seen; sleep 1000000";
    let propagated = |name: &str, script: &str, how: &str| {
        let volume = format!("  volumes: [{{name: host, hostPath: {{path: {}}}}}]\n", host.display());
        let mount = format!(
            "    securityContext: {{privileged: true}}\n    volumeMounts: [{{name: host, mountPath: /host, mountPropagation: {how}}}]"
        );
        pod(
            name,
            &format!("{volume}  containers:\n{}", container("main", script, &mount)),
        )
    };
    let manifests = [
        pod(
            "volumes",
            &format!(
                "{volumes}  restartPolicy: Never\n  containers:\n{}",
                container("main", script, mounts)
            ),
        ),
        propagated("inner", inner, "HostToContainer"),
    ];
    let applied = cluster.apply(&manifests.concat());
    assert!(applied.success, "{applied:?}\n{}", manifests.concat());
    until("it looks for a change", SOON, || {
        let logs = cluster.kubectl(&["logs", "volumes"]);
        match logs.stdout.contains("read-only") {
            true => Ok(()),
            false => Err(format!(
                "{logs:?} {}",
                cluster.kubectl(&["describe", "pod", "volumes"]).stdout
            )),
        }
    });
    cluster
        .kubectl(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "after"}}"#])
        .ok();
    let said = said(&cluster, "volumes");
    has(
        &said,
        &[
            "beforebeforesesamekeptapp=\"volumes\"",
            "\nfile\n",
            "400 /all/..data/deep/word",
            "440 /all/..data/other",
            // A single file is what it was when the container began, as in Kubernetes.
            "follows\nbefore",
            "..data\n",
        ],
    );
    assert!(host.join("made").is_dir());

    if is_shared(&host) {
        cluster.apply(&propagated("outer", outer, "Bidirectional")).ok();
        until("a mount of one pod is seen by the other", SOON, || {
            let logs = cluster.kubectl(&["logs", "inner"]);
            match logs.stdout.contains("deep\nseen") {
                true => Ok(()),
                false => Err(format!("{logs:?} {}", cluster.kubectl(&["describe", "pods"]).stdout)),
            }
        });
        let _ = std::process::Command::new("umount").arg(host.join("below")).status();
    } else {
        eprintln!("SKIPPED: mounts do not propagate on this machine");
    }
}

/// Whether mounts below a path propagate on this machine.
fn is_shared(path: &std::path::Path) -> bool {
    let found = e2e::run(
        std::process::Command::new("findmnt")
            .args(["-n", "-o", "PROPAGATION", "-T"])
            .arg(path),
        "",
    );
    found.stdout.contains("shared")
}
