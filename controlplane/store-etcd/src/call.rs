//! One call to the cluster: within a deadline, at another endpoint where one does not answer, and never said to have been
//! left undone unless that is certain.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use store::{Error, Revision};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::error::{Meaning, Refused, Silent, meaning};
use crate::keyspace::{self, Keyspace};
use crate::lease::Leases;
use crate::pool::{Link, Pool, in_full, reason};
use crate::proto::{
    self, RangeRequest, RangeResponse, ResponseHeader, StatusRequest, maintenance_client::MaintenanceClient,
};
use crate::{OpenError, Options, version};

/// How long to wait before asking again what the whole cluster could not do, such as while it elects.
const CLUSTER_PAUSE: Duration = Duration::from_millis(100);

/// Whether a call may be made again when nobody knows what became of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Yes,
    No,
}

/// What all users of one cluster share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) space: Keyspace,
    /// For calls.
    calls: Pool,
    /// For watches, so that a watch that is not read holds up no call.
    pub(crate) watches: Pool,
    pub(crate) leases: Leases,
    /// The latest revision that any answer has told of.
    seen: AtomicU64,
    root: String,
    endpoints: String,
    answer_timeout: Duration,
    patience: Duration,
    pub(crate) closed: CancellationToken,
}

impl Shared {
    pub(crate) fn new(options: &Options) -> Result<Self, OpenError> {
        Ok(Shared {
            space: Keyspace::new(&options.root),
            calls: Pool::new(options)?,
            watches: Pool::new(options)?,
            leases: Leases::default(),
            seen: AtomicU64::default(),
            root: options.root.clone(),
            endpoints: options.endpoints.join(","),
            answer_timeout: options.answer_timeout,
            patience: options.patience,
            closed: CancellationToken::new(),
        })
    }

    /// Reads something, to see whether we may.
    pub(crate) async fn check(&self) -> Result<(), OpenError> {
        let Err(error) = self.revision().await else {
            return Ok(());
        };
        let source = match &error {
            Error::Unavailable { source, .. } => Some(&**source),
            _ => None,
        };
        match source.and_then(|source| source.downcast_ref::<Refused>()) {
            Some(refused) => Err(OpenError::Refused {
                root: self.root.clone(),
                reason: refused.0.message().to_owned(),
            }),
            None => {
                let reason = source.map_or_else(|| error.to_string(), |source| in_full(source));
                // A server that refuses a certificate in TLS 1.3 just ends the connection, before or after we use it.
                let ended = ["closed", "connection was not ready"];
                let refused = self.endpoints.contains("https://") && ended.iter().any(|how| reason.contains(how));
                Err(OpenError::Away {
                    endpoints: self.endpoints.clone(),
                    reason: match refused {
                        true => format!("{reason}; does it want another certificate than --etcd-certfile?"),
                        false => reason,
                    },
                })
            }
        }
    }

    /// Where the store is now; asks a quorum.
    pub(crate) async fn revision(&self) -> Result<Revision, Error> {
        let request = RangeRequest {
            key: self.space.raw(""),
            count_only: true,
            ..RangeRequest::default()
        };
        let response = self.range("reading", request, Revision::default()).await?;
        Ok(revision(response.header.as_ref()))
    }

    /// Reads; `asked` is the revision that the request names, if any.
    pub(crate) async fn range(
        &self,
        doing: &'static str,
        request: RangeRequest,
        asked: Revision,
    ) -> Result<RangeResponse, Error> {
        let read = |channel| {
            let request = request.clone();
            async move { proto::kv(channel).range(request).await }
        };
        match self.call_at(doing, Repeat::Yes, asked, read).await {
            Err(Error::Compacted { .. }) => Err(Error::Compacted {
                compacted: crate::watch::compacted(self).await?,
            }),
            Err(Error::FutureRevision { asked, .. }) => Err(Error::FutureRevision {
                asked,
                current: Box::pin(self.revision()).await?,
            }),
            answer => answer,
        }
    }

