//! What a client must know of a kind to build its paths. [`crate::kinds`] lists the built-in ones; those of custom
//! resources are made from discovery.

use std::{borrow::Cow, fmt};

/// A served kind: its group, version and plural give the path, its kind and scope the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// API version, `v1`.
    pub version: Cow<'static, str>,
    /// Kind as objects spell it, `Deployment`.
    pub kind: Cow<'static, str>,
    /// Resource name as paths spell it, `deployments`.
    pub plural: Cow<'static, str>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// A namespaced built-in kind.
    pub const fn namespaced(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
            namespaced: true,
        }
    }

    /// A cluster-scoped built-in kind.
    pub const fn cluster(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
            namespaced: false,
        }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Path of the collection, or of the whole kind over all namespaces when `namespace` is `None`.
    pub fn collection_path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api/" } else { "/apis/" };
        let api_version = self.api_version();
        match namespace {
            Some(namespace) if self.namespaced => {
                format!("{root}{api_version}/namespaces/{namespace}/{}", self.plural)
            }
            _ => format!("{root}{api_version}/{}", self.plural),
        }
    }
}

/// `deployments.apps`, `pods`: a group resource as Kubernetes prints it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.plural)
        } else {
            write!(f, "{}.{}", self.plural, self.group)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds;

    #[test]
    fn paths_follow_group_and_scope() {
        for (kind, namespace, path) in [
            (&kinds::POD, Some("a"), "/api/v1/namespaces/a/pods"),
            (&kinds::POD, None, "/api/v1/pods"),
            (&kinds::NODE, None, "/api/v1/nodes"),
            (&kinds::NODE, Some("a"), "/api/v1/nodes"),
            (&kinds::DEPLOYMENT, Some("a"), "/apis/apps/v1/namespaces/a/deployments"),
        ] {
            assert_eq!(kind.collection_path(namespace), path);
        }
    }
}
