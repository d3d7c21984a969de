//! A container that exports `wasi:http/incoming-handler`: an HTTP/1.1 and h2c server on the pod's address.
//!
//! Each request runs in a fresh instance. The path of a request is kept short: the instance is polled right in the
//! connection's own task, and what most guests do (answer a small body and return) ends in that one poll, with the whole
//! body at hand. Only a guest that is still busy after it has begun its answer gets a task of its own.
//!
//! Requests wait in turn when the container's CPU quota is in debt, when its memory is full or when too many run at once;
//! those beyond [`WAITING`] are answered 503. A guest that traps costs its request (500) and a line in the log, not the
//! container; one that passes the memory limit by itself ends the container, as the kernel would.

mod connections;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wasmtime::Store;
use wasmtime_wasi_http::{
    WasiHttpView,
    p2::{
        bindings::{
            ProxyPre,
            http::types::{ErrorCode, Scheme},
        },
        body::HyperOutgoingBody,
    },
};

pub(crate) use self::connections::listen;
use super::{
    counts::Counts,
    cpu::{Metered, Ticker},
    exit::{self, Exit},
    guest::{Guest, Prepared},
    memory::{Admitted, Refused},
    response::{Alive, ResponseBody},
};

/// Instances of one container at once.
const CONCURRENT: usize = 200;
/// Requests of one container that wait for their turn.
const WAITING: usize = 2_000;
/// From the request's turn to the beginning of its answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a guest may go on after its client has all of the answer, or has gone.
const AFTERWARDS: Duration = Duration::from_secs(60);
/// A service and what its requests need.
pub(crate) struct Service {
    component: ProxyPre<Guest>,
    prepared: Arc<Prepared>,
    ticker: Arc<Ticker>,
    turns: Arc<Semaphore>,
    waiting: Semaphore,
    pub(crate) requests: AtomicU64,
    pub(crate) instances: Arc<AtomicU64>,
    pub(crate) counts: Arc<Counts>,
    /// Where the service says that the container must end.
    fatal: mpsc::Sender<Exit>,
    tasks: TaskTracker,
    end: CancellationToken,
}

/// What a guest's run ended with.
struct Ended {
    result: wasmtime::Result<()>,
    refused: Option<Refused>,
}

/// What an instance occupies while it lives.
struct Turn {
    _permit: OwnedSemaphorePermit,
    _memory: Admitted,
    instances: Arc<AtomicU64>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.instances.fetch_sub(1, Relaxed);
    }
}

type Run = Pin<Box<Metered<Pin<Box<dyn Future<Output = Ended> + Send>>>>>;
type Answered = Result<Response<HyperOutgoingBody>, ErrorCode>;

impl Service {
    /// `fatal` gets the exit of a container that cannot go on.
    pub(crate) fn new(
        component: ProxyPre<Guest>,
        prepared: Arc<Prepared>,
        ticker: Arc<Ticker>,
        fatal: mpsc::Sender<Exit>,
    ) -> Arc<Self> {
        Arc::new(Self {
            component,
            prepared,
            ticker,
            turns: Arc::new(Semaphore::new(CONCURRENT)),
            waiting: Semaphore::new(WAITING),
            requests: AtomicU64::new(0),
            instances: Arc::new(AtomicU64::new(0)),
            counts: Arc::new(Counts::new()),
            fatal,
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        })
    }

