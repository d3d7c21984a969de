//! Kinds of this group; see each file.

pub(crate) mod endpoint_slice;
