//! The request path: what happens to an HTTP request before and after the verb that answers it.

pub(crate) mod accept;
pub mod body;
mod compress;
pub(crate) mod decode;
pub mod dial;
pub(crate) mod discovery;
pub mod health;
pub(crate) mod info;
pub(crate) mod metrics;
mod negotiate;
pub(crate) mod openapi;
pub(crate) mod pipeline;
mod pretty;
pub(crate) mod published;
pub(crate) mod query;
pub(crate) mod respond;
pub(crate) mod route;
mod serve;
pub(crate) mod websocket;
