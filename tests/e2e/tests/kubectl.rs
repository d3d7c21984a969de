//! Stock kubectl, of both versions, in the hands of somebody who works with it all day.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use e2e::{Cluster, Options, Output, Tool, control_plane, kill, need_root, repository, until};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(30);
const BOTH: [Tool; 2] = [Tool::Kubectl132, Tool::Kubectl136];

/// One kubectl on one cluster.
struct Kubectl<'a> {
    cluster: &'a Cluster,
    tool: Tool,
}

impl Kubectl<'_> {
    #[track_caller]
    fn run(&self, arguments: &str) -> Output {
        self.with(arguments, "")
    }

    #[track_caller]
    fn with(&self, arguments: &str, stdin: &str) -> Output {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        self.cluster.kubectl_with(self.tool, &arguments, stdin)
    }

    #[track_caller]
    fn says(&self, arguments: &str, expected: &[&str]) -> String {
        let said = self.run(arguments).ok();
        for part in expected {
            assert!(said.contains(part), "kubectl {arguments}: {part:?} is missing:\n{said}");
        }
        said
    }
}

fn each(cluster: &Cluster, story: impl Fn(&Kubectl<'_>)) {
    for tool in BOTH {
        story(&Kubectl { cluster, tool });
    }
}

const DEPLOYMENT: &str = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
    "replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}}"#;

fn map(name: &str, value: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name}"}}, "data": {{"k": "{value}"}}}}"#
    )
}

#[test]
fn the_main_story_from_apply_to_delete() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    let component = repository().join("examples/hello/hello.wasm");
    cluster.load(&component, "hello:1").ok();
    cluster.load(&component, "hello:2").ok();
    let manifests = repository().join("examples/hello").display().to_string();
    each(&cluster, |kubectl| {
        let rolled_out = || {
            kubectl.says(
                "rollout status deployment/hello --timeout=60s",
                &["successfully rolled out"],
            )
        };
        let image = || {
            kubectl
                .run("get deployment hello -o jsonpath={..containers[*].image}")
                .ok()
        };
        kubectl.says(
            &format!("apply -f {manifests}"),
            &["deployment.apps/hello created", "service/hello created"],
        );
        rolled_out();
        kubectl.says("get pods -o wide", &["READINESS GATES", "1/1     Running"]);
        let pod = kubectl
            .run("get pods -o name")
            .ok()
            .lines()
            .next()
            .expect("a pod")
            .to_owned();
        kubectl.says(
            &format!("describe {pod}"),
            &["Successfully assigned", "Started container hello"],
        );
        let address = kubectl.run("get service hello -o jsonpath={.spec.clusterIP}").ok();
        follows(kubectl, || drop(cluster.curl(&format!("http://{address}/")).ok()));
        kubectl.says("get events", &["SuccessfulCreate", "ScalingReplicaSet"]);
        kubectl.says("scale deployment/hello --replicas=4", &["scaled"]);
        rolled_out();
        kubectl.says("set image deployment/hello hello=hello:2", &["image updated"]);
        rolled_out();
        assert_eq!(image(), "hello:2");
        kubectl.says("rollout history deployment/hello", &["REVISION", "2"]);
        kubectl.says("rollout undo deployment/hello", &["rolled back"]);
        rolled_out();
        assert_eq!(image(), "hello:1");
        kubectl.says("rollout restart deployment/hello", &["restarted"]);
        rolled_out();
        kubectl.run(&format!("delete -f {manifests} --timeout=60s")).ok();
        kubectl.run("wait --for=delete pod -l app=hello --timeout=60s").ok();
    });
}

