//! Which Secrets, ConfigMaps and images of the cluster's own registry a pod names, read from its bytes without building a tree.
//!
//! The rule is upstream's `VisitPodSecretNames` and `VisitPodConfigmapNames`: pull secrets, every container's
//! environment, and every volume that takes credentials or content from one.

use serde::Deserialize;

use crate::images;

/// A kind of what pods read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Source {
    Secret,
    ConfigMap,
    /// A repository of the cluster's own registry, in the pod's namespace.
    Image,
    /// A PersistentVolumeClaim, whose volume may need a Secret.
    Claim,
}

/// What a pod that runs somewhere names; nothing for a mirror pod, whose author is the node itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct References {
    pub(super) node: String,
    pub(super) namespace: String,
    /// Sorted, each once.
    pub(super) names: Vec<(Source, String)>,
}

impl References {
    /// Reads a stored pod; `None` when no node runs it.
    pub(super) fn of(pod: &[u8]) -> Option<Self> {
        let pod: Pod = serde_json::from_slice(pod)
            .inspect_err(|error| tracing::error!(%error, "a stored pod cannot be read for the node authorizer"))
            .ok()?;
        let node = pod.spec.node_name.clone().filter(|node| !node.is_empty())?;
        let mut names = match pod.metadata.annotations.and_then(|annotations| annotations.mirror) {
            Some(_) => Vec::new(),
            None => {
                let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
                pod.spec.names(namespace.unwrap_or_default(), name.unwrap_or_default())
            }
        };
        names.retain(|(_, name)| !name.is_empty());
        names.sort_unstable();
        names.dedup();
        Some(References {
            node,
            namespace: pod.metadata.namespace.unwrap_or_default(),
            names,
        })
    }
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    annotations: Option<Annotations>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror", default)]
    mirror: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    image_pull_secrets: Option<Vec<Named>>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
}

