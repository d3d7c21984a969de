//! Whose images a pod may run: those of its own namespace. A node would pull any that is here, and keeps what it pulled, so
//! that who may see them is decided where pods are made.

use api::names::GroupResource;
use api::{Object, Status};
use apiserver::admission::{Admission, AdmissionRequest};
use apiserver::images::{DOMAIN, repository};
use apiserver::registry::resource::{Operation, Resource};
use async_trait::async_trait;

const CONTAINERS: [&str; 3] = ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"];

/// Refuses pods that name images of other namespaces.
pub struct Images;

#[async_trait]
impl Admission for Images {
    fn name(&self) -> &'static str {
        "WherryImages"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update { .. });
        let part = matches!(subresource, None | Some("ephemeralcontainers"));
        resource.group.is_empty() && resource.plural == "pods" && part && writes
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(pod) = request.object.as_deref() else {
            return Ok(());
        };
        let namespace = request.namespace.unwrap_or_default();
        let known: Vec<&str> = request.old.map(images).unwrap_or_default();
        // What runs already may go on, whatever else is changed of it.
        let new = images(pod).into_iter().filter(|image| !known.contains(image));
        for image in new {
            if let Some(why) = refusal(image, namespace) {
                let name = if request.name.is_empty() {
                    pod.name()
                } else {
                    request.name
                };
                return Err(Status::forbidden(&GroupResource::new("", "pods"), name, &why));
            }
        }
        Ok(())
    }
}

fn images(pod: &Object) -> Vec<&str> {
    let containers = CONTAINERS.iter().flat_map(|field| pod.list_at(field));
    let volumes = pod.list_at("spec.volumes").iter();
    let mounted = volumes.filter_map(|volume| volume.pointer("/image/reference")?.as_str());
    let run = containers.filter_map(|container| container.get("image")?.as_str());
    run.chain(mounted).collect()
}

/// Why a pod of a namespace must not run an image; `None` where nothing is against it.
fn refusal(image: &str, namespace: &str) -> Option<String> {
    let rest = image.strip_prefix(DOMAIN)?.strip_prefix('/')?;
    match repository(image) {
        Some((of, _)) if of == namespace => None,
        Some((of, _)) => Some(format!(
            "image {image:?} is of the namespace {of:?}, and pods run images of their own namespace only; push it as \
             {DOMAIN}/{namespace}/{}",
            rest.split_once('/').map_or(rest, |(_, name)| name)
        )),
        None => Some(format!(
            "image {image:?} names no namespace: images of the cluster are called {DOMAIN}/NAMESPACE/NAME:TAG"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_counts_as_what_is_run() {
        let pod = Object::from_value(serde_json::json!({"spec": {
            "containers": [{"name": "c", "image": "a"}], "initContainers": [{"name": "i", "image": "b"}],
            "volumes": [{"name": "v", "image": {"reference": "c"}}, {"name": "w", "emptyDir": {}}]}}));
        assert_eq!(images(&pod.expect("an object")), ["b", "a", "c"]);
    }

    #[test]
    fn pods_run_images_of_their_own_namespace() {
        let ask = |image: &str| refusal(image, "team").unwrap_or_default();
        assert_eq!(ask("wherry.internal/team/hello:1"), "");
        assert_eq!(ask("docker.io/other/hello:1"), "");
        assert_eq!(ask("wherry.internal.example/other/hello:1"), "");
        let other = ask("wherry.internal/other/hello:1");
        assert!(
            other.contains("is of the namespace \"other\"") && other.ends_with("wherry.internal/team/hello:1"),
            "{other}"
        );
        assert!(ask("wherry.internal/hello:1").contains("names no namespace"));
    }
}
