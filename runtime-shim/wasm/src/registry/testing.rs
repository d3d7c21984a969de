//! A registry of one test, in this process: it serves what it was given, and lies, stalls, cuts and refuses as it is told.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::Limits;
use crate::images::Digest;

/// What the registry does with the next request for a path that ends so, in place of serving it.
#[derive(Clone, Debug)]
pub(crate) enum Trick {
    /// Answers this status, with a body.
    Status(u16, &'static str),
    /// Serves so many bytes and drops the connection.
    CutAfter(usize),
    /// Serves so many bytes and then nothing.
    StallAfter(usize),
    /// Never answers.
    Silence,
    /// Serves these bytes in place of the right ones.
    Instead(&'static [u8]),
    /// Serves the right bytes, and then bytes without end.
    Endless,
    /// Serves the right bytes as this type.
    Type(&'static str),
    /// Serves everything, whatever part was asked for.
    WholeInPlaceOfPart,
    /// Redirects there.
    Redirect(String),
}

#[derive(Debug, Default)]
struct State {
    /// Content by path, with its type.
    content: BTreeMap<String, (String, Bytes)>,
    tricks: BTreeMap<String, VecDeque<Trick>>,
    /// Name and password that its token service asks for.
    account: Option<(String, String)>,
    /// It asks for name and password without a token service.
    basic: bool,
    /// `METHOD path [range]`, in order.
    requests: Vec<String>,
    /// `Authorization` of each request to the token service and of each that was refused.
    authorizations: Vec<String>,
}

/// The registry; it ends with the test's runtime.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

type Body = BoxBody<Bytes, io::Error>;

const TOKEN: &str = "a-token";

/// Bounds fit for a test.
pub(crate) fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        answer: Duration::from_millis(300),
        window: Duration::from_millis(300),
        least: 1,
        attempts: 3,
        pause: Duration::from_millis(1),
    }
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self {
            address: listener.local_addr().unwrap().to_string(),
            state: Arc::default(),
        };
        tokio::spawn(registry.clone().serve(listener));
        registry
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let registry = self.clone();
            let service = service_fn(move |request| registry.clone().answer(request));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    /// Serves bytes at a path below `/v2/`.
    pub(crate) fn put(&self, path: &str, media_type: &str, bytes: impl Into<Bytes>) {
        let value = (media_type.to_owned(), bytes.into());
        self.state.lock().content.insert(format!("/v2/{path}"), value);
    }

    /// Serves bytes as a blob of a repository.
    pub(crate) fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.put(
            &format!("{repository}/blobs/{digest}"),
            "application/octet-stream",
            bytes,
        );
        digest
    }

    /// Serves a document as a manifest, by its digest and by tags.
    pub(crate) fn put_manifest(
        &self,
        repository: &str,
        tags: &[&str],
        media_type: &str,
        document: &serde_json::Value,
    ) -> Digest {
        let bytes = serde_json::to_vec(document).unwrap();
        let digest = Digest::of(&bytes);
        for target in tags.iter().copied().chain([digest.as_str()]) {
            self.put(&format!("{repository}/manifests/{target}"), media_type, bytes.clone());
        }
        digest
    }

    /// What the next requests for a path that ends with `ending` meet.
    pub(crate) fn play(&self, ending: &str, tricks: impl IntoIterator<Item = Trick>) {
        self.state
            .lock()
            .tricks
            .entry(ending.to_owned())
            .or_default()
            .extend(tricks);
    }

    /// Asks for this account, by a token service or at once.
    pub(crate) fn require(&self, name: &str, password: &str, basic: bool) {
        let mut state = self.state.lock();
        state.account = Some((name.to_owned(), password.to_owned()));
        state.basic = basic;
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().requests.clone()
    }

    pub(crate) fn authorizations(&self) -> Vec<String> {
        self.state.lock().authorizations.clone()
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (parts, body) = request.into_parts();
        let header = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let (range, authorization) = (header(header::RANGE), header(header::AUTHORIZATION).unwrap_or_default());
        let path = parts.uri.path().to_owned();
        let mut line = format!("{} {path}", parts.method);
        if let Some(range) = &range {
            line.push_str(&format!(" {range}"));
        }
        let trick = {
            let mut state = self.state.lock();
            state.requests.push(line);
            let waiting = state
                .tricks
                .iter_mut()
                .find(|(ending, _)| path.ends_with(ending.as_str()));
            waiting.and_then(|(_, tricks)| tricks.pop_front())
        };
        if path == "/token" {
            return Ok(self.token(&authorization));
        }
        if let Some(refusal) = self.refuse(&authorization) {
            return Ok(refusal);
        }
        if parts.method != Method::GET && parts.method != Method::HEAD {
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            return Ok(self.take(&parts, body));
        }
        let Some((media_type, bytes)) = self.state.lock().content.get(&path).cloned() else {
            return Ok(plain(
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
            ));
        };
        Ok(serve(trick, media_type, bytes, range.as_deref()).await)
    }

