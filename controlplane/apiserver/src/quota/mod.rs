//! Quota: what the objects of a namespace use of what a ResourceQuota grants. Pure functions, and the loop that counts anew.
//!
//! A write is charged before it is committed, by a compare-and-set on the quota's status (see the admission plugin); what it
//! gives back, and what was charged for writes that failed, [`recount`] finds.

pub(crate) mod charge;
pub(crate) mod recount;
mod scope;
#[cfg(test)]
mod tests;
mod usage;

use api::{GroupResource, Object, Quantity};
use serde_json::{Map, Value};

use crate::admission::amounts::Amounts;
use crate::registry::{encode, key};

const PLURAL: &str = "resourcequotas";

/// Where quotas are.
pub(crate) fn kind() -> GroupResource {
    GroupResource::new("", PLURAL)
}

/// The write that gives a quota a status, if it is still as it was read.
fn write(quota: &Object, hard: Option<Value>, used: &Amounts) -> Option<store::Write> {
    let revision = quota.resource_version()?.parse().ok()?;
    let mut new = quota.clone();
    if let Some(hard) = hard {
        new.set("status.hard", hard);
    }
    new.set("status.used", to_json(used));
    let place = key("", PLURAL, quota.namespace(), quota.name());
    Some(store::Write::update(
        place,
        encode::stored(&new),
        store::Revision(revision),
    ))
}

fn to_json(amounts: &Amounts) -> Value {
    let map: Map<String, Value> = amounts
        .iter()
        .map(|(name, amount)| (name.clone(), amount.to_string().into()))
        .collect();
    map.into()
}

fn zero() -> Quantity {
    Quantity::from_units(0)
}
