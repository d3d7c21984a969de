//! The stream a backend's watch is: changes, and progress where it was asked for.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};

use crate::{Change, Error, Revision};

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A key changed.
    Change(Change),
    /// Every change up to this revision has been told. Answers [`Watch::request_progress`], and is at least every
    /// revision that the backend had told of, by any answer of its own, before that call.
    Progress(Revision),
}

/// Asks a watch for progress from elsewhere than where it is read.
#[derive(Clone)]
pub struct Asker(Arc<dyn Fn() + Send + Sync>);

impl Asker {
    /// Asks for a [`Signal::Progress`]. Requests that overlap are answered together.
    pub fn ask(&self) {
        (self.0)();
    }
}

/// A stream of [`Signal`]s. Dropping it ends the watch. The first error ends the stream.
pub struct Watch {
    signals: Pin<Box<dyn Stream<Item = Result<Signal, Error>> + Send>>,
    asker: Asker,
}

impl Watch {
    /// Made by backends: the signals, and what makes them contain progress.
    pub fn new(
        signals: impl Stream<Item = Result<Signal, Error>> + Send + 'static,
        request_progress: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Watch {
            signals: Box::pin(signals),
            asker: Asker(Arc::new(request_progress)),
        }
    }

    /// Asks for a [`Signal::Progress`].
    pub fn request_progress(&self) {
        self.asker.ask();
    }

    /// A handle that asks for progress.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// The same watch with every signal changed by `f`; the first error it makes is the last item.
    pub fn try_map(self, mut f: impl FnMut(Signal) -> Result<Signal, Error> + Send + 'static) -> Watch {
        let Watch { signals, asker } = self;
        let mapped = signals.map(move |signal| signal.and_then(&mut f));
        let ended = mapped.scan(false, |failed, signal| {
            let item = (!*failed).then_some(signal);
            *failed |= matches!(item, Some(Err(_)));
            std::future::ready(item)
        });
        Watch {
            signals: Box::pin(ended),
            asker,
        }
    }
}

impl Stream for Watch {
    type Item = Result<Signal, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.signals.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
