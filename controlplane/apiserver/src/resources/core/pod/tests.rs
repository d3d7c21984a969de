use serde_json::{Value, json};

use crate::registry::resource::{Operation, Strategy};
use crate::resources::testing::{Cases, context, messages, object};

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns",
        "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
}

fn container(extra: Value) -> Value {
    let mut container = json!({"name": "c", "image": "reg/web:1"});
    if let (Some(map), Value::Object(extra)) = (container.as_object_mut(), extra) {
        map.extend(extra);
    }
    container
}

fn with_status(spec: Value, status: Value) -> Value {
    let mut pod = pod(spec);
    pod["status"] = status;
    pod
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
    end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

pub(crate) fn cases() -> Cases {
    Cases {
        valid: valid(),
        invalid: invalid(),
        table: table(),
    }
}

fn valid() -> Vec<Value> {
    vec![
        pod(json!({"containers": [container(json!({}))]})),
        pod(json!({
            "volumes": [
                {"name": "scratch"},
                {"name": "all", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
            ],
            "initContainers": [{"name": "side", "image": "side", "restartPolicy": "Always"}],
            "containers": [container(json!({
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": [{"name": "A", "value": "1"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}],
                "envFrom": [{"configMapRef": {"name": "cm"}}],
                "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "500m"}},
                "readinessProbe": {"httpGet": {"port": "http"}},
                "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}, {"name": "all", "mountPath": "/all", "readOnly": true}],
            }))],
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}},
        })),
    ]
}

fn invalid() -> Vec<(Value, Vec<&'static str>)> {
    let mut cases = invalid_containers();
    cases.extend(invalid_volumes());
    cases.extend(invalid_rest());
    cases
}

