//! The API as stock kubectl meets it, of both versions, on a control plane without a node: kinds that no controller acts on
//! yet, server-side apply, and what namespaces are bounded by.

use e2e::{Cluster, Tool, control_plane, need_root};

const BOTH: [(Tool, &str); 2] = [(Tool::Kubectl132, "a"), (Tool::Kubectl136, "b")];

/// Runs kubectl with words and a manifest; answers what it says, on both streams.
#[track_caller]
fn says(cluster: &Cluster, tool: Tool, arguments: &str, stdin: &str, expected: &[&str]) -> String {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let output = cluster.kubectl_with(tool, &arguments, stdin);
    let said = format!("{}{}", output.stdout, output.stderr);
    for part in expected {
        assert!(
            said.contains(part),
            "kubectl {arguments:?}: {part:?} is missing:\n{said}"
        );
    }
    said
}

#[test]
fn kinds_beyond_the_main_story_are_kept_and_printed() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    for (tool, namespace) in BOTH {
        let kubectl = |arguments: &str, expected: &[&str]| {
            says(&cluster, tool, &format!("-n {namespace} {arguments}"), "", expected);
        };
        says(
            &cluster,
            tool,
            &format!("create namespace {namespace}"),
            "",
            &["created"],
        );
        kubectl("create job once --image=i:1", &["job.batch/once created"]);
        kubectl(
            "create quota few --hard=pods=1,count/configmaps=3",
            &["resourcequota/few created"],
        );
        kubectl(
            "create ingress web --rule=example.com/*=web:80",
            &["ingress.networking.k8s.io/web created"],
        );
        kubectl("create deployment web --image=i:1", &["deployment.apps/web created"]);
        kubectl(
            "autoscale deployment web --min=1 --max=3 --cpu-percent=80",
            &["web autoscaled"],
        );
        kubectl(
            "get jobs",
            &["NAME", "STATUS", "COMPLETIONS", "DURATION", "once", "0/1"],
        );
        kubectl("get ingress", &["CLASS", "HOSTS", "example.com", "80"]);
        kubectl("get hpa", &["REFERENCE", "Deployment/web", "MINPODS", "MAXPODS"]);
        kubectl(
            "get horizontalpodautoscalers.v1.autoscaling web -o yaml",
            &["apiVersion: autoscaling/v1", "targetCPUUtilizationPercentage: 80"],
        );
        kubectl("describe quota few", &["count/configmaps", "pods"]);
        kubectl("auth whoami", &["Username"]);
        kubectl(
            "get flowschemas,prioritylevelconfigurations",
            &["catch-all", "global-default", "exempt"],
        );
        kubectl("explain cronjob.spec.schedule", &["FIELD: schedule"]);
    }
    let kinds = says(&cluster, Tool::Kubectl136, "api-resources", "", &[]);
    for kind in [
        "DaemonSet",
        "StatefulSet",
        "StorageClass",
        "NetworkPolicy",
        "ResourceClaim",
        "ValidatingAdmissionPolicy",
    ] {
        assert!(kinds.contains(kind), "{kind} is missing:\n{kinds}");
    }
}

#[test]
fn fields_have_owners_under_server_side_apply() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    let map = |name: &str, value: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name}"}}, "data": {{"k": "{value}"}}}}"#
        )
    };
    for (tool, name) in BOTH {
        let apply = |manager: &str, value: &str, more: &str, expected: &[&str]| {
            let arguments = format!("apply --server-side --field-manager={manager}{more} -f -");
            says(&cluster, tool, &arguments, &map(name, value), expected);
        };
        apply("one", "1", "", &["serverside-applied"]);
        apply("one", "1", "", &["serverside-applied"]);
        apply("two", "2", "", &["conflict with \"one\"", ".data.k"]);
        apply("two", "2", " --force-conflicts", &["serverside-applied"]);
        let shown = format!("get configmap {name} -o yaml --show-managed-fields");
        says(
            &cluster,
            tool,
            &shown,
            "",
            &["manager: two", "operation: Apply", "f:k: {}"],
        );
        let hidden = says(
            &cluster,
            tool,
            &format!("get configmap {name} -o yaml"),
            "",
            &["k: \"2\""],
        );
        assert!(!hidden.contains("managedFields"), "{hidden}");
    }
}

#[test]
fn namespaces_bound_what_is_in_them() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    for (tool, namespace) in BOTH {
        let run = |arguments: &str, expected: &[&str]| says(&cluster, tool, arguments, "", expected);
        run(&format!("create namespace {namespace}"), &["created"]);
        run(
            &format!("label namespace {namespace} pod-security.kubernetes.io/enforce=baseline"),
            &["labeled"],
        );
        run(
            &format!("-n {namespace} run bold --image=i:1 --privileged"),
            &["violates PodSecurity \"baseline:latest\"", "privileged"],
        );
        run(
            &format!("-n {namespace} create quota none --hard=count/secrets=0"),
            &["created"],
        );
        run(
            &format!("-n {namespace} wait resourcequota/none --for=jsonpath={{.status.hard}} --timeout=30s"),
            &["condition met"],
        );
        run(
            &format!("-n {namespace} create secret generic s --from-literal=a=b"),
            &[
                "exceeded quota: none",
                "requested: count/secrets=1, used: count/secrets=0, limited: count/secrets=0",
            ],
        );
    }
}
