//! What pods get of a machine, and what is kept from them.

use super::*;

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
