//! Kinds of this group; see each file.

pub(crate) mod certificate_signing_request;
mod conditions;
pub(crate) mod request;
