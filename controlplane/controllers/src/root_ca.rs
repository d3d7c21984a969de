//! Every namespace has a ConfigMap `kube-root-ca.crt` with the certificate that pods check the API server by.

use api::{NamespacedName, Object};
use client::{
    Error, Informer, Meta, Scope, kinds,
    reconcile::{self, Action},
};
use serde::Deserialize;
use serde_json::json;

use crate::{Context, RESYNC, view::Namespace};

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
     such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
     Kubernetes clusters.";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigMap {
    metadata: Meta,
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    #[serde(rename = "ca.crt")]
    certificate: Option<String>,
}

pub(crate) async fn run(context: Context) {
    let maps: Informer<ConfigMap> = context
        .informers
        .get(&kinds::CONFIG_MAP, Scope::Fields(format!("metadata.name={NAME}")));
    let namespaces: Informer<Namespace> = context.informers.get(&kinds::NAMESPACE, Scope::All);
    maps.synced().await;
    let triggers = vec![
        reconcile::on_change(&namespaces),
        reconcile::mapped(&maps, |delta| {
            delta.key.namespace.as_deref().map(NamespacedName::cluster)
        }),
        reconcile::every(RESYNC, &namespaces),
    ];
    match reconcile::keyed("root-ca", 4, triggers, |key| publish(&context, &namespaces, &maps, key)).await {}
}

async fn publish(
    context: &Context,
    namespaces: &Informer<Namespace>,
    maps: &Informer<ConfigMap>,
    key: NamespacedName,
) -> Result<Action, Error> {
    if namespaces
        .get(&key)
        .is_none_or(|namespace| namespace.metadata.is_deleting())
    {
        return Ok(Action::Done);
    }
    let at = NamespacedName::new(&key.name, NAME);
    let data = json!({KEY: context.config.root_ca});
    let written = match maps.get(&at) {
        Some(map) if map.data.certificate.as_ref() == Some(&context.config.root_ca) => return Ok(Action::Done),
        Some(map) => {
            // read and replaced, by two identities: the publisher itself may not read
            let reader = context.informers.client();
            let live: Option<Object> = reader.get_opt(&kinds::CONFIG_MAP, &at).await?;
            let Some(mut live) = live.filter(|live| live.uid() == &*map.metadata.uid) else {
                return Ok(Action::Done);
            };
            live.set("data", data);
            context.client.replace(&kinds::CONFIG_MAP, &live, None).await
        }
        None => {
            let mut map = Object::new("v1", "ConfigMap");
            map.set("metadata.name", NAME);
            map.set_annotation("kubernetes.io/description", DESCRIPTION);
            map.set("data", data);
            context.client.create(&kinds::CONFIG_MAP, Some(&key.name), &map).await
        }
    };
    match written {
        Ok(map) => maps.wait_written(&map).await,
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(Action::Done)
}
