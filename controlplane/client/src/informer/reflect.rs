//! The one task behind an informer: list, then watch from there, for ever.
//!
//! A watch that ends is resumed from the last revision seen, bookmarks included; only when the server no longer has that
//! revision (410 Gone) is there a new list, and then at its latest revision, never an older one. A watch that falls
//! silent for longer than the server was asked to keep it open is given up and resumed.

use std::{convert::Infallible, ops::ControlFlow, sync::Arc, time::Duration};

use api::status::Status;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::{Form, Scope, store::Shared, wire};
use crate::{Client, Error, Kind, ListOptions, backoff::Backoff, request};

const PAGE: usize = 500;
/// The server is asked to end a watch after this long, up to doubled at random, so that watches spread over servers.
const WATCH_SECONDS: u64 = 300;
/// A watch that lived this long was healthy: the next failure starts the back-off anew.
const HEALTHY: Duration = Duration::from_secs(5);

pub(super) struct Reflector<T> {
    pub(super) client: Client,
    pub(super) kind: Kind,
    pub(super) scope: Scope,
    pub(super) form: Form,
    pub(super) state: Arc<Shared<T>>,
}

/// Why a watch ended.
enum Ended {
    /// The server closed it, as it does now and then: resume.
    Closed,
    /// The revision is gone: list anew.
    Expired,
    /// Resume after a while.
    Failed(Error),
}

impl<T: DeserializeOwned + Send + Sync + 'static> Reflector<T> {
    pub(super) async fn run(self) -> Infallible {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(30));
        let mut from = None;
        loop {
            let revision = match from.take() {
                Some(revision) => revision,
                None => match self.list().await {
                    Ok(revision) => revision,
                    Err(error) => {
                        self.pause(&mut backoff, &error).await;
                        continue;
                    }
                },
            };
            let started = Instant::now();
            let (revision, ended) = self.watch(revision).await;
            if started.elapsed() >= HEALTHY {
                backoff.reset();
            }
            match ended {
                Ended::Expired => continue,
                Ended::Closed if started.elapsed() >= HEALTHY => {}
                Ended::Closed => tokio::time::sleep(backoff.next(rand::random())).await,
                Ended::Failed(error) => self.pause(&mut backoff, &error).await,
            }
            from = Some(revision);
        }
    }

    async fn pause(&self, backoff: &mut Backoff, error: &Error) {
        let delay = backoff.next(rand::random());
        tracing::debug!(kind = %self.kind, scope = ?self.scope, error = error as &dyn std::error::Error, ?delay, "informer: will try again");
        tokio::time::sleep(delay).await;
    }

    /// Reads everything, page by page, at one revision. The contents move only when the last page is there.
    async fn list(&self) -> Result<String, Error> {
        let mut options = self.scope.options();
        options.limit = PAGE;
        let (mut items, mut unreadable) = (Vec::new(), Vec::new());
        loop {
            let page = match self.page(&options).await {
                Err(error) if error.is_expired() && options.limit != 0 => {
                    options = self.scope.options(); // the pages grew too old: everything in one
                    (items, unreadable) = (Vec::new(), Vec::new());
                    continue;
                }
                page => page?,
            };
            items.extend(page.items);
            for (key, error) in page.unreadable {
                tracing::warn!(kind = %self.kind, object = %key, %error, "informer: unreadable object is left out");
                unreadable.push(key);
            }
            if page.continue_token.is_empty() {
                let revision = super::store::revision(&page.resource_version).unwrap_or(0);
                self.state.replace(items, &unreadable, revision);
                return Ok(page.resource_version);
            }
            options.continue_token = page.continue_token;
        }
    }

    async fn page(&self, options: &ListOptions) -> Result<wire::Page<T>, Error> {
        let path = self.kind.collection_path(self.scope.namespace());
        let request = self.request(
            format!("{path}{}", request::list_query(options, &[])),
            "PartialObjectMetadataList",
        )?;
        let body = self.client.raw(request).await?;
        wire::page(&body).map_err(|source| Error::Decode {
            path,
            expected: "list",
            source,
        })
    }

    fn request(&self, path: String, partial: &str) -> Result<http::Request<Bytes>, Error> {
        let mut request = request::request(Method::GET, &path, None, Bytes::new())?;
        if self.form == Form::Metadata {
            let accept = format!("application/json;as={partial};g=meta.k8s.io;v=v1,application/json");
            if let Ok(accept) = header::HeaderValue::from_str(&accept) {
                request.headers_mut().insert(header::ACCEPT, accept);
            }
        }
        Ok(request)
    }

    /// Follows changes after `revision`; gives the last one seen and why it ended.
    async fn watch(&self, revision: String) -> (String, Ended) {
        let seconds = WATCH_SECONDS + rand::random_range(0..WATCH_SECONDS);
        let silence = Duration::from_secs(seconds + 30);
        let text = seconds.to_string();
        let query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", revision.as_str()),
            ("timeoutSeconds", text.as_str()),
        ];
        let path = self.kind.collection_path(self.scope.namespace());
        let full = format!("{path}{}", request::list_query(&self.scope.options(), &query));
        let opened = match self.request(full, "PartialObjectMetadata") {
            Ok(request) => timeout(silence, self.client.open(request)).await,
            Err(error) => return (revision, Ended::Failed(error)),
        };
        let mut body = match opened {
            Ok(Ok(response)) => response.into_body().into_data_stream(),
            Ok(Err(error)) if error.is_expired() => return (revision, Ended::Expired),
            Ok(Err(error)) => return (revision, Ended::Failed(error)),
            Err(_) => return (revision, Ended::Closed),
        };
        let mut revision = revision;
        let mut lines = wire::Lines::default();
        loop {
            match timeout(silence, body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    lines.push(&bytes);
                    let applied = lines.drain(|line| match self.apply(line, &mut revision) {
                        ControlFlow::Continue(()) => Ok(()),
                        ControlFlow::Break(ended) => Err(ended),
                    });
                    if let Err(ended) = applied {
                        return (revision, ended);
                    }
                }
                Ok(None | Some(Err(_))) | Err(_) => return (revision, Ended::Closed),
            }
        }
    }

    fn apply(&self, line: &[u8], seen: &mut String) -> ControlFlow<Ended> {
        let event = match wire::event::<T>(line) {
            Ok(event) => event,
            Err(source) => {
                let path = self.kind.collection_path(self.scope.namespace());
                return ControlFlow::Break(Ended::Failed(Error::Decode {
                    path,
                    expected: "watch event",
                    source,
                }));
            }
        };
        let revision = match event {
            wire::Event::Put(received) => {
                let revision = received.revision;
                self.state.upsert(received);
                revision
            }
            wire::Event::Delete { key, revision } => {
                self.state.delete(key, revision);
                revision
            }
            wire::Event::Unreadable { key, revision, error } => {
                tracing::warn!(kind = %self.kind, object = %key, %error, "informer: unreadable change is left out");
                self.state.bookmark(revision);
                revision
            }
            wire::Event::Bookmark(revision) => {
                self.state.bookmark(revision);
                revision
            }
            wire::Event::Error(status) => return ControlFlow::Break(ended_by(status)),
        };
        if revision != 0 {
            *seen = revision.to_string();
        }
        ControlFlow::Continue(())
    }
}

fn ended_by(status: Box<Status>) -> Ended {
    let error = Error::Api(status);
    if error.is_expired() {
        Ended::Expired
    } else {
        Ended::Failed(error)
    }
}
