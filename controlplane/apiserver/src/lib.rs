//! The API server: the request path from TLS to the store and back, and the registry of kinds it serves.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod http;
pub mod registry;
pub mod resources;
pub mod tokens;
