//! Kinds of this group; see each file.

pub(crate) mod horizontal_pod_autoscaler;
