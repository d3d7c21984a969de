//! Volumes of a storage driver that listens on real sockets and mounts; needs root.

use csi_driver::{Driver, Options};
use tonic::Code;

use super::*;

macro_rules! need_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root may mount");
            return;
        }
    };
}

const NAME: &str = "hostpath.test.wherry.dev";
const MINUTE: Duration = Duration::from_secs(60);

/// A node with a driver, of which the volume `v1` exists and is bound to the claim `data`.
struct Storage {
    /// Before what is mounted is removed.
    _mounts: Mounts,
    node: Node,
    driver: Driver,
    _volumes: tempfile::TempDir,
}

/// Whatever is mounted below a directory goes, however a test ends.
struct Mounts(PathBuf);

impl Storage {
    fn start(options: Options, object: Value) -> Self {
        let volumes = tempfile::tempdir().expect("dir");
        let driver = Driver::new(volumes.path(), options);
        driver.make("v1");
        let node = Node::start();
        node.api
            .put(&kinds::CSI_DRIVER, json!({"metadata": {"name": NAME}, "spec": object}));
        let claim = json!({"metadata": {"name": "data", "namespace": "default", "uid": "c1"},
            "spec": {"volumeName": "pv1"}, "status": {"phase": "Bound"}});
        node.api.put(&kinds::PERSISTENT_VOLUME_CLAIM, claim);
        let source = json!({"driver": NAME, "volumeHandle": "v1", "volumeAttributes": {"kind": "fast"},
            "nodeStageSecretRef": {"name": "key", "namespace": "vault"}});
        let volume = json!({"metadata": {"name": "pv1"}, "spec": {"csi": source, "claimRef": {"uid": "c1"},
            "accessModes": ["ReadWriteOnce"], "mountOptions": ["noatime"]}});
        node.api.put(&kinds::PERSISTENT_VOLUME, volume);
        let secret = json!({"metadata": {"name": "key", "namespace": "vault"}, "data": {"key": "c2VjcmV0"}});
        node.api.put(&kinds::SECRET, secret);
        Self {
            _mounts: Mounts(node.dir.path().to_owned()),
            node,
            driver,
            _volumes: volumes,
        }
    }

    fn root(&self) -> &std::path::Path {
        self.node.dir.path()
    }

    fn bind(&self, name: &str, volume: Value) {
        let mut volume = volume;
        volume["name"] = "data".into();
        let mounts = json!([{"name": "data", "mountPath": "/data"}]);
        self.node.bind(
            name,
            &json!({
                "volumes": [volume], "securityContext": {"fsGroup": 2000}, "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "web", "image": "i", "volumeMounts": mounts}],
            }),
        );
    }

    /// The place on the node that the pod's container sees.
    async fn place(&self, name: &str) -> PathBuf {
        within(self.node.running(name)).await;
        let config = self.node.runtime.config(name, "web").expect("made");
        let mount = config.mounts.iter().find(|mount| mount.container_path == "/data");
        PathBuf::from(&mount.expect("mounted").host_path)
    }

    async fn says(&self, pod: &str, text: &str) {
        let said = |events: &[Object]| {
            events.iter().any(|event| {
                event.str_at("involvedObject.name") == Some(pod)
                    && event.str_at("message").is_some_and(|message| message.contains(text))
            })
        };
        within(self.node.api.wait_for(&kinds::EVENT, said)).await;
    }

