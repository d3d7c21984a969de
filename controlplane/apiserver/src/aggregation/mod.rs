//! Aggregation: which server answers for a group and version, this one or another behind a Service.
//!
//! Every group and version has an APIService. Those of this server are kept by [`local`]; those of other servers are read
//! into a table ([`remote`]) that requests look into without a lock, are checked by [`availability`], and are answered
//! through [`proxy`]. What another server offers is remembered for discovery ([`offers`]).

mod availability;
mod identity;
mod local;
mod offers;
mod proxy;
mod remote;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::names::GroupResource;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::registry::reader::Reader;
use crate::server::Shared;
use crate::webhook;
pub(crate) use identity::{strip, without_bearer};
pub(crate) use local::priority;
pub(crate) use offers::Offer;
pub(crate) use proxy::pass;
pub(crate) use remote::Remote;

pub(crate) const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";

/// The certificate by which aggregated servers know this one: who shows it may say on whose behalf it asks.
pub struct ProxyClient {
    pub certificates: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// The servers beside this one.
pub(crate) struct Aggregator {
    remotes: ArcSwap<Vec<Arc<Remote>>>,
    /// What each offers, by the name of its APIService.
    offers: Mutex<BTreeMap<String, Arc<Offer>>>,
    /// Rises whenever the remotes change.
    version: watch::Sender<u64>,
    client: Option<ProxyClient>,
    webhooks: Arc<webhook::Caller>,
    tasks: TaskTracker,
}

impl Aggregator {
    pub(crate) fn new(client: Option<ProxyClient>, webhooks: Arc<webhook::Caller>, tasks: TaskTracker) -> Self {
        Aggregator {
            remotes: ArcSwap::default(),
            offers: Mutex::default(),
            version: watch::Sender::new(0),
            client,
            webhooks,
            tasks,
        }
    }

    /// The server that answers for a group and version, if it is another. Costs a load where there is none.
    pub(crate) fn remote(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        let found = remotes.iter().find(|r| r.group == group && r.version == version);
        found.cloned()
    }

    pub(crate) fn remotes(&self) -> Arc<Vec<Arc<Remote>>> {
        self.remotes.load_full()
    }

    /// What a remote is known to offer; nothing, and stale, before it has been asked.
    pub(crate) fn offer(&self, remote: &Remote) -> Arc<Offer> {
        self.offers.lock().get(&remote.name).cloned().unwrap_or_default()
    }

    /// Remembers what a remote offers; tells whether that is something else than before.
    fn offered(&self, remote: &Remote, offer: Offer) -> bool {
        let mut offers = self.offers.lock();
        let known = offers.get(&remote.name);
        if known.is_some_and(|known| **known == offer) {
            return false;
        }
        offers.insert(remote.name.clone(), Arc::new(offer));
        true
    }

    /// Makes the table anew from the APIServices; tells whether it has changed.
    fn refresh(&self, reader: &dyn Reader) -> bool {
        let before = self.remotes();
        let services = reader.list(&GroupResource::new(GROUP, PLURAL), None);
        let remotes: Vec<Arc<Remote>> = services
            .iter()
            .filter_map(|service| {
                let known = before.iter().find(|r| r.name == service.name());
                Remote::read(service, known, self)
            })
            .collect();
        let same = remotes.len() == before.len() && remotes.iter().zip(before.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
        if same {
            return false;
        }
        let stays = |name: &str| remotes.iter().any(|r| r.name == name);
        self.offers.lock().retain(|name, _| stays(name));
        self.remotes.store(Arc::new(remotes));
        self.version.send_modify(|version| *version += 1);
        true
    }
}

/// Keeps the APIServices of this server, and the table of the others, until the server ends.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let follow = async {
        shared.registry.ready().await;
        tokio::join!(local::follow(&shared), availability::follow(&shared));
    };
    tokio::select! {
        () = follow => {}
        () = shutdown.cancelled() => {}
    }
}
