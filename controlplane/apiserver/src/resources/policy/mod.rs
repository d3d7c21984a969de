//! Kinds of this group; see each file.

pub(crate) mod pod_disruption_budget;