    /// Makes and drops one instance, so that a guest that cannot even begin is found out at the start, and the memory
    /// an instance takes is known.
    pub(crate) async fn try_out(&self) -> Result<(), Exit> {
        let mut store = self.store();
        self.counts.instance();
        let made = Metered::new(
            async {
                let made = self.component.instantiate_async(&mut store).await.map(drop);
                made.map_err(|error| (error, store.data().memory.refused()))
            },
            Arc::clone(&self.prepared.cpu),
            Arc::clone(&self.ticker),
        );
        match timeout(ANSWER, made).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err((error, refused))) => Err(Exit::of_error(&error, refused, self.prepared.memory.limit())),
            Err(_elapsed) => Err(Exit::failed(format!("the guest took more than {ANSWER:?} to begin"))),
        }
    }

    /// Ends everything that still runs, at once.
    pub(crate) fn end(&self) {
        self.end.cancel();
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move { end.run_until_cancelled(task).await });
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<ResponseBody> {
        self.requests.fetch_add(1, Relaxed);
        let came = Instant::now();
        let response = self.respond(request).await;
        self.counts.answered(came.elapsed());
        response
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let Some(turn) = self.turn().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the service is overloaded\n");
        };
        match self.begin(request, turn) {
            Ok((run, answer)) => self.drive(run, answer).await,
            Err(error) => {
                tracing::debug!(%error, "request refused");
                plain(StatusCode::BAD_REQUEST, "bad request\n")
            }
        }
    }

    /// Waits for the container's CPU, its memory, and a place among its instances; `None`: too many wait already.
    async fn turn(&self) -> Option<Turn> {
        let _waiting = self.waiting.try_acquire().ok()?;
        self.prepared.cpu.admit().await;
        let permit = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let memory = self.prepared.memory.admit().await;
        self.instances.fetch_add(1, Relaxed);
        Some(Turn {
            _permit: permit,
            _memory: memory,
            instances: Arc::clone(&self.instances),
        })
    }

    fn store(&self) -> Store<Guest> {
        let mut store = Store::new(self.component.engine(), Guest::new(&self.prepared));
        store.limiter(|guest| &mut guest.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| Ok(store.data().prepared.cpu.tick()));
        store
    }

    /// Prepares an instance's run; nothing of the guest has happened yet.
    fn begin(&self, request: Request<Incoming>, turn: Turn) -> wasmtime::Result<(Run, oneshot::Receiver<Answered>)> {
        let mut store = self.store();
        let (answer, answered) = oneshot::channel();
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        let out = store.data_mut().http().new_response_outparam(answer)?;
        let component = self.component.clone();
        self.counts.instance();
        let run: Pin<Box<dyn Future<Output = Ended> + Send>> = Box::pin(async move {
            let result = async {
                let instance = component.instantiate_async(&mut store).await?;
                instance
                    .wasi_http_incoming_handler()
                    .call_handle(&mut store, request, out)
                    .await
            }
            .await;
            let refused = store.data().memory.refused();
            drop((store, turn));
            Ended { result, refused }
        });
        let run = Metered::new(run, Arc::clone(&self.prepared.cpu), Arc::clone(&self.ticker));
        Ok((Box::pin(run), answered))
    }

    /// Runs a guest until it has begun to answer.
    async fn drive(&self, mut run: Run, mut answered: oneshot::Receiver<Answered>) -> Response<ResponseBody> {
        let step = poll_fn(|context| match run.as_mut().poll(context) {
            // The guest is polled first: what it answers in this poll is found in this poll.
            Poll::Ready(ended) => Poll::Ready(Step::Ended(ended)),
            Poll::Pending => answered.poll_unpin(context).map(Step::Answered),
        });
        match timeout(ANSWER, step).await {
            Ok(Step::Ended(ended)) => self.finished(ended, answered.try_recv().ok()),
            Ok(Step::Answered(Ok(Ok(response)))) => self.stream(run, response),
            Ok(Step::Answered(Ok(Err(code)))) => self.declined(&code),
            // The guest let go of its chance to answer; how it ends tells why.
            Ok(Step::Answered(Err(_closed))) => match timeout(ANSWER, run).await {
                Ok(ended) => self.finished(ended, None),
                Err(_elapsed) => self.late(),
            },
            Err(_elapsed) => self.late(),
        }
    }

    /// The guest has returned; all of its answer is here.
    fn finished(&self, ended: Ended, answer: Option<Answered>) -> Response<ResponseBody> {
        self.account(&ended);
        match (answer, ended.result) {
            (Some(Ok(response)), _) => self.whole(response),
            (Some(Err(code)), _) => self.declined(&code),
            (None, Ok(())) => {
                self.prepared
                    .log
                    .host("the guest returned without answering the request");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the guest did not answer\n")
            }
            (None, Err(_told)) if ended.refused == Some(Refused::Crowded) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "the service is out of memory\n")
            }
            (None, Err(_told)) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the guest failed\n"),
        }
    }

    /// Logs a failed run, and ends the container if it has passed its memory limit.
    fn account(&self, ended: &Ended) {
        let Err(error) = &ended.result else { return };
        self.counts.failed(error);
        self.prepared
            .log
            .host(&format!("a request failed: {}", exit::describe(error)));
        if ended.refused == Some(Refused::Alone) {
            let exit = Exit::of_error(error, ended.refused, self.prepared.memory.limit());
            // Full: another request has said the same.
            self.fatal.try_send(exit).ok();
        }
    }

    /// An answer whose body lies ready in the channel from the guest; sent in one piece, with its length.
    fn whole(&self, response: Response<HyperOutgoingBody>) -> Response<ResponseBody> {
        let (parts, body) = response.into_parts();
        let body = match body.collect().now_or_never() {
            Some(Ok(body)) if body.trailers().is_none() => ResponseBody::whole(body.to_bytes()),
            Some(Ok(body)) => ResponseBody::collected(body),
            Some(Err(error)) => {
                self.prepared
                    .log
                    .host(&format!("the body of an answer is broken: {error}"));
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "the guest failed\n");
            }
            None => return self.late(),
        };
        Response::from_parts(parts, body)
    }

    /// An answer that the guest is still writing: it goes on in a task of its own.
    fn stream(&self, run: Run, response: Response<HyperOutgoingBody>) -> Response<ResponseBody> {
        let (alive, gone) = Alive::new();
        let (log, counts) = (Arc::clone(&self.prepared.log), Arc::clone(&self.counts));
        let (fatal, limit) = (self.fatal.clone(), self.prepared.memory.limit());
        self.spawn(async move {
            let Some(ended) = run_on(run, gone).await else { return };
            let Err(error) = ended.result else { return };
            counts.failed(&error);
            log.host(&format!(
                "a request failed after its answer had begun: {}",
                exit::describe(&error)
            ));
            if ended.refused == Some(Refused::Alone) {
                fatal.try_send(Exit::of_error(&error, ended.refused, limit)).ok();
            }
        });
        response.map(|body| ResponseBody::stream(body, alive))
    }

    /// The guest answered with an error in place of a response.
    fn declined(&self, code: &ErrorCode) -> Response<ResponseBody> {
        self.prepared
            .log
            .host(&format!("the guest answered with an error: {code:?}"));
        plain(StatusCode::INTERNAL_SERVER_ERROR, "the guest failed\n")
    }

    fn late(&self) -> Response<ResponseBody> {
        self.prepared
            .log
            .host(&format!("a request was given up: the guest took more than {ANSWER:?}"));
        plain(StatusCode::GATEWAY_TIMEOUT, "the guest did not answer in time\n")
    }
}

enum Step {
    Ended(Ended),
    Answered(Result<Answered, oneshot::error::RecvError>),
}

/// Runs a guest to its end, or until its client has been gone for too long.
async fn run_on(mut run: Run, gone: oneshot::Receiver<Infallible>) -> Option<Ended> {
    tokio::select! {
        ended = &mut run => return Some(ended),
        _ = gone => {}
    }
    timeout(AFTERWARDS, run).await.ok()
}

fn plain(status: StatusCode, text: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::whole(text.into()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
