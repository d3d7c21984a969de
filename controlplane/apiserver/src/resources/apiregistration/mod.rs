//! Kinds of this group; see each file.

pub(crate) mod api_service;
