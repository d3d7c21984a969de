//! Pages: which objects a list returns, at which revision, and where the next page begins.

use api::Status;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{Error, Key, Revision};

use super::Call;
use super::get::{at_least, revision};
use crate::http::accept::Form;
use crate::http::query::Query;
use crate::http::respond::store_error;
use crate::registry::catalog::{CachedItem, CachedSnapshot};
use crate::registry::custom::convert;
use crate::registry::select::Selection;

/// Objects of one revision.
pub(super) struct Page {
    pub(super) items: Vec<Listed>,
    pub(super) revision: Revision,
    pub(super) next: Option<String>,
    pub(super) remaining: Option<u64>,
}

/// One object of a page.
pub(super) enum Listed {
    Cached(CachedItem),
    /// Read from the store's history, with its revision in place.
    Past(Bytes),
}

/// Where a list goes on, opaque to clients.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    /// 0 when the revision was lost and the rest is listed at whatever is current.
    rv: u64,
    after: String,
    /// Objects behind `after`, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
}

impl Token {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str, prefix: &str) -> Result<Self, Status> {
        let invalid = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid("it is not base64"))?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| invalid("it was not made by this server"))?;
        match token.after.starts_with(prefix) {
            true => Ok(token),
            false => Err(invalid("it belongs to another list")),
        }
    }
}

/// At which revision a list is answered.
#[derive(Debug, PartialEq, Eq)]
enum At {
    NotOlderThan(Option<Revision>),
    Exactly(Revision),
}

/// Checks `resourceVersion`, `resourceVersionMatch` and `continue` against each other.
fn revision_asked(query: &Query<'_>, limit: usize) -> Result<At, Status> {
    let asked = revision(query.get("resourceVersion"))?;
    let forbid = |detail: &str| {
        let error = api::FieldError::forbidden(&api::Path::root("resourceVersionMatch"), detail);
        Err(Status::invalid(
            &api::GroupKind::new("meta.k8s.io", "ListOptions"),
            "",
            vec![error],
        ))
    };
    let continued = query.get("continue").is_some();
    match (query.get("resourceVersionMatch"), asked) {
        (Some(_), _) if continued => forbid("resourceVersionMatch is forbidden when continue is provided"),
        (Some(_), None) => forbid("resourceVersionMatch is forbidden unless resourceVersion is provided"),
        (Some("Exact"), Some(Revision(0))) => {
            forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
        }
        (_, Some(Revision(1..))) if continued => Err(Status::bad_request(
            "specifying resource version is not allowed when using continue".to_owned(),
        )),
        (Some("Exact"), Some(revision)) => Ok(At::Exactly(revision)),
        (None, Some(revision @ Revision(1..))) if limit > 0 => Ok(At::Exactly(revision)),
        (None | Some("NotOlderThan"), asked) => Ok(At::NotOlderThan(asked)),
        (Some(other), _) => {
            let path = api::Path::root("resourceVersionMatch");
            let error = api::FieldError::not_supported(&path, other, &["Exact", "NotOlderThan", ""]);
            Err(Status::invalid(
                &api::GroupKind::new("meta.k8s.io", "ListOptions"),
                "",
                vec![error],
            ))
        }
    }
}

/// The page a list asks for, ready to be rendered.
pub(super) async fn page(call: &Call<'_>, selection: &Selection) -> Result<Page, Status> {
    let mut page = find(call, selection).await?;
    if call.endpoint.kind.custom.is_some() && call.accepted.form != Form::Metadata {
        let cached = |listed: &'_ Listed| match listed {
            Listed::Cached(item) => Some(item.clone()),
            Listed::Past(_) => None,
        };
        let items: Vec<CachedItem> = page.items.iter().filter_map(cached).collect();
        convert::prepare(call.endpoint, &items).await?;
        for listed in &mut page.items {
            if let Listed::Past(bytes) = listed {
                *bytes = convert::past(call.endpoint, std::mem::take(bytes)).await?;
            }
        }
    }
    Ok(page)
}

async fn find(call: &Call<'_>, selection: &Selection) -> Result<Page, Status> {
    if call.query.bool("sendInitialEvents").is_some() {
        let path = api::Path::root("sendInitialEvents");
        let error = api::FieldError::forbidden(&path, "sendInitialEvents is forbidden for list");
        return Err(Status::invalid(
            &api::GroupKind::new("meta.k8s.io", "ListOptions"),
            "",
            vec![error],
        ));
    }
    let limit = usize::try_from(call.query.int("limit")?.unwrap_or_default()).unwrap_or_default();
    let at = revision_asked(call.query, limit)?;
    let prefix = call.endpoint.kind.scope_prefix(call.namespace());
    let listing = Listing {
        call,
        selection,
        prefix: &prefix,
        limit: if limit == 0 { usize::MAX } else { limit },
    };
    let cache = &call.endpoint.kind.cache;
    match call.query.get("continue") {
        Some(token) => listing.go_on(Token::decode(token, &prefix)?).await,
        None => match at {
            At::NotOlderThan(revision) => {
                at_least(&call.endpoint.kind, revision).await?;
                listing.in_snapshot(&cache.snapshot(), None).await
            }
            At::Exactly(revision) => {
                at_least(&call.endpoint.kind, Some(revision)).await?;
                listing.at(revision, None, None).await
            }
        },
    }
}

struct Listing<'a> {
    call: &'a Call<'a>,
    selection: &'a Selection,
    prefix: &'a str,
    limit: usize,
}

