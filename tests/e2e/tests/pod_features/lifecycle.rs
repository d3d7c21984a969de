//! How containers begin, end and are started again.

use super::*;

#[test]
fn containers_begin_and_end_in_order_and_are_started_again_by_their_rules() {
    need_root!();
    let cluster = cluster();
    let shared = cluster.scratch().join("shared");
    std::fs::create_dir(&shared).expect("a directory");
    let note = "    volumeMounts: [{name: shared, mountPath: /shared}]";
    let volume = format!(
        "  volumes: [{{name: shared, hostPath: {{path: {}}}}}]\n",
        shared.display()
    );
    let ordered = format!(
        "{volume}  initContainers:\n{}{}  containers:\n{}",
        container("one", "echo one >> /shared/order", note),
        container(
            "side",
            "trap 'echo side ends >> /shared/order; exit 0' TERM; echo side >> /shared/order; touch /tmp/up\nwhile :; do sleep 1 & wait; done",
            &format!(
                "{note}\n    restartPolicy: Always\n    startupProbe: {{exec: {{command: [cat, /tmp/up]}}, periodSeconds: 1}}"
            ),
        ),
        container(
            "main",
            "trap 'echo main ends >> /shared/order; exit 0' TERM; echo main >> /shared/order\nwhile :; do sleep 1 & wait; done",
            &format!(
                "{note}\n    lifecycle:\n      postStart: {{exec: {{command: [sh, -c, 'until grep -q main /shared/order; do :; done; echo \
                 postStart >> /shared/order']}}}}\n      preStop: {{exec: {{command: [sh, -c, 'echo preStop >> /shared/order']}}}}"
            ),
        ),
    );
    let manifests = [
        pod("ordered", &ordered).replace(
            "terminationGracePeriodSeconds: 1\n",
            "terminationGracePeriodSeconds: 20\n",
        ),
        // Started again by one exit code, not by another.
        pod(
            "ruled",
            &format!(
                "  restartPolicy: Never\n  volumes: [{{name: work, emptyDir: {{}}}}]\n  containers:\n{}",
                container(
                    "main",
                    "if mkdir /work/began 2>/dev/null; then exit 42; fi\necho again; printf 'last words' > /dev/termination-log; exit 7",
                    "    volumeMounts: [{name: work, mountPath: /work}]\n    restartPolicy: Never\n    restartPolicyRules: [{action: \
                     Restart, exitCodes: {operator: In, values: [42]}}]",
                )
            ),
        ),
        pod(
            "late",
            &format!(
                "  activeDeadlineSeconds: 2\n  containers:\n{}",
                container("main", "sleep 1000000", "")
            ),
        ),
        pod(
            "crashing",
            &format!(
                "  containers:\n{}",
                container(
                    "main",
                    "echo alas; exit 3",
                    "    terminationMessagePolicy: FallbackToLogsOnError"
                )
            ),
        ),
        pod(
            "gated",
            &format!(
                "  readinessGates: [{{conditionType: example.com/fed}}]\n  containers:\n{}",
                container("main", "sleep 1000000", "")
            ),
        ),
        pod(
            "sick",
            &format!(
                "  containers:\n{}",
                container(
                    "main",
                    "sleep 1000000",
                    "    livenessProbe: {tcpSocket: {port: 9}, periodSeconds: 1, failureThreshold: 2}"
                )
            ),
        ),
    ];
    let applied = cluster.apply(&manifests.concat());
    assert!(applied.success, "{applied:?}\n{}", manifests.concat());

    ready(&cluster, "ordered");
    let order = || std::fs::read_to_string(shared.join("order")).unwrap_or_default();
    assert_eq!(order(), "one\nside\nmain\npostStart\n");
    cluster.kubectl(&["delete", "pod", "ordered", "--timeout=60s"]).ok();
    assert_eq!(order(), "one\nside\nmain\npostStart\npreStop\nmain ends\nside ends\n");

    let ruled = phase(&cluster, "ruled", "Failed");
    let status = &ruled["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 1, "{status}");
    let ended = &status["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["message"]),
        (&7.into(), &"last words".into()),
        "{ended}"
    );

    let late = phase(&cluster, "late", "Failed");
    assert_eq!(late["status"]["reason"], "DeadlineExceeded");

    until("its crashes are told and it waits", SOON, || {
        let status = cluster.get(&["pod", "crashing"])["status"]["containerStatuses"][0].clone();
        let waits = status["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        let told = status["lastState"]["terminated"]["message"] == "alas\n";
        match waits && told {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    });

    let condition = |pod: &Value, kind: &str| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind);
        found.unwrap_or_default()
    };
    until("it waits for its gate", SOON, || {
        let gated = cluster.get(&["pod", "gated"]);
        let containers = condition(&gated, "ContainersReady")["status"] == "True";
        let ready = condition(&gated, "Ready");
        match containers && ready["status"] == "False" && ready["reason"] == "ReadinessGatesNotReady" {
            true => Ok(()),
            false => Err(gated["status"].to_string()),
        }
    });
    let open = r#"{"status": {"conditions": [{"type": "example.com/fed", "status": "True"}]}}"#;
    cluster
        .kubectl(&["patch", "pod", "gated", "--subresource=status", "-p", open])
        .ok();
    ready(&cluster, "gated");

    until("what does not answer is started again", SOON, || {
        let status = cluster.get(&["pod", "sick"])["status"]["containerStatuses"][0].clone();
        match status["restartCount"].as_i64() {
            Some(1..) => Ok(()),
            _ => Err(status.to_string()),
        }
    });
    let events = cluster.kubectl(&["describe", "pod", "sick"]).stdout;
    has(&events, &["Liveness probe failed", "will be restarted"]);
}
