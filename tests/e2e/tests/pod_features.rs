//! What pods of containers ask of a node, each thing in a pod that looks whether it has it.

use std::{net::UdpSocket, path::PathBuf, time::Duration};

use e2e::{Cluster, Options, Release, need_root, oci::Image, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(90);

fn cluster_of(release: Release) -> Cluster {
    let cluster = Cluster::start(Options {
        containerd: true,
        release,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    cluster
}

fn cluster() -> Cluster {
    cluster_of(Release::Bookworm)
}

/// A pod; `spec` are further lines of its spec, indented by two.
fn pod(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{spec}\n---\n"
    )
}

/// A container that runs a script; `more` are further lines of it, indented by four.
fn container(name: &str, script: &str, more: &str) -> String {
    let script = script.replace('\n', "\n      ");
    format!(
        "  - name: {name}\n    image: tools:1\n    imagePullPolicy: Never\n    command:\n    - sh\n    - -c\n    - |\n      \
         {script}\n{more}\n"
    )
}

fn phase(cluster: &Cluster, pod: &str, phase: &str) -> Value {
    until(&format!("{pod} is {phase}"), SOON, || {
        let found = cluster.get(&["pod", pod]);
        match found["status"]["phase"] == phase {
            true => Ok(found),
            false => Err(format!(
                "{}\n{}",
                found["status"],
                cluster.kubectl(&["describe", "pod", pod]).stdout
            )),
        }
    })
}

fn ready(cluster: &Cluster, pod: &str) -> Value {
    let at = format!("pod/{pod}");
    let waited = cluster.kubectl(&["wait", &at, "--for=condition=Ready", "--timeout=60s"]);
    assert!(waited.success, "{}", cluster.kubectl(&["describe", &at]).stdout);
    let found = cluster.get(&["pod", pod]);
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in conditions.iter().filter(|condition| condition["status"] == "True") {
        assert!(
            condition["reason"].is_null() && condition["message"].is_null(),
            "{condition}"
        );
    }
    found
}

/// What a pod that ends well has said.
fn said(cluster: &Cluster, pod: &str) -> String {
    until(&format!("{pod} has ended"), SOON, || {
        let status = cluster.get(&["pod", pod])["status"].clone();
        match status["phase"].as_str() {
            Some("Succeeded" | "Failed") => Ok(()),
            _ => Err(status.to_string()),
        }
    });
    let logs = cluster.kubectl(&["logs", pod]).stdout;
    let found = cluster.get(&["pod", pod]);
    assert_eq!(found["status"]["phase"], "Succeeded", "{logs}\n{}", found["status"]);
    logs
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

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

/// A file of the cgroup of a pod, below the memory or cpu hierarchy of either version.
fn cgroup(uid: &str, class: &str, names: [&str; 2], depth: usize) -> Option<String> {
    let found = e2e::run(
        std::process::Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("pod{uid}")]),
        "",
    );
    let paths = found.stdout.lines().map(PathBuf::from);
    let mut of_class = paths.filter(|path| path.display().to_string().contains(class));
    of_class.find_map(|path| {
        let directories: Vec<PathBuf> = match depth {
            0 => vec![path],
            _ => std::fs::read_dir(path)
                .ok()?
                .flatten()
                .map(|entry| entry.path())
                .collect(),
        };
        let files = directories.iter().flat_map(|at| names.map(|name| at.join(name)));
        let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
        // The sandbox's own cgroup has none of these limits.
        let mut texts = texts.map(|text| text.trim().to_owned());
        texts.find(|text| !matches!(&**text, "max" | "-1" | "9223372036854771712" | "2" | "1" | "max 100000"))
    })
}

#[test]
fn requests_and_limits_are_the_kernels_and_change_in_place() {
    need_root!();
    let cluster = cluster();
    let manifests = [
        pod(
            "guaranteed",
            &format!(
                "  containers:\n{}",
                container(
                    "main",
                    "sleep 1000000",
                    "    resources: {limits: {cpu: 300m, memory: 48Mi}}"
                )
            ),
        ),
        pod(
            "burstable",
            &format!(
                "  containers:\n{}",
                container(
                    "main",
                    "sleep 1000000",
                    "    resources: {requests: {cpu: 250m, memory: 16Mi}, limits: {cpu: 500m, memory: 32Mi}}"
                )
            ),
        ),
        pod(
            "besteffort",
            &format!("  containers:\n{}", container("main", "sleep 1000000", "")),
        ),
        pod(
            "told",
            &format!(
                "  restartPolicy: Never\n  containers:\n{}",
                container(
                    "main",
                    "echo cpu $CPU memory $MEMORY",
                    "    resources: {requests: {cpu: 100m}, limits: {cpu: 1500m, memory: 64Mi}}\n    env:\n    - {name: CPU, valueFrom: {resourceFieldRef: {resource: \
                     limits.cpu}}}\n    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}"
                )
            ),
        ),
    ];
    let applied = cluster.apply(&manifests.concat());
    assert!(applied.success, "{applied:?}");
    let uid = |pod: &Value| pod["metadata"]["uid"].as_str().expect("a UID").to_owned();
    for (name, class) in [
        ("guaranteed", "Guaranteed"),
        ("burstable", "Burstable"),
        ("besteffort", "BestEffort"),
    ] {
        assert_eq!(ready(&cluster, name)["status"]["qosClass"], class);
    }
    let memory = ["memory.limit_in_bytes", "memory.max"];
    let guaranteed = cluster.get(&["pod", "guaranteed"]);
    for depth in [0, 1] {
        let limit = cgroup(&uid(&guaranteed), "kubepods/pod", memory, depth);
        assert_eq!(limit, Some((48 << 20).to_string()), "at depth {depth}");
    }
    let quota = cgroup(&uid(&guaranteed), "kubepods/pod", ["cpu.cfs_quota_us", "cpu.max"], 0);
    assert!(
        quota.as_deref().is_some_and(|quota| quota.starts_with("30000")),
        "{quota:?}"
    );
    let burstable = cluster.get(&["pod", "burstable"]);
    let shares = cgroup(
        &uid(&burstable),
        "kubepods/burstable/pod",
        ["cpu.shares", "cpu.weight"],
        1,
    );
    assert!(matches!(shares.as_deref(), Some("256" | "10")), "{shares:?}");
    let limit = || cgroup(&uid(&burstable), "kubepods/burstable/pod", memory, 1);
    assert_eq!(limit(), Some((32 << 20).to_string()));
    has(&said(&cluster, "told"), &["cpu 2 memory 64\n"]);

    let more = r#"{"spec": {"containers": [{"name": "main", "resources": {"requests": {"memory": "24Mi"}, "limits": {"memory": "40Mi"}}}]}}"#;
    cluster
        .kubectl(&["patch", "pod", "burstable", "--subresource=resize", "-p", more])
        .ok();
    until("the limit is the new one", SOON, || match limit() {
        Some(limit) if limit == (40 << 20).to_string() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let resized = until("its status tells it", SOON, || {
        let pod = cluster.get(&["pod", "burstable"]);
        match pod["status"]["containerStatuses"][0]["resources"]["limits"]["memory"] == "40Mi" {
            true => Ok(pod),
            false => Err(pod["status"].to_string()),
        }
    });
    assert_eq!(resized["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[test]
fn what_is_reserved_is_not_the_pods() {
    need_root!();
    let cluster = Cluster::start(Options {
        containerd: true,
        arguments: vec!["--system-reserved".into(), "cpu=1500m,memory=1Gi".into()],
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    let status = cluster.get(&["nodes"])["items"][0]["status"].clone();
    let kilobytes = |amount: &Value| {
        let text = amount.as_str().unwrap_or_default();
        text.trim_end_matches("Ki")
            .parse::<i64>()
            .unwrap_or_else(|_| panic!("{text}"))
    };
    let (capacity, allocatable) = (&status["capacity"], &status["allocatable"]);
    let kept = kilobytes(&capacity["memory"]) - kilobytes(&allocatable["memory"]);
    // And what the eviction threshold keeps free.
    assert_eq!(kept, (1 << 20) + (100 << 10), "{status}");
    assert_ne!(capacity["cpu"], allocatable["cpu"]);
    cluster
        .apply(&pod(
            "one",
            &format!("  containers:\n{}", container("main", "sleep 1000000", "")),
        ))
        .ok();
    let uid = ready(&cluster, "one")["metadata"]["uid"]
        .as_str()
        .expect("a UID")
        .to_owned();
    let found = e2e::run(
        std::process::Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("pod{uid}")]),
        "",
    );
    let limits: Vec<i64> = found
        .stdout
        .lines()
        .filter_map(|path| {
            let all = std::path::Path::new(path)
                .ancestors()
                .find(|at| at.ends_with("kubepods"))?;
            let read = |name: &str| std::fs::read_to_string(all.join(name)).ok();
            read("memory.limit_in_bytes")
                .or_else(|| read("memory.max"))?
                .trim()
                .parse()
                .ok()
        })
        .collect();
    // The kernel counts in pages.
    let expected = (kilobytes(&capacity["memory"]) - (1 << 20)) << 10;
    assert!(
        limits.iter().any(|limit| (limit - expected).abs() < 1 << 20),
        "{limits:?} {expected}"
    );
}

/// Pages that are reserved until it is dropped.
struct Reserved(u64);

impl Reserved {
    const AT: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    /// Four more; `None` where the machine gives none.
    fn four() -> Option<Self> {
        let count = || std::fs::read_to_string(Self::AT).ok()?.trim().parse::<u64>().ok();
        let before = count()?;
        std::fs::write(Self::AT, (before + 4).to_string()).ok()?;
        let reserved = Self(before);
        (count()? == before + 4).then_some(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::AT, self.0.to_string());
    }
}

#[test]
fn huge_pages_are_offered_and_mounted() {
    need_root!();
    let Some(reserved) = Reserved::four() else {
        eprintln!("SKIPPED: this machine reserves no huge pages");
        return;
    };
    let cluster = cluster();
    let node = cluster.get(&["nodes"])["items"][0]["status"].clone();
    let told = format!("{}Mi", (reserved.0 + 4) * 2);
    assert_eq!(
        (
            &node["capacity"]["hugepages-2Mi"],
            &node["allocatable"]["hugepages-2Mi"]
        ),
        (&told.as_str().into(), &told.as_str().into()),
        "{node}"
    );
    let asks = |amount: &str| {
        let more = format!(
            "    resources: {{limits: {{hugepages-2Mi: {amount}, memory: 32Mi, cpu: 100m}}}}\n    volumeMounts: [{{name: pages, mountPath: \
             /pages}}]"
        );
        let volume = "  restartPolicy: Never\n  volumes: [{name: pages, emptyDir: {medium: HugePages}}]\n";
        format!(
            "{volume}  containers:\n{}",
            container("main", "grep ' /pages ' /proc/mounts", &more)
        )
    };
    cluster.apply(&pod("pages", &asks("4Mi"))).ok();
    has(&said(&cluster, "pages"), &["hugetlbfs", "pagesize=2M"]);
    cluster.apply(&pod("too-many", &asks("64Gi"))).ok();
    until("nobody has so many", SOON, || {
        let told = cluster.kubectl(&["describe", "pod", "too-many"]).stdout;
        match told.contains("Insufficient hugepages-2Mi") {
            true => Ok(()),
            false => Err(told),
        }
    });
    cluster.kubectl(&["delete", "pod", "--all", "--timeout=60s"]).ok();
}

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

/// Where the networks of containers that run this can be entered.
fn networks_of(cluster: &mut Cluster, program: &str) -> Vec<PathBuf> {
    let listed = e2e::run(cluster.containerd().ctr().args(["tasks", "ls"]), "").ok();
    let pids = listed.lines().filter_map(|line| line.split_whitespace().nth(1));
    let running = pids.filter(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains(program)
    });
    running
        .map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net")))
        .collect()
}

/// Does something in a thread that is in another network.
fn inside<T: Send + 'static>(
    network: &std::path::Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::thread::JoinHandle<std::io::Result<T>> {
    let network = std::fs::File::open(network).expect("a network");
    std::thread::spawn(move || {
        nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// Sends back what comes to the port that the Service leads to.
fn answer_datagrams(network: &std::path::Path) {
    let _goes_on = inside(network, || -> std::io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:5353")?;
        let mut datagram = [0; 64];
        loop {
            let (length, from) = socket.recv_from(&mut datagram)?;
            socket.send_to(&datagram[..length], from)?;
        }
    });
}

#[test]
fn services_reach_containers_by_every_way() {
    need_root!();
    let mut cluster = cluster();
    let serve = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www";
    let ports = "    ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]\n    readinessProbe: {tcpSocket: {port: 8080}, \
                 periodSeconds: 1}";
    let backends: String = ["one", "two", "three"]
        .iter()
        .map(|name| {
            let made = pod(name, &format!("  containers:\n{}", container("main", serve, ports)));
            made.replace(&format!("app: {name}"), "app: web")
        })
        .collect();
    let services = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: echo, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  internalTrafficPolicy: Local
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: alone}
spec: {selector: {alone: 'yes'}, ports: [{port: 80, targetPort: 8080}]}
---
";
    let client = pod(
        "client",
        &format!("  containers:\n{}", container("main", "sleep 1234321", "")),
    );
    cluster.apply(&[services, &backends, &client].concat()).ok();
    for name in ["one", "two", "three", "client"] {
        ready(&cluster, name);
    }
    cluster.kubectl(&["label", "pod", "one", "alone=yes"]).ok();
    let exec = |pod: &str, script: &str| cluster.kubectl(&["exec", pod, "--", "sh", "-c", script]);
    let ip = |name: &str| {
        cluster.get(&["service", name])["spec"]["clusterIP"]
            .as_str()
            .expect("an address")
            .to_owned()
    };
    let get = |to: &str| format!(r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 {to} 80 | busybox tail -n 1");
    let (web, sticky, alone) = (ip("web"), ip("sticky"), ip("alone"));
    // All of them.
    let mut seen = std::collections::BTreeSet::new();
    until("each backend has answered", SOON, || {
        let said = exec("client", &get(&web));
        seen.insert(said.stdout.clone());
        seen.retain(|name| !name.is_empty());
        match seen.len() {
            3 => Ok(()),
            _ => Err(format!("{seen:?} {said:?}")),
        }
    });
    // Always the same one.
    let ten = exec(
        "client",
        &format!("for i in 0 1 2 3 4 5 6 7 8 9; do {}; done", get(&sticky)),
    )
    .ok();
    let mut answers: Vec<&str> = ten.lines().collect();
    assert_eq!(answers.len(), 10, "{ten}");
    answers.dedup();
    assert_eq!(answers.len(), 1, "{ten}");
    // A pod that is its own Service's only endpoint.
    until("it reaches itself", SOON, || {
        let said = exec("one", &get(&alone));
        match said.stdout == "one\n" {
            true => Ok(()),
            false => Err(format!("{said:?}")),
        }
    });
    // Datagrams, from the machine and from a pod. busybox has nothing that answers them: somebody does in the pods' networks.
    let networks = networks_of(&mut cluster, "httpd");
    assert_eq!(networks.len(), 3);
    for network in networks {
        answer_datagrams(&network);
    }
    let mut clients = networks_of(&mut cluster, "1234321");
    clients.push(cluster.network());
    assert_eq!(clients.len(), 2);
    for network in clients {
        until("datagrams come back", SOON, || {
            let web = format!("{web}:53");
            let said = inside(&network, move || {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.set_read_timeout(Some(Duration::from_secs(2)))?;
                socket.send_to(b"over udp", web)?;
                let mut answer = [0; 64];
                let (length, _) = socket.recv_from(&mut answer)?;
                Ok(answer[..length].to_vec())
            });
            match said.join().expect("no panic") {
                Ok(answer) if answer == b"over udp" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    // By the node's ports.
    let node = cluster.get(&["nodes"])["items"][0]["status"]["addresses"][0]["address"].clone();
    let node = node.as_str().expect("an address");
    for name in ["web", "local"] {
        let port = cluster.get(&["service", name])["spec"]["ports"][0]["nodePort"].clone();
        until(&format!("{name} answers at the node"), SOON, || {
            let answer = cluster.curl(&format!("http://{node}:{port}/"));
            match answer.success {
                true => Ok(()),
                false => Err(format!("{answer:?}")),
            }
        });
    }
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

/// The same on every containerd; and what only newer ones have.
fn runs_on(release: Release) {
    if release.program().is_none() {
        eprintln!("SKIPPED: nobody said where the containerd of {release:?} is");
        return;
    }
    let mut cluster = cluster_of(release);
    let data = Image {
        files: vec![("text".to_owned(), "of an image".to_owned())],
        ..Image::default()
    };
    cluster.load_image(&data, "data:1");
    let web = container(
        "main",
        "mkdir /www; echo here > /www/index.html; exec httpd -f -p 8080 -h /www",
        "    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}\n    resources: {limits: {memory: 64Mi}}",
    );
    cluster.apply(&pod("web", &format!("  containers:\n{web}"))).ok();
    let image = pod(
        "image",
        &format!(
            "  restartPolicy: Never\n  volumes: [{{name: data, image: {{reference: 'data:1', pullPolicy: Never}}}}]\n  containers:\n{}",
            container(
                "main",
                "cat /data/text; touch /data/no || echo read-only",
                "    volumeMounts: [{name: data, mountPath: /data}]"
            )
        ),
    );
    let found = ready(&cluster, "web");
    let ip = found["status"]["podIP"].as_str().expect("an address").to_owned();
    assert_eq!(cluster.curl(&format!("http://{ip}:8080/")).ok(), "here\n");
    assert_eq!(cluster.kubectl(&["exec", "web", "--", "echo", "hello"]).ok(), "hello\n");
    cluster.containerd().crash();
    cluster.containerd().up();
    cluster.crash();
    cluster.up();
    assert_eq!(
        ready(&cluster, "web")["status"]["containerStatuses"][0]["containerID"],
        found["status"]["containerStatuses"][0]["containerID"]
    );
    cluster.apply(&image).ok();
    if release == Release::Forky {
        has(&said(&cluster, "image"), &["of an image", "read-only"]);
    } else {
        // What it cannot do it says.
        until("why it does not start is told", SOON, || {
            let told = cluster.kubectl(&["describe", "pod", "image"]).stdout;
            match told.contains("Warning") && told.contains("image volume") {
                true => Ok(()),
                false => Err(told),
            }
        });
    }
    cluster.kubectl(&["delete", "pod", "--all", "--timeout=60s"]).ok();
    until("nothing is left", SOON, || {
        let left = cluster.containerd().containers(None);
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("{left:?}")),
        }
    });
}

#[test]
fn pods_run_on_containerd_1_6() {
    need_root!();
    runs_on(Release::Bookworm);
}

#[test]
fn pods_run_on_containerd_1_7() {
    need_root!();
    runs_on(Release::Trixie);
}

#[test]
fn pods_run_on_containerd_2() {
    need_root!();
    runs_on(Release::Forky);
}
