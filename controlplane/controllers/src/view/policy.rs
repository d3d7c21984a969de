//! Disruption budgets.

use std::collections::BTreeMap;

use client::Meta;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{IntOrString, Selector};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodDisruptionBudget {
    pub(crate) metadata: Meta,
    pub(crate) spec: BudgetSpec,
    pub(crate) status: BudgetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BudgetSpec {
    pub(crate) min_available: Option<IntOrString>,
    pub(crate) max_unavailable: Option<IntOrString>,
    /// Absent selects nothing, empty everything.
    pub(crate) selector: Selector,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BudgetStatus {
    pub(crate) observed_generation: i64,
    /// Pods that were evicted and are still there, with when they were.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) disrupted_pods: BTreeMap<Box<str>, Timestamp>,
    pub(crate) disruptions_allowed: i64,
    pub(crate) current_healthy: i64,
    pub(crate) desired_healthy: i64,
    pub(crate) expected_pods: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<BudgetCondition>,
}

/// A `metav1.Condition`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BudgetCondition {
    pub(crate) r#type: Box<str>,
    pub(crate) status: Box<str>,
    pub(crate) observed_generation: i64,
    pub(crate) last_transition_time: Option<Timestamp>,
    pub(crate) reason: Box<str>,
    pub(crate) message: Box<str>,
}
