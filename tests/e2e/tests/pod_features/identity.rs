//! Who a pod's processes are, and what of the node they share.

use super::*;

#[test]
fn namespaces_names_and_privileges_are_those_of_the_pod() {
    need_root!();
    let cluster = cluster();
    let look = "for ns in net pid ipc uts; do echo $ns $(busybox readlink /proc/self/ns/$ns); done";
    let manifests = [
        pod(
            "host",
            &format!(
                "  restartPolicy: Never\n  hostNetwork: true\n  hostPID: true\n  hostIPC: true\n  containers:\n{}",
                container("main", look, "")
            ),
        ),
        pod(
            "own",
            &format!("  restartPolicy: Never\n  containers:\n{}", container("main", look, "")),
        ),
        pod(
            "shared",
            &format!(
                "  shareProcessNamespace: true\n  containers:\n{}{}",
                container("one", "sleep 1234567", ""),
                container(
                    "two",
                    "until ps | grep -q '[s]leep 1234567'; do :; done; echo seen; sleep 1000000",
                    ""
                )
            ),
        ),
        pod(
            "named",
            &format!(
                "  restartPolicy: Never\n  hostname: first\n  subdomain: web\n  setHostnameAsFQDN: true\n  dnsPolicy: None\n  dnsConfig: \
                 {{nameservers: [192.0.2.9], searches: [one.example, two.example], options: [{{name: ndots, value: '3'}}]}}\n  \
                 securityContext: {{sysctls: [{{name: net.ipv4.ip_unprivileged_port_start, value: '7'}}]}}\n  containers:\n{}",
                container(
                    "main",
                    "hostname; cat /etc/resolv.conf /etc/hosts /proc/sys/net/ipv4/ip_unprivileged_port_start",
                    ""
                )
            ),
        ),
        pod(
            "mighty",
            &format!(
                "  restartPolicy: Never\n  containers:\n{}",
                container(
                    "main",
                    "grep -E 'CapEff|Seccomp:' /proc/self/status; ls /dev/kmsg; mount -t tmpfs none /tmp && echo mounted",
                    "    securityContext: {privileged: true}"
                )
            ),
        ),
        pod(
            "meek",
            &format!(
                "  restartPolicy: Never\n  securityContext: {{seccompProfile: {{type: RuntimeDefault}}}}\n  containers:\n{}",
                container(
                    "main",
                    "grep -E 'CapEff|Seccomp:' /proc/self/status; mount -t tmpfs none /tmp || echo refused; ls /dev/kmsg; ls \
                     /proc/acpi /proc/scsi; true",
                    "    securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}"
                )
            ),
        ),
        pod(
            "port",
            &format!(
                "  containers:\n{}",
                container(
                    "main",
                    "mkdir /www; echo by the host port > /www/index.html; exec httpd -f -p 8080 -h /www",
                    "    ports: [{containerPort: 8080, hostPort: 18080}]\n    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}"
                )
            ),
        ),
        pod(
            "forbidden",
            &format!(
                "  securityContext: {{sysctls: [{{name: kernel.msgmax, value: '7'}}]}}\n  containers:\n{}",
                container("main", "sleep 1000000", "")
            ),
        ),
    ];
    let applied = cluster.apply(&manifests.concat());
    assert!(applied.success, "{applied:?}\n{}", manifests.concat());
    let of_machine = |namespace: &str| {
        let link = std::fs::read_link(format!("/proc/{}/ns/{namespace}", cluster.server_pid()));
        format!("{namespace} {}\n", link.expect("it runs").display())
    };
    let (host, own) = (said(&cluster, "host"), said(&cluster, "own"));
    for namespace in ["net", "pid", "ipc"] {
        let of_machine = of_machine(namespace);
        assert!(host.contains(&of_machine), "{of_machine} {host}");
        assert!(!own.contains(&of_machine), "{of_machine} {own}");
    }
    until("a process of the other container is seen", SOON, || {
        let logs = cluster.kubectl(&["logs", "shared", "-c", "two"]);
        match logs.stdout.contains("seen") {
            true => Ok(()),
            false => Err(format!("{logs:?}")),
        }
    });
    has(
        &said(&cluster, "named"),
        &[
            "first.web.default.svc.cluster.local\n",
            "nameserver 192.0.2.9",
            "search one.example two.example",
            "options ndots:3",
            "first.web.default.svc.cluster.local\tfirst",
            "\n7\n",
        ],
    );
    let mighty = said(&cluster, "mighty");
    has(&mighty, &["Seccomp:\t0", "/dev/kmsg", "mounted"]);
    assert!(!mighty.contains("CapEff:\t0000000000000400"), "{mighty}");
    let meek = said(&cluster, "meek");
    has(&meek, &["CapEff:\t0000000000000400", "Seccomp:\t2", "refused"]);
    assert!(!meek.lines().any(|line| line == "/dev/kmsg"), "{meek}");
    let host_ip = ready(&cluster, "port")["status"]["hostIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    for at in [&*host_ip, "127.0.0.1"] {
        let body = cluster.curl(&format!("http://{at}:18080/")).ok();
        assert_eq!(body, "by the host port\n", "{at}");
    }
    assert_eq!(
        phase(&cluster, "forbidden", "Failed")["status"]["reason"],
        "SysctlForbidden"
    );
}

#[test]
fn pods_have_users_of_their_own_where_the_runtime_can() {
    need_root!();
    let asks = |name: &str| {
        let look = "cat /proc/self/uid_map; id -u; touch /work/mine; stat -c 'owned by %u' /work/mine; sleep 1000000";
        let volume = "  hostUsers: false\n  volumes: [{name: work, emptyDir: {}}]\n";
        let mount = "    volumeMounts: [{name: work, mountPath: /work}]";
        pod(
            name,
            &format!("{volume}  containers:\n{}", container("main", look, mount)),
        )
    };
    let old = cluster();
    old.apply(&asks("one")).ok();
    let refused = phase(&old, "one", "Failed");
    assert_eq!(refused["status"]["reason"], "UserNamespacesNotSupported");
    drop(old);
    if !Release::Forky.has_user_namespaces() {
        eprintln!("SKIPPED: nobody said where a containerd 2 and a runc 1.2 are");
        return;
    }
    let cluster = cluster_of(Release::Forky);
    cluster.apply(&[asks("one"), asks("two")].concat()).ok();
    let first_user = |name: &str| {
        ready(&cluster, name);
        let said = until("it has looked", SOON, || {
            let logs = cluster.kubectl(&["logs", name]).stdout;
            if logs.contains("owned by") { Ok(logs) } else { Err(logs) }
        });
        has(&said, &["\n0\nowned by 0\n"]);
        let map: Vec<u64> = said
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        assert!(
            map.len() == 3 && map[0] == 0 && map[1] >= 65_536 && map[2] == 65_536,
            "{said}"
        );
        map[1]
    };
    assert_ne!(first_user("one"), first_user("two"), "each has its own");
}
