//! Admission that the cluster's users bring along: webhooks, and policies of expressions.
//!
//! What decides on requests is compiled when it changes ([`plans`]) and found behind one pointer, so that it costs nothing
//! where there is nothing. Policies change an object before webhooks do, and judge it before webhooks do.

pub(crate) mod environment;
mod evaluate;
mod hooks;
mod judge;
mod matching;
mod mutate;
pub(crate) mod passing;
pub(crate) mod plans;
pub(crate) mod policies;
mod request;
mod review;
mod rounds;
mod rules;
mod status;

use std::sync::Arc;
use std::time::Duration;

use api::{Object, Status};
use arc_swap::ArcSwapOption;
use tokio::sync::watch;

pub(crate) use plans::Plans;
pub(crate) use request::{KindName, Request, Subject};
pub(crate) use rounds::Rounds;

/// How long a request waits until it is known what decides on it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What decides on requests as of now.
pub(crate) struct Dynamic {
    plans: ArcSwapOption<Plans>,
    known: watch::Sender<bool>,
}

impl Dynamic {
    pub(crate) fn new() -> Self {
        Dynamic {
            plans: ArcSwapOption::empty(),
            known: watch::Sender::new(false),
        }
    }

    fn store(&self, plans: Plans) {
        self.plans.store(Some(Arc::new(plans)));
        self.known.send_replace(true);
    }

    /// What decides now. Nothing passes before that is known.
    pub(crate) async fn plans(&self) -> Result<Arc<Plans>, Status> {
        if let Some(plans) = self.plans.load_full() {
            return Ok(plans);
        }
        let mut known = self.known.subscribe();
        let waited = tokio::time::timeout(PATIENCE, known.wait_for(|known| *known)).await;
        match (waited, self.plans.load_full()) {
            (Ok(Ok(_)), Some(plans)) => Ok(plans),
            _ => Err(Status::service_unavailable("not yet ready to handle request")),
        }
    }
}

impl Plans {
    /// One round of changes; whether another is wanted is then in `rounds`.
    pub(crate) async fn mutate(
        &self,
        request: &Request<'_>,
        mut object: Option<&mut Object>,
        rounds: &mut Rounds,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        if request.is_exempt() {
            return Ok(());
        }
        mutate::mutate(&self.mutating_policies, request, object.as_deref_mut(), rounds).await?;
        hooks::mutate(&self.mutating_hooks, request, object, rounds, warnings).await
    }

    /// Lets all who may judge do so.
    pub(crate) async fn validate(
        &self,
        request: &Request<'_>,
        object: Option<&Object>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        if request.is_exempt() {
            return Ok(());
        }
        judge::validate(&self.validating_policies, request, object, warnings).await?;
        hooks::validate(&self.validating_hooks, request, object, warnings).await
    }
}

/// Admits what an endpoint takes and does not store: changes and judges it.
pub(crate) async fn admit_passing(
    plans: &Plans,
    request: &Request<'_>,
    object: &mut Object,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let mut rounds = Rounds::default();
    plans.mutate(request, Some(object), &mut rounds, warnings).await?;
    if rounds.wanted {
        rounds.again = true;
        plans.mutate(request, Some(object), &mut rounds, warnings).await?;
    }
    plans.validate(request, Some(object), warnings).await
}
