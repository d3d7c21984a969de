//! Static pods: those that files in a directory of the node describe. They run whether or not there is an API, and the API
//! shows a mirror of each, which has no power over it.
//!
//! A pod's identity is the hash of its file, so that a changed file is another pod. The directory is looked at every second.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use client::{Client, DeleteOptions, kinds};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{pod::Pod, shared::Shared};

/// Where a pod is from, and which description; upstream's names.
const SOURCE: &str = "kubernetes.io/config.source";
const HASH: &str = "kubernetes.io/config.hash";
/// On a mirror: the hash of what it mirrors.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// How often the directory is looked at, and the mirrors compared.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);
/// The largest file that is read.
const LARGEST: u64 = 1 << 20;

/// Static pods by UID.
pub(crate) type StaticPods = BTreeMap<Arc<str>, StaticPod>;

/// A pod of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StaticPod {
    pub(crate) pod: Arc<Pod>,
    /// As the API is told of it.
    object: Arc<Value>,
}

impl Pod {
    /// It is described by a file of the node.
    pub(crate) fn is_static(&self) -> bool {
        self.metadata
            .annotations
            .get(SOURCE)
            .is_some_and(|source| source == "file")
    }

    /// The hash of the static pod that this is the mirror of.
    pub(crate) fn mirrors(&self) -> Option<&str> {
        self.metadata.annotations.get(MIRROR)
    }
}

/// The pod that runs here for one that the API shows: for a mirror, the static pod that it names. Others' names on a pod of
/// the API count for nothing. Pure.
pub(crate) fn running_for(pods: &StaticPods, shown: &Arc<Pod>) -> Arc<Pod> {
    let named = shown.mirrors().and_then(|hash| pods.get(hash)).filter(|named| {
        let (own, shown) = (&named.pod.metadata, &shown.metadata);
        own.name == shown.name && own.namespace == shown.namespace
    });
    named.map_or(shown, |named| &named.pod).clone()
}

/// Follows the directory and keeps the mirrors, until `shutdown`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    directory: std::path::PathBuf,
    found: watch::Sender<StaticPods>,
    shutdown: CancellationToken,
) {
    let mut complaints = BTreeMap::new();
    loop {
        let (path, node) = (directory.clone(), shared.node_name.clone());
        let read = crate::blocking::run(move || read(&path, &node)).await;
        if let Ok((pods, refused)) = read {
            for (file, why) in refused.iter().filter(|(file, why)| complaints.get(*file) != Some(*why)) {
                tracing::error!(file, why, "cannot run the pod of a file");
            }
            complaints = refused;
            found.send_if_modified(|known| {
                let changed = *known != pods;
                *known = pods;
                changed
            });
        }
        if shared.pods.is_synced() {
            let pods = found.borrow().clone();
            shutdown.run_until_cancelled(mirror(&shared, &pods)).await;
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_none() {
            return;
        }
    }
}

/// The pods of a directory's files, and what is wrong with the others. Blocking.
fn read(directory: &Path, node: &str) -> (StaticPods, BTreeMap<String, String>) {
    let (mut pods, mut refused) = (StaticPods::new(), BTreeMap::new());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let Ok(metadata) = std::fs::metadata(&file) else {
            continue;
        };
        if name.starts_with('.') || !metadata.is_file() {
            continue;
        }
        let pod = match metadata.len() {
            0..=LARGEST => match std::fs::read_to_string(&file) {
                Ok(text) => parse(&text, node),
                Err(error) => Err(error.to_string()),
            },
            _ => Err("the file is too large".to_owned()),
        };
        match pod {
            Ok(pod) => {
                pods.entry(pod.pod.metadata.uid.clone()).or_insert(pod);
            }
            Err(why) => {
                refused.insert(name, why);
            }
        }
    }
    (pods, refused)
}

/// The pod that a text describes, in YAML or JSON. Pure.
fn parse(text: &str, node: &str) -> Result<StaticPod, String> {
    let mut object: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    if object.get("kind").and_then(Value::as_str) != Some("Pod") {
        return Err("it describes no Pod".to_owned());
    }
    let name = object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name.is_empty() {
        return Err("the pod has no name".to_owned());
    }
    let name = format!("{name}-{}", node.to_lowercase());
    let mut hash = Sha256::new();
    hash.update(node);
    hash.update(text);
    let hash: String = hash
        .finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let metadata = json!({
        "name": name, "uid": hash, "annotations": {SOURCE: "file", HASH: hash},
        "namespace": object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default"),
    });
    merge(&mut object, &json!({"metadata": metadata}));
    let fields = object.as_object_mut().ok_or("it describes no Pod")?;
    fields.remove("status");
    merge(
        fields.entry("spec").or_insert_with(|| json!({})),
        &json!({"nodeName": node, "tolerations": [{"operator": "Exists", "effect": "NoExecute"}]}),
    );
    let pod: Pod = serde_json::from_value(object.clone()).map_err(|e| e.to_string())?;
    if pod.spec.containers.is_empty() {
        return Err("the pod has no containers".to_owned());
    }
    let mut shown = object;
    merge(&mut shown, &json!({"metadata": {"annotations": {MIRROR: hash}}}));
    if let Some(metadata) = shown.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("uid");
    }
    Ok(StaticPod {
        pod: Arc::new(pod),
        object: Arc::new(shown),
    })
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// What to do about the mirrors. Pure.
#[derive(Debug, Default, PartialEq)]
struct Mirrors {
    /// UIDs of static pods that lack theirs.
    create: Vec<Arc<str>>,
    /// Mirrors of what is no longer, or that are being deleted.
    delete: Vec<Arc<Pod>>,
}

