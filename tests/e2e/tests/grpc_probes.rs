//! gRPC probes, answered by gRPC's own library: which service is asked, and what becomes of a container by its answers.

use std::{process::Command, time::Duration};

use e2e::{Cluster, Options, need_root, oci::Image, repository, run, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(90);
/// Debian's, which has Debian's gRPC.
const PYTHON: &str = "/usr/bin/python3";

/// A cluster with the image of the health service; `None` where there is no gRPC for it.
fn cluster() -> Option<Cluster> {
    let has = run(Command::new(PYTHON).args(["-c", "import grpc"]), "");
    if !has.success {
        eprintln!("SKIPPED: python3-grpcio is not installed");
        return None;
    }
    let cluster = Cluster::start(Options {
        containerd: true,
        ..Options::default()
    });
    let server = repository().join("tests/e2e/servers/health.py");
    let image = Image {
        command: [PYTHON, "/srv/health.py", "9000"].map(str::to_owned).into(),
        files: vec![(
            "srv/health.py".to_owned(),
            std::fs::read_to_string(server).expect("the server"),
        )],
    };
    cluster.load_image(&image, "health:1");
    Some(cluster)
}

/// A pod with the health service, which knows `services`; `probes` are those of its container, `more` further containers. Python
/// and its libraries are the machine's.
fn pod(services: &str, probes: &str, more: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{name: health}}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {{name: usr, hostPath: {{path: /usr}}}}
  - {{name: lib, hostPath: {{path: /lib}}}}
  - {{name: lib64, hostPath: {{path: /lib64}}}}
  containers:
  - name: main
    image: health:1
    imagePullPolicy: Never
    args: [{services}]
    volumeMounts:
    - {{name: usr, mountPath: /usr, readOnly: true}}
    - {{name: lib, mountPath: /lib, readOnly: true}}
    - {{name: lib64, mountPath: /lib64, readOnly: true}}
{probes}
{more}
"
    )
}

/// Waits until what is said of the container is as it should be.
fn until_said(cluster: &Cluster, what: &str, container: &str, accept: impl Fn(&Value) -> bool) -> Value {
    until(what, SOON, || {
        let pod = cluster.get(&["pod", "health"]);
        let statuses = pod["status"]["containerStatuses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let status = statuses.into_iter().find(|status| status["name"] == container);
        let status = status.unwrap_or_default();
        match accept(&status) {
            true => Ok(status),
            false => Err(format!(
                "{status}\n{}",
                cluster.kubectl(&["describe", "pod", "health"]).stdout
            )),
        }
    })
}

fn until_told(cluster: &Cluster, note: &str) {
    until(&format!("{note:?} is told"), SOON, || {
        let told = cluster
            .kubectl(&[
                "get",
                "events",
                "-o",
                "jsonpath={range .items[*]}{.message}{'\\n'}{end}",
            ])
            .stdout;
        match told.contains(note) {
            true => Ok(()),
            false => Err(told),
        }
    });
}

/// Has the health service say something else of a service.
fn say(cluster: &Cluster, service: &str, status: &str) {
    let script = format!("echo {status} > /tmp/health-{service}");
    cluster
        .kubectl(&[
            "exec",
            "health",
            "-c",
            "main",
            "--",
            "/bin/busybox",
            "sh",
            "-c",
            &script,
        ])
        .ok();
}

#[test]
fn a_container_is_what_its_services_say() {
    need_root!();
    let Some(cluster) = cluster() else { return };
    let probes = r"
    startupProbe: {grpc: {port: 9000, service: started}, periodSeconds: 1, failureThreshold: 1000}
    readinessProbe: {grpc: {port: 9000, service: ready}, periodSeconds: 1, failureThreshold: 1}
    livenessProbe: {grpc: {port: 9000}, periodSeconds: 1, failureThreshold: 2}";
    let services = "'=SERVING', 'started=NOT_SERVING', 'ready=NOT_SERVING'";
    cluster.apply(&pod(services, probes, "")).ok();
    let unhealthy = "service unhealthy (responded with \"NOT_SERVING\")";
    until_told(&cluster, &format!("Startup probe failed: {unhealthy}"));
    until_said(&cluster, "it runs and has not started", "main", |said| {
        !said["state"]["running"].is_null() && said["started"] == false && said["ready"] == false
    });

    say(&cluster, "started", "SERVING");
    until_said(&cluster, "it has started", "main", |said| said["started"] == true);
    until_told(&cluster, &format!("Readiness probe failed: {unhealthy}"));
    say(&cluster, "ready", "SERVING");
    until_said(&cluster, "it is ready", "main", |said| said["ready"] == true);
    say(&cluster, "ready", "UNKNOWN");
    let said = until_said(&cluster, "it is not ready", "main", |said| said["ready"] == false);
    assert_eq!(said["restartCount"], 0, "{said}");
    until_told(
        &cluster,
        "Readiness probe failed: service unhealthy (responded with \"UNKNOWN\")",
    );

    // The server as a whole: the container is killed, and what comes begins anew.
    say(&cluster, "", "NOT_SERVING");
    let said = until_said(&cluster, "it is restarted", "main", |said| {
        said["restartCount"] == 1 && !said["state"]["running"].is_null()
    });
    assert_eq!(
        (&said["started"], &said["ready"]),
        (&false.into(), &false.into()),
        "{said}"
    );
    until_told(&cluster, &format!("Liveness probe failed: {unhealthy}"));
    until_told(&cluster, "Container main failed liveness probe, will be restarted");
}

#[test]
fn a_wasm_container_may_have_one_and_a_service_that_nobody_knows_is_a_failure() {
    need_root!();
    let Some(cluster) = cluster() else { return };
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    let probes = "    readinessProbe: {grpc: {port: 9000, service: nobody}, periodSeconds: 1}";
    // It shares the pod's address with the server.
    let wasm = "  - name: wasm\n    image: hello:1\n    ports: [{containerPort: 8080}]\n    \
                readinessProbe: {grpc: {port: 9000, service: wasm}, periodSeconds: 1, failureThreshold: 1}\n    \
                livenessProbe: {grpc: {port: 9000, service: alive}, periodSeconds: 1, failureThreshold: 5}\n";
    cluster
        .apply(&pod("'wasm=SERVING', 'alive=SERVING'", probes, wasm))
        .ok();
    until_said(&cluster, "the Wasm container is ready", "wasm", |said| {
        said["ready"] == true
    });
    until_told(
        &cluster,
        "Readiness probe failed: error: health rpc probe failed: unknown service nobody",
    );
    let said = until_said(&cluster, "the other runs", "main", |said| {
        !said["state"]["running"].is_null()
    });
    assert_eq!((&said["ready"], &said["restartCount"]), (&false.into(), &0.into()));

    say(&cluster, "wasm", "NOT_SERVING");
    until_said(&cluster, "the Wasm container is not ready", "wasm", |said| {
        said["ready"] == false
    });
    say(&cluster, "wasm", "SERVING");
    let before = until_said(&cluster, "it is again", "wasm", |said| said["ready"] == true);
    say(&cluster, "alive", "NOT_SERVING");
    until_said(&cluster, "it is restarted", "wasm", |said| {
        said["restartCount"].as_i64() > before["restartCount"].as_i64()
    });
    let said = until_said(&cluster, "the server runs on", "main", |said| {
        !said["state"]["running"].is_null()
    });
    assert_eq!(said["restartCount"], 0);
}
