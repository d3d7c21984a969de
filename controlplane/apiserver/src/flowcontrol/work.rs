//! How many seats a request takes: lists by the memory they need at once, changes by how many watch what they change.

use super::queues::Work;
use crate::http::info::RequestInfo;
use crate::http::query::Query;
use crate::server::Shared;

/// Bytes that one seat stands for.
const BYTES: u64 = 100_000;
/// What a list from the cache has in memory at once, since it is sent as it is made.
const STREAMED: u64 = 1_000_000;
/// Watchers that one seat stands for, and how long it takes to tell them, in nanoseconds.
const WATCHERS: u64 = 10;
const TELLING: u64 = 5_000_000;
const MOST_OF_CHANGE: u32 = 10;
const MOST_OF_LIST: u32 = 100;

/// An estimate of a request's work, of at most `widest` seats.
pub(super) fn estimate(server: &Shared, info: &RequestInfo<'_>, query: &Query<'_>, widest: u32) -> Work {
    let lists = match info.verb {
        "list" => true,
        "watch" => {
            let from = query.get("resourceVersion").unwrap_or_default();
            query.flag("sendInitialEvents") || matches!(from, "" | "0")
        }
        _ => false,
    };
    if lists {
        return Work::seats(list(server, info, query).min(widest.min(MOST_OF_LIST)).max(1));
    }
    let changes = matches!(info.verb, "create" | "update" | "patch" | "delete");
    let tells_nobody = info.resource == "serviceaccounts" && info.subresource == "token";
    if changes && !tells_nobody {
        let endpoint = server.registry.endpoint(info.group, info.version, info.resource);
        let watchers = endpoint.map_or(0, |endpoint| server.metrics.watchers(&endpoint));
        return change(watchers, widest.min(MOST_OF_CHANGE));
    }
    Work::seats(1)
}

fn list(server: &Shared, info: &RequestInfo<'_>, query: &Query<'_>) -> u32 {
    let Some(endpoint) = server.registry.endpoint(info.group, info.version, info.resource) else {
        return 1;
    };
    let kind = &endpoint.kind;
    let snapshot = kind.cache.snapshot();
    let mut stored = snapshot.range(&kind.prefix, None);
    let Some(first) = stored.next() else { return 1 };
    // Objects of a kind are about as large as each other.
    let size = (first.bytes.len() as u64).max(1);
    let limit = query
        .get("limit")
        .and_then(|limit| limit.parse().ok())
        .filter(|limit| *limit > 0);
    // More than is counted makes no difference.
    let most = limit.unwrap_or(u64::MAX).min(STREAMED.div_ceil(size));
    let objects = match info.name.is_empty() {
        false => 1,
        true => 1 + stored.take(usize::try_from(most - 1).unwrap_or(usize::MAX)).count() as u64,
    };
    let bytes = objects.saturating_mul(size).min(STREAMED);
    u32::try_from(bytes.div_ceil(BYTES)).unwrap_or(u32::MAX)
}

fn change(watchers: u64, widest: u32) -> Work {
    if watchers < WATCHERS {
        return Work::seats(1);
    }
    let seats = watchers.div_ceil(WATCHERS);
    let final_seats = u32::try_from(seats).unwrap_or(u32::MAX).min(widest).max(1);
    Work {
        seats: 1,
        final_seats,
        lingers: seats * TELLING / u64::from(final_seats),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_many_watch_takes_longer() {
        assert_eq!(change(9, 10), Work::seats(1));
        assert_eq!(
            change(10, 10),
            Work {
                seats: 1,
                final_seats: 1,
                lingers: TELLING
            }
        );
        assert_eq!(
            change(1000, 10),
            Work {
                seats: 1,
                final_seats: 10,
                lingers: 10 * TELLING
            }
        );
    }
}
