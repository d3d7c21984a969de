//! The messages, client and server of plugin registration v1, generated from `proto/pluginregistration.proto`;
//! `tests/proto.rs` proves that they are current.
#![allow(
    unreachable_pub,
    unused_qualifications,
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]

include!("registration/generated.rs");
