//! The store on a real etcd cluster, by its v3 API over gRPC: what lets a control plane have several API servers.
//!
//! A revision is etcd's, and a change's is the modification revision of its key. Reads ask a quorum; a write is one
//! transaction that compares, changes one key, and otherwise tells how the compared keys are. A call that one endpoint
//! does not answer goes to the next, unless it is a write that may have been carried out: of that nobody says that it
//! was not. A watch that breaks goes on where it was, at another endpoint, and nobody notices.
//!
//! Values that expire share leases ([`lease`]), and etcd ends a lease in one revision: such deletions are the one thing
//! of which a revision may hold several.
//!
//! What is deliberately absent: users with passwords (a client certificate says who we are), and any change to the
//! cluster's members.

mod call;
mod compact;
mod error;
mod keyspace;
mod lease;
mod options;
mod pool;
pub mod proto;
mod txn;
mod version;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use store::{Backend, Error, Expect, Kv, Outcome, Page, Range, Read, Revision, Watch, Write};
use tokio_util::sync::CancellationToken;

use crate::call::{Repeat, Shared};
use crate::proto::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};

pub use error::OpenError;
pub use options::{Options, Tls};

/// How many items one request asks for.
const CHUNK: usize = 1000;
/// A value is compared in the same request up to this size; etcd takes requests of 1.5 MiB.
const COMPARED_INLINE: usize = 512 * 1024;
/// How often a large value is tried to be set on a key that others change meanwhile.
const CONTESTED: usize = 16;

/// A store on an etcd cluster. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Etcd {
    shared: Arc<Shared>,
}

impl Etcd {
    /// Connects to whichever endpoint answers first in turn, and checks that it lets us read.
    pub async fn connect(options: Options) -> Result<Etcd, OpenError> {
        let shared = Arc::new(Shared::new(&options)?);
        shared.check().await?;
        Ok(Etcd { shared })
    }

    /// Ends watches; everything afterwards fails with [`Error::Closed`].
    pub fn close(&self) {
        self.shared.closed.cancel();
    }

    /// Forgets history older than one to two times `every`, until `shutdown`. However many servers run this, one of them
    /// does it each time.
    pub async fn keep_compacted(&self, every: Duration, shutdown: CancellationToken) {
        compact::run(&self.shared, every, shutdown).await;
    }

    /// Whether `from` can be read at and watched from.
    async fn check_kept(&self, at: Revision) -> Result<(), Error> {
        watch::check_kept(&self.shared, at).await
    }

    async fn range_once(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let asked = Revision(u64::try_from(request.revision).unwrap_or_default());
        self.shared.range("reading", request, asked).await
    }

    async fn txn(&self, doing: &'static str, repeat: Repeat, request: TxnRequest) -> Result<TxnResponse, Error> {
        let call = |channel| {
            let request = request.clone();
            async move { proto::kv(channel).txn(request).await }
        };
        self.shared.call(doing, repeat, call).await
    }

    /// Writes with as many requests as it takes to have a lease.
    async fn put_in_one(&self, write: &Write, compare_value: bool) -> Result<Outcome, Error> {
        loop {
            let lease = match write.ttl.filter(|_| write.value.is_some()) {
                Some(ttl) => lease::get(&self.shared, ttl).await?,
                None => 0,
            };
            let request = txn::request(&self.shared.space, write, lease, compare_value);
            let answer = self.txn("writing", Repeat::No, request).await;
            match answer {
                Err(Error::Unavailable { source, .. }) if lease != 0 && error::is_lease_gone(&*source) => {
                    self.shared.leases.forget(lease);
                }
                answer => return txn::outcome(&self.shared.space, write, answer?),
            }
        }
    }

    /// Looks before it sets, where value and comparison do not fit into one request.
    async fn put_large(&self, write: Write) -> Result<Outcome, Error> {
        for _ in 0..CONTESTED {
            let look = txn::look(&self.shared.space, &write);
            let found = self.txn("reading", Repeat::Yes, look).await?;
            let current = match txn::looked(&self.shared.space, &write, found)? {
                txn::Looked::Decided(outcome) => return Ok(outcome),
                txn::Looked::Differs(current) => current,
            };
            let expect = current.map_or(Expect::Absent, Expect::At);
            let narrowed = Write {
                expect,
                ..write.clone()
            };
            match self.put_in_one(&narrowed, false).await? {
                Outcome::Conflict { key, .. } if key == write.key && write.expect == Expect::Any => {}
                outcome => return Ok(outcome),
            }
        }
        Err(Error::unavailable(
            "writing",
            std::io::Error::other("others change the same key all the time"),
        ))
    }
}

#[async_trait]
impl Backend for Etcd {
    async fn get(&self, key: &str) -> Result<Read<Option<Kv>>, Error> {
        let request = RangeRequest {
            key: self.shared.space.raw(key),
            ..RangeRequest::default()
        };
        let response = self.range_once(request).await?;
        let value = response.kvs.into_iter().next();
        Ok(Read {
            value: value.map(|kv| self.shared.space.kv(kv)).transpose()?.flatten(),
            revision: call::revision(response.header.as_ref()),
        })
    }

    async fn range(&self, prefix: &str, page: Page, at: Option<Revision>) -> Result<Range, Error> {
        if at == Some(Revision(0)) {
            return Err(Error::Compacted {
                compacted: Revision::FIRST,
            });
        }
        let space = &self.shared.space;
        let mut start = space.start(prefix, page.after.as_deref());
        let (mut items, mut at) = (Vec::new(), at);
        loop {
            // One item more than asked for tells whether any follow.
            let wanted = (page.limit - items.len()).saturating_add(1).min(CHUNK);
            let response = self
                .range_once(RangeRequest {
                    key: start,
                    range_end: space.end(prefix),
                    limit: i64::try_from(wanted).unwrap_or(i64::MAX),
                    revision: at.map_or(0, |at| i64::try_from(at.0).unwrap_or(i64::MAX)),
                    ..RangeRequest::default()
                })
                .await?;
            let revision = *at.get_or_insert_with(|| call::revision(response.header.as_ref()));
            let next = response.kvs.last().map(|kv| keyspace::behind(&kv.key));
            for kv in response.kvs {
                if let Some(kv) = space.kv(kv)? {
                    if items.len() >= page.limit {
                        return Ok(Range {
                            items,
                            more: true,
                            revision,
                        });
                    }
                    items.push(kv);
                }
            }
            match next.filter(|_| response.more) {
                Some(next) => start = next,
                None => {
                    return Ok(Range {
                        items,
                        more: false,
                        revision,
                    });
                }
            }
        }
    }

    async fn write(&self, write: Write) -> Result<Outcome, Error> {
        let large = write.value.as_ref().is_some_and(|value| value.len() > COMPARED_INLINE);
        match large && write.expect != Expect::Absent {
            true => self.put_large(write).await,
            false => self.put_in_one(&write, true).await,
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        self.check_kept(from).await?;
        watch::start(self.shared.clone(), prefix, from).await
    }

    async fn compact(&self, to: Revision) -> Result<(), Error> {
        compact::to(&self.shared, to).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.shared.revision().await
    }
}
