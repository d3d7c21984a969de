//! What a write costs under one quota, and whether that is still granted. Pure.

use api::{GroupResource, Object};

use super::usage::{kinds_of, unsaid, usage};
use super::{scope, zero};
use crate::admission::amounts::{Amounts, add, amounts};

/// A write to be charged.
pub(crate) struct Charge<'a> {
    pub(crate) kind: GroupResource,
    pub(crate) new: &'a Object,
    pub(crate) old: Option<&'a Object>,
}

impl Charge<'_> {
    /// Whether a write of this kind can cost anything: a new object, or a change of what some kinds use.
    pub(crate) fn is_due(&self) -> bool {
        let deadline = |pod: &Object| pod.at("spec.activeDeadlineSeconds").is_some();
        match (self.old, &*self.kind.group, &*self.kind.resource) {
            (None, ..) => true,
            (Some(_), "", "services" | "persistentvolumeclaims") => true,
            (Some(old), "", "pods") => deadline(old) != deadline(self.new),
            _ => false,
        }
    }

    /// What is used under `quota` when the write is done; `None` when that is no more than now. The error says why the
    /// write may not be.
    pub(crate) fn under(&self, quota: &Object) -> Result<Option<Amounts>, String> {
        let (hard, used) = (amounts(quota.at("status.hard")), amounts(quota.at("status.used")));
        let concerned = |name: &&str| kinds_of(name).is_some_and(|kind| kind == self.kind);
        let granted: Vec<&str> = hard.keys().map(String::as_str).filter(concerned).collect();
        if granted.is_empty() || !scope::matches(quota, &self.kind, self.new) {
            return Ok(None);
        }
        let is_pod = self.kind.group.is_empty() && self.kind.resource == "pods";
        if let Some(why) = is_pod.then(|| unsaid(self.new, &granted)).flatten() {
            return Err(format!("failed quota: {}: {why}", quota.name()));
        }
        if granted.iter().any(|name| !used.contains_key(*name)) {
            let names = granted.join(",");
            return Err(format!(
                "status unknown for quota: {}, resources: {names}",
                quota.name()
            ));
        }
        let requested = self.delta(quota, &hard);
        if requested.is_empty() {
            return Ok(None);
        }
        let mut total = used.clone();
        add(&mut total, &requested);
        within(quota, &hard, &used, &requested, &total)?;
        Ok(Some(total))
    }

    /// What the write adds to what is granted; what it gives back is found by counting.
    fn delta(&self, quota: &Object, hard: &Amounts) -> Amounts {
        let mut delta = usage(&self.kind, self.new, None);
        let before = self.old.filter(|old| scope::matches(quota, &self.kind, old));
        let before = before.map(|old| usage(&self.kind, old, None)).unwrap_or_default();
        for (name, amount) in &before {
            if let Some(now) = delta.get_mut(name) {
                *now = (*now - *amount).max(zero());
            }
        }
        delta.retain(|name, amount| hard.contains_key(name) && !amount.is_zero());
        delta
    }
}

/// Refuses what is more than is granted, in Kubernetes' words.
fn within(quota: &Object, hard: &Amounts, used: &Amounts, requested: &Amounts, total: &Amounts) -> Result<(), String> {
    let exceeded = |name: &&String| total.get(*name) > hard.get(*name);
    let names: Vec<&String> = requested.keys().filter(exceeded).collect();
    if names.is_empty() {
        return Ok(());
    }
    let print = |amounts: &Amounts| {
        let pair = |name: &&String| Some(format!("{name}={}", amounts.get(*name)?));
        names.iter().filter_map(pair).collect::<Vec<_>>().join(",")
    };
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        quota.name(),
        print(requested),
        print(used),
        print(hard)
    ))
}

/// The write by which a charge is made.
pub(crate) fn write(quota: &Object, used: &Amounts) -> Option<store::Write> {
    super::write(quota, None, used)
}