    /// The latest revision that anybody was told of.
    pub(crate) fn seen(&self) -> Revision {
        Revision(self.seen.load(Ordering::SeqCst))
    }

    fn see(&self, revision: Revision) {
        self.seen.fetch_max(revision.0, Ordering::SeqCst);
    }

    /// Makes a call.
    pub(crate) async fn call<R, Fut>(
        &self,
        doing: &'static str,
        repeat: Repeat,
        call: impl Fn(Channel) -> Fut,
    ) -> Result<R, Error>
    where
        R: Headed,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_at(doing, repeat, Revision::default(), call).await
    }

    /// Makes a call that names a revision.
    pub(crate) async fn call_at<R, Fut>(
        &self,
        doing: &'static str,
        repeat: Repeat,
        asked: Revision,
        call: impl Fn(Channel) -> Fut,
    ) -> Result<R, Error>
    where
        R: Headed,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let end = Instant::now() + self.patience;
        loop {
            if self.closed.is_cancelled() {
                return Err(Error::Closed);
            }
            let link = match timeout_at(end, self.calls.link()).await {
                Ok(Ok(link)) => link,
                Ok(Err(down)) => return Err(Error::unavailable(doing, down)),
                Err(_) => return Err(Error::unavailable(doing, Silent)),
            };
            let within = match repeat {
                Repeat::Yes => end.min(Instant::now() + self.answer_timeout),
                Repeat::No => end,
            };
            let status = match timeout_at(within, call(link.channel.clone())).await {
                Ok(Ok(answer)) => {
                    self.calls.answered(link.node);
                    let answer = answer.into_inner();
                    self.see(revision(answer.header()));
                    return Ok(answer);
                }
                Ok(Err(status)) => status,
                Err(_) => Status::from_error(Box::new(Silent)),
            };
            let unknown = self.react(meaning(doing, &status, asked), &link, &status)?;
            if unknown && repeat == Repeat::No {
                return Err(Error::undecided(doing, status));
            }
            if Instant::now() + CLUSTER_PAUSE > end {
                return Err(Error::unavailable(doing, status));
            }
            if status.message().contains("etcdserver:") {
                tokio::time::sleep(CLUSTER_PAUSE).await;
            }
        }
    }

    /// Does about the endpoint what a failure calls for; answers whether the call may have been carried out.
    fn react(&self, meaning: Meaning, link: &Link, status: &Status) -> Result<bool, Error> {
        match meaning {
            Meaning::Final(error) => {
                self.calls.answered(link.node);
                return Err(error);
            }
            Meaning::NotDone if status.code() == Code::Unavailable && !status.message().contains("etcdserver:") => {
                self.calls.failed(link.node, &reason(status));
            }
            Meaning::NotDone | Meaning::Unknown => self.calls.skip(link.node),
            Meaning::Broken => self.calls.failed(link.node, &reason(status)),
        }
        Ok(!matches!(meaning, Meaning::NotDone))
    }

    /// Whether the member at the other end of a watch's link can be believed about progress.
    pub(crate) async fn progress_is_true(&self, link: &Link) -> bool {
        let ask = async {
            MaintenanceClient::new(link.channel.clone())
                .status(StatusRequest {})
                .await
        };
        match tokio::time::timeout(self.answer_timeout, ask).await {
            Ok(Ok(status)) => version::progress_is_true(&status.into_inner().version),
            _ => false,
        }
    }
}

/// An answer with a header.
pub(crate) trait Headed {
    fn header(&self) -> Option<&ResponseHeader>;
}

macro_rules! headed {
    ($($answer:ident),*) => {$(
        impl Headed for proto::$answer {
            fn header(&self) -> Option<&ResponseHeader> {
                self.header.as_ref()
            }
        }
    )*};
}

headed!(
    RangeResponse,
    PutResponse,
    TxnResponse,
    CompactionResponse,
    LeaseGrantResponse
);

/// The revision of the store that an answer tells.
pub(crate) fn revision(header: Option<&ResponseHeader>) -> Revision {
    header.map_or(Revision::default(), |header| keyspace::revision(header.revision))
}
