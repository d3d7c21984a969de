//! What containerd holds of ours, listed.
//!
//! Lists say little: addresses, times and exit codes are in the status of each. A status is asked for once per state: while
//! the state is the same it does not change, but for what nobody reads, and for limits, of which [`Listing::changed`] is told.

use std::collections::HashMap;

use cri::{Container, ContainerState, Error, Sandbox};
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
    containers: Mutex<Known>,
}

/// Containers as their statuses told. Lists are made beside each other, so each status has the time when it was asked for,
/// and none takes the place of a later one. Times are counted in changes.
#[derive(Debug, Default)]
struct Known {
    statuses: HashMap<String, (Container, u64)>,
    now: u64,
    /// When something changed that is no state.
    changed: HashMap<String, u64>,
}

impl Known {
    fn change(&mut self, id: &str) {
        self.now += 1;
        self.changed.insert(id.to_owned(), self.now);
    }

    /// A status that still holds while the container is in this state.
    fn current(&self, id: &str, state: ContainerState) -> Option<(Container, u64)> {
        let (known, asked) = self.statuses.get(id)?;
        let changed = self.changed.get(id).copied().unwrap_or_default();
        (known.state == state && *asked >= changed).then(|| (known.clone(), *asked))
    }

    /// Takes in all containers there are.
    fn take<'a>(&mut self, found: impl Iterator<Item = &'a (Container, u64)>) {
        let mut before = std::mem::take(&mut self.statuses);
        for (container, asked) in found {
            let id = own_id(&container.id.0).to_owned();
            let later = before.remove(&id).filter(|(_, known)| known > asked);
            let status = later.unwrap_or_else(|| (container.clone(), *asked));
            self.statuses.insert(id, status);
        }
        self.changed.retain(|id, _| self.statuses.contains_key(id));
    }
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
        let known = self.containers.lock();
        known.statuses.get(own_id(id)).map(|(container, _)| container.clone())
    }

    /// Has the container's status asked for again.
    pub(crate) fn changed(&self, id: &str) {
        self.containers.lock().change(own_id(id));
    }

    /// All containers of the owner.
    pub(crate) async fn containers(&self, link: &Link, owner: &str) -> Result<Vec<Container>, Error> {
        let listed = self.list_containers(link, records::selector(owner)).await?;
        let found = stream::iter(listed)
            .map(|item| self.container(link, item))
            .buffer_unordered(AT_ONCE);
        let found: Vec<Option<(Container, u64)>> = found.try_collect().await?;
        let found: Vec<(Container, u64)> = found.into_iter().flatten().collect();
        self.containers.lock().take(found.iter());
        Ok(found.into_iter().map(|(container, _)| container).collect())
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

    /// With the time when its status was asked for. `None`: it went meanwhile.
    async fn container(&self, link: &Link, item: v1::Container) -> Result<Option<(Container, u64)>, Error> {
        let state = proto::listed_container(item.clone(), String::new()).state;
        let now = {
            let known = self.containers.lock();
            if let Some(current) = known.current(&item.id, state) {
                return Ok(Some(current));
            }
            known.now
        };
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
            Ok(status) => {
                let container = records::container(item, status.status.unwrap_or_default())?;
                Ok(Some((container, now)))
            }
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

#[cfg(test)]
mod tests {
    use cri::{ContainerConfig, ContainerId, Resources, SandboxId};

    use super::*;

    fn container(limit: i64) -> Container {
        let resources = Resources {
            memory_limit: limit,
            ..Resources::default()
        };
        Container {
            id: ContainerId("containerd-c".into()),
            sandbox: SandboxId("containerd-s".into()),
            pod_uid: "u".into(),
            config: ContainerConfig {
                resources,
                ..ContainerConfig::default()
            },
            state: ContainerState::Running,
            created_at: 0,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            log_path: String::new(),
            user: None,
        }
    }

    fn limit(known: &Known) -> Option<i64> {
        let current = known.current("c", ContainerState::Running);
        current.map(|(container, _)| container.config.resources.memory_limit)
    }

    #[test]
    fn no_status_from_before_a_change_stands_after_it() {
        let mut known = Known::default();
        let asked = known.now;
        known.take([(container(64), asked)].iter());
        assert_eq!(limit(&known), Some(64));
        known.change("c");
        assert_eq!(limit(&known), None, "it is asked for again, by whoever lists");
        assert_eq!(limit(&known), None, "and by who lists beside");
        let later = known.now;
        known.take([(container(96), later)].iter());
        // A list that began before the change ends after it.
        known.take([(container(64), asked)].iter());
        assert_eq!(limit(&known), Some(96));
        known.take([].iter());
        assert_eq!((known.statuses.len(), known.changed.len()), (0, 0), "it went");
    }
}