/// Follows the deployment's logs while something makes it say a line.
fn follows(kubectl: &Kubectl<'_>, act: impl Fn()) {
    let mut follower = kubectl
        .cluster
        .kubectl_process(kubectl.tool, &["logs", "-f", "-l", "app=hello", "--prefix"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let stdout = follower.stdout.take().expect("stdout is piped");
    act();
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let seen = lines.any(|line| line.contains("GET / "));
    kill(follower.id(), Signal::SIGTERM);
    let _ = follower.wait();
    assert!(seen, "the request's line arrives while following");
}

#[test]
fn asks_who_it_is_and_what_it_may() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    each(&cluster, |kubectl| {
        kubectl.says("auth whoami", &["kubernetes-admin", "system:masters"]);
        kubectl.says(
            "auth can-i --list",
            &["*.*", "selfsubjectreviews.authentication.k8s.io"],
        );
    });
    let kubectl = Kubectl {
        cluster: &cluster,
        tool: Tool::Kubectl136,
    };
    kubectl.run("create serviceaccount reader").ok();
    kubectl
        .run("create rolebinding reader --clusterrole view --serviceaccount default:reader")
        .ok();
    each(&cluster, |kubectl| {
        let account = "--as system:serviceaccount:default:reader";
        kubectl.says(&format!("auth can-i list pods {account}"), &["yes"]);
        assert_eq!(
            kubectl.run(&format!("auth can-i delete pods {account}")).stdout.trim(),
            "no"
        );
        let token = kubectl.run("create token reader --duration 1h").ok();
        let claims = token.split('.').nth(1).unwrap_or_default().len();
        assert!(claims > 100, "a token of three parts: {token}");
        kubectl.says(
            "get clusterroles admin edit view cluster-admin",
            &["admin", "cluster-admin"],
        );
        let refused = kubectl.run("create clusterrolebinding x --clusterrole cluster-admin --user me --as jane");
        assert!(refused.err().contains("cannot create resource \"clusterrolebindings\""));
    });
}

#[test]
fn explains_and_discovers() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    each(&cluster, |kubectl| {
        let fields = ["KIND:       Pod", "limits", "requests"];
        kubectl.says("explain pods.spec.containers.resources", &fields);
        let older = ["KIND:     Deployment", "VERSION:  apps/v1", "FIELDS:", "strategy"];
        kubectl.says("explain deployments.spec --output=plaintext-openapiv2", &older[1..]);
        kubectl.says(
            "explain pdb --recursive",
            &["PodDisruptionBudget", "unhealthyPodEvictionPolicy"],
        );
        kubectl.says(
            "api-resources --sort-by name -o wide",
            &["poddisruptionbudgets", "deployments", "deletecollection"],
        );
        kubectl.says(
            "api-versions",
            &["apps/v1", "policy/v1", "rbac.authorization.k8s.io/v1"],
        );
        kubectl.says(
            "cluster-info",
            &["Kubernetes control plane is running at https://127.0.0.1:6443"],
        );
        kubectl.says("get --raw /openid/v1/jwks", &[r#""kty":"EC""#]);
        kubectl.says("get --raw /.well-known/openid-configuration", &["jwks_uri"]);
        kubectl.says(
            "get --raw /openapi/v2",
            &[r#""swagger":"2.0""#, "io.k8s.api.core.v1.Pod"],
        );
        kubectl.says("get runtimeclass", &["wasm"]);
        let map = "get configmap extension-apiserver-authentication -n kube-system -o yaml";
        kubectl.says(map, &["client-ca-file", "BEGIN CERTIFICATE"]);
        // There is no node that could be measured.
        assert!(kubectl.run("top nodes").err().contains("metrics not available yet"));
        assert!(kubectl.run("top pods").stderr.contains("No resources found"));
    });
}

#[test]
fn shows_what_would_change() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    cluster.apply(DEPLOYMENT).ok();
    cluster.apply(&map("there", "old")).ok();
    let wanted = format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{}, {}, {}]}}",
        DEPLOYMENT.replace("\"replicas\": 1", "\"replicas\": 3"),
        map("there", "new"),
        map("absent", "v"),
    );
    each(&cluster, |kubectl| {
        let same = kubectl.with("diff -f -", DEPLOYMENT);
        assert_eq!((same.code, same.stdout.as_str()), (Some(0), ""));
        let changed = kubectl.with("diff -f -", &wanted);
        assert_eq!(changed.code, Some(1), "{}", changed.stderr);
        for line in [
            "-  replicas: 1",
            "+  replicas: 3",
            "-  k: old",
            "+  k: new",
            "+  name: absent",
        ] {
            assert!(changed.stdout.contains(line), "{line}:\n{}", changed.stdout);
        }
        for kind in ["configmap/there", "deployment.apps/web"] {
            assert!(
                kubectl.run(&format!("get {kind} -o name")).success,
                "nothing was changed by looking"
            );
        }
        assert!(kubectl.run("get configmap absent").err().contains("NotFound"));
        let dry = kubectl.with("create -f - --dry-run=server", &map("absent", "v")).ok();
        assert!(dry.contains("configmap/absent created (server dry run)"));
        assert!(kubectl.run("get configmap absent").err().contains("NotFound"));
    });
}

