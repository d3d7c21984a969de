//! Forgetting history, for all servers of a cluster: in each period the one whose comparison succeeds does it.
//!
//! They agree by a key of kube-apiserver's name, so that one which shares the etcd takes part. Its value is the revision
//! at which the period began, and that is what the next period compacts to: history is kept for one to two periods.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use store::{Error, Revision};
use tokio_util::sync::CancellationToken;

use crate::call::{self, Repeat, Shared};
use crate::keyspace::number;
use crate::proto::{
    self, CompactionRequest, Compare, KeyValue, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};

/// As kube-apiserver has it.
const KEY: &[u8] = b"compact_rev_key";

/// Forgets everything before `to`, unless that was done.
pub(crate) async fn to(shared: &Shared, to: Revision) -> Result<(), Error> {
    let request = CompactionRequest { revision: number(to) };
    let compact = |channel| async move { proto::kv(channel).compact(request).await };
    match shared.call_at("compacting", Repeat::Yes, to, compact).await {
        Ok(_) | Err(Error::Compacted { .. }) => Ok(()),
        Err(Error::FutureRevision { asked, .. }) => Err(Error::FutureRevision {
            asked,
            current: shared.revision().await?,
        }),
        Err(error) => Err(error),
    }
}

/// What a server knows of the agreement.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
struct Agreed {
    /// How often the key was written.
    version: i64,
    /// Where the store was when this server last looked.
    revision: Revision,
}

/// Compacts every period until `shutdown`.
pub(crate) async fn run(shared: &Shared, every: Duration, shutdown: CancellationToken) {
    let mut agreed = Agreed::default();
    loop {
        match turn(shared, agreed).await {
            Ok(next) => agreed = next,
            Err(error) => tracing::debug!(error = &error as &dyn StdError, "history is not compacted this time"),
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
            return;
        }
    }
}

/// One period.
async fn turn(shared: &Shared, agreed: Agreed) -> Result<Agreed, Error> {
    let request = claim(agreed);
    let call = |channel| {
        let request = request.clone();
        async move { proto::kv(channel).txn(request).await }
    };
    let (next, ours) = judge(shared.call("compacting", Repeat::No, call).await?);
    if ours && agreed.revision > Revision::FIRST {
        to(shared, agreed.revision).await?;
        tracing::debug!(to = %agreed.revision, "history is compacted");
    }
    Ok(next)
}

/// Claims the period, if nobody has since this server last looked.
fn claim(agreed: Agreed) -> TxnRequest {
    let key = Bytes::from_static(KEY);
    let op = |request| RequestOp { request: Some(request) };
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::Version(agreed.version)),
        }],
        success: vec![
            op(Request::RequestPut(PutRequest {
                key: key.clone(),
                value: agreed.revision.to_string().into(),
                lease: 0,
            })),
            op(Request::RequestRange(RangeRequest {
                key: key.clone(),
                ..RangeRequest::default()
            })),
        ],
        failure: vec![op(Request::RequestRange(RangeRequest {
            key,
            ..RangeRequest::default()
        }))],
    }
}

/// How things are after a claim, and whether it succeeded.
fn judge(answer: TxnResponse) -> (Agreed, bool) {
    let revision = call::revision(answer.header.as_ref());
    let kv: Option<KeyValue> = answer.responses.into_iter().find_map(|op| match op.response {
        Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    });
    let version = kv.map_or(0, |kv| kv.version);
    (Agreed { version, revision }, answer.succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{RangeResponse, ResponseHeader, ResponseOp};

    fn answer(succeeded: bool, version: i64, revision: i64) -> TxnResponse {
        let kv = KeyValue {
            version,
            ..KeyValue::default()
        };
        TxnResponse {
            header: Some(ResponseHeader {
                revision,
                ..ResponseHeader::default()
            }),
            succeeded,
            responses: vec![ResponseOp {
                response: Some(Response::ResponseRange(RangeResponse {
                    kvs: vec![kv],
                    ..RangeResponse::default()
                })),
            }],
        }
    }

    #[test]
    fn the_one_who_claims_compacts_to_where_it_was_a_period_ago() {
        let (first, ours) = judge(answer(true, 1, 10));
        assert!(ours);
        assert_eq!((first.version, first.revision), (1, Revision(10)));
        let claimed = claim(first);
        assert_eq!(
            claimed.compare.first().and_then(|compare| compare.target_union.clone()),
            Some(TargetUnion::Version(1))
        );
        let (other, ours) = judge(answer(false, 7, 30));
        assert!(!ours);
        assert_eq!(
            (other.version, other.revision),
            (7, Revision(30)),
            "and goes on from what the other did"
        );
    }
}
