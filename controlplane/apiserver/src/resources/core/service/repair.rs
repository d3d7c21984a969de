//! The repair pass: frees claims whose Service is gone (a crash between claim and write leaves such), and takes those that
//! a Service holds without a claim (a restore can leave such). `server` runs [`run`] as one of its loops.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::{GroupResource, Object, Status, Timestamp};
use store::{Backend, Expect, Kv, Page, Write};
use tokio_util::sync::CancellationToken;

use super::claims::{self, Claims, Owner};
use super::plan::{self, Claim};
use crate::registry::reader::Reader;
use crate::server::Clock;

/// A younger claim may belong to a Service that is just being written.
const MIN_AGE_SECONDS: i64 = 60;
const PERIOD: Duration = Duration::from_secs(180);

/// A claim as it stands in the store.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) claim: Claim,
    /// Namespace and name of the Service; `None` for what belongs to no Service and is left alone.
    pub(super) holder: Option<(String, String)>,
    pub(super) claimed: Option<Timestamp>,
    pub(super) revision: store::Revision,
}

/// What one pass has to do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Repairs {
    pub(super) free: Vec<Held>,
    pub(super) take: Vec<(Claim, (String, String))>,
}

/// Compares the claims with what the Services hold.
pub(super) fn repairs(held: &[Held], services: &[impl AsRef<Object>], now: Timestamp) -> Repairs {
    let mut wanted: HashMap<Claim, (String, String)> = HashMap::new();
    for service in services.iter().map(AsRef::as_ref) {
        let owner = (
            service.namespace().unwrap_or_default().to_owned(),
            service.name().to_owned(),
        );
        for claim in service.map_at("spec").map(plan::held).unwrap_or_default() {
            wanted.entry(claim).or_insert_with(|| owner.clone());
        }
    }
    let mut repairs = Repairs::default();
    let mut present = HashSet::new();
    for one in held {
        let Some(holder) = &one.holder else { continue };
        if wanted.get(&one.claim) == Some(holder) {
            present.insert(one.claim);
        } else if one
            .claimed
            .is_none_or(|at| now.as_second() - at.as_second() >= MIN_AGE_SECONDS)
        {
            repairs.free.push(one.clone());
        } else {
            present.insert(one.claim);
        }
    }
    repairs.take = wanted
        .into_iter()
        .filter(|(claim, _)| !present.contains(claim))
        .collect();
    repairs.take.sort_by_key(|(_, owner)| owner.clone());
    repairs
}

/// One pass. The claims are read before the Services, so that a Service written in between is seen.
///
/// Errors: 503 when the store does not answer; the next pass begins anew.
pub async fn pass(reader: &dyn Reader, backend: &Arc<dyn Backend>, now: Timestamp) -> Result<(), Status> {
    let mut held = all(backend.as_ref(), &claims::address_prefix()).await?;
    held.extend(all(backend.as_ref(), &claims::port_prefix()).await?);
    let services = reader.list(&GroupResource::new("", "services"), None);
    let repairs = repairs(&held, &services, now);
    for one in &repairs.free {
        tracing::info!(claim = ?one.claim, holder = ?one.holder, "freeing a claim without a Service");
        let write = Write::delete(claims::path(one.claim), Expect::At(one.revision));
        backend.write(write).await.map_err(claims::unavailable)?;
    }
    let taker = Claims::new(backend.clone());
    for (claim, (namespace, name)) in repairs.take {
        let owner = Owner { namespace, name, now };
        if !taker.take(claim, &owner).await? {
            tracing::warn!(?claim, service = %format!("{}/{}", owner.namespace, owner.name), "two Services hold the same");
        }
    }
    Ok(())
}

/// Passes until shutdown, the first at once. The caches must have been filled before, or every claim looks like an orphan.
pub async fn run(reader: Arc<dyn Reader>, backend: Arc<dyn Backend>, clock: Clock, shutdown: CancellationToken) {
    loop {
        if let Err(error) = pass(reader.as_ref(), &backend, clock()).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "repair of Service claims failed, trying again later"
            );
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn all(backend: &dyn Backend, prefix: &str) -> Result<Vec<Held>, Status> {
    let range = backend
        .range(prefix, Page::all(), None)
        .await
        .map_err(claims::unavailable)?;
    Ok(range.items.iter().filter_map(held_in).collect())
}

fn held_in(kv: &Kv) -> Option<Held> {
    let name = crate::registry::name_of(&kv.key);
    let claim = match name.parse() {
        Ok(ip) => Claim::Address(ip),
        Err(_) => Claim::NodePort(name.parse().ok()?),
    };
    Some(Held {
        claim,
        holder: claims::holder(claim, &kv.value),
        claimed: claims::claimed_at(claim, &kv.value),
        revision: kv.revision,
    })
}