/// An object with the name of another, as references of one namespace are written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    image: Option<String>,
    env: Option<Vec<Env>>,
    env_from: Option<Vec<EnvFrom>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Env {
    value_from: Option<ValueFrom>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    config_map_key_ref: Option<Named>,
    secret_key_ref: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EnvFrom {
    config_map_ref: Option<Named>,
    secret_ref: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: Option<String>,
    persistent_volume_claim: Option<ClaimVolume>,
    ephemeral: Option<serde::de::IgnoredAny>,
    config_map: Option<Named>,
    image: Option<ImageVolume>,
    secret: Option<SecretVolume>,
    azure_file: Option<SecretVolume>,
    projected: Option<Projected>,
    csi: Option<Driver>,
    cephfs: Option<Driver>,
    flex_volume: Option<Driver>,
    iscsi: Option<Driver>,
    rbd: Option<Driver>,
    #[serde(rename = "scaleIO")]
    scale_io: Option<Driver>,
    storageos: Option<Driver>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ImageVolume {
    reference: Option<String>,
}

/// A volume of some storage system, with the Secret that opens it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Driver {
    secret_ref: Option<Named>,
    node_publish_secret_ref: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Option<Vec<Projection>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Projection {
    config_map: Option<Named>,
    secret: Option<Named>,
}

impl Spec {
    fn names(self, namespace: &str, pod: &str) -> Vec<(Source, String)> {
        let mut found = Vec::new();
        let mut add = |source, name: Option<String>| found.extend(name.map(|name| (source, name)));
        for pull in all(self.image_pull_secrets) {
            add(Source::Secret, pull.name);
        }
        let containers = [self.init_containers, self.containers, self.ephemeral_containers];
        let own = |image: Option<&str>| {
            let repository = image.and_then(images::repository);
            repository
                .filter(|(of, _)| *of == namespace)
                .map(|(_, name)| name.to_owned())
        };
        for container in containers.into_iter().flat_map(all) {
            add(Source::Image, own(container.image.as_deref()));
            container.visit(&mut add);
        }
        for volume in all(self.volumes) {
            let reference = volume.image.as_ref().and_then(|image| image.reference.as_deref());
            add(Source::Image, own(reference));
            add(Source::Claim, volume.claim(pod));
            volume.visit(&mut add);
        }
        found
    }
}

/// The items of a list that may be absent or null.
fn all<T>(list: Option<Vec<T>>) -> impl Iterator<Item = T> {
    list.into_iter().flatten()
}

fn visit(add: &mut impl FnMut(Source, Option<String>), source: Source, named: Option<Named>) {
    add(source, named.and_then(|named| named.name));
}

impl Container {
    fn visit(self, add: &mut impl FnMut(Source, Option<String>)) {
        for from in all(self.env).filter_map(|env| env.value_from) {
            visit(add, Source::ConfigMap, from.config_map_key_ref);
            visit(add, Source::Secret, from.secret_key_ref);
        }
        for from in all(self.env_from) {
            visit(add, Source::ConfigMap, from.config_map_ref);
            visit(add, Source::Secret, from.secret_ref);
        }
    }
}

impl Volume {
    /// The claim that it is: one that is named, or one that was made for the pod.
    fn claim(&self, pod: &str) -> Option<String> {
        let named = self
            .persistent_volume_claim
            .as_ref()
            .map(|claim| claim.claim_name.clone());
        let own = || Some(format!("{pod}-{}", self.name.as_deref()?)).filter(|_| self.ephemeral.is_some());
        named.unwrap_or_else(own)
    }

    fn visit(self, add: &mut impl FnMut(Source, Option<String>)) {
        visit(add, Source::ConfigMap, self.config_map);
        for secret in [self.secret, self.azure_file].into_iter().flatten() {
            add(Source::Secret, secret.secret_name);
        }
        for projection in self.projected.into_iter().flat_map(|projected| all(projected.sources)) {
            visit(add, Source::ConfigMap, projection.config_map);
            visit(add, Source::Secret, projection.secret);
        }
        let drivers = [
            self.csi,
            self.cephfs,
            self.flex_volume,
            self.iscsi,
            self.rbd,
            self.scale_io,
            self.storageos,
        ];
        for driver in drivers.into_iter().flatten() {
            visit(add, Source::Secret, driver.secret_ref);
            visit(add, Source::Secret, driver.node_publish_secret_ref);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn names(spec: Value) -> Vec<(Source, String)> {
        let mut pod = json!({"metadata": {"namespace": "a"}, "spec": spec});
        pod["spec"]["nodeName"] = json!("n1");
        References::of(pod.to_string().as_bytes()).expect("it runs").names
    }

    #[test]
    fn finds_every_place_that_names_one() {
        use Source::{ConfigMap, Secret};
        let container = |env: Value, from: Value| json!([{"name": "c", "env": env, "envFrom": from}]);
        let secret_env = json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k"}}}]);
        let cases = [
            (json!({"imagePullSecrets": [{"name": "x"}]}), Secret),
            (json!({"containers": container(secret_env.clone(), json!([]))}), Secret),
            (
                json!({"initContainers": container(secret_env.clone(), json!([]))}),
                Secret,
            ),
            (json!({"ephemeralContainers": container(secret_env, json!([]))}), Secret),
            (
                json!({"containers": container(
                    json!([{"name": "E", "value": "v"}, {"name": "F", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "k"}}}]),
                    json!([]))}),
                ConfigMap,
            ),
            (
                json!({"containers": container(json!([]), json!([{"configMapRef": {"name": "x"}}]))}),
                ConfigMap,
            ),
            (
                json!({"containers": container(json!([]), json!([{"secretRef": {"name": "x"}}]))}),
                Secret,
            ),
            (
                json!({"volumes": [{"name": "v", "configMap": {"name": "x"}}]}),
                ConfigMap,
            ),
            (
                json!({"volumes": [{"name": "v", "secret": {"secretName": "x"}}]}),
                Secret,
            ),
            (
                json!({"volumes": [{"name": "v", "azureFile": {"secretName": "x"}}]}),
                Secret,
            ),
            (
                json!({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "x"}}]}}]}),
                ConfigMap,
            ),
            (
                json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "x"}}]}}]}),
                Secret,
            ),
            (
                json!({"volumes": [{"name": "v", "csi": {"nodePublishSecretRef": {"name": "x"}}}]}),
                Secret,
            ),
            (
                json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]}),
                Source::Claim,
            ),
            (
                json!({"volumes": [{"name": "v", "scaleIO": {"secretRef": {"name": "x"}}}]}),
                Secret,
            ),
            (
                json!({"volumes": [{"name": "v", "rbd": {"secretRef": {"name": "x"}}}]}),
                Secret,
            ),
        ];
        for (spec, source) in cases {
            assert_eq!(names(spec.clone()), [(source, "x".to_owned())], "{spec}");
        }
    }

    #[test]
    fn images_of_the_clusters_own_registry_are_those_of_the_pods_namespace() {
        let containers =
            |images: &[&str]| json!(images.iter().map(|image| json!({"image": image})).collect::<Vec<_>>());
        let spec = json!({
            "containers": containers(&["wherry.internal/a/hello:1", "wherry.internal/b/theirs:1", "docker.io/a/other:1"]),
            "initContainers": containers(&["wherry.internal/a/first@sha256:00", "wherry.internal/a/hello"]),
            "volumes": [{"name": "v", "image": {"reference": "wherry.internal/a/files:1"}}],
        });
        let expected = ["files", "first", "hello"].map(|name| (Source::Image, name.to_owned()));
        assert_eq!(names(spec), expected);
    }

    #[test]
    fn names_each_once_and_nothing_else() {
        let spec = json!({
            "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "b"}}, {"secretRef": {"name": "a"}}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "a"}}, {"name": "w", "emptyDir": {}}, {"name": "u", "secret": null}],
        });
        assert_eq!(
            names(spec),
            [(Source::Secret, "a".to_owned()), (Source::Secret, "b".to_owned())]
        );
    }

    #[test]
    fn a_pod_that_no_node_runs_or_that_a_node_wrote_gives_nothing() {
        let pod = |metadata: Value, spec: Value| {
            References::of(json!({"metadata": metadata, "spec": spec}).to_string().as_bytes())
        };
        let pulls = json!([{"name": "x"}]);
        assert_eq!(pod(json!({}), json!({"imagePullSecrets": pulls})), None);
        assert_eq!(pod(json!({}), json!({"nodeName": "", "imagePullSecrets": pulls})), None);
        let mirror = json!({"annotations": {"kubernetes.io/config.mirror": "h"}});
        let found = pod(mirror, json!({"nodeName": "n1", "imagePullSecrets": pulls}));
        assert_eq!(found.map(|references| references.names), Some(Vec::new()));
    }
}
