//! The messages, clients and servers of CSI v1, generated from `proto/csi.proto`; `tests/proto.rs` proves that they are
//! current.
#![allow(
    unreachable_pub,
    unused_qualifications,
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]

include!("v1/generated.rs");

/// Prints what a message is about and never what it holds: it holds secrets.
macro_rules! print_without_secrets {
    ($($message:ident: $field:ident),* $(,)?) => {
        $(impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($message)).field(stringify!($field), &self.$field).finish_non_exhaustive()
            }
        })*
    };
}

print_without_secrets!(
    CreateVolumeRequest: name,
    DeleteVolumeRequest: volume_id,
    ControllerPublishVolumeRequest: volume_id,
    ControllerUnpublishVolumeRequest: volume_id,
    ControllerExpandVolumeRequest: volume_id,
    NodeStageVolumeRequest: volume_id,
    NodePublishVolumeRequest: volume_id,
    NodeExpandVolumeRequest: volume_id,
);
