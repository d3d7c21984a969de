//! Writing the default objects: missing ones are created; of roles and bindings, what the defaults have and the stored ones
//! lack is added (never anything taken away), unless `rbac.authorization.kubernetes.io/autoupdate` says `"false"`. A binding
//! to another role, which cannot be changed, is made anew.

use std::time::Duration;

use api::Object;
use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request, StatusCode, header};
use serde_json::Value;

use super::objects::{
    Cluster, authentication, dns_service, kubernetes_endpoints, kubernetes_service, namespaces, priority_classes,
    runtime_classes, service_range, storage_classes,
};
use super::policy::policy;
use crate::authz::policy::own_rules;
use crate::authz::rule::{Rule, uncovered};
use crate::resources::flowcontrol::standard;

pub(super) const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// How many default objects are written at once.
const AT_ONCE: usize = 32;

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
///
/// Namespaces come first, since other objects live in them; the rest is in no order, and many at once, so that the store
/// commits them together: a binding may well come before its role.
pub async fn reconcile(client: &kube::Client, cluster: &Cluster) -> Result<(), Error> {
    ensure_all(client, namespaces()).await?;
    let own = [
        service_range(cluster),
        kubernetes_service(cluster),
        authentication(cluster),
    ];
    let classes = runtime_classes()
        .into_iter()
        .chain(storage_classes())
        .chain(priority_classes());
    let rest = policy()
        .into_iter()
        .chain(own)
        .chain(classes)
        .chain(standard::objects());
    // Where several servers answer, they agree on that among themselves.
    let endpoints = Some(cluster).filter(|cluster| !cluster.advertise.is_empty());
    ensure_all(client, rest.chain(endpoints.into_iter().flat_map(kubernetes_endpoints))).await?;
    ensure_dns(client, cluster).await;
    Ok(())
}

/// The Service of cluster DNS. A cluster works without it, so what is in its way is only told: a Service that somebody has
/// given that address.
async fn ensure_dns(client: &kube::Client, cluster: &Cluster) {
    let Some(service) = dns_service(cluster) else {
        return tracing::warn!(range = %cluster.service_range, "no address for cluster DNS: the Service range is too small");
    };
    if let Err(error) = ensure(client, &service).await {
        tracing::warn!(
            address = service.str_at("spec.clusterIP"),
            error = &error as &dyn std::error::Error,
            "cluster DNS has no Service"
        );
    }
}

/// Makes `cluster.advertise` the endpoints of the `kubernetes` Service, through an administrator's client.
pub async fn reconcile_endpoints(client: &kube::Client, cluster: &Cluster) -> Result<(), Error> {
    ensure_all(client, kubernetes_endpoints(cluster)).await
}

/// Writes those that every cluster has of flow control.
pub(crate) async fn flow_control(client: &kube::Client) -> Result<(), Error> {
    ensure_all(client, standard::objects()).await
}

