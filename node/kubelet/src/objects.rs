//! ConfigMaps and Secrets that pods of this node name: one watch per object, kept while some pod holds it.
//!
//! Per object rather than per kind, because a node is entitled to read only what its pods name. What nearly every pod of
//! a namespace names is kept a while longer ([`Warm`]).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use api::NamespacedName;
use base64::Engine;
use client::{Informer, Informers, Scope, kinds};
use futures::future::try_join_all;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{sync::watch, time::Instant};

use crate::env::Objects;

/// Keys and values of a ConfigMap or Secret. Does not print the values.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Content(BTreeMap<String, Vec<u8>>);

impl Content {
    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}

impl FromIterator<(String, Vec<u8>)> for Content {
    fn from_iter<I: IntoIterator<Item = (String, Vec<u8>)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Which of the two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    ConfigMap,
    Secret,
}

impl Source {
    /// As messages about a missing object spell it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }

    /// The kind.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// Names one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) source: Source,
    pub(crate) at: NamespacedName,
}

impl Id {
    pub(crate) fn new(source: Source, namespace: &str, name: &str) -> Self {
        Self {
            source,
            at: NamespacedName::new(namespace, name),
        }
    }
}

/// A ConfigMap's content; what its informer holds.
#[derive(Deserialize)]
#[serde(from = "ConfigMapWire")]
pub(crate) struct ConfigMap(Arc<Content>);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigMapWire {
    data: BTreeMap<String, String>,
    binary_data: BTreeMap<String, Base64>,
}

impl From<ConfigMapWire> for ConfigMap {
    fn from(wire: ConfigMapWire) -> Self {
        let text = wire.data.into_iter().map(|(key, value)| (key, value.into_bytes()));
        let binary = wire.binary_data.into_iter().map(|(key, value)| (key, value.0));
        Self(Arc::new(text.chain(binary).collect()))
    }
}

/// A Secret's content; what its informer holds.
#[derive(Deserialize)]
#[serde(from = "SecretWire")]
pub(crate) struct Secret {
    content: Arc<Content>,
    type_: Arc<str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SecretWire {
    data: BTreeMap<String, Base64>,
    #[serde(rename = "type")]
    type_: String,
}

impl Secret {
    /// What it holds.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}

impl From<SecretWire> for Secret {
    fn from(wire: SecretWire) -> Self {
        let data = wire.data.into_iter().map(|(key, value)| (key, value.0));
        Self {
            content: Arc::new(data.collect()),
            type_: wire.type_.into(),
        }
    }
}

struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// How long a watch may take to begin before that is told as a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// An object could not be read in time: the API is away, or this node may not read it.
#[derive(Debug, thiserror::Error)]
#[error("failed to sync {} cache: timed out waiting for the condition", .0.word())]
pub(crate) struct Unread(Source);

/// Reads what is held, all at the same time.
///
/// # Errors
/// The first object whose watch does not begin in time.
pub(crate) async fn read_all(held: impl Iterator<Item = &(Id, Held)>) -> Result<Objects, Unread> {
    let reads = held.map(|(id, held)| async move {
        match tokio::time::timeout(PATIENCE, held.read()).await {
            Ok(content) => Ok((id.clone(), content)),
            Err(_elapsed) => Err(Unread(id.source)),
        }
    });
    Ok(try_join_all(reads).await?.into_iter().collect())
}

/// A held object: its watch lives as long as any holder.
#[derive(Clone)]
pub(crate) enum Held {
    ConfigMap(NamespacedName, Informer<ConfigMap>),
    Secret(NamespacedName, Informer<Secret>),
}

impl Held {
    /// Begins or joins the watch of an object.
    pub(crate) fn new(informers: &Informers, id: &Id) -> Self {
        let scope = Scope::Object(id.at.clone());
        match id.source {
            Source::ConfigMap => Self::ConfigMap(id.at.clone(), informers.get(&kinds::CONFIG_MAP, scope)),
            Source::Secret => Self::Secret(id.at.clone(), informers.get(&kinds::SECRET, scope)),
        }
    }

    /// The object as it is now, once the watch has begun; `None` if it does not exist.
    pub(crate) async fn read(&self) -> Option<Arc<Content>> {
        match self {
            Self::ConfigMap(at, informer) => {
                informer.synced().await;
                informer.get(at).map(|object| object.0.clone())
            }
            Self::Secret(at, informer) => {
                informer.synced().await;
                informer.get(at).map(|object| object.content.clone())
            }
        }
    }

    /// As [`Self::read`], with the type of a Secret; of a ConfigMap it is empty.
    pub(crate) async fn read_typed(&self) -> Option<(Arc<str>, Arc<Content>)> {
        let content = self.read().await?;
        let type_ = match self {
            Self::ConfigMap(..) => Arc::default(),
            Self::Secret(at, informer) => informer.get(at)?.type_.clone(),
        };
        Some((type_, content))
    }

    /// Whether the watch has begun and the object exists.
    fn is_there(&self) -> bool {
        match self {
            Self::ConfigMap(at, informer) => informer.get(at).is_some(),
            Self::Secret(at, informer) => informer.get(at).is_some(),
        }
    }

    /// Moves whenever the object changes.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        match self {
            Self::ConfigMap(_, informer) => informer.version(),
            Self::Secret(_, informer) => informer.version(),
        }
    }
}

/// The certificate authority of the cluster, which every pod with a service account mounts; one in each namespace.
const ROOT_CA: &str = "kube-root-ca.crt";
/// How long after its last pod such an object is kept, and how many are at most.
const WARMTH: Duration = Duration::from_secs(300);
const MOST_WARM: usize = 100;

/// Watches that outlive the pods that held them, so that the next pod of the namespace finds its object read already.
/// Never of what is a pod's own, nor of Secrets.
#[derive(Default)]
pub(crate) struct Warm(Mutex<HashMap<Id, (Held, Instant)>>);

impl Warm {
    /// Keeps of what a pod held what the next pod will need, for a while from `now`.
    pub(crate) fn keep(&self, held: impl IntoIterator<Item = (Id, Held)>, now: Instant) {
        let mut kept = self.0.lock();
        for (id, held) in held {
            let common = id.source == Source::ConfigMap && &*id.at.name == ROOT_CA;
            let room = kept.len() < MOST_WARM || kept.contains_key(&id);
            if common && room && held.is_there() {
                kept.insert(id, (held, now + WARMTH));
            }
        }
    }

    /// Lets go of what was kept long enough, and of what no longer exists.
    pub(crate) fn release(&self, now: Instant) {
        self.0.lock().retain(|_, (held, until)| *until > now && held.is_there());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_decode_to_bytes_and_never_print_values() {
        let map: ConfigMap =
            serde_json::from_str(r#"{"data":{"a":"x"},"binaryData":{"b":"AAE="}}"#).expect("config map");
        assert_eq!(map.0.iter().collect::<Vec<_>>(), [("a", &b"x"[..]), ("b", &[0, 1])]);
        let secret: Secret = serde_json::from_str(r#"{"data":{"p":"c2VjcmV0"},"type":"Opaque"}"#).expect("secret");
        assert_eq!(secret.content.get("p"), Some(&b"secret"[..]));
        assert_eq!(&*secret.type_, "Opaque");
        assert_eq!(format!("{:?}", secret.content), r#"{"p"}"#);
    }
}
