//! etcd's messages and clients, generated from `proto/etcd.proto`; `tests/proto.rs` proves that they are current.
#![allow(
    unreachable_pub,
    unused_qualifications,
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]

use tonic::transport::Channel;

include!("proto/etcdserverpb.rs");

/// The largest answer that is read: far above what a page of the largest values comes to.
const LARGEST_ANSWER: usize = 1 << 30;

/// Reads and writes.
pub fn kv(channel: Channel) -> kv_client::KvClient<Channel> {
    kv_client::KvClient::new(channel).max_decoding_message_size(LARGEST_ANSWER)
}

/// Watches.
pub fn watch(channel: Channel) -> watch_client::WatchClient<Channel> {
    watch_client::WatchClient::new(channel).max_decoding_message_size(LARGEST_ANSWER)
}
