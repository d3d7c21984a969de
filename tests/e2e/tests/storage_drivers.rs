//! Volumes of a storage driver, with the driver on real sockets, real kubectl and the real binary.

use std::{path::Path, time::Duration};

use csi_driver::{Driver, Options as DriverOptions, Running};
use e2e::{Cluster, Options, PAUSE, need_root, oci::Image, repository, until};

const MINUTE: Duration = Duration::from_secs(60);
const NAME: &str = "hostpath.test.wherry.dev";

/// A cluster, and a driver whose controller service its node asks.
struct Storage {
    cluster: Cluster,
    driver: Driver,
    running: Option<Running>,
}

impl Storage {
    fn start(options: DriverOptions) -> Self {
        let cluster = Cluster::start(Options {
            containerd: true,
            ..Options::default()
        });
        images(&cluster);
        let attaches = options.attaches;
        let driver = Driver::new(&cluster.scratch().join("driver"), options);
        let node = cluster
            .kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])
            .ok();
        cluster
            .apply(&format!(
                r#"
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {{name: {NAME}, annotations: {{wherry.dev/controller-node: "{node}"}}}}
spec: {{attachRequired: {attaches}, podInfoOnMount: true, fsGroupPolicy: File, volumeLifecycleModes: [Persistent, Ephemeral]}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: disk}}
provisioner: {NAME}
volumeBindingMode: WaitForFirstConsumer
allowVolumeExpansion: true
parameters: {{kind: fast}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: csi}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: wherry:csi-controller}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:node:{node}"}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data}}
spec: {{storageClassName: disk, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
"#
            ))
            .ok();
        let running = Some(driver.start(&cluster.data()));
        Self {
            cluster,
            driver,
            running,
        }
    }

    /// A pod of a container that runs a command, or of a guest that does what it is told.
    fn pod(&self, name: &str, container: &str, volume: &str) {
        self.cluster
            .apply(&format!(
                r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  securityContext: {{fsGroup: 2000}}
  containers:
  - name: main
    imagePullPolicy: Never
    volumeMounts: [{{name: data, mountPath: /data}}]
    {container}
  volumes: [{{name: data, {volume}}}]
"#
            ))
            .ok();
    }

    fn shell(&self, name: &str, command: &str) {
        self.pod(
            name,
            &format!("image: tools:1\n    command: [sh, -c, \"{command}\"]"),
            CLAIM,
        );
    }

    fn phase(&self, pod: &str, phase: &str) {
        let condition = format!("--for=jsonpath={{.status.phase}}={phase}");
        let done = self
            .cluster
            .kubectl(&["wait", &format!("pod/{pod}"), &condition, "--timeout=90s"]);
        let described = self.cluster.kubectl(&["describe", "pod,pvc"]).stdout;
        assert!(done.success, "{done:?}\n{described}\n{:?}", self.driver.state().calls);
    }

    fn logs(&self, pod: &str) -> String {
        self.phase(pod, "Succeeded");
        self.cluster.kubectl(&["logs", pod]).ok()
    }

    fn delete(&self, what: &str, name: &str) {
        let gone = self.cluster.kubectl(&["delete", what, name, "--timeout=90s"]);
        assert!(gone.success, "{gone:?}\n{:?}", self.driver.state().calls);
    }

    fn says(&self, about: &str, text: &str) {
        until(text, MINUTE, || {
            let said = self.cluster.kubectl(&["describe", "pod", about]).stdout;
            match said.contains(text) {
                true => Ok(()),
                false => Err(said),
            }
        });
    }

    fn nothing_is_mounted(&self) {
        until("nothing is mounted", MINUTE, || {
            match mounts(&self.cluster.data()).as_slice() {
                [] => Ok(()),
                left => Err(format!("{left:?}")),
            }
        });
    }
}

/// A node whose disk is short forgets images that nothing uses when it starts.
fn images(cluster: &Cluster) {
    cluster.load_image(&Image::pause(), PAUSE);
    cluster.load_image(&Image::default(), "tools:1");
    cluster
        .load(&repository().join("tests/workloads/probe.wasm"), "probe:1")
        .ok();
}

const CLAIM: &str = "persistentVolumeClaim: {claimName: data}";

/// What is mounted for drivers below a directory.
fn mounts(below: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("the kernel tells");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let ours = points.filter(|point| Path::new(point).starts_with(below) && point.contains("kubernetes.io"));
    ours.filter(|point| point.contains("csi")).map(str::to_owned).collect()
}

