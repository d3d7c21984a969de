//! The claims of one write: taken before it, given back if it fails, and what it no longer needs given back afterwards.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use api::{FieldError, FieldErrors, GroupKind, Object, Path, Status};
use async_trait::async_trait;
use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};

use super::claims::{Claims, Owner};
use super::plan::{self, Claim, Plan};
use crate::registry::Deps;
use crate::registry::resource::{Effects, EffectsContext, Operation, Rollback};
use crate::resources::networking::service_cidr;

/// Addresses at the beginning of the range that are left for users to choose, where the range is large enough (KEP-3070).
const MAX_STATIC: u32 = 256;
const MIN_STATIC: u32 = 16;

/// Allocates for Services.
pub(super) struct Allocation {
    claims: Claims,
    range: Ipv4Net,
    reserved: Ipv4Addr,
    node_ports: RangeInclusive<u16>,
}

impl Allocation {
    pub(super) fn new(deps: &Deps) -> Self {
        Allocation {
            claims: Claims::new(deps.backend.clone()),
            range: deps.service_range,
            reserved: deps.kubernetes_address,
            node_ports: deps.node_ports.clone(),
        }
    }
}

#[async_trait]
impl Effects for Allocation {
    async fn begin(
        &self,
        cx: &EffectsContext<'_>,
        op: &Operation<'_>,
        new: &mut Object,
    ) -> Result<Box<dyn Rollback>, Status> {
        let owner = Owner {
            namespace: cx.cx.namespace.unwrap_or_default().to_owned(),
            name: new.name().to_owned(),
            now: cx.cx.now,
        };
        let mut undo = Undo {
            claims: self.claims.clone(),
            owner,
            taken: Vec::new(),
            old: Map::new(),
            deleting: false,
        };
        undo.old = op.old().and_then(|old| old.map_at("spec")).cloned().unwrap_or_default();
        if matches!(op, Operation::Delete { .. }) {
            undo.deleting = true;
            return Ok(Box::new(undo));
        }
        let result = self.claim_all(new, &mut undo).await;
        if let Err(status) = result {
            Box::new(undo).rollback().await;
            return Err(status);
        }
        Ok(Box::new(undo))
    }
}

impl Allocation {
    async fn claim_all(&self, new: &mut Object, undo: &mut Undo) -> Result<(), Status> {
        let name = new.name().to_owned();
        let Some(spec) = new.at_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        let invalid = |errors: FieldErrors| Status::invalid(&GroupKind::new("", "Service"), &name, errors);
        let errors = plan::families(spec);
        if !errors.is_empty() {
            return Err(invalid(errors));
        }
        let plan = plan::plan(Some(&undo.old), spec);
        self.claim_address(&plan, spec, undo).await?.map_err(invalid)?;
        self.claim_ports(&plan, spec, undo).await?.map_err(invalid)?;
        self.claim_health_check(&plan, spec, undo).await?.map_err(invalid)
    }

    async fn claim_address(&self, plan: &Plan, spec: &mut Map<String, Value>, undo: &mut Undo) -> Claimed {
        if plan.choose_address {
            let seed = format!("{}/{}", undo.owner.namespace, undo.owner.name);
            for ip in addresses(self.range, &seed).filter(|ip| *ip != self.reserved) {
                if undo.take(Claim::Address(ip)).await? {
                    spec.insert("clusterIP".to_owned(), ip.to_string().into());
                    spec.insert("clusterIPs".to_owned(), json!([ip.to_string()]));
                    return Ok(Ok(()));
                }
            }
            return Err(Status::internal("failed to allocate a serviceIP: range is full"));
        }
        let Some(ip) = plan.address else { return Ok(Ok(())) };
        let refuse = |why: &str| {
            let shown = spec.get("clusterIPs").cloned().unwrap_or_default();
            let detail = format!("failed to allocate IP {ip}: {why}");
            Ok(Err(vec![FieldError::invalid(
                &Path::root("spec").child("clusterIPs"),
                shown,
                detail,
            )]))
        };
        if !service_cidr::usable(self.range).contains(&ip.into()) {
            let range = self.range;
            return refuse(&format!(
                "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
            ));
        }
        if undo.take(Claim::Address(ip)).await? {
            Ok(Ok(()))
        } else {
            refuse("provided IP is already allocated")
        }
    }