    async fn nothing_is_mounted(&self) {
        let root = self.root().to_owned();
        until("nothing is mounted", || {
            let mounted = crate::csi::mounts_below(&root).expect("the kernel tells");
            let staged = std::fs::read_dir(root.join("plugins/kubernetes.io/csi").join(NAME));
            let staged = staged.into_iter().flatten().count();
            mounted.is_empty() && staged == 0
        })
        .await;
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for mount in crate::csi::mounts_below(&self.0).unwrap_or_default() {
            let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let waited = async {
        while !done() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(MINUTE, waited)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within a minute"));
}

fn claim() -> Value {
    json!({"persistentVolumeClaim": {"claimName": "data"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_registers_and_its_volume_goes_to_a_pod_and_back() {
    need_root!();
    let options = Options {
        topology: [("topology.test/node".to_owned(), "here".to_owned())].into(),
        ..Options::default()
    };
    let object = json!({"attachRequired": false, "podInfoOnMount": true, "fsGroupPolicy": "File"});
    let storage = Storage::start(options, object);
    let running = storage.driver.start(storage.root());
    let listed = |nodes: &[Object]| nodes.iter().any(|node| !node.list_at("spec.drivers").is_empty());
    let nodes = within(storage.node.api.wait_for(&kinds::CSI_NODE, listed)).await;
    assert_eq!(
        nodes[0].at("spec.drivers"),
        Some(
            &json!([{"name": NAME, "nodeID": "test-node", "topologyKeys": ["topology.test/node"], "allocatable": {"count": 16}}])
        )
    );
    let node = storage.node.api.get(&kinds::NODE, "", NODE).expect("registered");
    assert_eq!(node.label("topology.test/node"), Some("here"));
    let ids = node.annotation("csi.volume.kubernetes.io/nodeid");
    assert_eq!(ids, Some(&*format!("{{\"{NAME}\":\"test-node\"}}")));
    until("the driver is told", || {
        storage.driver.state().registered == Some(Ok(()))
    })
    .await;

    storage.bind("a", claim());
    let place = storage.place("a").await;
    assert_eq!(place, storage.root().join("pods/a/volumes/kubernetes.io~csi/pv1/mount"));
    std::fs::write(place.join("file"), "kept").expect("written");
    assert_eq!(
        std::fs::read_to_string(storage.driver.volume("v1").join("file")).expect("there"),
        "kept"
    );
    let owner = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(&place).expect("there"));
    assert_eq!(owner, 2000, "the pod's group has it");
    {
        let state = storage.driver.state();
        let published = &state.published["v1"];
        assert_eq!(published.volume_context["csi.storage.k8s.io/pod.name"], "a");
        assert_eq!(published.volume_context["kind"], "fast");
        assert_eq!(state.staged["v1"].secrets["key"], "secret");
        assert!(state.staged["v1"].staging_target_path.ends_with("/globalmount"));
    }
    // A second pod shares what is staged, and keeps it.
    storage.bind("b", claim());
    storage.place("b").await;
    storage.node.api.remove(&kinds::POD, "default", "a");
    until("the first is taken back", || !place.exists()).await;
    assert_eq!(storage.driver.calls("NodeUnstageVolume v1"), 0);
    storage.node.api.remove(&kinds::POD, "default", "b");
    storage.nothing_is_mounted().await;
    assert_eq!(storage.driver.calls("NodeUnstageVolume v1"), 1);
    assert!(
        storage.driver.volume("v1").join("file").exists(),
        "the data is the volume's"
    );

    running.stop();
    let empty = |nodes: &[Object]| nodes.iter().all(|node| node.list_at("spec.drivers").is_empty());
    within(storage.node.api.wait_for(&kinds::CSI_NODE, empty)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_in_kubernetes_words_and_cured_by_itself() {
    need_root!();
    let storage = Storage::start(Options::default(), json!({"attachRequired": false}));
    storage.bind("a", claim());
    storage
        .says(
            "a",
            "MountVolume.MountDevice failed for volume \"pv1\" : kubernetes.io/csi: attacher.MountDevice failed to create \
             newCsiDriverClient: driver name hostpath.test.wherry.dev not found in the list of registered CSI drivers",
        )
        .await;
    storage
        .driver
        .fail("NodeStageVolume", Some((Code::Internal, "disk on fire")));
    let running = storage.driver.start(storage.root());
    let fire = "MountVolume.MountDevice failed for volume \"pv1\" : rpc error: code = Internal desc = disk on fire";
    storage.says("a", fire).await;
    storage.driver.fail("NodeStageVolume", None);
    storage
        .driver
        .fail("NodePublishVolume", Some((Code::ResourceExhausted, "full")));
    let full = "MountVolume.SetUp failed for volume \"pv1\" : rpc error: code = ResourceExhausted desc = full";
    storage.says("a", full).await;
    storage.driver.fail("NodePublishVolume", None);
    storage.place("a").await;

    // Killed, the driver leaves its sockets; the next pod is told, and the first cannot go before the driver is back.
    drop(running);
    storage.bind("b", claim());
    storage.says("b", "code = Unavailable desc = connection error").await;
    storage.node.api.remove(&kinds::POD, "default", "a");
    storage
        .says("a", "UnmountVolume.TearDown failed for volume \"pv1\"")
        .await;
    assert!(storage.driver.volume("v1").exists());
    let _running = storage.driver.start(storage.root());
    storage.place("b").await;
    let gone = storage.root().join("pods/a");
    until("the first pod is gone", || !gone.exists()).await;
    storage.node.api.remove(&kinds::POD, "default", "b");
    storage.nothing_is_mounted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_killed_kubelet_left_is_found_again() {
    need_root!();
    let storage = Storage::start(Options::default(), json!({"attachRequired": false}));
    let _running = storage.driver.start(storage.root());
    storage.bind("stays", claim());
    let place = storage.place("stays").await;
    storage.bind("goes", claim());
    storage.place("goes").await;
    // Staged, and killed before it was published.
    storage.driver.silence("NodePublishVolume");
    storage.bind("half", claim());
    until("it is asked for", || {
        storage
            .driver
            .state()
            .calls
            .iter()
            .filter(|c| *c == "NodePublishVolume v1")
            .count()
            == 3
    })
    .await;

    let Storage {
        _mounts,
        node,
        driver,
        _volumes,
    } = storage;
    let dead = node.killed().await;
    for pod in ["goes", "half"] {
        dead.api.remove(&kinds::POD, "default", pod);
    }
    let storage = Storage {
        _mounts,
        node: dead.again(),
        driver,
        _volumes,
    };
    for pod in ["goes", "half"] {
        let directory = storage.root().join("pods").join(pod);
        until("it is gone", || !directory.exists()).await;
    }
    assert_eq!(storage.driver.calls("NodeUnstageVolume v1"), 0, "one pod has it still");
    assert!(
        crate::csi::mounts_below(&place).expect("table").len() == 1,
        "mounted once"
    );
    storage.node.api.remove(&kinds::POD, "default", "stays");
    storage.nothing_is_mounted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_a_pods_own_lives_with_it_where_the_driver_allows() {
    need_root!();
    let object = json!({"attachRequired": true, "volumeLifecycleModes": ["Ephemeral"], "podInfoOnMount": true,
        "tokenRequests": [{"audience": "vault"}]});
    let storage = Storage::start(Options::default(), object);
    let _running = storage.driver.start(storage.root());
    storage.bind("p", claim());
    storage
        .says("p", "volume mode \"Persistent\" not supported by driver hostpath.test.wherry.dev (only supports [\"Ephemeral\"])")
        .await;
    storage.bind(
        "a",
        json!({"csi": {"driver": NAME, "readOnly": true, "volumeAttributes": {"x": "y"}}}),
    );
    let place = storage.place("a").await;
    assert_eq!(
        place,
        storage.root().join("pods/a/volumes/kubernetes.io~csi/data/mount")
    );
    std::fs::write(place.join("file"), "x").expect_err("read-only");
    let id = storage
        .driver
        .state()
        .published
        .keys()
        .next()
        .cloned()
        .expect("published");
    {
        let state = storage.driver.state();
        let context = &state.published[&id].volume_context;
        assert_eq!(context["csi.storage.k8s.io/ephemeral"], "true");
        assert!(context["csi.storage.k8s.io/serviceAccount.tokens"].starts_with("{\"vault\":{"));
        assert!(state.staged.is_empty(), "nothing to stage for one pod");
    }
    storage.node.api.remove(&kinds::POD, "default", "a");
    storage.nothing_is_mounted().await;
    assert!(!storage.driver.volume(&id).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_its_volume_to_be_attached() {
    need_root!();
    let options = Options {
        attaches: true,
        ..Options::default()
    };
    let storage = Storage::start(options, json!({}));
    let _running = storage.driver.start(storage.root());
    until("it registers", || storage.driver.state().registered.is_some()).await;
    storage.bind("a", claim());
    let handle = format!("kubernetes.io/csi/{NAME}^v1");
    let name = crate::csi::attachment_name("v1", NAME, NODE);
    let attachment = json!({"metadata": {"name": name}, "spec": {"attacher": NAME, "nodeName": NODE},
        "status": {"attached": true, "attachmentMetadata": {"device": "/dev/v1"}}});
    storage.node.api.put(&kinds::VOLUME_ATTACHMENT, attachment);
    let attached = json!({"status": {"volumesAttached": [{"name": handle, "devicePath": ""}]}});
    assert_eq!(storage.driver.calls("NodeStageVolume v1"), 0);
    storage.node.api.change(&kinds::NODE, "", NODE, &attached);
    storage.place("a").await;
    assert_eq!(storage.driver.state().staged["v1"].publish_context["device"], "/dev/v1");
    let in_use = |nodes: &[Object]| {
        nodes
            .iter()
            .any(|node| node.at("status.volumesInUse") == Some(&json!([handle])))
    };
    within(storage.node.api.wait_for(&kinds::NODE, in_use)).await;
    storage.node.api.remove(&kinds::POD, "default", "a");
    storage.nothing_is_mounted().await;
    let free = |nodes: &[Object]| nodes.iter().all(|node| node.list_at("status.volumesInUse").is_empty());
    within(storage.node.api.wait_for(&kinds::NODE, free)).await;
}
