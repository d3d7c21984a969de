//! A write as one transaction of etcd's, and what its answer says. Pure.
//!
//! The transaction compares what is expected, makes the change, and where the comparison fails reads every compared key
//! at that same moment, so that a conflict tells how things are. That a value is the same already is asked around that,
//! by an outer comparison, which etcd answers with "no" for a key that is not there.

use bytes::Bytes;
use store::{Error, Expect, Key, Kv, Outcome, Revision, Write};

use crate::call;
use crate::keyspace::{Keyspace, number};
use crate::proto::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};

/// The transaction of a write. With `compare_value`, one that changes nothing commits nothing.
pub(crate) fn request(space: &Keyspace, write: &Write, lease: i64, compare_value: bool) -> TxnRequest {
    let change = match &write.value {
        Some(value) => Request::RequestPut(PutRequest {
            key: space.raw(&write.key),
            value: value.clone(),
            lease,
        }),
        None => Request::RequestDeleteRange(DeleteRangeRequest {
            key: space.raw(&write.key),
        }),
    };
    let change = TxnRequest {
        compare: compared(write)
            .filter_map(|(key, expect)| expected(space, key, expect))
            .collect(),
        success: vec![op(change)],
        failure: looks(space, write),
    };
    match &write.value {
        Some(value) if compare_value && write.expect != Expect::Absent => TxnRequest {
            compare: vec![same_value(space, &write.key, value)],
            success: looks(space, write),
            failure: vec![op(Request::RequestTxn(change))],
        },
        _ => change,
    }
}

/// What became of a write, by the answer to its transaction.
pub(crate) fn outcome(space: &Keyspace, write: &Write, answer: TxnResponse) -> Result<Outcome, Error> {
    let revision = call::revision(answer.header.as_ref());
    let mut responses = answer.responses;
    if let [
        ResponseOp {
            response: Some(Response::ResponseTxn(inner)),
        },
    ] = responses.as_mut_slice()
    {
        responses = std::mem::take(&mut inner.responses);
    }
    decided(space, write, revision, responses)
}

/// Reads every compared key at one moment.
pub(crate) fn look(space: &Keyspace, write: &Write) -> TxnRequest {
    TxnRequest {
        success: looks(space, write),
        ..TxnRequest::default()
    }
}

/// What a look at the compared keys has shown.
pub(crate) enum Looked {
    /// There is nothing to write.
    Decided(Outcome),
    /// All is as expected, and the value another one: the key's last change.
    Differs(Option<Revision>),
}

/// Judges the answer to [`look`].
pub(crate) fn looked(space: &Keyspace, write: &Write, answer: TxnResponse) -> Result<Looked, Error> {
    let found = found(space, write, answer.responses)?;
    Ok(match judge(write, &found) {
        Some(outcome) => Looked::Decided(outcome),
        None => Looked::Differs(found.into_iter().next().flatten().map(|kv| kv.revision)),
    })
}

fn decided(space: &Keyspace, write: &Write, revision: Revision, responses: Vec<ResponseOp>) -> Result<Outcome, Error> {
    match responses.first().and_then(|op| op.response.as_ref()) {
        Some(Response::ResponsePut(_)) => Ok(Outcome::Committed(revision)),
        Some(Response::ResponseDeleteRange(deleted)) if deleted.deleted == 0 => Ok(Outcome::Unchanged(revision)),
        Some(Response::ResponseDeleteRange(_)) => Ok(Outcome::Committed(revision)),
        _ => judge(write, &found(space, write, responses)?).ok_or_else(|| Error::Corrupt {
            what: format!("etcd refused to change \"{}\" although all is as expected", write.key),
        }),
    }
}

/// The outcome of a write that need not be tried, by how its compared keys are.
fn judge(write: &Write, found: &[Option<Kv>]) -> Option<Outcome> {
    let conflict = compared(write).zip(found).find_map(|((key, expect), current)| {
        let met = expect.met_by(current.as_ref().map(|kv| kv.revision));
        (!met).then(|| Outcome::Conflict {
            key: key.clone(),
            current: current.clone(),
        })
    });
    let unchanged = || {
        let current = found.first()?.as_ref()?;
        (Some(&current.value) == write.value.as_ref()).then_some(Outcome::Unchanged(current.revision))
    };
    conflict.or_else(unchanged)
}

/// The compared keys as the answers to [`looks`] show them.
fn found(space: &Keyspace, write: &Write, responses: Vec<ResponseOp>) -> Result<Vec<Option<Kv>>, Error> {
    let found: Vec<Option<Kv>> = responses
        .into_iter()
        .filter_map(|op| match op.response {
            Some(Response::ResponseRange(range)) => Some(range.kvs.into_iter().next()),
            _ => None,
        })
        .map(|kv| Ok(kv.map(|kv| space.kv(kv)).transpose()?.flatten()))
        .collect::<Result<_, Error>>()?;
    match found.len() == 1 + write.guards.len() {
        true => Ok(found),
        false => Err(Error::Corrupt {
            what: "etcd's answer to a transaction is not of its shape".to_owned(),
        }),
    }
}

/// The changed key and the guards, in the order in which they count.
fn compared(write: &Write) -> impl Iterator<Item = (&Key, Expect)> {
    let guards = write.guards.iter().map(|(key, expect)| (key, *expect));
    std::iter::once((&write.key, write.expect)).chain(guards)
}

