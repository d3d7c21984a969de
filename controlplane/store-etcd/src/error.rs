//! What can go wrong, in words for the one who starts the program and in terms of the seam.

use std::error::Error as StdError;

use store::{Error, Revision};
use tonic::{Code, Status};

/// Why a cluster cannot be used. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing was given to connect to.
    #[error("the etcd store has no endpoint: give --store etcd:https://HOST:PORT,...")]
    NoEndpoint,
    /// An endpoint is no address.
    #[error("etcd endpoint \"{0}\" is not https://HOST:PORT or http://HOST:PORT")]
    Endpoint(String),
    /// There is no authority to check etcd's certificates with.
    #[error("etcd endpoints over https need the authority of their certificates: give --etcd-cafile")]
    NoAuthority,
    /// Certificates were given for endpoints that use none.
    #[error("etcd certificates need https endpoints: write https:// in --store for every endpoint, or leave them out")]
    Plain,
    /// A certificate or key cannot be used.
    #[error("the certificates for etcd cannot be used: check --etcd-cafile, --etcd-certfile and --etcd-keyfile")]
    Tls(#[source] tonic::transport::Error),
    /// No endpoint answered.
    #[error("no etcd endpoint of {endpoints} answers: {reason}")]
    Away {
        /// Those that were tried.
        endpoints: String,
        /// What the last one said.
        reason: String,
    },
    /// etcd does not let us in.
    #[error(
        "etcd refuses us: {reason}; give the user that our certificate names a role that may read and write \"{root}\""
    )]
    Refused {
        /// What all keys begin with.
        root: String,
        /// What etcd says.
        reason: String,
    },
}

/// What a failed call means for what comes next.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// This is the answer: asking again would not change it.
    Final(Error),
    /// Surely not carried out; another endpoint, or this one in a moment, may do it.
    NotDone,
    /// Nobody knows whether it was carried out. The connection is as good as before.
    Unknown,
    /// Nobody knows whether it was carried out, and the connection is of no use any more.
    Broken,
}

/// Reads a status. `asked` is the revision that the call named, if any.
pub(crate) fn meaning(doing: &'static str, status: &Status, asked: Revision) -> Meaning {
    let says = |text: &str| status.message().contains(text);
    let unavailable = || Meaning::Final(Error::unavailable(doing, status.clone()));
    match status.code() {
        Code::OutOfRange if says("compacted") => Meaning::Final(Error::Compacted {
            compacted: Revision::default(),
        }),
        Code::OutOfRange if says("future revision") => Meaning::Final(Error::FutureRevision {
            asked,
            current: Revision::default(),
        }),
        Code::ResourceExhausted if says("space exceeded") => Meaning::Final(Error::Full {
            place: "etcd, whose quota is used up (compact and defragment it, then disarm its alarm)".to_owned(),
        }),
        Code::InvalidArgument if says("request is too large") => Meaning::Final(Error::TooLarge),
        Code::ResourceExhausted if says("too many requests") => Meaning::NotDone,
        Code::PermissionDenied | Code::Unauthenticated => {
            Meaning::Final(Error::unavailable(doing, Refused(status.clone())))
        }
        Code::Unavailable if says("etcdserver: no leader") || was_never_sent(status) => Meaning::NotDone,
        _ if was_never_sent(status) => Meaning::NotDone,
        _ if says("etcdserver: server stopped") => Meaning::Broken,
        Code::Unavailable | Code::Unknown | Code::DeadlineExceeded if says("etcdserver:") => Meaning::Unknown,
        Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled | Code::Internal => {
            Meaning::Broken
        }
        _ => unavailable(),
    }
}

/// Whether the connection on which a call was to go could not be made.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether a write failed because its lease has ended, which etcd finds out before it changes anything.
pub(crate) fn is_lease_gone(source: &(dyn StdError + 'static)) -> bool {
    let status = source.downcast_ref::<Status>();
    status.is_some_and(|status| status.code() == Code::NotFound && status.message().contains("lease not found"))
}

/// etcd does not let us do something.
#[derive(Debug, thiserror::Error)]
#[error("etcd refuses it: {}; see to the role of the user that our certificate names", .0.message())]
pub(crate) struct Refused(pub(crate) Status);

/// Nobody answered in time.
#[derive(Debug, thiserror::Error)]
#[error("etcd did not answer in time")]
pub(crate) struct Silent;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_means_what_etcd_means_by_it() {
        let read = |code: Code, message: &str| match meaning("writing", &Status::new(code, message), Revision(7)) {
            Meaning::NotDone => "not done".to_owned(),
            Meaning::Unknown => "unknown".to_owned(),
            Meaning::Broken => "broken".to_owned(),
            Meaning::Final(error) => error.to_string(),
        };
        for (code, message, expected) in [
            (Code::Unavailable, "etcdserver: no leader", "not done"),
            (Code::ResourceExhausted, "etcdserver: too many requests", "not done"),
            (Code::Unavailable, "etcdserver: leader changed", "unknown"),
            (Code::Unavailable, "etcdserver: request timed out", "unknown"),
            (Code::Unavailable, "etcdserver: server stopped", "broken"),
            (Code::Unavailable, "error reading a body from connection", "broken"),
            (Code::Unknown, "transport error", "broken"),
            (Code::Cancelled, "operation was canceled", "broken"),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                "the value is larger than the store takes",
            ),
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                "store unavailable while writing",
            ),
        ] {
            assert_eq!(read(code, message), expected, "{code:?} {message}");
        }
        let full = read(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert!(full.contains("no space left") && full.contains("defragment"), "{full}");
    }

    #[test]
    fn a_refusal_names_itself() {
        let status = Status::permission_denied("etcdserver: permission denied");
        let Meaning::Final(error) = meaning("reading", &status, Revision(0)) else {
            panic!("it is final")
        };
        let source = error.source().unwrap().to_string();
        assert!(
            source.contains("permission denied") && source.contains("role"),
            "{source}"
        );
    }
}
