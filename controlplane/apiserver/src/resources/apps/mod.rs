//! Kinds of this group; see each file.

pub(crate) mod deployment;
pub(crate) mod replica_set;
pub(crate) mod workload;
