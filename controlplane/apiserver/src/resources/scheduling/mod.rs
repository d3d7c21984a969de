//! Kinds of this group; see each file.

pub(crate) mod priority_class;
