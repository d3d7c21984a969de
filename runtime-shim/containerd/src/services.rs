//! Messages and clients of containerd's own API, generated from `proto/`; `tests/proto.rs` proves that they are current.
#![allow(
    dead_code,
    unreachable_pub,
    unused_qualifications,
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]

pub(crate) mod content {
    include!("services/containerd.services.content.v1.rs");
}
pub(crate) mod events {
    include!("services/containerd.services.events.v1.rs");
}
pub(crate) mod images {
    include!("services/containerd.services.images.v1.rs");
}
pub(crate) mod leases {
    include!("services/containerd.services.leases.v1.rs");
}