#[test]
fn a_claim_of_a_driver_goes_from_pod_to_pod_through_every_fault() {
    need_root!();
    let mut storage = Storage::start(DriverOptions::default());
    until("the driver is registered", MINUTE, || {
        let listed = storage
            .cluster
            .kubectl(&["get", "csinodes", "-o", "jsonpath={.items[*].spec.drivers[*].name}"]);
        match listed.stdout.contains(NAME) {
            true => Ok(()),
            false => Err(format!("{listed:?}")),
        }
    });
    storage.shell("writer", "echo kept > /data/file && sleep 1000");
    storage.phase("writer", "Running");
    let claim = storage.cluster.get(&["pvc", "data"]);
    assert_eq!(claim["status"]["phase"], "Bound");
    let asked = &claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"];
    assert_eq!(asked, NAME);
    let volume = claim["spec"]["volumeName"].as_str().expect("bound").to_owned();
    let described = storage.cluster.get(&["pv", &volume]);
    assert_eq!(described["spec"]["csi"]["volumeAttributes"]["kind"], "fast");
    let id = described["spec"]["csi"]["volumeHandle"]
        .as_str()
        .expect("named")
        .to_owned();
    until("the file is the volume's", MINUTE, || {
        std::fs::read_to_string(storage.driver.volume(&id).join("file")).map_err(|e| e.to_string())
    });
    assert_eq!(mounts(&storage.cluster.data()).len(), 2, "staged and published");

    // Killed with the volume in use: the next agent finds it, and what is deleted meanwhile is taken back.
    storage.cluster.crash();
    storage.cluster.up();
    images(&storage.cluster);
    storage.phase("writer", "Running");
    storage.delete("pod", "writer");
    storage.nothing_is_mounted();
    storage.shell("reader", "cat /data/file");
    assert_eq!(storage.logs("reader"), "kept\n");
    storage.delete("pod", "reader");

    // A guest has it as well.
    storage.pod("guest", "image: probe:1\n    args: [read, /data/file]", CLAIM);
    assert_eq!(storage.logs("guest"), "ok kept\n\n");
    storage.delete("pod", "guest");
    storage.nothing_is_mounted();

    // The driver dies: it is told, and all goes on when it is back.
    drop(storage.running.take());
    storage.shell("later", "cat /data/file");
    storage.says("later", "MountVolume.MountDevice failed for volume");
    storage.says("later", "code = Unavailable desc = connection error");
    storage.running = Some(storage.driver.start(&storage.cluster.data()));
    assert_eq!(storage.logs("later"), "kept\n");
    storage.delete("pod", "later");

    // A volume that lives with its pod needs no claim.
    let own = format!("csi: {{driver: {NAME}}}");
    storage.pod(
        "own",
        "image: tools:1\n    command: [sh, -c, \"echo x > /data/file && cat /data/file\"]",
        &own,
    );
    assert_eq!(storage.logs("own"), "x\n");
    storage.delete("pod", "own");

    // The claim goes, and its volume with it.
    storage.delete("pvc", "data");
    storage
        .cluster
        .kubectl(&["wait", &format!("pv/{volume}"), "--for=delete", "--timeout=60s"])
        .ok();
    assert!(storage.driver.volumes().is_empty(), "{:?}", storage.driver.volumes());
    storage.nothing_is_mounted();
    storage.running.take().expect("it runs").stop();
    until("the driver is gone", MINUTE, || {
        let listed = storage
            .cluster
            .kubectl(&["get", "csinodes", "-o", "jsonpath={.items[*].spec.drivers[*].name}"]);
        match listed.stdout.contains(NAME) {
            false => Ok(()),
            true => Err(format!("{listed:?}")),
        }
    });
}

#[test]
fn volumes_are_attached_before_and_detached_after() {
    need_root!();
    let storage = Storage::start(DriverOptions {
        attaches: true,
        expands: true,
        topology: [("topology.test/node".to_owned(), "here".to_owned())].into(),
        ..DriverOptions::default()
    });
    storage.shell("one", "echo kept > /data/file && sleep 1000");
    storage.phase("one", "Running");
    storage.says("one", "AttachVolume.Attach succeeded for volume");
    let attachments = storage.cluster.get(&["volumeattachments"]);
    assert_eq!(attachments["items"][0]["status"]["attached"], true, "{attachments}");
    let node = storage.cluster.get(&["nodes"])["items"][0].clone();
    assert!(
        node["status"]["volumesAttached"][0]["name"]
            .as_str()
            .is_some_and(|name| name.contains(NAME))
    );
    assert_eq!(node["metadata"]["labels"]["topology.test/node"], "here");
    let volume = storage.cluster.get(&["pv"])["items"][0].clone();
    let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0];
    assert_eq!(terms["matchExpressions"][0]["key"], "topology.test/node");
    let id = volume["spec"]["csi"]["volumeHandle"]
        .as_str()
        .expect("named")
        .to_owned();
    assert_eq!(
        storage.driver.state().staged[&id].publish_context["device"],
        format!("/dev/{id}")
    );

    // The claim grows, and the file system with it while the pod runs.
    let larger = r#"{"spec": {"resources": {"requests": {"storage": "2Mi"}}}}"#;
    storage.cluster.kubectl(&["patch", "pvc", "data", "-p", larger]).ok();
    until("it has grown", 2 * MINUTE, || {
        let claim = storage.cluster.get(&["pvc", "data"]);
        let sizes = storage.driver.state().sizes.get(&id).copied();
        match claim["status"]["capacity"]["storage"] == "2Mi" && sizes == Some((2 << 20, 2 << 20)) {
            true => Ok(()),
            false => Err(format!("{claim} {sizes:?}")),
        }
    });
    storage.delete("pod", "one");
    until("it is detached", MINUTE, || {
        let left = storage
            .cluster
            .kubectl(&["get", "volumeattachments", "-o", "name"])
            .ok();
        match left.trim() {
            "" => Ok(()),
            left => Err(format!("{left} {:?}", storage.driver.state().calls)),
        }
    });
    assert!(storage.driver.state().attached.is_empty());
    storage.nothing_is_mounted();
}
