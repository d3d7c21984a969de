//! All controllers together against the fake API server, with a kubelet of a few lines.

use api::Object;
use client::{DeleteOptions, Kind, Propagation, fake::Fake, kinds};
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

const NAMESPACE: &str = "ns";

struct Cluster {
    fake: Fake,
    client: Client,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Cluster {
    fn start() -> Self {
        let served: Vec<Kind> = [
            &kinds::NAMESPACE,
            &kinds::NODE,
            &kinds::POD,
            &kinds::SERVICE,
            &kinds::ENDPOINTS,
            &kinds::CONFIG_MAP,
            &kinds::SERVICE_ACCOUNT,
            &kinds::ENDPOINT_SLICE,
            &kinds::REPLICA_SET,
            &kinds::DEPLOYMENT,
            &kinds::CLUSTER_ROLE,
            &kinds::CERTIFICATE_SIGNING_REQUEST,
            &kinds::SECRET,
            &kinds::PERSISTENT_VOLUME,
            &kinds::PERSISTENT_VOLUME_CLAIM,
            &kinds::VOLUME_ATTRIBUTES_CLASS,
            &kinds::STORAGE_CLASS,
        ]
        .into_iter()
        .cloned()
        .collect();
        let fake = Fake::serving(served);
        fake.put(
            &kinds::NAMESPACE,
            json!({"metadata": {"name": NAMESPACE, "uid": "ns"}, "spec": {"finalizers": ["kubernetes"]}}),
        );
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let informers = Informers::new(fake.client(), tasks.clone(), shutdown.clone());
        let config = Config {
            cluster_range: "10.128.0.0/9".parse().unwrap(),
            node_prefix: 17,
            root_ca: "PEM".into(),
            authority: None,
            own_node: None,
            clock: Clock::anchored(Timestamp::UNIX_EPOCH),
        };
        let make = fake.clone();
        tasks.spawn(run_all(move |_| make.client(), informers, config, shutdown.clone()));
        Self {
            client: fake.client(),
            fake,
            tasks,
            shutdown,
        }
    }

    /// Pods get a node and an address and become ready; those that are deleted end.
    fn run_pods(&self) {
        let fake = self.fake.clone();
        let informers = Informers::new(fake.client(), self.tasks.clone(), self.shutdown.clone());
        let mut pods = informers.get::<Object>(&kinds::POD, client::Scope::All).deltas();
        let run = async move {
            let mut next = 0;
            while let Some(delta) = pods.next().await {
                let Some(pod) = delta.new else { continue };
                let (namespace, name) = (pod.namespace().unwrap(), pod.name());
                if pod.is_deleting() && pod.finalizers().is_empty() {
                    fake.remove(&kinds::POD, namespace, name);
                } else if pod.str_at("status.podIP").is_none() {
                    next += 1;
                    fake.change(&kinds::POD, namespace, name, &json!({"spec": {"nodeName": "n1"}, "status": {
                        "phase": "Running", "podIP": format!("10.128.1.{next}"),
                        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z"}]}}));
                }
            }
        };
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move { shutdown.run_until_cancelled(run).await });
    }

    async fn create(&self, kind: &Kind, object: Value) -> Object {
        self.client
            .create(kind, kind.namespaced.then_some(NAMESPACE), &object)
            .await
            .unwrap()
    }

    async fn deploy(&self, replicas: i64) {
        let deployment = json!({"metadata": {"name": "web"}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}}});
        self.create(&kinds::DEPLOYMENT, deployment).await;
    }

    async fn rolled_out(&self, image: &str) {
        let done = |deployment: &Object| {
            let conditions = deployment.list_at("status.conditions");
            let complete = conditions.iter().any(|c| c["reason"] == "NewReplicaSetAvailable");
            let observed = deployment.i64_at("status.observedGeneration") == Some(deployment.generation());
            let desired = deployment.i64_at("spec.replicas");
            complete
                && observed
                && ["replicas", "updatedReplicas", "availableReplicas"]
                    .iter()
                    .all(|field| deployment.i64_at(&format!("status.{field}")) == desired)
        };
        self.fake.wait_for(&kinds::DEPLOYMENT, |all| all.iter().all(done)).await;
        let wanted = |pod: &Object| pod.list_at("spec.containers")[0]["image"] == image;
        self.fake.wait_for(&kinds::POD, |pods| pods.iter().all(wanted)).await;
    }

    async fn gone(&self, kind: &Kind) {
        self.fake.wait_for(kind, <[Object]>::is_empty).await;
    }

    async fn delete_deployment(&self, propagation: Propagation) {
        let options = DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        self.client
            .delete(
                &kinds::DEPLOYMENT,
                &api::NamespacedName::new(NAMESPACE, "web"),
                &options,
            )
            .await
            .unwrap();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_rolls_out_updates_and_scales() {
    let cluster = Cluster::start();
    cluster.run_pods();
    cluster.deploy(3).await;
    cluster.fake.wait_for(&kinds::POD, |pods| pods.len() == 3).await;
    cluster.rolled_out("v1").await;
    let new = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    cluster.fake.change(&kinds::DEPLOYMENT, NAMESPACE, "web", &new);
    cluster.rolled_out("v2").await;
    cluster
        .fake
        .change(&kinds::DEPLOYMENT, NAMESPACE, "web", &json!({"spec": {"replicas": 5}}));
    cluster.fake.wait_for(&kinds::POD, |pods| pods.len() == 5).await;
    cluster.rolled_out("v2").await;
    let sets = cluster.fake.all(&kinds::REPLICA_SET);
    let mut sizes: Vec<_> = sets.iter().map(|set| set.i64_at("spec.replicas").unwrap()).collect();
    sizes.sort();
    assert_eq!(sizes, [0, 5]);
    let said = |text: &str| {
        let events = cluster.fake.all(&kinds::EVENT);
        events
            .iter()
            .any(|event| event.str_at("message").is_some_and(|message| message.starts_with(text)))
    };
    cluster
        .fake
        .wait_for(&kinds::EVENT, |_| {
            said("Scaled up replica set web-") && said("Created pod: web-")
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_pod_too_many_is_ever_made() {
    let cluster = Cluster::start();
    cluster.run_pods();
    cluster.deploy(20).await;
    cluster.rolled_out("v1").await;
    let created = |reason: &str| {
        let events = cluster.fake.all(&kinds::EVENT);
        events
            .iter()
            .filter(|event| event.str_at("reason") == Some(reason))
            .count()
    };
    assert_eq!(cluster.fake.all(&kinds::POD).len(), 20);
    assert_eq!(created("SuccessfulDelete"), 0);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_replaced_and_a_refused_one_retried() {
    let cluster = Cluster::start();
    cluster.run_pods();
    cluster.deploy(2).await;
    cluster.rolled_out("v1").await;
    let victim = cluster.fake.all(&kinds::POD)[0].uid().to_owned();
    cluster
        .fake
        .refuse_creates
        .store(3, std::sync::atomic::Ordering::Relaxed);
    let name = cluster.fake.all(&kinds::POD)[0].name().to_owned();
    cluster.fake.remove(&kinds::POD, NAMESPACE, &name);
    let replaced = |pods: &[Object]| pods.len() == 2 && pods.iter().all(|pod| pod.uid() != victim);
    cluster.fake.wait_for(&kinds::POD, replaced).await;
    cluster.rolled_out("v1").await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn background_deletion_takes_everything_along() {
    let cluster = Cluster::start();
    cluster.run_pods();
    cluster.deploy(3).await;
    cluster.rolled_out("v1").await;
    cluster.delete_deployment(Propagation::Background).await;
    assert!(cluster.fake.all(&kinds::DEPLOYMENT).is_empty(), "the owner goes first");
    cluster.gone(&kinds::POD).await;
    cluster.gone(&kinds::REPLICA_SET).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn foreground_deletion_takes_the_owner_last() {
    let cluster = Cluster::start();
    cluster.run_pods();
    cluster.deploy(3).await;
    cluster.rolled_out("v1").await;
    cluster.delete_deployment(Propagation::Foreground).await;
    assert_eq!(cluster.fake.all(&kinds::DEPLOYMENT).len(), 1);
    let fake = cluster.fake.clone();
    cluster
        .fake
        .wait_for(&kinds::DEPLOYMENT, |all| {
            let dependents = fake.all(&kinds::POD).len() + fake.all(&kinds::REPLICA_SET).len();
            assert!(!all.is_empty() || dependents == 0, "{dependents} dependents are left");
            all.is_empty()
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn orphans_stay() {
    let cluster = Cluster::start();
    cluster.run_pods();
    cluster.deploy(2).await;
    cluster.rolled_out("v1").await;
    cluster.delete_deployment(Propagation::Orphan).await;
    cluster.gone(&kinds::DEPLOYMENT).await;
    let released = |sets: &[Object]| sets.len() == 1 && sets[0].owner_references().is_empty();
    cluster.fake.wait_for(&kinds::REPLICA_SET, released).await;
    assert_eq!(cluster.fake.all(&kinds::POD).len(), 2);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_names_an_owner_that_never_was_is_collected() {
    let cluster = Cluster::start();
    let owned = |name: &str, uid: &str| {
        json!({"metadata": {"name": name, "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]}})
    };
    let owner = cluster
        .create(&kinds::CONFIG_MAP, json!({"metadata": {"name": "owner"}}))
        .await;
    cluster.create(&kinds::CONFIG_MAP, owned("kept", owner.uid())).await;
    cluster.create(&kinds::CONFIG_MAP, owned("lost", "another")).await;
    let names = |maps: &[Object]| maps.iter().map(|map| map.name().to_owned()).collect::<Vec<_>>();
    cluster
        .fake
        .wait_for(&kinds::CONFIG_MAP, |maps| {
            names(maps) == ["kept", "kube-root-ca.crt", "owner"]
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_furnished_and_emptied() {
    let cluster = Cluster::start();
    cluster.run_pods();
    cluster
        .fake
        .wait_for(&kinds::SERVICE_ACCOUNT, |all| {
            all.iter().any(|account| account.name() == "default")
        })
        .await;
    let published = |maps: &[Object]| {
        maps.iter()
            .any(|map| map.map_at("data").is_some_and(|data| data["ca.crt"] == "PEM"))
    };
    cluster.fake.wait_for(&kinds::CONFIG_MAP, published).await;
    cluster.deploy(2).await;
    cluster.rolled_out("v1").await;
    let at = api::NamespacedName::cluster(NAMESPACE);
    cluster
        .client
        .delete(&kinds::NAMESPACE, &at, &DeleteOptions::default())
        .await
        .unwrap();
    cluster.gone(&kinds::NAMESPACE).await;
    for kind in [
        &kinds::POD,
        &kinds::REPLICA_SET,
        &kinds::DEPLOYMENT,
        &kinds::CONFIG_MAP,
        &kinds::SERVICE_ACCOUNT,
    ] {
        assert!(cluster.fake.all(kind).is_empty(), "{kind}");
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_keeps_everything_until_its_pods_are_gone() {
    let cluster = Cluster::start();
    cluster.run_pods();
    let pod = json!({"metadata": {"name": "slow", "finalizers": ["example.com/wait"]},
        "spec": {"containers": [{"name": "c", "image": "v1"}]}});
    cluster.create(&kinds::POD, pod).await;
    cluster
        .create(&kinds::CONFIG_MAP, json!({"metadata": {"name": "policy"}}))
        .await;
    let at = api::NamespacedName::cluster(NAMESPACE);
    cluster
        .client
        .delete(&kinds::NAMESPACE, &at, &DeleteOptions::default())
        .await
        .unwrap();
    let waits = |namespaces: &[Object]| {
        let conditions = namespaces.iter().flat_map(|n| n.list_at("status.conditions"));
        let remaining = conditions.filter(|c| c["type"] == "NamespaceContentRemaining");
        remaining
            .map(|c| c["message"].clone())
            .eq([json!("Some resources are remaining: pods has 1 resource instances")])
    };
    cluster.fake.wait_for(&kinds::NAMESPACE, waits).await;
    assert!(cluster.fake.all(&kinds::POD)[0].is_deleting());
    assert!(
        cluster
            .fake
            .all(&kinds::CONFIG_MAP)
            .iter()
            .any(|map| map.name() == "policy")
    );
    cluster.fake.change(
        &kinds::POD,
        NAMESPACE,
        "slow",
        &json!({"metadata": {"finalizers": null}}),
    );
    cluster.gone(&kinds::NAMESPACE).await;
    assert!(cluster.fake.all(&kinds::CONFIG_MAP).is_empty());
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_stays_for_as_long_as_a_pod_uses_it() {
    let cluster = Cluster::start();
    let held = |claims: &[Object]| claims.iter().any(|claim| !claim.finalizers().is_empty());
    cluster
        .create(&kinds::PERSISTENT_VOLUME_CLAIM, json!({"metadata": {"name": "data"}}))
        .await;
    cluster.fake.wait_for(&kinds::PERSISTENT_VOLUME_CLAIM, held).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "v1"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    cluster.create(&kinds::POD, pod).await;
    let at = api::NamespacedName::new(NAMESPACE, "data");
    cluster
        .client
        .delete(&kinds::PERSISTENT_VOLUME_CLAIM, &at, &DeleteOptions::default())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(held(&cluster.fake.all(&kinds::PERSISTENT_VOLUME_CLAIM)));
    cluster.fake.remove(&kinds::POD, NAMESPACE, "p");
    cluster.gone(&kinds::PERSISTENT_VOLUME_CLAIM).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_made_by_hand_are_mirrored() {
    let cluster = Cluster::start();
    cluster
        .create(
            &kinds::SERVICE,
            json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 80}]}}),
        )
        .await;
    let subsets =
        |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": [{"name": "sql", "port": 80, "protocol": "TCP"}]}]);
    cluster
        .create(
            &kinds::ENDPOINTS,
            json!({"metadata": {"name": "db"}, "subsets": subsets("10.1.2.3")}),
        )
        .await;
    let told = |ip: &'static str| {
        move |slices: &[Object]| match slices {
            [slice] => slice.list_at("endpoints")[0]["addresses"] == json!([ip]),
            _ => false,
        }
    };
    cluster.fake.wait_for(&kinds::ENDPOINT_SLICE, told("10.1.2.3")).await;
    cluster.fake.change(
        &kinds::ENDPOINTS,
        NAMESPACE,
        "db",
        &json!({"subsets": subsets("10.2.3.4")}),
    );
    cluster.fake.wait_for(&kinds::ENDPOINT_SLICE, told("10.2.3.4")).await;
    cluster.fake.remove(&kinds::ENDPOINTS, NAMESPACE, "db");
    cluster.gone(&kinds::ENDPOINT_SLICE).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_has_endpoints_in_both_forms() {
    let cluster = Cluster::start();
    cluster.run_pods();
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.7",
        "ports": [{"port": 80, "targetPort": 8080}]}});
    cluster.create(&kinds::SERVICE, service).await;
    cluster.deploy(3).await;
    let ready = |slices: &[Object]| {
        let endpoints: Vec<&Value> = slices.iter().flat_map(|slice| slice.list_at("endpoints")).collect();
        endpoints.len() == 3 && endpoints.iter().all(|endpoint| endpoint["conditions"]["ready"] == true)
    };
    cluster.fake.wait_for(&kinds::ENDPOINT_SLICE, ready).await;
    let mirrored = |all: &[Object]| {
        all.iter().any(|endpoints| {
            endpoints
                .list_at("subsets")
                .first()
                .is_some_and(|s| s["addresses"].as_array().is_some_and(|a| a.len() == 3))
        })
    };
    cluster.fake.wait_for(&kinds::ENDPOINTS, mirrored).await;
    cluster.fake.remove(&kinds::SERVICE, NAMESPACE, "web");
    cluster.gone(&kinds::ENDPOINTS).await;
    cluster.gone(&kinds::ENDPOINT_SLICE).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_tainted_and_emptied_unless_all_are_silent() {
    let cluster = Cluster::start();
    let node = |name: &str| {
        json!({"metadata": {"name": name, "uid": name}, "status": {"conditions": [
        {"type": "Ready", "status": "True"}]}})
    };
    for name in ["n1", "n2"] {
        cluster.fake.put(&kinds::NODE, node(name));
    }
    let assigned = |nodes: &[Object]| {
        let mut ranges: Vec<_> = nodes.iter().filter_map(|node| node.str_at("spec.podCIDR")).collect();
        ranges.sort();
        ranges == ["10.128.0.0/17", "10.128.128.0/17"]
    };
    cluster.fake.wait_for(&kinds::NODE, assigned).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
    cluster.create(&kinds::POD, pod).await;
    let fake = cluster.fake.clone();
    let beats = async {
        for beat in 0.. {
            tokio::time::sleep(Duration::from_secs(10)).await;
            fake.put(
                &kinds::LEASE,
                json!({"metadata": {"name": "n2", "namespace": "kube-node-lease"},
                "spec": {"renewTime": beat.to_string()}}),
            );
        }
    };
    let evicted = cluster
        .fake
        .wait_for(&kinds::POD, |pods| pods.iter().all(Object::is_deleting));
    tokio::select! { _ = evicted => {}, () = beats => {} }
    let effects = |node: &Object| -> Vec<String> {
        node.list_at("spec.taints")
            .iter()
            .map(|taint| taint["effect"].as_str().unwrap().to_owned())
            .collect()
    };
    let n1 = cluster.fake.get(&kinds::NODE, "", "n1").unwrap();
    assert_eq!(effects(&n1), ["NoSchedule", "NoExecute"]);
    // from here on n2 is silent as well: nobody is left to evict to
    let cut_off = |nodes: &[Object]| nodes.iter().all(|node| effects(node) == ["NoSchedule"]);
    cluster.fake.wait_for(&kinds::NODE, cut_off).await;
    cluster.stop().await;
}

#[test]
fn every_controller_has_a_name_and_a_user() {
    let names: std::collections::BTreeSet<_> = CATALOGUE.iter().map(|controller| controller.name).collect();
    assert_eq!(names.len(), CATALOGUE.len());
    assert!(users().all(|user| user.starts_with("system:serviceaccount:kube-system:")));
}

#[tokio::test(start_paused = true)]
async fn a_claim_gets_a_volume_on_its_node_and_takes_it_along() {
    let cluster = Cluster::start();
    let annotations = json!({"wherry.dev/storage": "/data/storage"});
    cluster.fake.put(
        &kinds::NODE,
        json!({"metadata": {"name": "n1", "uid": "n1", "labels": {"kubernetes.io/hostname": "n1"}, "annotations": annotations}}),
    );
    cluster.fake.put(
        &kinds::STORAGE_CLASS,
        json!({"metadata": {"name": "local-path", "uid": "s"}, "provisioner": "wherry.dev/local-path",
            "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete"}),
    );
    let claim = json!({"metadata": {"name": "data"}, "spec": {"storageClassName": "local-path",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    cluster.create(&kinds::PERSISTENT_VOLUME_CLAIM, claim).await;
    let pending = |claims: &[Object]| claims.iter().any(|c| c.str_at("status.phase") == Some("Pending"));
    cluster.fake.wait_for(&kinds::PERSISTENT_VOLUME_CLAIM, pending).await;
    assert!(
        cluster.fake.all(&kinds::PERSISTENT_VOLUME).is_empty(),
        "nobody uses it yet"
    );
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}});
    cluster
        .fake
        .change(&kinds::PERSISTENT_VOLUME_CLAIM, NAMESPACE, "data", &selected);
    let bound = |all: &[Object]| all.iter().any(|o| o.str_at("status.phase") == Some("Bound"));
    let claims = cluster.fake.wait_for(&kinds::PERSISTENT_VOLUME_CLAIM, bound).await;
    let volumes = cluster.fake.wait_for(&kinds::PERSISTENT_VOLUME, bound).await;
    let (claim, volume) = (&claims[0], &volumes[0]);
    assert_eq!(claim.str_at("spec.volumeName"), Some(volume.name()));
    assert_eq!(claim.str_at("status.capacity.storage"), Some("1Gi"));
    let path = format!("/data/storage/{}", volume.name());
    assert_eq!(volume.str_at("spec.hostPath.path"), Some(&*path));
    assert_eq!(volume.str_at("spec.claimRef.uid"), Some(claim.uid()));
    let at = api::NamespacedName::new(NAMESPACE, "data");
    let deleted = cluster
        .client
        .delete(&kinds::PERSISTENT_VOLUME_CLAIM, &at, &DeleteOptions::default())
        .await;
    deleted.expect("deleted");
    cluster
        .fake
        .wait_for(&kinds::PERSISTENT_VOLUME, |all: &[Object]| all.is_empty())
        .await;
    cluster.stop().await;
}