impl Listing<'_> {
    async fn go_on(&self, token: Token) -> Result<Page, Status> {
        let Token { rv, after, left } = token;
        if rv == 0 {
            at_least(&self.call.endpoint.kind, None).await?;
            let snapshot = self.call.endpoint.kind.cache.snapshot();
            return self.in_snapshot(&snapshot, Some(&after)).await;
        }
        self.at(Revision(rv), Some(after), left).await
    }

    /// From the cache when it stands at that revision, else from the store's history.
    async fn at(&self, revision: Revision, after: Option<String>, left: Option<u64>) -> Result<Page, Status> {
        let snapshot = self.call.endpoint.kind.cache.snapshot();
        if snapshot.revision == revision {
            return self.in_snapshot(&snapshot, after.as_deref()).await;
        }
        self.in_history(revision, after, left).await
    }

    async fn in_snapshot(&self, snapshot: &CachedSnapshot, after: Option<&str>) -> Result<Page, Status> {
        let endpoint = self.call.endpoint;
        if self.selection.is_converted() {
            let all: Vec<CachedItem> = snapshot.range(self.prefix, after).cloned().collect();
            self.selection.prepare(endpoint, &all).await?;
        }
        let mut rest = snapshot
            .range(self.prefix, after)
            .filter(|item| self.selection.selects(endpoint, item));
        let items: Vec<CachedItem> = rest.by_ref().take(self.limit).cloned().collect();
        let last = items.last().map(|item| item.key.clone());
        let left = match items.len() == self.limit {
            true => rest.count() as u64,
            false => 0,
        };
        let items = items.into_iter().map(Listed::Cached).collect();
        Ok(self.page(items, snapshot.revision, last, (left > 0).then_some(Some(left))))
    }

    async fn in_history(&self, revision: Revision, after: Option<String>, left: Option<u64>) -> Result<Page, Status> {
        const BATCH: usize = 500;
        let kind = &self.call.endpoint.kind;
        let mut items = Vec::new();
        let mut last: Option<Key> = after.clone().map(Into::into);
        loop {
            let wanted = (self.limit - items.len()).min(BATCH);
            let page = store::Page {
                after: last.clone(),
                limit: wanted,
            };
            let range = self.call.server.backend.range(self.prefix, page, Some(revision)).await;
            let range = range.map_err(|error| match error {
                Error::Compacted { .. } => expired(after.clone()),
                error => store_error(error),
            })?;
            last = range.items.last().map(|kv| kv.key.clone()).or(last);
            for kv in range.items {
                let (endpoint, key) = (self.call.endpoint, &kv.key);
                if self.selection.selects_past(endpoint, key, &kv.value).await? {
                    items.push(Listed::Past(kind.index.with_revision(&kv.value, kv.revision)));
                }
            }
            if !range.more {
                return Ok(self.page(items, revision, None, None));
            }
            if items.len() >= self.limit {
                let left = left.map(|left| left.saturating_sub(items.len() as u64));
                return Ok(self.page(items, revision, last, Some(left)));
            }
        }
    }

    /// `more` is set when there is a next page, with the number of objects left where that is known.
    fn page(&self, items: Vec<Listed>, revision: Revision, last: Option<Key>, more: Option<Option<u64>>) -> Page {
        // Kubernetes does not count what selectors would still match.
        let left = more.flatten().filter(|_| self.selection.is_everything());
        let next = more.and(last).map(|key| {
            Token {
                rv: revision.0,
                after: key.to_string(),
                left,
            }
            .encode()
        });
        Page {
            items,
            revision,
            remaining: next.as_ref().and(left),
            next,
        }
    }
}

/// The revision of a list is compacted; a token to go on without consistency comes along.
fn expired(after: Option<String>) -> Status {
    let Some(after) = after else {
        return Status::expired("The resourceVersion for the provided list is too old.");
    };
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.metadata.continue_ = Some(
        Token {
            rv: 0,
            after,
            left: None,
        }
        .encode(),
    );
    status
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decides_at_which_revision_to_list() {
        use At::{Exactly, NotOlderThan};
        let cases = [
            ("", 0, Ok(NotOlderThan(None))),
            ("resourceVersion=0", 5, Ok(NotOlderThan(Some(Revision(0))))),
            ("resourceVersion=7", 0, Ok(NotOlderThan(Some(Revision(7))))),
            ("resourceVersion=7", 5, Ok(Exactly(Revision(7)))),
            (
                "resourceVersion=7&resourceVersionMatch=NotOlderThan",
                5,
                Ok(NotOlderThan(Some(Revision(7)))),
            ),
            (
                "resourceVersion=7&resourceVersionMatch=Exact",
                0,
                Ok(Exactly(Revision(7))),
            ),
            ("resourceVersion=0&resourceVersionMatch=Exact", 0, Err(422)),
            ("resourceVersionMatch=Exact", 0, Err(422)),
            ("resourceVersion=7&resourceVersionMatch=About", 0, Err(422)),
            ("resourceVersion=7&continue=x", 0, Err(400)),
            ("resourceVersion=x", 0, Err(422)),
        ];
        for (query, limit, expected) in cases {
            let found = revision_asked(&Query::parse(query), limit).map_err(|status| status.code);
            assert_eq!(found, expected, "{query}");
        }
    }

    #[test]
    fn refuses_tokens_of_other_lists() {
        let token = Token {
            rv: 4,
            after: "core/secrets/a/b".into(),
            left: None,
        }
        .encode();
        assert!(Token::decode(&token, "core/pods/").is_err());
        assert!(Token::decode("junk", "core/pods/").is_err());
    }

    proptest! {
        #[test]
        fn tokens_come_back_as_they_were(rv: u64, name in "[a-z]{1,20}", left: Option<u64>) {
            let token = Token { rv, after: format!("core/pods/{name}"), left };
            prop_assert_eq!(Token::decode(&token.encode(), "core/pods/").expect("valid"), token);
        }
    }
}