fn looks(space: &Keyspace, write: &Write) -> Vec<RequestOp> {
    let look = |(key, _): (&Key, Expect)| {
        op(Request::RequestRange(RangeRequest {
            key: space.raw(key),
            ..RangeRequest::default()
        }))
    };
    compared(write).map(look).collect()
}

/// etcd gives a key that is not there the revision 0.
fn expected(space: &Keyspace, key: &Key, expect: Expect) -> Option<Compare> {
    let revision = match expect {
        Expect::Any => return None,
        Expect::Absent => 0,
        Expect::At(revision) => number(revision),
    };
    Some(Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: space.raw(key),
        target_union: Some(TargetUnion::ModRevision(revision)),
    })
}

fn same_value(space: &Keyspace, key: &Key, value: &Bytes) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Value.into(),
        key: space.raw(key),
        target_union: Some(TargetUnion::Value(value.clone())),
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{DeleteRangeResponse, KeyValue, PutResponse, RangeResponse, ResponseHeader};

    fn space() -> Keyspace {
        Keyspace::new("/")
    }

    fn answer(responses: Vec<Response>) -> TxnResponse {
        TxnResponse {
            header: Some(ResponseHeader {
                revision: 9,
                ..ResponseHeader::default()
            }),
            succeeded: false,
            responses: responses
                .into_iter()
                .map(|response| ResponseOp {
                    response: Some(response),
                })
                .collect(),
        }
    }

    fn range(found: Option<(&'static str, &'static str, i64)>) -> Response {
        let kv = found.map(|(key, value, revision)| KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: 2,
            mod_revision: revision,
            ..KeyValue::default()
        });
        Response::ResponseRange(RangeResponse {
            kvs: kv.into_iter().collect(),
            ..RangeResponse::default()
        })
    }

    fn nested(responses: Vec<Response>) -> Response {
        let inner = answer(responses);
        Response::ResponseTxn(TxnResponse { header: None, ..inner })
    }

    #[test]
    fn answers_mean_what_the_seam_says() {
        let put = || Response::ResponsePut(PutResponse::default());
        let deleted = |deleted| {
            Response::ResponseDeleteRange(DeleteRangeResponse {
                deleted,
                ..DeleteRangeResponse::default()
            })
        };
        let conflict = |key: &str, current: Option<Kv>| Outcome::Conflict {
            key: key.into(),
            current,
        };
        let kv = |key: &str, value: &'static str, revision| Kv {
            key: key.into(),
            value: value.into(),
            created: Revision(2),
            revision: Revision(revision),
        };
        let update = Write::update("a", "x", Revision(5));
        let guarded = Write::put("a", "x").guard("g", Expect::Absent);
        for (write, responses, expected) in [
            (Write::create("a", "x"), vec![put()], Outcome::Committed(Revision(9))),
            (
                Write::create("a", "x"),
                vec![range(Some(("/a", "y", 7)))],
                conflict("a", Some(kv("a", "y", 7))),
            ),
            (
                update.clone(),
                vec![nested(vec![put()])],
                Outcome::Committed(Revision(9)),
            ),
            (update.clone(), vec![nested(vec![range(None)])], conflict("a", None)),
            (
                update.clone(),
                vec![range(Some(("/a", "x", 5)))],
                Outcome::Unchanged(Revision(5)),
            ),
            (
                update,
                vec![range(Some(("/a", "x", 6)))],
                conflict("a", Some(kv("a", "x", 6))),
            ),
            (
                guarded.clone(),
                vec![range(Some(("/a", "x", 6))), range(Some(("/g", "", 3)))],
                conflict("g", Some(kv("g", "", 3))),
            ),
            (
                guarded,
                vec![range(Some(("/a", "x", 6))), range(None)],
                Outcome::Unchanged(Revision(6)),
            ),
            (
                Write::delete("a", Expect::Any),
                vec![deleted(1)],
                Outcome::Committed(Revision(9)),
            ),
            (
                Write::delete("a", Expect::Any),
                vec![deleted(0)],
                Outcome::Unchanged(Revision(9)),
            ),
        ] {
            assert_eq!(
                outcome(&space(), &write, answer(responses)).unwrap(),
                expected,
                "{write:?}"
            );
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_refused() {
        let write = Write::put("a", "x").guard("g", Expect::Any);
        for responses in [vec![], vec![range(None)], vec![range(None), range(None)]] {
            assert!(outcome(&space(), &write, answer(responses)).is_err());
        }
    }

    #[test]
    fn only_what_may_be_there_is_compared_by_value() {
        let compares = |write: Write| {
            let request = request(&space(), &write, 0, true);
            request
                .compare
                .iter()
                .map(|compare| compare.target())
                .collect::<Vec<_>>()
        };
        assert_eq!(compares(Write::create("a", "x")), [CompareTarget::Mod]);
        assert_eq!(compares(Write::put("a", "x")), [CompareTarget::Value]);
        assert_eq!(compares(Write::update("a", "x", Revision(3))), [CompareTarget::Value]);
        assert_eq!(compares(Write::delete("a", Expect::Any)), []);
    }
}
