//! A connection to one sandbox host: calls go out, replies and events come in.
//!
//! Two tasks own the two directions, so that a caller may go away at any time. What the host says is applied to the
//! model in the order it was said, before whoever waits for it hears of it.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::protocol::{
    Answer, Call, Failure, FromHost, ToHost,
    channel::{self, ChannelError, Receiver, Sender},
};

/// Calls that wait to be sent; more wait in their callers.
const QUEUE: usize = 64;
/// How long a host may take for what needs no work of a guest.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a connection hears, in order.
pub(crate) trait Listener: Send + 'static {
    /// A reply or an event, before anybody else hears of it.
    fn heard(&mut self, message: &FromHost);
}

/// A call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The connection ended before the answer came.
    #[error("the connection to the sandbox host is lost")]
    Lost,
    #[error("the sandbox host did not answer within {after:?}")]
    Timeout { after: Duration },
    /// An answer to some other question.
    #[error("the sandbox host gave an answer that does not fit")]
    Unfitting,
}

/// Whom replies go to, by the number of the request.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Answer, Failure>>>>>;

struct Outgoing {
    call: Call,
    fds: Vec<OwnedFd>,
    reply: oneshot::Sender<Result<Answer, Failure>>,
}

/// A connection.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    queue: mpsc::Sender<Outgoing>,
    closed: CancellationToken,
}

impl Link {
    /// Serves a connection until it ends or `shutdown`.
    pub(crate) fn serve(
        stream: UnixStream,
        listener: impl Listener,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let (sender, receiver) = channel::split(stream);
        let (queue, calls) = mpsc::channel(QUEUE);
        let (waiting, closed) = (Waiting::default(), shutdown.child_token());
        tasks.spawn(send_all(sender, calls, Arc::clone(&waiting), closed.clone()));
        tasks.spawn(receive_all(receiver, listener, waiting, closed.clone()));
        Self { queue, closed }
    }

    /// Ends when the connection has.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Asks the host, and waits `patience` for the answer.
    pub(crate) async fn call(&self, call: Call, fds: Vec<OwnedFd>, patience: Duration) -> Result<Answer, CallError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.queue
                .send(Outgoing { call, fds, reply })
                .await
                .map_err(|_| CallError::Lost)?;
            answer.await.map_err(|_| CallError::Lost)
        };
        let answer = tokio::select! {
            // A last answer before the end, such as a refusal, counts.
            biased;
            answer = tokio::time::timeout(patience, asked) => answer,
            () = self.closed() => return Err(CallError::Lost),
        };
        Ok(answer.map_err(|_| CallError::Timeout { after: patience })???)
    }

    /// Asks for what has no answer of its own.
    pub(crate) async fn order(&self, call: Call, fds: Vec<OwnedFd>, patience: Duration) -> Result<(), CallError> {
        match self.call(call, fds, patience).await? {
            Answer::Done => Ok(()),
            _ => Err(CallError::Unfitting),
        }
    }
}

async fn send_all(
    mut sender: Sender,
    mut calls: mpsc::Receiver<Outgoing>,
    waiting: Waiting,
    closed: CancellationToken,
) {
    let mut id = 0;
    loop {
        let outgoing = tokio::select! {
            outgoing = calls.recv() => outgoing,
            () = closed.cancelled() => None,
        };
        let Some(Outgoing { call, fds, reply }) = outgoing else {
            break;
        };
        id += 1;
        waiting.lock().insert(id, reply);
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let message = ToHost { id, call };
        let sent = tokio::select! {
            sent = sender.send(&message, &fds) => sent,
            () = closed.cancelled() => break,
        };
        if let Err(error) = sent {
            // Too long to be sent: nothing of it is on the way, and the connection is as good as before.
            waiting.lock().remove(&id);
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a call to a sandbox host was not sent"
            );
            if !matches!(error, ChannelError::Frame(_) | ChannelError::Encode(_)) {
                break;
            }
        }
    }
    closed.cancel();
    waiting.lock().clear();
}

async fn receive_all(mut receiver: Receiver, mut listener: impl Listener, waiting: Waiting, closed: CancellationToken) {
    loop {
        let received = tokio::select! {
            received = receiver.recv::<FromHost>() => received,
            () = closed.cancelled() => break,
        };
        match received {
            Ok(Some((message, _))) => {
                listener.heard(&message);
                if let FromHost::Reply { id, result } = message
                    && let Some(reply) = waiting.lock().remove(&id)
                {
                    // Who asked may have gone away.
                    let _ = reply.send(result);
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the connection to a sandbox host broke"
                );
                break;
            }
        }
    }
    closed.cancel();
    waiting.lock().clear();
}
