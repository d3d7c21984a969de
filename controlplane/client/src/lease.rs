//! Leases: electing one leader among several processes, and a node's heartbeat.
//!
//! Clocks of different machines are never compared: a candidate takes over when a lease has not changed for its whole
//! duration *as seen by the candidate*, as client-go's leader election does.

use std::{convert::Infallible, time::Duration};

use api::{Object, names::NamespacedName};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Client, Clock, Error, Patch, backoff::Backoff, kinds};

/// Which lease to hold, as whom, and how long. The durations are client-go's.
#[derive(Clone, Debug)]
pub struct Election {
    pub lease: NamespacedName,
    /// Unique per process.
    pub identity: String,
    /// Others wait this long after the last renewal that they saw.
    pub lease_duration: Duration,
    /// A leader that could not renew for this long stops leading.
    pub renew_deadline: Duration,
    /// Time between attempts.
    pub retry_period: Duration,
}

impl Election {
    /// The defaults: 15 s, 10 s, 2 s.
    pub fn new(lease: NamespacedName, identity: String) -> Self {
        Self {
            lease,
            identity,
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<i64>,
    acquire_time: Option<String>,
    renew_time: Option<String>,
    lease_transitions: Option<i64>,
}

/// A record and when it was first seen to be so.
struct Observed {
    record: Record,
    since: Instant,
}

#[derive(Debug, PartialEq)]
enum Step {
    Renew,
    Take,
    Wait,
}

/// What a candidate does about a lease, by what it has seen of it itself.
fn decide(observed: &Observed, identity: &str, lease_duration: Duration, now: Instant) -> Step {
    match observed.record.holder_identity.as_deref() {
        Some(holder) if holder == identity => Step::Renew,
        None | Some("") => Step::Take,
        Some(_) => {
            let duration = observed
                .record
                .lease_duration_seconds
                .and_then(|s| u64::try_from(s).ok());
            let duration = duration.map_or(lease_duration, Duration::from_secs);
            if now >= observed.since + duration {
                Step::Take
            } else {
                Step::Wait
            }
        }
    }
}

/// Runs `lead` whenever this process holds the lease, with a token that is cancelled when it no longer does, until
/// `shutdown`; then the lease is released, so that the next leader need not wait.
pub async fn lead<F, Fut>(
    client: &Client,
    election: &Election,
    clock: &Clock,
    shutdown: &CancellationToken,
    mut lead: F,
) where
    F: FnMut(CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut observed = None;
    while !shutdown.is_cancelled() {
        match attempt(client, election, clock, &mut observed).await {
            Ok(true) => {
                tracing::info!(lease = %election.lease, identity = election.identity, "became leader");
                let term = shutdown.child_token();
                let hold = async {
                    hold(client, election, clock, &mut observed, &term).await;
                    term.cancel();
                };
                tokio::join!(lead(term.clone()), hold);
                tracing::info!(lease = %election.lease, identity = election.identity, "no longer leader");
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "cannot try for the lease"),
        }
        let pause = election.retry_period.mul_f64(1.0 + 0.2 * rand::random::<f64>());
        shutdown.run_until_cancelled(sleep(pause)).await;
    }
    let held = observed.is_some_and(|o| o.record.holder_identity.as_deref() == Some(election.identity.as_str()));
    if held && let Err(error) = release(client, election, clock).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "cannot release the lease; it will expire"
        );
    }
}

/// Renews until that fails for the whole deadline, the lease is lost, or `term` ends.
async fn hold(
    client: &Client,
    election: &Election,
    clock: &Clock,
    observed: &mut Option<Observed>,
    term: &CancellationToken,
) {
    loop {
        let renewed = timeout(election.renew_deadline, async {
            loop {
                match attempt(client, election, clock, observed).await {
                    Ok(held) => break held,
                    Err(error) => {
                        tracing::debug!(error = &error as &dyn std::error::Error, "cannot renew the lease");
                        sleep(election.retry_period).await;
                    }
                }
            }
        });
        match term.run_until_cancelled(renewed).await {
            Some(Ok(true)) => {}
            None | Some(Ok(false) | Err(_)) => return,
        }
        if term.run_until_cancelled(sleep(election.retry_period)).await.is_none() {
            return;
        }
    }
}

