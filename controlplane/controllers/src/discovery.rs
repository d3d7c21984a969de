//! All kinds that the API server serves, for the controllers that walk over everything.

use client::{Client, Error, Kind};
use serde::Deserialize;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A served resource, in its group's preferred version that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) kind: Kind,
    verbs: Vec<String>,
}

impl Resource {
    pub(crate) fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|own| own == verb))
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct GroupList {
    items: Vec<Group>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Group {
    metadata: GroupMeta,
    versions: Vec<Version>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GroupMeta {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    version: String,
    resources: Vec<Item>,
    freshness: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Item {
    resource: String,
    response_kind: ResponseKind,
    scope: String,
    verbs: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResponseKind {
    kind: String,
}

/// What is served, and the groups whose answer is stale and may lack something.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) resources: Vec<Resource>,
    pub(crate) stale: Vec<String>,
}

/// Asks the API server.
///
/// # Errors
/// Any [`Error`]; nothing may be concluded from what is missing then.
pub(crate) async fn discover(client: &Client) -> Result<Served, Error> {
    let core: GroupList = client.get_path("/api", AGGREGATED).await?;
    let named: GroupList = client.get_path("/apis", AGGREGATED).await?;
    Ok(preferred(core.items.into_iter().chain(named.items)))
}

fn preferred(groups: impl Iterator<Item = Group>) -> Served {
    let mut served = Served::default();
    for group in groups {
        let mut seen: Vec<String> = Vec::new();
        for version in group.versions {
            if version.freshness == "Stale" {
                served
                    .stale
                    .push(format!("{}/{}", group.metadata.name, version.version));
            }
            for item in version.resources.into_iter().filter(|item| !item.verbs.is_empty()) {
                if seen.contains(&item.resource) {
                    continue;
                }
                seen.push(item.resource.clone());
                let kind = Kind {
                    group: group.metadata.name.clone().into(),
                    version: version.version.clone().into(),
                    kind: item.response_kind.kind.into(),
                    plural: item.resource.into(),
                    namespaced: item.scope == "Namespaced",
                };
                served.resources.push(Resource {
                    kind,
                    verbs: item.verbs,
                });
            }
        }
    }
    served
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_resource_comes_once_in_its_preferred_version() {
        let list: GroupList = serde_json::from_value(json!({"items": [{"metadata": {"name": "g"}, "versions": [
            {"version": "v1", "resources": [
                {"resource": "as", "responseKind": {"kind": "A"}, "scope": "Namespaced", "verbs": ["get", "list"]}]},
            {"version": "v1beta1", "freshness": "Stale", "resources": [
                {"resource": "as", "responseKind": {"kind": "A"}, "scope": "Namespaced", "verbs": ["get"]},
                {"resource": "bs", "responseKind": {"kind": "B"}, "scope": "Cluster", "verbs": ["delete"]}]}]}]}))
        .unwrap();
        let served = preferred(list.items.into_iter());
        let found: Vec<_> = served
            .resources
            .iter()
            .map(|r| (r.kind.to_string(), r.kind.version.to_string(), r.kind.namespaced))
            .collect();
        assert_eq!(
            found,
            [
                ("as.g".into(), "v1".into(), true),
                ("bs.g".into(), "v1beta1".to_owned(), false)
            ]
        );
        assert_eq!(served.stale, ["g/v1beta1"]);
        assert!(served.resources[0].can(&["list"]) && !served.resources[0].can(&["delete"]));
    }
}