fn invalid_containers() -> Vec<(Value, Vec<&'static str>)> {
    let one = |extra: Value| pod(json!({"containers": [container(extra)]}));
    vec![
        (pod(json!({"containers": []})), vec!["spec.containers: Required value"]),
        (
            pod(json!({"containers": [{"name": "", "image": ""}, {"name": "A", "image": " x"}]})),
            vec![
                "spec.containers[0].name: Required value",
                "spec.containers[0].image: Required value",
                leak(format!("spec.containers[1].name: Invalid value: \"A\": {LABEL}")),
                "spec.containers[1].image: Invalid value: \" x\": must not have leading or trailing whitespace",
            ],
        ),
        (
            pod(json!({"containers": [container(json!({})), container(json!({}))]})),
            vec!["spec.containers[1].name: Duplicate value: \"c\""],
        ),
        (
            one(
                json!({"ports": [{"containerPort": 0}, {"name": "p", "containerPort": 70000, "protocol": "ICMP"},
                {"name": "p", "containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 80}]}),
            ),
            vec![
                "spec.containers[0].ports[0].containerPort: Required value",
                "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.containers[0].ports[1].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "spec.containers[0].ports[2].name: Duplicate value: \"p\"",
                "spec.containers[0].ports[3].hostPort: Duplicate value: \"TCP//80\"",
            ],
        ),
        (
            one(
                json!({"env": [{"name": "A=B"}, {"name": "B", "valueFrom": {}}, {"name": "C", "value": "x", "valueFrom":
                {"configMapKeyRef": {"name": "m"}}}, {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}},
                {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
            ),
            vec![
                "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of \
                 printable ASCII characters other than '='",
                "spec.containers[0].env[1].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, \
                 `configMapKeyRef` or `secretKeyRef`",
                "spec.containers[0].env[2].valueFrom.configMapKeyRef.key: Required value",
                "spec.containers[0].env[2].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                "spec.containers[0].env[3].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \
                 \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \
                 \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
                "spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: \
                 field label not supported: spec.x",
            ],
        ),
        (
            one(
                json!({"resources": {"requests": {"cpu": "2", "memory": "-1", "floppy": "1"}, "limits": {"cpu": "1"}}}),
            ),
            vec![
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                "spec.containers[0].resources.requests[floppy]: Invalid value: \"floppy\": must be a standard resource type or \
                 fully qualified",
                "spec.containers[0].resources.requests[floppy]: Invalid value: \"floppy\": must be a standard resource for \
                 containers",
                "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
        (
            one(
                json!({"livenessProbe": {"successThreshold": 2}, "readinessProbe": {"httpGet": {"port": "no_port"},
                "tcpSocket": {"port": 1}}, "startupProbe": {"exec": {}, "periodSeconds": -1},
                "lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
            ),
            vec![
                "spec.containers[0].lifecycle.preStop.sleep.seconds: Invalid value: 31: must be non-negative and less than \
                 terminationGracePeriodSeconds (30)",
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
                "spec.containers[0].readinessProbe.httpGet.port: Invalid value: \"no_port\": must contain only alpha-numeric \
                 characters (a-z, 0-9), and hyphens (-)",
                "spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].startupProbe.exec.command: Required value",
                "spec.containers[0].startupProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            pod(
                json!({"containers": [container(json!({}))], "initContainers": [{"name": "c", "image": "i",
                "livenessProbe": {"tcpSocket": {"port": 1}}}]}),
            ),
            vec![
                "spec.initContainers[0].name: Duplicate value: \"c\"",
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without \
                 restartPolicy=Always",
            ],
        ),
    ]
}

fn invalid_volumes() -> Vec<(Value, Vec<&'static str>)> {
    let with = |volumes: Value, mounts: Value| {
        pod(json!({"volumes": volumes, "containers": [container(json!({"volumeMounts": mounts}))]}))
    };
    vec![
        (
            with(
                json!([]),
                json!([{"name": "x", "mountPath": ""}, {"name": "x", "mountPath": "", "subPath": "../a"}]),
            ),
            vec![
                "spec.containers[0].volumeMounts[0].name: Not found: \"x\"",
                "spec.containers[0].volumeMounts[0].mountPath: Required value",
                "spec.containers[0].volumeMounts[1].name: Not found: \"x\"",
                "spec.containers[0].volumeMounts[1].mountPath: Required value",
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"\": must be unique",
                "spec.containers[0].volumeMounts[1].subPath: Invalid value: \"../a\": must not contain '..'",
            ],
        ),
        (
            with(
                json!([{"name": "a", "emptyDir": {}, "secret": {"secretName": "s"}}, {"name": "b", "configMap": {"defaultMode": 512}},
                    {"name": "c"}, {"name": "c"}, {"name": "d", "hostPath": {"path": "/a/../b", "type": "Pipe"}}]),
                json!([]),
            ),
            vec![
                "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
                "spec.volumes[1].configMap.name: Required value",
                "spec.volumes[1].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both \
                 inclusive",
                "spec.volumes[3].name: Duplicate value: \"c\"",
                "spec.volumes[4].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                "spec.volumes[4].hostPath.type: Unsupported value: \"Pipe\": supported values: \"\", \"BlockDevice\", \
                 \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ],
        ),
        (
            with(
                json!([{"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 10}},
                    {"secret": {"name": "s", "items": [{"key": "k", "path": "t"}]}},
                    {"downwardAPI": {"items": [{"path": "x"}, {"path": "y", "fieldRef": {"fieldPath": "status.podIP"}}]}}]}}]),
                json!([]),
            ),
            vec![
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a \
                 duration less than 10 minutes",
                "spec.volumes[0].projected.sources: Invalid value: \"t\": conflicting duplicate paths",
                "spec.volumes[0].projected.sources[2].downwardAPI.items: Required value: one of fieldRef and resourceFieldRef is \
                 required",
                "spec.volumes[0].projected.sources[2].downwardAPI.items[1].fieldRef.fieldPath: Unsupported value: \
                 \"status.podIP\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \
                 \"metadata.namespace\", \"metadata.uid\"",
            ],
        ),
    ]
}

fn invalid_rest() -> Vec<(Value, Vec<&'static str>)> {
    let with = |extra: Value| {
        let mut pod = pod(json!({"containers": [container(json!({}))]}));
        if let (Some(map), Value::Object(extra)) = (pod["spec"].as_object_mut(), extra) {
            map.extend(extra);
        }
        pod
    };
    vec![
        (
            with(json!({"restartPolicy": "Maybe", "dnsPolicy": "None", "activeDeadlineSeconds": 0, "hostname": "A"})),
            vec![
                "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                leak(format!("spec.hostname: Invalid value: \"A\": {LABEL}")),
            ],
        ),
        (
            with(
                json!({"tolerations": [{"key": "a", "operator": "Like"}, {"value": "v"}, {"key": "b", "operator": "Exists",
                "value": "v"}, {"key": "c", "tolerationSeconds": 1}]}),
            ),
            vec![
                "spec.tolerations[0].operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\"",
                "spec.tolerations[1].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \
                 \"match all values and all keys\"",
                "spec.tolerations[2].operator: Invalid value: {\"key\":\"b\",\"operator\":\"Exists\",\"value\":\"v\"}: value must \
                 be empty when `operator` is 'Exists'",
                "spec.tolerations[3].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            ],
        ),
        (
            with(json!({"affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101,
                    "podAffinityTerm": {"topologyKey": "zone"}}]}}})),
            vec![
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must \
                 have at least one node selector term",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must \
                 be in the range 1-100",
            ],
        ),
        (
            with(
                json!({"securityContext": {"runAsUser": -1}, "hostPID": true, "shareProcessNamespace": true,
                "hostAliases": [{"ip": "x", "hostnames": ["ok"]}]}),
            ),
            vec![
                "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
                "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
    ]
}

fn table() -> Vec<Value> {
    let two = || json!({"nodeName": "n1", "containers": [{"name": "a"}, {"name": "b"}]});
    let ready = |name: &str| json!({"name": name, "ready": true, "restartCount": 0, "state": {"running": {}}});
    let mut deleted = with_status(
        two(),
        json!({"phase": "Running", "containerStatuses": [ready("a"), ready("b")]}),
    );
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T01:00:00Z");
    vec![
        with_status(two(), json!({"phase": "Pending"})),
        with_status(
            two(),
            json!({"phase": "Running", "podIPs": [{"ip": "10.128.0.5"}],
            "containerStatuses": [ready("a"), ready("b")]}),
        ),
        with_status(
            two(),
            json!({"phase": "Running", "containerStatuses": [ready("a"), {"name": "b", "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T01:57:00Z"}}}]}),
        ),
        deleted,
        with_status(
            json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]}),
        ),
        with_status(
            json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 3,
                "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
        ),
        with_status(
            json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]}),
            json!({"phase": "Running", "containerStatuses": [ready("a")],
                "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "state": {"running": {}}}]}),
        ),
        with_status(
            json!({"containers": [{"name": "a"}]}),
            json!({"phase": "Succeeded", "containerStatuses": [
            {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
        ),
        with_status(
            json!({"containers": [{"name": "a"}]}),
            json!({"phase": "Failed", "reason": "Evicted"}),
        ),
        with_status(
            json!({"containers": [{"name": "a"}], "schedulingGates": [{"name": "g"}], "readinessGates": [{"conditionType": "x"}]}),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
        ),
    ]
}

#[test]
fn grace_is_what_was_asked_for_or_what_the_pod_says() {
    let running = json!({"phase": "Running"});
    let cases = [
        (
            json!({"nodeName": "n", "terminationGracePeriodSeconds": 30}),
            running.clone(),
            None,
            30,
        ),
        (
            json!({"nodeName": "n", "terminationGracePeriodSeconds": 30}),
            running.clone(),
            Some(5),
            5,
        ),
        (
            json!({"nodeName": "n", "terminationGracePeriodSeconds": 30}),
            running.clone(),
            Some(0),
            0,
        ),
        (
            json!({"nodeName": "n", "terminationGracePeriodSeconds": -3}),
            running,
            None,
            1,
        ),
        (
            json!({"terminationGracePeriodSeconds": 30}),
            json!({"phase": "Pending"}),
            None,
            0,
        ),
        (
            json!({"nodeName": "n", "terminationGracePeriodSeconds": 30}),
            json!({"phase": "Failed"}),
            Some(7),
            0,
        ),
    ];
    for (spec, status, requested, expected) in cases {
        let old = object(with_status(spec, status));
        assert_eq!(
            super::Pods.graceful(&old, requested),
            Some(expected),
            "{}",
            old.into_value()
        );
    }
}

fn update(change: impl FnOnce(&mut api::Object)) -> Vec<String> {
    let mut old = object(pod(
        json!({"activeDeadlineSeconds": 60, "tolerations": [{"key": "a", "operator": "Exists"}],
        "containers": [container(json!({}))]}),
    ));
    context(Some("ns"), |cx| {
        super::Pods.prepare(cx, &Operation::Create, &mut old);
        let mut new = old.clone();
        change(&mut new);
        let op = Operation::Update { old: &old };
        super::Pods.prepare(cx, &op, &mut new);
        messages(super::Pods.validate(cx, &op, &new))
    })
}

#[test]
fn an_update_may_change_images_and_shorten_deadlines() {
    let fine = update(|pod| {
        pod.set("spec.activeDeadlineSeconds", 30);
        pod.set(
            "spec.tolerations",
            json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]),
        );
        pod.at_mut("spec.containers").expect("a list")[0]["image"] = json!("reg/web:2");
    });
    assert_eq!(fine, Vec::<String>::new());
}

#[test]
fn an_update_may_change_nothing_else() {
    let found = update(|pod| pod.at_mut("spec.containers").expect("a list")[0]["command"] = json!(["x"]));
    assert_eq!(
        found,
        [
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
          `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
          tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n  \
          containers[0].command: [\"x\"] != null"
        ]
    );
    let found = update(|pod| pod.set("spec.tolerations", json!([])));
    assert_eq!(
        found,
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    let found = update(|pod| pod.set("spec.activeDeadlineSeconds", 90));
    assert_eq!(
        found,
        ["spec.activeDeadlineSeconds: Invalid value: 90: must be less than or equal to previous value"]
    );
    let found = update(|pod| {
        pod.set(
            "spec.containers",
            json!([container(json!({})), {"name": "d", "image": "i"}]),
        )
    });
    assert_eq!(
        found,
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
}

#[test]
fn a_status_update_touches_nothing_but_status() {
    let old = object(with_status(
        json!({"restartPolicy": "Never", "nodeName": "n1"}),
        json!({"qosClass": "BestEffort",
        "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]}),
    ));
    let mut new = old.clone();
    new.set("spec.nodeName", "n2");
    new.set(
        "status",
        json!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]}),
    );
    context(Some("ns"), |cx| {
        let op = Operation::UpdateStatus { old: &old };
        super::Pods.prepare(cx, &op, &mut new);
        assert_eq!(new.str_at("spec.nodeName"), Some("n1"));
        assert_eq!(new.str_at("status.qosClass"), Some("BestEffort"));
        assert_eq!(
            messages(super::Pods.validate(cx, &op, &new)),
            ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
        );
    });
}
