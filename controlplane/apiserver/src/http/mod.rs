//! The request path: what happens to an HTTP request before and after the verb that answers it.

pub mod body;
pub mod decode;
pub mod respond;
