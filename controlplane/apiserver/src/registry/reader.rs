//! Reading stored objects from within the server: what admission, authorization and tokens may see of the registry.
//!
//! Reads come from the watch caches and never touch the store, except where a caller asks for a fresh one. Parsed
//! objects are shared and immutable.

use std::sync::Arc;

use api::names::GroupResource;
use api::{Object, Status};
use async_trait::async_trait;
use tokio::sync::watch;

/// Objects by kind, in their storage version.
#[async_trait]
pub trait Reader: Send + Sync {
    /// The object as the cache has it; `None` also for kinds that are not served.
    fn get(&self, kind: &GroupResource, namespace: Option<&str>, name: &str) -> Option<Arc<Object>>;

    /// The object after every write acknowledged before this call.
    async fn get_fresh(
        &self,
        kind: &GroupResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status>;

    /// All objects of a kind, in one namespace or (`None`) everywhere, as the cache has them, in key order.
    fn list(&self, kind: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Object>>;

    /// A counter that rises whenever an object of the kind was added, changed or removed; for those who keep something
    /// computed from [`Reader::list`].
    fn changes(&self, kind: &GroupResource) -> watch::Receiver<u64>;
}
