//! What the server counts: requests, their durations, what is in flight, and running watches.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry as Collected;

use super::info::RequestInfo;
use crate::registry::catalog::{Endpoint, Registry};
use crate::registry::resource::Name;

type Latency = Family<OperationLabels, Histogram, fn() -> Histogram>;
type Level = Gauge<i64, AtomicI64>;

/// The server's metrics, named as Kubernetes names them.
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Latency,
    inflight: Family<InflightLabels, Level>,
    watchers: Family<KindLabels, Level>,
    objects: Family<KindLabels, Level>,
    cache_revision: Family<KindLabels, Level>,
    panics: Counter,
    collected: Mutex<Collected>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    group: Name,
    version: Name,
    resource: Name,
    subresource: &'static str,
    scope: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    verb: &'static str,
    group: Name,
    resource: Name,
    subresource: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InflightLabels {
    request_kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    group: Name,
    resource: Name,
}

/// What a request was about, in the server's own words: paths come from outside and must not become labels. Empty where
/// nothing is served. Costs no allocation, as a rule.
#[derive(Debug, Default)]
pub(crate) struct Target {
    pub(crate) group: Name,
    pub(crate) version: Name,
    pub(crate) resource: Name,
    pub(crate) subresource: &'static str,
}

/// A verb as Kubernetes' metrics name it: the HTTP method, but for what is told from it by the path.
fn reported(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "head" => "HEAD",
        "options" => "OPTIONS",
        _ => "other",
    }
}

fn histogram() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0,
    ])
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Metrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            inflight: Family::default(),
            watchers: Family::default(),
            objects: Family::default(),
            cache_revision: Family::default(),
            panics: Counter::default(),
            collected: Mutex::default(),
        };
        let mut collected = metrics.collected.lock();
        collected.register(
            "apiserver_request",
            "Requests by verb, resource and code",
            metrics.requests.clone(),
        );
        let name = "apiserver_request_duration_seconds";
        collected.register(
            name,
            "How long requests took, watches excepted",
            metrics.durations.clone(),
        );
        let name = "apiserver_current_inflight_requests";
        collected.register(
            name,
            "Requests being served, watches excepted",
            metrics.inflight.clone(),
        );
        let name = "apiserver_longrunning_requests";
        collected.register(name, "Watches being served", metrics.watchers.clone());
        collected.register("apiserver_storage_objects", "Objects stored", metrics.objects.clone());
        let name = "apiserver_watch_cache_resource_version";
        collected.register(name, "The revision a cache has come to", metrics.cache_revision.clone());
        collected.register(
            "apiserver_request_panics",
            "Requests that panicked",
            metrics.panics.clone(),
        );
        drop(collected);
        metrics
    }

    /// Counts a finished request; `took` is `None` for those that last as long as the client wants.
    pub(crate) fn finished(&self, info: &RequestInfo<'_>, target: Target, code: u16, took: Option<Duration>) {
        let labels = RequestLabels {
            verb: reported(info.verb),
            group: target.group,
            version: target.version,
            resource: target.resource,
            subresource: target.subresource,
            scope: scope(info),
            code,
        };
        if let Some(took) = took {
            let operation = OperationLabels {
                verb: labels.verb,
                group: labels.group.clone(),
                resource: labels.resource.clone(),
                subresource: labels.subresource,
            };
            self.durations.get_or_create(&operation).observe(took.as_secs_f64());
        }
        self.requests.get_or_create(&labels).inc();
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    /// Counts a request while the returned guard lives.
    pub(crate) fn serving(&self, mutating: bool) -> Serving {
        let request_kind = if mutating { "mutating" } else { "readOnly" };
        let level = self.inflight.get_or_create(&InflightLabels { request_kind }).clone();
        Serving(Raised::new(level))
    }

    /// Counts a watch while the returned guard lives.
    pub(crate) fn watching(&self, endpoint: &Endpoint) -> Watching {
        let labels = KindLabels {
            group: endpoint.served().group.clone(),
            resource: endpoint.resource().plural.clone(),
        };
        Watching(Raised::new(self.watchers.get_or_create(&labels).clone()))
    }

    /// Shows what the audit log counts: events written and lost.
    pub(crate) fn show_audit(&self, [written, lost]: [Counter; 2]) {
        let mut collected = self.collected.lock();
        collected.register("apiserver_audit_event", "Audit events written", written);
        collected.register("apiserver_audit_error", "Audit events lost", lost);
    }

    /// How many watch a kind.
    pub(crate) fn watchers(&self, endpoint: &Endpoint) -> u64 {
        let labels = KindLabels {
            group: endpoint.served().group.clone(),
            resource: endpoint.resource().plural.clone(),
        };
        let level = self.watchers.get(&labels).map_or(0, |level| level.get());
        u64::try_from(level).unwrap_or_default()
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn text(&self, registry: &Registry) -> String {
        for kind in registry.kinds() {
            let resource = &kind.resource;
            let labels = KindLabels {
                group: resource.group.clone(),
                resource: resource.plural.clone(),
            };
            let snapshot = kind.cache.snapshot();
            let count = i64::try_from(snapshot.len(&kind.prefix)).unwrap_or(i64::MAX);
            self.objects.get_or_create(&labels).set(count);
            let revision = i64::try_from(kind.cache.revision().0).unwrap_or(i64::MAX);
            self.cache_revision.get_or_create(&labels).set(revision);
        }
        let mut text = String::new();
        encode(&mut text, &self.collected.lock()).expect("a string takes every write");
        api::text::prometheus(&text)
    }
}

fn scope(info: &RequestInfo<'_>) -> &'static str {
    match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
        (false, _, _) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    }
}

/// Raises a gauge by one for as long as it lives.
struct Raised(Level);

impl Raised {
    fn new(level: Level) -> Self {
        level.inc();
        Raised(level)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A request being served.
pub(crate) struct Serving(#[allow(dead_code, reason = "lowers the gauge when dropped")] Raised);

/// A watch being served.
pub(crate) struct Watching(#[allow(dead_code, reason = "lowers the gauge when dropped")] Raised);