async fn ensure_all(client: &kube::Client, objects: impl IntoIterator<Item = Object>) -> Result<(), Error> {
    stream::iter(objects)
        .map(|wanted| async move { ensure(client, &wanted).await })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn ensure(client: &kube::Client, wanted: &Object) -> Result<(), Error> {
    match get(client, wanted).await? {
        None => create_beside_others(client, wanted).await,
        Some(stored) if binds_another_role(&stored, wanted) => {
            delete(client, &stored).await?;
            create(client, wanted).await
        }
        Some(stored) => match mended(&stored, wanted) {
            Some(mended) => put(client, &mended).await,
            None => Ok(()),
        },
    }
}

/// How often, and how long apart, it is looked whether another server has made what this one could not.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Creates an object that another server may be creating as well: a Service's address is claimed before the Service is
/// there, so that the later of two is refused, and finds it in a moment.
async fn create_beside_others(client: &kube::Client, wanted: &Object) -> Result<(), Error> {
    let Err(refused) = create(client, wanted).await else {
        return Ok(());
    };
    for _ in 0..LOOKS {
        if get(client, wanted).await?.is_some() {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Err(refused)
}

/// Whether a default binding has been replaced by one to another role, by somebody who did not say that it is theirs now.
fn binds_another_role(stored: &Object, wanted: &Object) -> bool {
    let same = |field: &str| {
        stored.at("roleRef").and_then(|r| r.get(field)) == wanted.at("roleRef").and_then(|r| r.get(field))
    };
    wanted.kind().ends_with("Binding")
        && stored.annotation(AUTO_UPDATE) != Some("false")
        && !(same("kind") && same("name"))
}

/// The stored object as it should be, or `None` when it is that already: roles and bindings get what they lack of the
/// default, endpoints and the keys of maps become what is wanted, flow control where it follows what is suggested, and other
/// objects are left to their owners.
fn mended(stored: &Object, wanted: &Object) -> Option<Object> {
    let mut mended = stored.clone();
    match wanted.kind() {
        "Role" | "ClusterRole" | "RoleBinding" | "ClusterRoleBinding"
            if stored.annotation(AUTO_UPDATE) == Some("false") => {}
        "Role" | "ClusterRole" => mend_role(&mut mended, wanted),
        "RoleBinding" | "ClusterRoleBinding" => mend_binding(&mut mended, wanted),
        "Endpoints" | "EndpointSlice" => mend_endpoints(&mut mended, wanted),
        "ConfigMap" => mend_map(&mut mended, wanted),
        "FlowSchema" | "PriorityLevelConfiguration" => mend_flow_control(&mut mended, wanted),
        _ => {}
    }
    (mended != *stored).then_some(mended)
}

fn mend_role(role: &mut Object, wanted: &Object) {
    if let Some(rule) = wanted.at("aggregationRule")
        && role.at("aggregationRule").is_none()
    {
        role.set("aggregationRule", rule.clone());
    }
    let lacking = uncovered(&own_rules(role), &own_rules(wanted));
    if !lacking.is_empty() {
        let rules = role.list_at("rules").iter().cloned();
        let all: Vec<Value> = rules.chain(lacking.iter().map(Rule::to_json)).collect();
        role.set("rules", all);
    }
}

fn mend_binding(binding: &mut Object, wanted: &Object) {
    let same = |a: &Value, b: &Value| ["kind", "name", "namespace"].iter().all(|f| a.get(f) == b.get(f));
    let subjects = binding.list_at("subjects");
    let lacking = wanted
        .list_at("subjects")
        .iter()
        .filter(|w| !subjects.iter().any(|s| same(s, w)));
    let all: Vec<Value> = subjects.iter().chain(lacking).cloned().collect();
    if all.len() > subjects.len() {
        binding.set("subjects", all);
    }
}

fn mend_endpoints(endpoints: &mut Object, wanted: &Object) {
    for field in ["subsets", "endpoints", "ports"] {
        if let Some(value) = wanted.at(field) {
            endpoints.set(field, value.clone());
        }
    }
}

/// What is mandatory is as it must be, but for what an administrator lets the exempt level lend. What is suggested follows
/// the suggestion, unless somebody has said that it does not, or has changed it without saying anything.
fn mend_flow_control(object: &mut Object, wanted: &Object) {
    let mandatory = [standard::EXEMPT, standard::CATCH_ALL].contains(&wanted.name());
    let follows = match object.annotation(standard::AUTO_UPDATE) {
        Some(text) => text == "true",
        None => object.generation() == 1,
    };
    if !mandatory && !follows {
        return;
    }
    let exempt = object.at("spec.exempt").cloned();
    if let Some(spec) = wanted.at("spec") {
        object.set("spec", spec.clone());
    }
    if let Some(exempt) = exempt.filter(|_| wanted.name() == standard::EXEMPT) {
        object.set("spec.exempt", exempt);
    }
    object.set_annotation(standard::AUTO_UPDATE, "true");
}

/// The default's keys; others belong to whoever wrote them.
fn mend_map(map: &mut Object, wanted: &Object) {
    let mut data = map.map_at("data").cloned().unwrap_or_default();
    data.extend(wanted.map_at("data").cloned().unwrap_or_default());
    map.set("data", data);
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

/// This very object; one that is gone or another by now is as good.
async fn delete(client: &kube::Client, object: &Object) -> Result<(), Error> {
    let mut options = Object::new("v1", "DeleteOptions");
    options.set("preconditions.uid", object.uid());
    let request = request(Method::DELETE, &path(object, true)?, Some(&options));
    match client.request::<Object>(request).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Ok(_) => Ok(()),
        Err(source) => Err(failed("delete", object, source)),
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
        .header(header::USER_AGENT, "kube-apiserver")
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
        "ConfigMap" => "configmaps",
        "RuntimeClass" => "runtimeclasses",
        "StorageClass" => "storageclasses",
        "PriorityClass" => "priorityclasses",
        "FlowSchema" => "flowschemas",
        "PriorityLevelConfiguration" => "prioritylevelconfigurations",
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
    use std::convert::Infallible;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use http::Response;
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;
    use crate::resources::testing::object;

    /// What an API server that has nothing and takes everything was asked.
    #[derive(Default)]
    struct Asked {
        open: usize,
        most: usize,
        created: Vec<String>,
        /// Requests for anything else that came while namespaces were being written.
        early: usize,
    }

    async fn answer(asked: Arc<Mutex<Asked>>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path().to_owned();
        {
            let mut asked = asked.lock();
            asked.open += 1;
            asked.most = asked.most.max(asked.open);
            let namespaces = asked.created.iter().filter(|p| *p == "/api/v1/namespaces").count();
            asked.early += usize::from(!path.starts_with("/api/v1/namespaces") || path.matches('/').count() > 4)
                * usize::from(namespaces < super::namespaces().len());
        }
        tokio::task::yield_now().await;
        let mut asked = asked.lock();
        asked.open -= 1;
        let (code, body) = match request.method() == Method::POST {
            true => (StatusCode::CREATED, "{}"),
            false => (StatusCode::NOT_FOUND, r#"{"kind": "Status", "code": 404}"#),
        };
        if code == StatusCode::CREATED {
            asked.created.push(path);
        }
        let mut response = Response::new(Body::from(body.as_bytes().to_vec()));
        *response.status_mut() = code;
        Ok(response)
    }

    #[tokio::test]
    async fn namespaces_are_written_first_and_the_rest_many_at_once() {
        let asked = Arc::new(Mutex::new(Asked::default()));
        let seen = asked.clone();
        let service = tower::service_fn(move |request| answer(seen.clone(), request));
        let cluster = Cluster {
            advertise: vec![Ipv4Addr::new(10, 128, 0, 1).into()],
            advertise_port: 6443,
            service_range: "10.96.0.0/16".parse().expect("a range"),
            kubernetes_address: Ipv4Addr::new(10, 96, 0, 1),
            client_ca: "PEM".to_owned(),
            front_proxy_ca: "PROXY".to_owned(),
        };
        reconcile(&kube::Client::new(service, "default"), &cluster)
            .await
            .expect("all is taken");
        let asked = asked.lock();
        let listed = namespaces().len() + policy().len() + standard::objects().len();
        assert_eq!(asked.created.len(), listed + 10);
        assert_eq!(asked.early, 0);
        assert!((2..=AT_ONCE).contains(&asked.most), "{} at once", asked.most);
    }

    #[test]
    fn flow_control_follows_the_suggestion_where_it_does() {
        let wanted = |name: &str, kind: &str| {
            let mut all = standard::objects().into_iter();
            all.find(|o| o.name() == name && o.kind() == kind)
                .expect("a standard object")
        };
        let suggested = wanted("service-accounts", "FlowSchema");
        let mut changed = suggested.clone();
        changed.set("spec.matchingPrecedence", 1);
        assert_eq!(mended(&changed, &suggested).as_ref(), Some(&suggested));
        changed.set_annotation(standard::AUTO_UPDATE, "false");
        assert_eq!(mended(&changed, &suggested), None);
        let exempt = wanted("exempt", "PriorityLevelConfiguration");
        let mut lending = exempt.clone();
        lending.set("spec.exempt.lendablePercent", 50);
        assert_eq!(mended(&lending, &exempt), None);
        lending.set_annotation(standard::AUTO_UPDATE, "false");
        lending.set("spec.type", "Limited");
        let back = mended(&lending, &exempt).expect("mandatory");
        assert_eq!(
            (back.str_at("spec.type"), back.i64_at("spec.exempt.lendablePercent")),
            (Some("Exempt"), Some(50))
        );
    }

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
    fn a_map_keeps_what_others_wrote() {
        let map = |data: Value| object(json!({"kind": "ConfigMap", "data": data}));
        let (stored, wanted) = (map(json!({"a": "old", "b": "theirs"})), map(json!({"a": "new"})));
        let result = mended(&stored, &wanted).expect("it differs");
        assert_eq!(result.at("data"), Some(&json!({"a": "new", "b": "theirs"})));
        assert_eq!(mended(&result, &wanted), None);
    }

    #[test]
    fn every_default_object_has_a_path() {
        for object in policy()
            .iter()
            .chain(&namespaces())
            .chain(&runtime_classes())
            .chain(&storage_classes())
        {
            assert!(path(object, true).expect("a path").ends_with(object.name()));
        }
    }
}
