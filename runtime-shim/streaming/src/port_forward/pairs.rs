//! Which streams belong together: those of one request, or, of clients that do not number their requests, the error stream
//! and the data stream that follows it.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{mux::Stream, remote_command::STREAM_TYPE, spdy::Headers};

pub(super) const PORT: &str = "port";
pub(super) const REQUEST: &str = "requestID";

/// The streams of one connection.
pub(super) struct Pair {
    /// None where the client names no port.
    pub(super) port: Option<u16>,
    pub(super) data: Stream,
    pub(super) error: Stream,
}

/// Streams that wait for their other half.
#[derive(Default)]
pub(super) struct Pairs(HashMap<String, Half>);

struct Half {
    stream: Stream,
    is_error: bool,
    port: Option<u16>,
    since: Instant,
}

impl Pairs {
    /// Takes a stream; gives the pair that it completes. What belongs to nothing is dropped, so that it breaks.
    pub(super) fn add(&mut self, headers: &Headers, stream: Stream) -> Option<Pair> {
        let is_error = match headers.get(STREAM_TYPE) {
            Some("error") => true,
            Some("data") => false,
            _ => return None,
        };
        let port = headers
            .get(PORT)
            .and_then(|port| port.parse().ok())
            .filter(|port| *port > 0);
        let request = match headers.get(REQUEST) {
            Some(request) => request.to_owned(),
            None if is_error => format!("#{}", stream.id()),
            None => format!("#{}", stream.id().checked_sub(2)?),
        };
        let Some(half) = self.0.remove(&request) else {
            let since = Instant::now();
            let half = Half {
                stream,
                is_error,
                port,
                since,
            };
            self.0.insert(request, half);
            return None;
        };
        let (error, data) = match (half.is_error, is_error) {
            (true, false) => (half.stream, stream),
            (false, true) => (stream, half.stream),
            // Twice the same of one request: neither is meant.
            _ => return None,
        };
        // The data stream has the last word.
        let port = if is_error { half.port } else { port };
        Some(Pair { port, data, error })
    }

    /// Takes out what has waited too long: request, and the error stream where that is the half that came.
    pub(super) fn overdue(&mut self, now: Instant, limit: Duration) -> Vec<(String, Option<Stream>)> {
        let late = self
            .0
            .extract_if(|_, half| now.saturating_duration_since(half.since) >= limit);
        late.map(|(request, half)| (request, half.is_error.then_some(half.stream)))
            .collect()
    }
}
