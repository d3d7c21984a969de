//! Kinds of this group; see each file.

pub(crate) mod cluster_role;
pub(crate) mod cluster_role_binding;
pub(crate) mod role;
pub(crate) mod role_binding;
pub(crate) mod rules;
pub(crate) mod subjects;
