//! What containerd holds of ours, listed.
//!
//! Lists say little: addresses, times and exit codes are in the status of each. A status is asked for once per state: while
//! the state is the same it does not change, but for what nobody reads, and for limits, of which [`Listing::changed`] is told.

use std::collections::{HashMap, HashSet};

use cri::{Container, Error, Sandbox};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use proto::{
    Attempt,
    v1::{
        self, ContainerFilter, ContainerStatusRequest, ListContainersRequest, ListPodSandboxRequest, PodSandboxFilter,
        PodSandboxStatusRequest,
    },
};

use crate::{
    link::{Link, PATIENCE},
    records::{self, Details, own_id},
};

/// Statuses asked for at a time.
const AT_ONCE: usize = 8;

/// What was last listed, by containerd's ids.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    sandboxes: Mutex<HashMap<String, Sandbox>>,
    containers: Mutex<HashMap<String, Container>>,
    /// Containers of which something changed that is no state.
    changed: Mutex<HashSet<String>>,
}

/// Whether containerd runs pods of anybody but the owner, none of which is ever more than counted.
pub(crate) async fn has_pods_of_others(link: &Link, owner: &str) -> Result<bool, Error> {
    let request = ListPodSandboxRequest {
        filter: Some(PodSandboxFilter {
            state: Some(v1::PodSandboxStateValue {
                state: v1::PodSandboxState::SandboxReady.into(),
            }),
            ..PodSandboxFilter::default()
        }),
    };
    let listed = link
        .read(listing("sandbox"), async {
            link.runtime().list_pod_sandbox(request).await
        })
        .await?;
    let is_ours = |item: &v1::PodSandbox| item.labels.get(records::OWNER).is_some_and(|name| name == owner);
    Ok(!listed.items.iter().all(is_ours))
}

impl Listing {
    /// All sandboxes of the owner.
    pub(crate) async fn sandboxes(&self, link: &Link, owner: &str) -> Result<Vec<Sandbox>, Error> {
        let request = ListPodSandboxRequest {
            filter: Some(PodSandboxFilter {
                label_selector: records::selector(owner),
                ..PodSandboxFilter::default()
            }),
        };
        let listed = link
            .read(listing("sandbox"), async {
                link.runtime().list_pod_sandbox(request).await
            })
            .await?;
        let found = stream::iter(listed.items)
            .map(|item| self.sandbox(link, item))
            .buffer_unordered(AT_ONCE);
        let found: Vec<Option<Sandbox>> = found.try_collect().await?;
        let found: Vec<Sandbox> = found.into_iter().flatten().collect();
        let known = found
            .iter()
            .map(|sandbox| (own_id(&sandbox.id.0).to_owned(), sandbox.clone()));
        *self.sandboxes.lock() = known.collect();
        Ok(found)
    }

    /// `None`: it went meanwhile.
    async fn sandbox(&self, link: &Link, item: v1::PodSandbox) -> Result<Option<Sandbox>, Error> {
        let known = self.sandboxes.lock().get(&item.id).cloned();
        // A sandbox has its addresses from the beginning, and they stay.
        if let Some(known) = known.filter(|known| !known.ips.is_empty() || known.config.host_network) {
            let details = Details {
                ips: known.ips,
                network_namespace: known.network_namespace,
            };
            return Ok(Some(records::sandbox(item, details)));
        }
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: item.id.clone(),
            verbose: true,
        };
        let attempt = Attempt {
            doing: "asking for",
            what: "sandbox",
            id: &item.id,
            patience: PATIENCE,
        };
        let status = link.read(attempt, async { link.runtime().pod_sandbox_status(request).await });
        match status.await {
            Ok(status) => Ok(Some(records::sandbox(item, records::details(status)?))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A sandbox as it was last listed.
    pub(crate) fn known_sandbox(&self, id: &str) -> Option<Sandbox> {
        self.sandboxes.lock().get(own_id(id)).cloned()
    }

    /// A container as it was last listed.
    pub(crate) fn known_container(&self, id: &str) -> Option<Container> {
        self.containers.lock().get(own_id(id)).cloned()
    }

    /// Has the container's status asked for again.
    pub(crate) fn changed(&self, id: &str) {
        self.changed.lock().insert(own_id(id).to_owned());
    }

    /// All containers of the owner.
    pub(crate) async fn containers(&self, link: &Link, owner: &str) -> Result<Vec<Container>, Error> {
        let listed = self.list_containers(link, records::selector(owner)).await?;
        let found = stream::iter(listed)
            .map(|item| self.container(link, item))
            .buffer_unordered(AT_ONCE);
        let found: Vec<Option<Container>> = found.try_collect().await?;
        let found: Vec<Container> = found.into_iter().flatten().collect();
        let known = found
            .iter()
            .map(|container| (own_id(&container.id.0).to_owned(), container.clone()));
        *self.containers.lock() = known.collect();
        Ok(found)
    }

    /// Containers, as lists have them.
    pub(crate) async fn list_containers(
        &self,
        link: &Link,
        selector: std::collections::BTreeMap<String, String>,
    ) -> Result<Vec<v1::Container>, Error> {
        let request = ListContainersRequest {
            filter: Some(ContainerFilter {
                label_selector: selector,
                ..ContainerFilter::default()
            }),
        };
        let listed = link.read(listing("container"), async {
            link.runtime().list_containers(request).await
        });
        Ok(listed.await?.containers)
    }

    async fn container(&self, link: &Link, item: v1::Container) -> Result<Option<Container>, Error> {
        let state = proto::listed_container(item.clone(), String::new()).state;
        let known = self.containers.lock().get(&item.id).cloned();
        let is_changed = self.changed.lock().remove(&item.id);
        if let Some(known) = known.filter(|known| known.state == state && !is_changed) {
            return Ok(Some(known));
        }
        let request = ContainerStatusRequest {
            container_id: item.id.clone(),
            verbose: false,
        };
        let id = item.id.clone();
        let attempt = Attempt {
            doing: "asking for",
            what: "container",
            id: &id,
            patience: PATIENCE,
        };
        let status = link.read(attempt, async { link.runtime().container_status(request).await });
        match status.await {
            Ok(status) => records::container(item, status.status.unwrap_or_default()).map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn listing(what: &'static str) -> Attempt<'static> {
    Attempt {
        doing: "listing",
        what,
        id: "",
        patience: PATIENCE,
    }
}
