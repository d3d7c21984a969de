//! Ranges: which keys, in which order, in which portions.

use super::{commit, contents};
use crate::{Backend, Error, Key, Page, Revision, Write};

pub(super) async fn orders_keys_bytewise(backend: &impl Backend) {
    let keys = ["a", "a/", "a/b", "a/b/c", "a/b0", "a/bc", "a/ü", "a0", "b", "é"];
    for key in keys.iter().rev() {
        commit(backend, Write::create(*key, *key)).await;
    }
    for prefix in ["", "a", "a/", "a/b", "a/b/", "a/bcd", "c", "é"] {
        let (found, _) = contents(backend, prefix).await;
        let expected: Vec<&str> = keys.into_iter().filter(|key| key.starts_with(prefix)).collect();
        assert_eq!(
            found.keys().map(|key| &**key).collect::<Vec<_>>(),
            expected,
            "prefix {prefix:?}"
        );
    }
    let range = backend.range("", Page::all(), None).await.unwrap();
    assert!(range.items.iter().map(|kv| &*kv.key).eq(keys), "in the order of bytes");
}

pub(super) async fn pages_add_up(backend: &impl Backend) {
    for n in 0..10 {
        commit(backend, Write::create(format!("p/{n}"), "x")).await;
    }
    commit(backend, Write::create("q", "beyond")).await;
    for limit in [1, 3, 5, 9, 10, 11] {
        let mut page = Page::first(limit);
        let mut found: Vec<Key> = Vec::new();
        loop {
            let range = backend.range("p/", page.clone(), None).await.unwrap();
            assert!(range.items.len() <= limit, "{limit} at most");
            found.extend(range.items.iter().map(|kv| kv.key.clone()));
            assert_eq!(range.more, found.len() < 10, "limit {limit} after {}", found.len());
            if !range.more {
                break;
            }
            page.after = found.last().cloned();
        }
        assert!(
            found
                .iter()
                .map(|key| key.to_string())
                .eq((0..10).map(|n| format!("p/{n}"))),
            "limit {limit}"
        );
    }
    for (after, expected) in [("a", 10), ("p/", 10), ("p/4", 5), ("p/45", 5), ("p/9", 0), ("z", 0)] {
        let page = Page {
            after: Some(after.into()),
            limit: 100,
        };
        assert_eq!(
            backend.range("p/", page, None).await.unwrap().items.len(),
            expected,
            "after {after}"
        );
    }
}

pub(super) async fn refuses_the_future(backend: &impl Backend) {
    let now = commit(backend, Write::put("a", "x")).await;
    let ahead = Revision(now.0 + 1);
    let is_future =
        |error: &Error| matches!(error, Error::FutureRevision { asked, current } if (*asked, *current) == (ahead, now));
    assert!(
        backend
            .range("", Page::all(), Some(ahead))
            .await
            .is_err_and(|error| is_future(&error)),
        "range"
    );
    assert!(
        backend.watch("", ahead).await.is_err_and(|error| is_future(&error)),
        "watch"
    );
    assert!(
        backend.compact(ahead).await.is_err_and(|error| is_future(&error)),
        "compact"
    );
}
