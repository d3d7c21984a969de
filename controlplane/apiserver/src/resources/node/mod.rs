//! Kinds of this group; see each file.

pub(crate) mod runtime_class;
