//! Writing the default objects: missing ones are created; of roles and bindings, what the defaults have and the stored ones
//! lack is added (never anything taken away), unless `rbac.authorization.kubernetes.io/autoupdate` says `"false"`.

use api::Object;
use http::{Method, Request, StatusCode, header};
use serde_json::Value;

use super::objects::{Cluster, kubernetes_endpoints, kubernetes_service, namespaces, service_range};
use super::policy::policy;
use crate::authz::policy::own_rules;
use crate::authz::rule::{Rule, uncovered};

pub(super) const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Why a default object could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {verb} {kind} {name:?}")]
    Request {
        verb: &'static str,
        kind: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("the API server has no path for {0}")]
    UnknownKind(String),
}

/// Writes all default objects through `client`, which must be an administrator's. Safe to run at every start.
pub async fn reconcile(client: &kube::Client, cluster: &Cluster) -> Result<(), Error> {
    for object in namespaces()
        .iter()
        .chain(&policy())
        .chain([&service_range(cluster), &kubernetes_service(cluster)])
    {
        ensure(client, object).await?;
    }
    reconcile_endpoints(client, cluster).await
}

/// Makes the endpoints of `default/kubernetes` say where this server answers; also after the address has changed.
pub async fn reconcile_endpoints(client: &kube::Client, cluster: &Cluster) -> Result<(), Error> {
    for wanted in kubernetes_endpoints(cluster) {
        match get(client, &wanted).await? {
            None => create(client, &wanted).await?,
            Some(stored) => {
                if let Some(mended) = same_endpoints(&stored, &wanted) {
                    put(client, &mended).await?;
                }
            }
        }
    }
    Ok(())
}

async fn ensure(client: &kube::Client, wanted: &Object) -> Result<(), Error> {
    match get(client, wanted).await? {
        None => create(client, wanted).await,
        Some(stored) => match mended(&stored, wanted) {
            Some(mended) => put(client, &mended).await,
            None => Ok(()),
        },
    }
}

/// The stored object with what it lacks of the default, or `None` when it lacks nothing.
fn mended(stored: &Object, wanted: &Object) -> Option<Object> {
    if stored.annotation(AUTO_UPDATE) == Some("false") {
        return None;
    }
    let mut mended = stored.clone();
    match wanted.kind() {
        "Role" | "ClusterRole" => {
            let lacking = uncovered(&own_rules(stored), &own_rules(wanted));
            if wanted.at("aggregationRule").is_some() && stored.at("aggregationRule").is_none() {
                mended.set(
                    "aggregationRule",
                    wanted.at("aggregationRule").cloned().unwrap_or_default(),
                );
            }
            if !lacking.is_empty() {
                let rules = stored.list_at("rules").iter().cloned();
                mended.set(
                    "rules",
                    rules.chain(lacking.iter().map(Rule::to_json)).collect::<Vec<_>>(),
                );
            }
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            let same = |a: &Value, b: &Value| ["kind", "name", "namespace"].iter().all(|f| a.get(f) == b.get(f));
            let subjects = stored.list_at("subjects");
            let lacking = wanted
                .list_at("subjects")
                .iter()
                .filter(|w| !subjects.iter().any(|s| same(s, w)));
            let all: Vec<Value> = subjects.iter().chain(lacking).cloned().collect();
            if all.len() > subjects.len() {
                mended.set("subjects", all);
            }
        }
        _ => return None,
    }
    (mended != *stored).then_some(mended)
}

fn same_endpoints(stored: &Object, wanted: &Object) -> Option<Object> {
    let mut mended = stored.clone();
    for field in ["subsets", "endpoints", "ports"] {
        if let Some(value) = wanted.at(field) {
            mended.set(field, value.clone());
        }
    }
    let differs = ["subsets", "endpoints", "ports"]
        .iter()
        .any(|f| mended.at(f) != stored.at(f));
    differs.then_some(mended)
}

async fn get(client: &kube::Client, object: &Object) -> Result<Option<Object>, Error> {
    let request = request(Method::GET, &path(object, true)?, None);
    match client.request::<Object>(request).await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND.as_u16() => Ok(None),
        Err(source) => Err(failed("get", object, source)),
    }
}

/// Another control plane may have been faster; that is as good.
async fn create(client: &kube::Client, object: &Object) -> Result<(), Error> {
    let request = request(Method::POST, &path(object, false)?, Some(object));
    match client.request::<Object>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == StatusCode::CONFLICT.as_u16() => Ok(()),
        Err(source) => Err(failed("create", object, source)),
    }
}

async fn put(client: &kube::Client, object: &Object) -> Result<(), Error> {
    let request = request(Method::PUT, &path(object, true)?, Some(object));
    match client.request::<Object>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == StatusCode::CONFLICT.as_u16() => Ok(()),
        Err(source) => Err(failed("update", object, source)),
    }
}

fn request(method: Method, path: &str, body: Option<&Object>) -> Request<Vec<u8>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.map(Object::to_vec).unwrap_or_default())
        .expect("the paths of default objects are valid")
}

fn path(object: &Object, named: bool) -> Result<String, Error> {
    let plural = match object.kind() {
        "Namespace" => "namespaces",
        "Service" => "services",
        "Endpoints" => "endpoints",
        "EndpointSlice" => "endpointslices",
        "ServiceCIDR" => "servicecidrs",
        "Role" => "roles",
        "ClusterRole" => "clusterroles",
        "RoleBinding" => "rolebindings",
        "ClusterRoleBinding" => "clusterrolebindings",
        other => return Err(Error::UnknownKind(other.to_owned())),
    };
    let root = if object.api_version() == "v1" { "api" } else { "apis" };
    let namespace = object
        .namespace()
        .map(|n| format!("/namespaces/{n}"))
        .unwrap_or_default();
    let name = if named {
        format!("/{}", object.name())
    } else {
        String::new()
    };
    Ok(format!("/{root}/{}{namespace}/{plural}{name}", object.api_version()))
}

fn failed(verb: &'static str, object: &Object, source: kube::Error) -> Error {
    Error::Request {
        verb,
        kind: object.kind().to_owned(),
        name: object.name().to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::object;

    #[test]
    fn a_role_gets_back_what_it_lacks_and_keeps_what_it_has() {
        let role = |rules: Value| object(json!({"kind": "ClusterRole", "metadata": {"name": "r"}, "rules": rules}));
        let pods = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        let nodes = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]});
        let (stored, wanted) = (role(json!([nodes])), role(json!([pods])));
        let result = mended(&stored, &wanted).expect("it lacks something");
        assert_eq!(result.at("rules"), Some(&json!([nodes, pods])));
        assert_eq!(mended(&result, &wanted), None);
    }

    #[test]
    fn what_says_hands_off_is_left_alone() {
        let wanted = object(json!({"kind": "ClusterRoleBinding", "subjects": [{"kind": "User", "name": "a"}]}));
        let mut stored = object(json!({"kind": "ClusterRoleBinding", "subjects": []}));
        assert!(mended(&stored, &wanted).is_some());
        stored.set_annotation(AUTO_UPDATE, "false");
        assert_eq!(mended(&stored, &wanted), None);
    }

    #[test]
    fn every_default_object_has_a_path() {
        for object in policy().iter().chain(&namespaces()) {
            assert!(path(object, true).expect("a path").ends_with(object.name()));
        }
    }
}