    fn token(&self, authorization: &str) -> Response<Body> {
        let mut state = self.state.lock();
        state.authorizations.push(authorization.to_owned());
        let (name, password) = state.account.clone().unwrap_or_default();
        let expected = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        match authorization == expected {
            true => plain(200, &format!(r#"{{"token":"{TOKEN}"}}"#)),
            false => plain(
                401,
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#,
            ),
        }
    }

    fn refuse(&self, authorization: &str) -> Option<Response<Body>> {
        let mut state = self.state.lock();
        let (name, password) = state.account.clone()?;
        let (challenge, expected) = if state.basic {
            let both = STANDARD.encode(format!("{name}:{password}"));
            ("Basic realm=\"test\"".to_owned(), format!("Basic {both}"))
        } else {
            let realm = format!("http://{}/token", self.address);
            (
                format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:x:pull\""),
                format!("Bearer {TOKEN}"),
            )
        };
        if authorization == expected {
            return None;
        }
        state.authorizations.push(authorization.to_owned());
        let mut refusal = plain(401, "");
        let challenge = challenge.parse().unwrap();
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        Some(refusal)
    }

    /// Takes a push.
    fn take(&self, parts: &http::request::Parts, body: Bytes) -> Response<Body> {
        let path = parts.uri.path();
        let mut answer = plain(201, "");
        if parts.method == Method::POST {
            *answer.status_mut() = StatusCode::ACCEPTED;
            let location = format!("{path}session?state=1").parse().unwrap();
            answer.headers_mut().insert(header::LOCATION, location);
        } else if let Some(repository) = path.strip_suffix("/blobs/uploads/session") {
            let query = parts.uri.query().unwrap_or_default();
            let digest = Digest::of(&body);
            assert_eq!(query, format!("state=1&digest={}", digest.as_str().replace(':', "%3A")));
            let repository = repository.trim_start_matches("/v2/");
            self.put_blob(repository, body);
        } else {
            let media_type = parts.headers.get(header::CONTENT_TYPE).unwrap().to_str().unwrap();
            let (repository, _) = path.trim_start_matches("/v2/").split_once("/manifests/").unwrap();
            let digest = Digest::of(&body);
            self.put(path.trim_start_matches("/v2/"), media_type, body.clone());
            self.put(&format!("{repository}/manifests/{digest}"), media_type, body);
        }
        answer
    }
}

async fn serve(trick: Option<Trick>, media_type: String, bytes: Bytes, range: Option<&str>) -> Response<Body> {
    let start: Option<usize> = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let part = |bytes: &Bytes| bytes.slice(start.unwrap_or(0).min(bytes.len())..);
    let right = |mut plan: Plan| {
        plan.length = plan.bytes.len();
        plan
    };
    let plan = |bytes: Bytes| {
        right(Plan {
            bytes,
            length: 0,
            end: End::Done,
        })
    };
    let answer = |plan: Plan, media_type: &str| {
        let status = if start.is_some() { 206 } else { 200 };
        let mut answer = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, media_type);
        if let Some(start) = start {
            let range = format!("bytes {start}-{}/{}", bytes.len().saturating_sub(1), bytes.len());
            answer = answer.header(header::CONTENT_RANGE, range);
        }
        if !matches!(plan.end, End::More) {
            answer = answer.header(header::CONTENT_LENGTH, plan.length);
        }
        answer.body(BoxBody::new(plan)).unwrap()
    };
    match trick {
        None => answer(plan(part(&bytes)), &media_type),
        Some(Trick::Type(media_type)) => answer(plan(part(&bytes)), media_type),
        Some(Trick::Status(status, body)) => plain(status, body),
        Some(Trick::Silence) => std::future::pending().await,
        Some(Trick::Instead(bytes)) => answer(plan(Bytes::from_static(bytes)), &media_type),
        Some(Trick::Redirect(to)) => {
            let mut answer = plain(307, "");
            answer.headers_mut().insert(header::LOCATION, to.parse().unwrap());
            answer
        }
        Some(Trick::WholeInPlaceOfPart) => {
            let mut answer = answer(plan(bytes.clone()), &media_type);
            *answer.status_mut() = StatusCode::OK;
            answer
        }
        Some(Trick::CutAfter(count)) => {
            let mut plan = plan(part(&bytes));
            plan.bytes.truncate(count);
            plan.end = End::Broken;
            answer(plan, &media_type)
        }
        Some(Trick::StallAfter(count)) => {
            let mut plan = plan(part(&bytes));
            plan.bytes.truncate(count);
            plan.end = End::Stalled;
            answer(plan, &media_type)
        }
        Some(Trick::Endless) => {
            let mut plan = plan(part(&bytes));
            plan.end = End::More;
            answer(plan, &media_type)
        }
    }
}

fn plain(status: u16, body: &str) -> Response<Body> {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let plan = Plan {
        length: bytes.len(),
        bytes,
        end: End::Done,
    };
    Response::builder().status(status).body(BoxBody::new(plan)).unwrap()
}

/// A body: some bytes, then its end.
struct Plan {
    bytes: Bytes,
    length: usize,
    end: End,
}

enum End {
    Done,
    Broken,
    /// Broken, when what went before was written.
    Failing,
    Stalled,
    More,
}

impl http_body::Body for Plan {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let plan = self.get_mut();
        if !plan.bytes.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut plan.bytes)))));
        }
        match plan.end {
            End::Done => Poll::Ready(None),
            End::Broken => {
                // What was written before shall arrive before the connection goes.
                let waker = context.waker().clone();
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    waker.wake();
                });
                plan.end = End::Failing;
                Poll::Pending
            }
            End::Failing => Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
            End::Stalled => Poll::Pending,
            End::More => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1024]))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && matches!(self.end, End::Done)
    }
}