    async fn claim_ports(&self, plan: &Plan, spec: &mut Map<String, Value>, undo: &mut Undo) -> Claimed {
        for (index, number) in &plan.ports {
            let path = Path::root("spec").child("ports").index(*index).child("nodePort");
            if let Some(refused) = self.claim_port(*number, &path, undo).await? {
                return Ok(Err(vec![refused]));
            }
        }
        for index in &plan.choose_ports {
            let number = self.free_port(&index.to_string(), undo).await?;
            let port = spec
                .get_mut("ports")
                .and_then(|ports| ports.get_mut(index))
                .and_then(Value::as_object_mut);
            if let Some(port) = port {
                port.insert("nodePort".to_owned(), number.into());
            }
        }
        Ok(Ok(()))
    }

    async fn claim_health_check(&self, plan: &Plan, spec: &mut Map<String, Value>, undo: &mut Undo) -> Claimed {
        if plan.choose_health_check {
            let number = self.free_port("health", undo).await?;
            spec.insert("healthCheckNodePort".to_owned(), number.into());
        }
        let Some(number) = plan.health_check else {
            return Ok(Ok(()));
        };
        let path = Path::root("spec").child("healthCheckNodePort");
        Ok(match self.claim_port(number, &path, undo).await? {
            Some(refused) => Err(vec![refused]),
            None => Ok(()),
        })
    }

    /// Takes a port that the user asks for, or says why it cannot be had.
    async fn claim_port(&self, number: u16, path: &Path, undo: &mut Undo) -> Result<Option<FieldError>, Status> {
        let (low, high) = (*self.node_ports.start(), *self.node_ports.end());
        let why = if !self.node_ports.contains(&number) {
            format!("provided port is not in the valid range. The range of valid ports is {low}-{high}")
        } else if undo.take(Claim::NodePort(number)).await? {
            return Ok(None);
        } else {
            "provided port is already allocated".to_owned()
        };
        Ok(Some(FieldError::invalid(path, number, why)))
    }

    async fn free_port(&self, what: &str, undo: &mut Undo) -> Result<u16, Status> {
        let seed = format!("{}/{}/{what}", undo.owner.namespace, undo.owner.name);
        let (low, high) = (*self.node_ports.start(), *self.node_ports.end());
        for number in plan::candidates(low.into(), high.into(), &seed).filter_map(|n| u16::try_from(n).ok()) {
            if undo.take(Claim::NodePort(number)).await? {
                return Ok(number);
            }
        }
        Err(Status::internal("failed to allocate a nodePort: range is full"))
    }
}

/// The store failed, or the claim is refused with field errors, or all is well.
type Claimed = Result<Result<(), FieldErrors>, Status>;

/// The addresses to try: first those behind the static band, then those in it.
fn addresses(range: Ipv4Net, seed: &str) -> impl Iterator<Item = Ipv4Addr> + use<> {
    let usable = service_cidr::usable(range);
    let (low, high) = (*usable.start(), *usable.end());
    let size = high.saturating_sub(low).saturating_add(1);
    let band = if size <= MIN_STATIC {
        0
    } else {
        (size / 16).clamp(MIN_STATIC, MAX_STATIC)
    };
    let dynamic = plan::candidates(low.saturating_add(band), high, seed);
    let fixed = plan::candidates(low, low.saturating_add(band).saturating_sub(1), seed);
    dynamic.chain(fixed.filter(move |_| band > 0)).map(Ipv4Addr::from)
}

struct Undo {
    claims: Claims,
    owner: Owner,
    taken: Vec<Claim>,
    /// The spec before the write; empty on create.
    old: Map<String, Value>,
    deleting: bool,
}

impl Undo {
    async fn take(&mut self, claim: Claim) -> Result<bool, Status> {
        let won = self.claims.take(claim, &self.owner).await?;
        if won {
            self.taken.push(claim);
        }
        Ok(won)
    }

    /// What cannot be released now, the repair pass releases later.
    async fn release(&self, claims: &[Claim]) {
        for claim in claims {
            if let Err(error) = self.claims.release(*claim, &self.owner).await {
                tracing::warn!(
                    ?claim,
                    error = &error as &dyn std::error::Error,
                    "a claim stays until the repair pass"
                );
            }
        }
    }
}

#[async_trait]
impl Rollback for Undo {
    async fn commit(self: Box<Self>, stored: &Object) {
        let empty = Map::new();
        let new = if self.deleting {
            &empty
        } else {
            stored.map_at("spec").unwrap_or(&empty)
        };
        self.release(&plan::released(&self.old, new)).await;
    }

    async fn rollback(self: Box<Self>) {
        self.release(&self.taken).await;
    }
}
