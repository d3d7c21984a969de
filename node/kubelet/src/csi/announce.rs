//! What the cluster is told of a node's drivers: the object `CSINode`, an annotation of the node, and labels that say from
//! where volumes can be reached. What to write is decided in pure functions.

use std::{collections::BTreeMap, sync::Arc};

use api::NamespacedName;
use client::{Error, Patch, kinds};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Driver;
use crate::shared::Shared;

/// What drivers call the node, by their names.
const NODE_ID: &str = "csi.volume.kubernetes.io/nodeid";

/// What is told of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    name: String,
    node_id: String,
    most_volumes: i64,
    topology: BTreeMap<String, String>,
}

impl Entry {
    pub(super) fn of(driver: &Arc<Driver>) -> Self {
        Self {
            name: driver.name.clone(),
            node_id: driver.node_id.clone(),
            most_volumes: driver.most_volumes,
            topology: driver.topology.clone(),
        }
    }

    fn object(&self) -> Value {
        let keys: Vec<&String> = self.topology.keys().collect();
        let mut object = Map::new();
        object.insert("name".into(), json!(self.name));
        object.insert("nodeID".into(), json!(self.node_id));
        // The server leaves out what is empty.
        if !keys.is_empty() {
            object.insert("topologyKeys".into(), json!(keys));
        }
        if self.most_volumes > 0 {
            let most = self.most_volumes.min(i32::MAX.into());
            object.insert("allocatable".into(), json!({"count": most}));
        }
        Value::Object(object)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CsiNode {
    spec: CsiNodeSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CsiNodeSpec {
    drivers: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Marked {
    metadata: Marks,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Marks {
    uid: String,
    annotations: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

/// Tells the cluster; `whole`: these are all drivers there are, and others are gone.
pub(super) async fn tell(shared: &Shared, drivers: &[Entry], whole: bool) -> Result<(), Error> {
    let (client, at) = (&shared.client, NamespacedName::cluster(&shared.node_name));
    // A node that is not there yet is an error like others: who asked asks again.
    let node: Marked = client.get(&kinds::NODE, &at).await?;
    if let Some(change) = marks(&node.metadata, drivers, whole) {
        client.patch(&kinds::NODE, &at, None, Patch::Merge(change)).await?;
    }
    let Some(known) = client.get_opt::<CsiNode>(&kinds::CSI_NODE, &at).await? else {
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": shared.node_name, "uid": node.metadata.uid}]);
        let object = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
            "metadata": {"name": shared.node_name, "ownerReferences": owner},
            "spec": {"drivers": listed(&[], drivers, true)},
        });
        return client.create(&kinds::CSI_NODE, None, &object).await.map(drop);
    };
    for drivers in lists(&known.spec.drivers, drivers, whole) {
        let change = Patch::Merge(json!({"spec": {"drivers": drivers}}));
        client.patch(&kinds::CSI_NODE, &at, None, change).await?;
    }
    Ok(())
}

/// The lists of drivers to write, one after the other. What a driver calls the node cannot be changed: it goes first.
fn lists(known: &[Value], drivers: &[Entry], whole: bool) -> Vec<Vec<Value>> {
    let wanted = listed(known, drivers, whole);
    if wanted == known {
        return Vec::new();
    }
    let fixed = |driver: &Value| ["name", "nodeID", "topologyKeys"].map(|field| driver.get(field).cloned());
    let changes = |old: &&Value| {
        wanted
            .iter()
            .any(|new| new["name"] == old["name"] && fixed(new) != fixed(old))
    };
    if known.iter().any(|old| changes(&old)) {
        let stay = known.iter().filter(|old| !changes(old)).cloned().collect();
        return vec![stay, wanted];
    }
    vec![wanted]
}

/// The list of drivers as it should be.
fn listed(known: &[Value], drivers: &[Entry], whole: bool) -> Vec<Value> {
    let is = |entry: &Entry, old: &Value| old["name"] == *entry.name;
    let others = known
        .iter()
        .filter(|old| !whole && !drivers.iter().any(|entry| is(entry, old)));
    let mut all: Vec<Value> = others.cloned().collect();
    all.extend(drivers.iter().map(Entry::object));
    all.sort_by_key(|driver| driver["name"].as_str().map(str::to_owned));
    all
}

/// The change to the node's annotation and labels, if there is one. Labels stay when a driver goes.
fn marks(node: &Marks, drivers: &[Entry], whole: bool) -> Option<Value> {
    let text = node.annotations.get(NODE_ID);
    let known: BTreeMap<String, String> = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let mut ids = if whole { BTreeMap::new() } else { known.clone() };
    ids.extend(
        drivers
            .iter()
            .map(|driver| (driver.name.clone(), driver.node_id.clone())),
    );
    let topology = drivers.iter().flat_map(|driver| &driver.topology);
    let labels: BTreeMap<_, _> = topology
        .filter(|(key, value)| node.labels.get(*key) != Some(value))
        .collect();
    if ids == known && labels.is_empty() {
        return None;
    }
    let ids = match ids.is_empty() {
        true => Value::Null,
        false => json!(json!(ids).to_string()),
    };
    Some(json!({"metadata": {"annotations": {NODE_ID: ids}, "labels": labels}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, id: &str, most: i64, topology: &[(&str, &str)]) -> Entry {
        Entry {
            name: name.into(),
            node_id: id.into(),
            most_volumes: most,
            topology: topology
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn the_list_says_what_is_there_and_nothing_else() {
        let (a, b) = (entry("a", "n1", 0, &[]), entry("b", "n1", 5, &[("zone", "z")]));
        let first = lists(&[], &[a.clone(), b.clone()], true);
        let whole = json!([
            {"name": "a", "nodeID": "n1"},
            {"name": "b", "nodeID": "n1", "topologyKeys": ["zone"], "allocatable": {"count": 5}},
        ]);
        assert_eq!(json!(first), json!([whole]));
        let known = first.concat();
        assert!(lists(&known, &[a.clone(), b.clone()], true).is_empty());
        assert_eq!(lists(&known, std::slice::from_ref(&a), true).concat(), known[..1]);
        assert!(lists(&known, &[a], false).is_empty(), "the other may still register");
        assert_eq!(lists(&known, &[], true), [Vec::<Value>::new()]);
    }

    #[test]
    fn what_cannot_change_goes_before_it_comes() {
        let known = listed(&[], &[entry("a", "n1", 0, &[]), entry("b", "n1", 0, &[])], true);
        let now = [entry("a", "other", 0, &[]), entry("b", "n1", 0, &[])];
        let written = lists(&known, &now, true);
        assert_eq!(written.len(), 2);
        assert_eq!(written[0], known[1..]);
        assert_eq!(written[1][0]["nodeID"], "other");
        let more = [entry("a", "n1", 7, &[]), entry("b", "n1", 0, &[])];
        assert_eq!(lists(&known, &more, true).len(), 1, "how many fit may change");
    }

    #[test]
    fn the_node_carries_what_drivers_call_it_and_where_it_is() {
        let driver = entry("a", "n1", 0, &[("topology.a/node", "x")]);
        let mut node = Marks::default();
        let change = marks(&node, std::slice::from_ref(&driver), true).expect("a change");
        assert_eq!(change["metadata"]["annotations"][NODE_ID], "{\"a\":\"n1\"}");
        assert_eq!(change["metadata"]["labels"], json!({"topology.a/node": "x"}));
        node.annotations.insert(NODE_ID.into(), "{\"a\":\"n1\"}".into());
        node.labels.insert("topology.a/node".into(), "x".into());
        assert_eq!(marks(&node, &[driver], true), None);
        assert_eq!(marks(&node, &[], false), None);
        let gone = marks(&node, &[], true).expect("a change");
        assert_eq!(gone["metadata"]["annotations"][NODE_ID], Value::Null);
    }
}
