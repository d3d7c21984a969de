//! Kinds of the core group.

pub(crate) mod config_map;
pub(crate) mod endpoints;
pub(crate) mod event;
pub mod namespace;
pub(crate) mod node;
pub mod pod;
pub(crate) mod secret;
pub mod service;
pub(crate) mod service_account;
