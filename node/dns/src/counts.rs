//! What the name server has done since it began: its metrics.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// The numbers, as they grow.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) datagrams: Count,
    pub(crate) streams: Count,
    pub(crate) malformed: Count,
    pub(crate) no_error: Count,
    pub(crate) no_name: Count,
    pub(crate) server_failure: Count,
    pub(crate) other_code: Count,
    pub(crate) truncated: Count,
    pub(crate) hits: Count,
    pub(crate) misses: Count,
    pub(crate) forwarded: Count,
    pub(crate) failed: Count,
}

impl Counts {
    pub(crate) fn read(&self) -> Metrics {
        let of = |count: &Count| count.0.load(Relaxed);
        Metrics {
            datagrams: of(&self.datagrams),
            streams: of(&self.streams),
            malformed: of(&self.malformed),
            no_error: of(&self.no_error),
            no_name: of(&self.no_name),
            server_failure: of(&self.server_failure),
            other_code: of(&self.other_code),
            truncated: of(&self.truncated),
            hits: of(&self.hits),
            misses: of(&self.misses),
            forwarded: of(&self.forwarded),
            failed: of(&self.failed),
            services: 0,
        }
    }
}

/// The numbers at one moment, as the process tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    datagrams: u64,
    streams: u64,
    malformed: u64,
    no_error: u64,
    no_name: u64,
    server_failure: u64,
    other_code: u64,
    truncated: u64,
    hits: u64,
    misses: u64,
    forwarded: u64,
    failed: u64,
    pub(crate) services: u64,
}

impl Metrics {
    /// In Prometheus' text format.
    pub fn text(&self) -> String {
        let mut out = String::new();
        /// Name, type, help, and the values by their labels.
        type Family<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, u64)]);
        let families: [Family<'_>; 6] = [
            (
                "requests_total",
                "counter",
                "Questions that were read, by transport",
                &[("{proto=\"udp\"}", self.datagrams), ("{proto=\"tcp\"}", self.streams)],
            ),
            (
                "malformed_total",
                "counter",
                "Messages that were dropped because they could not be read",
                &[("", self.malformed)],
            ),
            (
                "responses_total",
                "counter",
                "Answers by their code",
                &[
                    ("{rcode=\"NOERROR\"}", self.no_error),
                    ("{rcode=\"NXDOMAIN\"}", self.no_name),
                    ("{rcode=\"SERVFAIL\"}", self.server_failure),
                    ("{rcode=\"other\"}", self.other_code),
                ],
            ),
            (
                "truncated_total",
                "counter",
                "Answers that were cut to fit a datagram",
                &[("", self.truncated)],
            ),
            (
                "forwards_total",
                "counter",
                "Questions for names of others, by what became of them",
                &[
                    ("{result=\"kept\"}", self.hits),
                    ("{result=\"asked\"}", self.forwarded),
                    ("{result=\"failed\"}", self.failed),
                ],
            ),
            (
                "services",
                "gauge",
                "Services whose names are known",
                &[("", self.services)],
            ),
        ];
        for (name, kind, help, series) in families {
            // A String takes all.
            let _ = writeln!(out, "# HELP wherry_dns_{name} {help}\n# TYPE wherry_dns_{name} {kind}");
            for (labels, value) in series {
                let _ = writeln!(out, "wherry_dns_{name}{labels} {value}");
            }
        }
        out
    }
}