fn plan(pods: &StaticPods, listed: &[Arc<Pod>]) -> Mirrors {
    let mut plan = Mirrors::default();
    let of_name = |pod: &Pod| {
        let same = |other: &&Arc<Pod>| {
            other.metadata.name == pod.metadata.name && other.metadata.namespace == pod.metadata.namespace
        };
        listed.iter().find(same)
    };
    let wanted = pods.values().filter(|pod| of_name(&pod.pod).is_none());
    plan.create = wanted.map(|pod| pod.pod.metadata.uid.clone()).collect();
    let stale = listed.iter().filter(|mirror| {
        let known = mirror.mirrors().is_some_and(|hash| pods.contains_key(hash));
        mirror.mirrors().is_some() && (!known || mirror.is_deleting())
    });
    plan.delete = stale.cloned().collect();
    plan
}

/// Makes the API show what runs. What fails is tried again at the next look.
async fn mirror(shared: &Shared, pods: &StaticPods) {
    let listed: Vec<_> = shared.pods.list().into_iter().map(|(_, pod)| pod).collect();
    let plan = plan(pods, &listed);
    for mirror in plan.delete {
        let at = api::NamespacedName::new(&mirror.metadata.namespace, &mirror.metadata.name);
        let options = DeleteOptions {
            grace: Some(0),
            ..DeleteOptions::of_uid(&mirror.metadata.uid)
        };
        if let Err(error) = shared.client.delete(&kinds::POD, &at, &options).await {
            tracing::debug!(pod = %at, error = &error as &dyn std::error::Error, "cannot delete a mirror pod");
        }
    }
    for uid in plan.create {
        let Some(pod) = pods.get(&uid) else { continue };
        if let Err(error) = create(&shared.client, &shared.node_name, pod).await {
            tracing::debug!(
                pod = pod.pod.key(),
                error = &error as &dyn std::error::Error,
                "cannot mirror a static pod"
            );
        }
    }
}

/// The mirror belongs to the node, and goes with it.
async fn create(client: &Client, node: &str, pod: &StaticPod) -> Result<(), client::Error> {
    let owner: api::Object = client.get(&kinds::NODE, &api::NamespacedName::cluster(node)).await?;
    let mut object = (*pod.object).clone();
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner.uid(), "controller": true});
    merge(&mut object, &json!({"metadata": {"ownerReferences": [owner]}}));
    let namespace = pod.pod.metadata.namespace.clone();
    match client.create(&kinds::POD, Some(&namespace), &object).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: c, image: i}]\n";

    #[test]
    fn a_file_describes_a_pod_of_this_node() {
        let made = parse(TEXT, "N1").expect("a pod");
        assert_eq!(
            (&*made.pod.metadata.name, &*made.pod.metadata.namespace),
            ("web-n1", "default")
        );
        assert!(made.pod.is_static() && made.pod.mirrors().is_none());
        assert_eq!(made.pod.spec.node_name, "N1");
        let annotations = &made.object["metadata"]["annotations"];
        assert_eq!(annotations[MIRROR], *made.pod.metadata.uid);
        assert_eq!(made.object["metadata"].get("uid"), None);
        let other = parse(&TEXT.replace("image: i", "image: j"), "N1").expect("a pod");
        assert_ne!(
            other.pod.metadata.uid, made.pod.metadata.uid,
            "another file is another pod"
        );
        assert_eq!(parse("kind: Service", "n"), Err("it describes no Pod".to_owned()));
        assert_eq!(
            parse("kind: Pod\nmetadata: {}", "n"),
            Err("the pod has no name".to_owned())
        );
    }

    #[test]
    fn only_whole_files_of_pods_count() {
        let dir = tempfile::tempdir().expect("dir");
        for (name, text) in [("web.yaml", TEXT), (".hidden.yaml", TEXT), ("broken.yaml", "kind: [")] {
            std::fs::write(dir.path().join(name), text).expect("file");
        }
        let (pods, refused) = read(dir.path(), "n1");
        assert_eq!(pods.len(), 1);
        assert_eq!(refused.keys().collect::<Vec<_>>(), ["broken.yaml"]);
    }

    #[test]
    fn mirrors_follow_what_there_is() {
        let made = parse(TEXT, "n1").expect("a pod");
        let uid = made.pod.metadata.uid.clone();
        let pods = StaticPods::from([(uid.clone(), made.clone())]);
        let mirror = |hash: &str, deleting: bool| {
            let mut pod: Pod = serde_json::from_value((*made.object).clone()).expect("pod");
            let annotations = std::mem::take(&mut pod.metadata.annotations);
            let others = annotations.iter().filter(|(key, _)| *key != MIRROR);
            pod.metadata.annotations = others.chain([(MIRROR, hash)]).collect();
            pod.metadata.deletion_timestamp = deleting.then_some(jiff::Timestamp::UNIX_EPOCH);
            Arc::new(pod)
        };
        assert_eq!(running_for(&pods, &mirror(&uid, false)), made.pod);
        let impostor = Arc::new({
            let mut pod = (*mirror(&uid, false)).clone();
            pod.metadata.name = "other".into();
            pod
        });
        assert_eq!(
            running_for(&pods, &impostor),
            impostor,
            "it names a pod that is not its own"
        );
        assert_eq!(plan(&pods, &[]).create, std::slice::from_ref(&uid));
        assert_eq!(plan(&pods, &[mirror(&uid, false)]), Mirrors::default());
        assert_eq!(
            plan(&pods, &[mirror(&uid, true)]).delete.len(),
            1,
            "somebody deletes it: it is made anew"
        );
        let stale = plan(&pods, &[mirror("older", false)]);
        assert_eq!(
            (stale.create.len(), stale.delete.len()),
            (0, 1),
            "one of a name at a time"
        );
        assert_eq!(plan(&StaticPods::new(), &[mirror(&uid, false)]).delete.len(), 1);
    }
}
