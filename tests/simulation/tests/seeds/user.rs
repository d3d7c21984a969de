//! Users at work: they make, change and delete things at random, and never look at what became of them.

use api::{NamespacedName, Object};
use client::{Client, DeleteOptions, Kind, ListOptions, Patch, Propagation, kinds};
use cri::{ContainerState, Runtime};
use harness::{Cluster, node::IMAGES};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

const NAMESPACES: [&str; 3] = ["default", "red", "blue"];
const NAMES: [&str; 3] = ["web", "api", "job"];

/// A user with a random mind.
pub struct User {
    client: Client,
    random: StdRng,
}

impl User {
    pub fn new(client: Client, seed: u64) -> Self {
        Self {
            client,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Makes the namespaces that users work in.
    pub async fn arrive(&mut self) {
        for namespace in &NAMESPACES[1..] {
            let made = self
                .create(&kinds::NAMESPACE, &NamespacedName::cluster(namespace), json!({}))
                .await;
            made.expect("the weather is fair");
        }
    }

    /// Does one thing. Most of what is refused (there is no such thing, there is one already) is as users are.
    pub async fn act(&mut self, cluster: &Cluster) {
        let at = self.somewhere();
        let result = match self.random.random_range(0..26) {
            0..5 => self.create_deployment(&at).await,
            5..9 => self.scale(&at).await,
            9..13 => self.update(&at).await,
            13 => self.delete(&kinds::DEPLOYMENT, &at).await,
            14..16 => self.create_service(&at).await,
            16 => self.change_service(&at).await,
            17 => self.delete(&kinds::SERVICE, &at).await,
            18..20 => self.create_namespace().await,
            20 => self.delete_namespace(0.3).await,
            21 => self.create_pod(&at).await,
            22..24 => self.delete_something(&at).await,
            24 => self.cordon(cluster).await,
            _ => {
                self.kill_container(cluster).await;
                Ok(())
            }
        };
        if let Err(error) = result {
            tracing::info!(%error, "user: refused");
        }
    }

    /// Leaves the nodes as they were found.
    pub async fn leave(&mut self) {
        let nodes = self
            .client
            .list::<Object>(&kinds::NODE, None, &ListOptions::default())
            .await;
        for node in nodes.expect("the weather is fair").items {
            let at = NamespacedName::cluster(node.name());
            let uncordon = Patch::Merge(json!({"spec": {"unschedulable": null}}));
            let patched = self.client.patch(&kinds::NODE, &at, None, uncordon).await;
            patched.expect("the weather is fair");
        }
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.random_range(0..of.len())]
    }

    fn somewhere(&mut self) -> NamespacedName {
        let namespace = self.one(&NAMESPACES);
        NamespacedName::new(namespace, self.one(&NAMES))
    }

    fn template(&mut self, name: &str) -> Value {
        let image = self.one(&IMAGES);
        json!({"metadata": {"labels": {"app": name}}, "spec": {
            "terminationGracePeriodSeconds": self.one(&[0, 1, 5, 30]),
            "automountServiceAccountToken": self.random.random_bool(0.3),
            "containers": [{"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"}]}})
    }

    async fn create(&self, kind: &Kind, at: &NamespacedName, mut body: Value) -> Result<(), client::Error> {
        body["apiVersion"] = kind.api_version().into();
        body["kind"] = (*kind.kind).into();
        body["metadata"] = json!({"name": at.name});
        tracing::info!(%kind, %at, "user: create");
        self.client.create(kind, at.namespace.as_deref(), &body).await.map(drop)
    }

    async fn create_deployment(&mut self, at: &NamespacedName) -> Result<(), client::Error> {
        let strategy = match self.random.random_range(0..4) {
            0 => json!({"type": "Recreate"}),
            1 => json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "50%"}}),
            2 => json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}),
            _ => json!({"type": "RollingUpdate"}),
        };
        let spec = json!({
            "replicas": self.random.random_range(0..5),
            "selector": {"matchLabels": {"app": at.name}},
            "strategy": strategy,
            "minReadySeconds": self.one(&[0, 0, 3]),
            "revisionHistoryLimit": self.one(&[0, 1, 10]),
            "template": self.template(&at.name),
        });
        self.create(&kinds::DEPLOYMENT, at, json!({"spec": spec})).await
    }

    async fn patch(&self, kind: &Kind, at: &NamespacedName, sub: Option<&str>, to: Value) -> Result<(), client::Error> {
        tracing::info!(%kind, %at, %to, "user: patch");
        self.client.patch(kind, at, sub, Patch::Merge(to)).await.map(drop)
    }

    async fn scale(&mut self, at: &NamespacedName) -> Result<(), client::Error> {
        let replicas = self.random.random_range(0..6);
        self.patch(
            &kinds::DEPLOYMENT,
            at,
            Some("scale"),
            json!({"spec": {"replicas": replicas}}),
        )
        .await
    }

    async fn update(&mut self, at: &NamespacedName) -> Result<(), client::Error> {
        let template = self.template(&at.name);
        self.patch(&kinds::DEPLOYMENT, at, None, json!({"spec": {"template": template}}))
            .await
    }

    async fn delete(&mut self, kind: &Kind, at: &NamespacedName) -> Result<(), client::Error> {
        let propagation = self.one(&[Propagation::Background, Propagation::Foreground]);
        tracing::info!(%kind, %at, ?propagation, "user: delete");
        let options = DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        self.client.delete(kind, at, &options).await
    }

    async fn create_service(&mut self, at: &NamespacedName) -> Result<(), client::Error> {
        let mut spec = json!({"selector": {"app": self.one(&NAMES)}, "ports": [{"port": 80, "targetPort": 8080}]});
        match self.random.random_range(0..4) {
            0 => spec["clusterIP"] = "None".into(),
            1 => spec["type"] = "NodePort".into(),
            _ => {}
        }
        self.create(&kinds::SERVICE, at, json!({"spec": spec})).await
    }

    async fn change_service(&mut self, at: &NamespacedName) -> Result<(), client::Error> {
        let to = match self.random.random_range(0..3) {
            0 => json!({"spec": {"selector": {"app": self.one(&NAMES)}}}),
            1 => json!({"spec": {"type": "NodePort"}}),
            _ => json!({"spec": {"type": "ClusterIP"}}),
        };
        self.patch(&kinds::SERVICE, at, None, to).await
    }

    async fn create_namespace(&mut self) -> Result<(), client::Error> {
        let at = NamespacedName::cluster(self.one(&NAMESPACES[1..]));
        self.create(&kinds::NAMESPACE, &at, json!({})).await
    }

    async fn delete_namespace(&mut self, likely: f64) -> Result<(), client::Error> {
        if !self.random.random_bool(likely) {
            return Ok(());
        }
        let at = NamespacedName::cluster(self.one(&NAMESPACES[1..]));
        tracing::info!(%at, "user: delete namespace");
        self.client
            .delete(&kinds::NAMESPACE, &at, &DeleteOptions::default())
            .await
    }

    /// A pod of its own, which some Service may well select.
    async fn create_pod(&mut self, at: &NamespacedName) -> Result<(), client::Error> {
        let template = self.template(&at.name);
        self.create(&kinds::POD, at, json!({"spec": template["spec"]})).await
    }

    /// Deletes something that a controller made, or will make again.
    async fn delete_something(&mut self, at: &NamespacedName) -> Result<(), client::Error> {
        let kind = self.one(&[
            &kinds::POD,
            &kinds::POD,
            &kinds::REPLICA_SET,
            &kinds::ENDPOINT_SLICE,
            &kinds::ENDPOINTS,
        ]);
        let list = self
            .client
            .list::<Object>(kind, at.namespace.as_deref(), &ListOptions::default())
            .await?;
        if list.items.is_empty() {
            return Ok(());
        }
        let object = &list.items[self.random.random_range(0..list.items.len())];
        if kind.plural.starts_with("endpoint") && object.name().starts_with("kubernetes") {
            return Ok(()); // that is the API server's, which writes it when it starts
        }
        let at = NamespacedName::of(object);
        if *kind == kinds::POD && self.random.random_bool(0.2) {
            tracing::info!(%at, "user: delete a pod by force");
            let options = DeleteOptions {
                grace: Some(0),
                ..DeleteOptions::default()
            };
            return self.client.delete(kind, &at, &options).await;
        }
        self.delete(kind, &at).await
    }

    async fn cordon(&mut self, cluster: &Cluster) -> Result<(), client::Error> {
        let index = self.random.random_range(0..cluster.nodes.len());
        let at = NamespacedName::cluster(&cluster.nodes[index].name);
        let unschedulable = self.random.random_bool(0.5);
        self.patch(
            &kinds::NODE,
            &at,
            None,
            json!({"spec": {"unschedulable": unschedulable}}),
        )
        .await
    }

    async fn kill_container(&mut self, cluster: &Cluster) {
        let index = self.random.random_range(0..cluster.nodes.len());
        let runtime = &cluster.nodes[index].runtime;
        let containers = runtime.list_containers().await.expect("the runtime answers");
        let running: Vec<_> = containers
            .iter()
            .filter(|c| c.state == ContainerState::Running)
            .collect();
        if running.is_empty() {
            return;
        }
        let victim = running[self.random.random_range(0..running.len())];
        tracing::info!(container = %victim.id, "user: kill");
        runtime.exit(&victim.pod_uid, &victim.config.name, self.one(&[0, 1, 137]));
    }
}
