//! Kinds of this group; see each file.

pub(crate) mod ip_address;
pub(crate) mod service_cidr;