/// One try to hold the lease; whether it is held after.
async fn attempt(
    client: &Client,
    election: &Election,
    clock: &Clock,
    observed: &mut Option<Observed>,
) -> Result<bool, Error> {
    let now = time(clock.now());
    let Some(live) = client.get_opt::<Object>(&kinds::LEASE, &election.lease).await? else {
        let spec = spec(election, &now, &now, 0);
        let body = lease_object(&election.lease, &spec, None);
        return match client
            .create(&kinds::LEASE, election.lease.namespace.as_deref(), &body)
            .await
        {
            Ok(_) => {
                *observed = Some(seen(&spec));
                Ok(true)
            }
            Err(error) if error.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        };
    };
    let found = live
        .at("spec")
        .and_then(|spec| Record::deserialize(spec).ok())
        .unwrap_or_default();
    if observed.as_ref().is_none_or(|o| o.record != found) {
        *observed = Some(Observed {
            record: found.clone(),
            since: Instant::now(),
        });
    }
    let step = match observed {
        Some(observed) => decide(observed, &election.identity, election.lease_duration, Instant::now()),
        None => Step::Wait,
    };
    let transitions = found.lease_transitions.unwrap_or(0);
    let spec = match step {
        Step::Wait => return Ok(false),
        Step::Renew => spec(
            election,
            found.acquire_time.as_deref().unwrap_or(&now),
            &now,
            transitions,
        ),
        Step::Take => spec(election, &now, &now, transitions + 1),
    };
    match replace(client, live, &spec).await {
        Ok(_) => {
            *observed = Some(seen(&spec));
            Ok(true)
        }
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Replaces the lease, unless it has changed since it was read.
async fn replace(client: &Client, live: Object, spec: &Value) -> Result<Object, Error> {
    let mut changed = live;
    if let Some(fields) = spec.as_object() {
        for (field, value) in fields {
            changed.set(&format!("spec.{field}"), value.clone());
        }
    }
    client.replace(&kinds::LEASE, &changed, None).await
}

async fn release(client: &Client, election: &Election, clock: &Clock) -> Result<(), Error> {
    let now = time(clock.now());
    let spec = json!({"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now, "acquireTime": now});
    let Some(live) = client.get_opt::<Object>(&kinds::LEASE, &election.lease).await? else {
        return Ok(());
    };
    if live.str_at("spec.holderIdentity") != Some(&election.identity) {
        return Ok(());
    }
    replace(client, live, &spec).await.map(drop)
}

fn seen(spec: &Value) -> Observed {
    Observed {
        record: Record::deserialize(spec).unwrap_or_default(),
        since: Instant::now(),
    }
}

fn spec(election: &Election, acquired: &str, renewed: &str, transitions: i64) -> Value {
    json!({
        "holderIdentity": election.identity,
        "leaseDurationSeconds": election.lease_duration.as_secs(),
        "acquireTime": acquired,
        "renewTime": renewed,
        "leaseTransitions": transitions,
    })
}

fn lease_object(at: &NamespacedName, spec: &Value, owner: Option<&Value>) -> Value {
    let mut metadata = json!({"name": at.name.as_ref(), "namespace": at.namespace.as_deref()});
    if let (Some(metadata), Some(owner)) = (metadata.as_object_mut(), owner) {
        metadata.insert("ownerReferences".into(), json!([owner]));
    }
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})
}

/// A MicroTime.
fn time(now: Timestamp) -> String {
    api::time::micro(now)
}

/// A lease that says "I am alive", as a node's in `kube-node-lease`.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    pub lease: NamespacedName,
    pub holder: String,
    /// Written into the lease; it is renewed four times as often.
    pub duration: Duration,
    /// An owner reference for the lease if it has to be created: with its owner it is deleted.
    pub owner: Option<api::OwnerReference>,
}

/// Renews the lease four times per its duration. Never returns; drop it to stop.
pub async fn beat(client: &Client, heartbeat: &Heartbeat, clock: &Clock) -> Infallible {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(7));
    loop {
        let pause = match renew(client, heartbeat, clock).await {
            Ok(()) => {
                backoff.reset();
                (heartbeat.duration / 4).mul_f64(1.0 + 0.04 * rand::random::<f64>())
            }
            Err(error) => {
                tracing::debug!(lease = %heartbeat.lease, error = &error as &dyn std::error::Error, "heartbeat failed");
                backoff.next(rand::random())
            }
        };
        sleep(pause).await;
    }
}

/// One heartbeat.
///
/// # Errors
/// Any [`Error`] of the patch or create.
pub async fn renew(client: &Client, heartbeat: &Heartbeat, clock: &Clock) -> Result<(), Error> {
    let spec = json!({
        "holderIdentity": heartbeat.holder,
        "leaseDurationSeconds": heartbeat.duration.as_secs(),
        "renewTime": time(clock.now()),
    });
    match client
        .patch(
            &kinds::LEASE,
            &heartbeat.lease,
            None,
            Patch::Merge(json!({"spec": spec})),
        )
        .await
    {
        Err(error) if error.is_not_found() => {
            let owner = heartbeat
                .owner
                .as_ref()
                .and_then(|owner| serde_json::to_value(owner).ok());
            let body = lease_object(&heartbeat.lease, &spec, owner.as_ref());
            client
                .create(&kinds::LEASE, heartbeat.lease.namespace.as_deref(), &body)
                .await
                .map(drop)
        }
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests;
