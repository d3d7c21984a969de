//! The EndpointSlices of every Service with a selector.

pub(crate) mod plan;

use api::NamespacedName;
use client::{
    DeleteOptions, Delta, Error, Informer, OptionalExt, Scope, kinds,
    reconcile::{self, Action},
};
use serde_json::json;

pub(crate) use self::plan::Write;
use self::plan::{MANAGED_BY, MANAGER, SERVICE_NAME};
use crate::{
    Context, RESYNC,
    endpoints::of_pods,
    view::{EndpointSlice, Node, Pod, Service},
};

const ZONE: &str = "topology.kubernetes.io/zone";

pub(crate) async fn run(context: Context) {
    let shell = Shell {
        services: context.informers.get(&kinds::SERVICE, Scope::All),
        pods: context.informers.get(&kinds::POD, Scope::All),
        nodes: context.informers.get(&kinds::NODE, Scope::All),
        slices: context.informers.get(&kinds::ENDPOINT_SLICE, Scope::All),
        context,
    };
    shell.services.synced().await;
    shell.pods.synced().await;
    shell.nodes.synced().await;
    shell.slices.synced().await;
    let services = shell.services.clone();
    let triggers = vec![
        reconcile::on_change(&shell.services),
        of_pods(&shell.pods, &shell.services),
        reconcile::mapped(&shell.slices, |delta| {
            delta.states().filter_map(owner_of).collect::<Vec<_>>()
        }),
        reconcile::mapped(&shell.nodes, move |delta| by_zone(delta, &services)),
        reconcile::every(RESYNC, &shell.services),
    ];
    match reconcile::keyed("endpointslice", 5, triggers, |key| shell.reconcile(key)).await {}
}

/// The Service of a slice of ours.
fn owner_of(slice: &EndpointSlice) -> Option<NamespacedName> {
    let labels = &slice.metadata.labels;
    let service = labels
        .get(SERVICE_NAME)
        .filter(|_| labels.get(MANAGED_BY) == Some(MANAGER))?;
    Some(NamespacedName::new(&slice.metadata.namespace, service))
}

/// All Services, if a node has moved to another zone.
fn by_zone(delta: &Delta<Node>, services: &Informer<Service>) -> Vec<NamespacedName> {
    let zone = |node: &Option<std::sync::Arc<Node>>| {
        node.as_ref()
            .and_then(|node| node.metadata.labels.get(ZONE).map(str::to_owned))
    };
    if zone(&delta.old) == zone(&delta.new) {
        return vec![];
    }
    services.snapshot().iter().map(|(key, _)| key.clone()).collect()
}

struct Shell {
    context: Context,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
}

impl Shell {
    async fn reconcile(&self, key: NamespacedName) -> Result<Action, Error> {
        let namespace = key.namespace.as_deref().unwrap_or_default();
        let writes = {
            let service = self
                .services
                .get(&key)
                .filter(|service| !service.metadata.is_deleting());
            let (pods, nodes, slices) = (self.pods.snapshot(), self.nodes.snapshot(), self.slices.snapshot());
            let ours: Vec<&EndpointSlice> = slices
                .in_namespace(namespace)
                .map(|(_, slice)| &**slice)
                .filter(|slice| owner_of(slice).as_ref() == Some(&key))
                .collect();
            let zone = |node: &str| {
                nodes
                    .get(&NamespacedName::cluster(node))?
                    .metadata
                    .labels
                    .get(ZONE)
                    .map(Into::into)
            };
            let in_namespace = pods.in_namespace(namespace).map(|(_, pod)| &**pod);
            plan::plan(service.as_deref(), in_namespace, zone, &ours)
        };
        for write in writes {
            carry_out(&self.context, &self.slices, namespace, write).await?;
        }
        Ok(Action::Done)
    }
}

/// Writes, and waits until the informer has seen it.
pub(crate) async fn carry_out(
    context: &Context,
    slices: &Informer<EndpointSlice>,
    namespace: &str,
    write: Write,
) -> Result<(), Error> {
    let client = &context.client;
    let written = match write {
        Write::Create(slice) => client
            .create(&kinds::ENDPOINT_SLICE, Some(namespace), &slice)
            .await
            .map(Some),
        Write::Update {
            name,
            uid,
            labels,
            endpoints,
        } => {
            let change = json!({"metadata": {"labels": labels}, "endpoints": endpoints});
            let at = NamespacedName::new(namespace, &name);
            client.update(&kinds::ENDPOINT_SLICE, &at, None, &uid, &change).await
        }
        Write::Delete { name, uid } => {
            let at = NamespacedName::new(namespace, &name);
            client
                .delete(&kinds::ENDPOINT_SLICE, &at, &DeleteOptions::of_uid(&uid))
                .await
                .optional()?;
            slices
                .wait_until(&at, |now| now.is_none_or(|now| now.metadata.uid != uid))
                .await;
            return Ok(());
        }
    };
    match written {
        Ok(Some(slice)) => slices.wait_written(&slice).await,
        Ok(None) => {}
        Err(error) if error.is_namespace_terminating() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