#[test]
fn changes_objects_in_every_way() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    each(&cluster, |kubectl| {
        kubectl.with("create -f -", DEPLOYMENT).ok();
        let replicas = |kubectl: &Kubectl<'_>| kubectl.run("get deployment web -o jsonpath={.spec.replicas}").ok();
        for (patch_type, patch) in [
            ("json", r#"[{"op":"replace","path":"/spec/replicas","value":2}]"#),
            ("merge", r#"{"spec":{"replicas":3}}"#),
            ("strategic", r#"{"spec":{"replicas":4}}"#),
        ] {
            kubectl
                .run(&format!("patch deployment web --type {patch_type} -p {patch}"))
                .ok();
        }
        assert_eq!(replicas(kubectl), "4");
        kubectl.says("label deployment web tier=front", &["labeled"]);
        kubectl.says("annotate deployment web note=x", &["annotated"]);
        kubectl.says("get deployment -l tier=front -o name", &["deployment.apps/web"]);
        kubectl.says("label deployment web tier-", &["unlabeled"]);
        let whole = kubectl
            .run("get deployment web -o json")
            .ok()
            .replace("\"replicas\": 4", "\"replicas\": 5");
        kubectl.with("replace -f -", &whole).ok();
        assert_eq!(replicas(kubectl), "5");
        edit(kubectl, "s/replicas: 5/replicas: 6/");
        assert_eq!(replicas(kubectl), "6");
        let typo = DEPLOYMENT.replace("\"replicas\"", "\"replica\"");
        let refused = kubectl.with("apply -f -", &typo).err();
        assert!(refused.contains("unknown field \"spec.replica\""), "{refused}");
        let warned = kubectl.with("apply -f - --validate=warn", &typo);
        assert!(
            warned.stderr.contains("Warning: unknown field \"spec.replica\""),
            "{}",
            warned.stderr
        );
        kubectl.says("delete deployment web --timeout=30s", &["deleted"]);
    });
}

/// Edits the deployment by a sed script in place of a person.
fn edit(kubectl: &Kubectl<'_>, script: &str) {
    let mut command = kubectl
        .cluster
        .kubectl_process(kubectl.tool, &["edit", "deployment", "web"]);
    command.env("KUBE_EDITOR", format!("sed -i '{script}'"));
    assert!(e2e::run(&mut command, "").ok().contains("edited"));
}

#[test]
fn lists_in_pages_and_watches() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    let items: Vec<String> = (0..25).map(|n| map(&format!("m{n:02}"), "v")).collect();
    cluster
        .apply(&format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{}]}}",
            items.join(",")
        ))
        .ok();
    each(&cluster, |kubectl| {
        let all = kubectl.run("get configmaps --chunk-size=4 -o name").ok();
        assert_eq!(all.lines().filter(|line| line.starts_with("configmap/m")).count(), 25);
        let mut watch = cluster
            .kubectl_process(kubectl.tool, &["get", "configmap", "m07", "-w", "-o", "wide"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let lines = BufReader::new(watch.stdout.take().expect("stdout is piped")).lines();
        let mut lines = lines.map_while(Result::ok);
        assert!(lines.next().is_some_and(|line| line.starts_with("NAME")));
        assert!(lines.next().is_some_and(|line| line.starts_with("m07")));
        kubectl.run("annotate configmap m07 --overwrite note=1").ok();
        kubectl.run("annotate configmap m07 --overwrite note=2").ok();
        assert!(
            lines.next().is_some_and(|line| line.starts_with("m07")),
            "the change arrives"
        );
        kill(watch.id(), Signal::SIGTERM);
        let _ = watch.wait();
        // As WatchList asks: the state, then the bookmark that closes it.
        let target = "get --raw /api/v1/namespaces/default/configmaps?watch=1&sendInitialEvents=true\
            &resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
        let events = kubectl.run(target).ok();
        let closing = events
            .lines()
            .position(|line| line.contains("k8s.io/initial-events-end"));
        assert_eq!(
            closing,
            Some(26),
            "25 maps and the cluster's certificate come first:\n{events}"
        );
    });
}

#[test]
fn waits_and_tells_what_happened() {
    need_root!();
    let cluster = hello(1);
    each(&cluster, |kubectl| {
        kubectl.says(
            "wait --for=condition=Available deployment/hello --timeout=30s",
            &["condition met"],
        );
        kubectl.says("events --for deployment/hello", &["ScalingReplicaSet"]);
        // Those that were too many may still be going.
        let pod = until("one pod is left", SOON, || {
            let names = kubectl.run("get pods -o name").ok();
            match names.lines().collect::<Vec<_>>().as_slice() {
                [only] => Ok((*only).to_owned()),
                _ => Err(names),
            }
        });
        let running = format!("wait --for=jsonpath={{.status.phase}}=Running {pod} --timeout=30s");
        kubectl.says(&running, &["condition met"]);
        kubectl.run(&format!("delete {pod} --wait=false")).ok();
        kubectl.run(&format!("wait --for=delete {pod} --timeout=30s")).ok();
    });
}

fn hello(replicas: u32) -> Cluster {
    let cluster = Cluster::start(Options::default());
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    let directory = repository().join("examples/hello").display().to_string();
    cluster.kubectl(&["apply", "-f", &directory]).ok();
    cluster
        .kubectl(&["scale", "deployment/hello", &format!("--replicas={replicas}")])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    cluster
}

#[test]
fn a_pod_of_the_wasm_class_runs() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    let pod = |name: &str, class: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"}}, "spec": {{"runtimeClassName": "{class}",
            "containers": [{{"name": "c", "image": "hello:1"}}]}}}}"#
        )
    };
    cluster.apply(&pod("classy", "wasm")).ok();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/classy", "--timeout=30s"])
        .ok();
    let refused = cluster.apply(&pod("other", "gvisor")).err();
    assert!(refused.contains("RuntimeClass \"gvisor\" not found"), "{refused}");
}

#[test]
fn draining_the_only_node_explains_itself() {
    need_root!();
    let cluster = hello(2);
    let node = cluster
        .kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])
        .ok();
    cluster
        .kubectl(&[
            "run",
            "alone",
            "--image=hello:1",
            "--restart=Never",
            "--labels=app=alone",
        ])
        .ok();
    let scratch = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "scratch", "ownerReferences": []},
        "spec": {"volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "hello:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}}"#;
    cluster.apply(scratch).ok();
    each(&cluster, |kubectl| {
        kubectl.says(&format!("cordon {node}"), &["cordoned"]);
        kubectl.says("get nodes", &["Ready,SchedulingDisabled"]);
        let refused = kubectl.run(&format!("drain {node} --timeout=20s")).err();
        for part in ["cannot delete Pods that declare no controller", "default/alone"] {
            assert!(refused.contains(part), "{part}:\n{refused}");
        }
        kubectl.says(&format!("uncordon {node}"), &["uncordoned"]);
    });
    let kubectl = Kubectl {
        cluster: &cluster,
        tool: Tool::Kubectl136,
    };
    let force = format!("drain {node} --force --delete-emptydir-data --timeout=60s");
    kubectl.says(&force, &["evicting pod default/alone", "drained"]);
    until("the replacements say what they wait for", SOON, || {
        let waiting = kubectl.run("get pods -l app=hello -o name").ok();
        let described = kubectl
            .run(&format!("describe {}", waiting.lines().next().unwrap_or("pods")))
            .ok();
        let reason = "0/1 nodes are available: 1 node(s) were unschedulable";
        match described.matches(reason).count() {
            0 => Err(described),
            _ => Ok(()),
        }
    });
    let condition = "jsonpath={.items[*].status.conditions[?(@.type==\"PodScheduled\")].message}";
    let told = cluster
        .kubectl(&["get", "pods", "-l", "app=hello", "-o", condition])
        .ok();
    assert!(
        told.contains("0/1 nodes are available: 1 node(s) were unschedulable"),
        "{told}"
    );
    kubectl.run(&format!("uncordon {node}")).ok();
    kubectl.run("rollout status deployment/hello --timeout=60s").ok();
}

#[test]
fn a_budget_holds_a_drain_up_until_it_allows_it() {
    need_root!();
    let cluster = hello(2);
    let node = cluster
        .kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])
        .ok();
    let kubectl = Kubectl {
        cluster: &cluster,
        tool: Tool::Kubectl136,
    };
    kubectl
        .run("create poddisruptionbudget hello --selector app=hello --min-available 2")
        .ok();
    until("the budget is counted", SOON, || {
        let shown = kubectl
            .run("get pdb hello -o jsonpath={.status.currentHealthy}/{.status.disruptionsAllowed}")
            .ok();
        if shown == "2/0" { Ok(()) } else { Err(shown) }
    });
    each(&cluster, |kubectl| {
        let drain = kubectl.run(&format!("drain {node} --timeout=4s"));
        let words = "Cannot evict pod as it would violate the pod's disruption budget";
        assert!(!drain.success && drain.stderr.contains(words), "{}", drain.stderr);
        kubectl.says("get pdb", &["MIN AVAILABLE", "hello"]);
        kubectl.says(
            "describe pdb hello",
            &["Allowed disruptions:  0", "Current:              2"],
        );
    });
    kubectl
        .run(r#"patch pdb hello --type merge -p {"spec":{"minAvailable":0}}"#)
        .ok();
    kubectl.says(&format!("drain {node} --timeout=60s"), &["evicted", "drained"]);
}
