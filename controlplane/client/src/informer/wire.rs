//! Lists and watch events as bytes: an object is parsed once for its key and revision and once for what `T` keeps,
//! straight from the bytes, never through a tree.

use std::sync::Arc;

use api::{names::NamespacedName, status::Status};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::store::{Received, revision};

/// A page of a list.
pub(super) struct Page<T> {
    pub(super) items: Vec<Received<T>>,
    /// Objects that `T` cannot describe, and why.
    pub(super) unreadable: Vec<(NamespacedName, serde_json::Error)>,
    pub(super) resource_version: String,
    pub(super) continue_token: String,
}

/// A line of a watch.
pub(super) enum Event<T> {
    Put(Received<T>),
    /// An object that `T` cannot describe, and why.
    Unreadable {
        key: NamespacedName,
        revision: u64,
        error: serde_json::Error,
    },
    Delete {
        key: NamespacedName,
        revision: u64,
    },
    Bookmark(u64),
    Error(Box<Status>),
}

#[derive(Deserialize)]
struct RawPage<'a> {
    #[serde(default)]
    metadata: crate::options::ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    type_: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What every object begins with. Reading ends with the metadata, which a server writes first, or nearly so.
struct Head {
    metadata: HeadMeta,
}

impl Head {
    fn of(object: &str) -> Result<Self, serde_json::Error> {
        let mut metadata = None;
        let mut reader = serde_json::Deserializer::from_str(object);
        let read = reader.deserialize_map(FindMetadata(&mut metadata));
        match (metadata, read) {
            // That reading was ended is no failure.
            (Some(metadata), _) => Ok(Head { metadata }),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Ok(Head {
                metadata: HeadMeta::default(),
            }),
        }
    }
}

struct FindMetadata<'m>(&'m mut Option<HeadMeta>);

impl<'de> Visitor<'de> for FindMetadata<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(is_it) = map.next_key_seed(IsMetadata)? {
            if is_it {
                *self.0 = Some(map.next_value()?);
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Reads a key for whether it is that of the metadata.
struct IsMetadata;

impl<'de> DeserializeSeed<'de> for IsMetadata {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsMetadata {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == "metadata")
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct HeadMeta {
    name: String,
    namespace: String,
    resource_version: String,
}

impl HeadMeta {
    fn key(&self) -> NamespacedName {
        crate::meta::key(&self.namespace, &self.name)
    }

    fn revision(&self) -> u64 {
        revision(&self.resource_version).unwrap_or(0)
    }
}

pub(super) fn page<T: DeserializeOwned>(body: &[u8]) -> Result<Page<T>, serde_json::Error> {
    let raw: RawPage<'_> = serde_json::from_slice(body)?;
    let objects = raw.items.unwrap_or_default();
    let mut page = Page {
        items: Vec::with_capacity(objects.len()),
        unreadable: Vec::new(),
        resource_version: raw.metadata.resource_version,
        continue_token: raw.metadata.continue_token,
    };
    for object in objects {
        let head = Head::of(object.get())?;
        match serde_json::from_str(object.get()) {
            Ok(parsed) => page.items.push(Received {
                key: head.metadata.key(),
                revision: head.metadata.revision(),
                object: Arc::new(parsed),
            }),
            Err(error) => page.unreadable.push((head.metadata.key(), error)),
        }
    }
    Ok(page)
}

pub(super) fn event<T: DeserializeOwned>(line: &[u8]) -> Result<Event<T>, serde_json::Error> {
    let (type_, object) = match usual(line) {
        Some(parts) => parts,
        None => {
            let raw: RawEvent<'_> = serde_json::from_slice(line)?;
            (raw.type_, raw.object.get())
        }
    };
    if type_ == "ERROR" {
        return Ok(Event::Error(Box::new(serde_json::from_str(object)?)));
    }
    let head = Head::of(object)?;
    let (key, revision) = (head.metadata.key(), head.metadata.revision());
    Ok(match type_ {
        "DELETED" => Event::Delete { key, revision },
        "BOOKMARK" => Event::Bookmark(revision),
        _ => match serde_json::from_str(object) {
            Ok(parsed) => Event::Put(Received {
                key,
                revision,
                object: Arc::new(parsed),
            }),
            Err(error) if error.is_data() => Event::Unreadable { key, revision, error },
            Err(error) => return Err(error),
        },
    })
}

/// Type and object of an event as servers write it, without looking for the object's end.
fn usual(line: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix(r#"{"type":""#)?;
    let (type_, rest) = rest.split_once('"')?;
    let object = rest.strip_prefix(r#","object":"#)?.strip_suffix('}')?;
    (!type_.contains('\\')).then_some((type_, object))
}

/// Bytes of a buffer that are kept while nothing comes.
const KEPT: usize = 8 << 10;

/// Cuts a stream of bytes into lines.
#[derive(Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
}

impl Lines {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes every complete line and calls `each` with it, without its end; stops early when that fails.
    pub(super) fn drain<E>(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut taken = 0;
        let result = loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == b'\n').map(|at| at + self.searched) else {
                self.searched = self.buffer.len();
                break Ok(());
            };
            let line = self.buffer.get(taken..end).unwrap_or_default();
            (taken, self.searched) = (end + 1, end + 1);
            if line.iter().any(|byte| !byte.is_ascii_whitespace())
                && let Err(error) = each(line)
            {
                break Err(error);
            }
        };
        self.buffer.drain(..taken);
        self.searched -= taken;
        if self.buffer.len() < KEPT {
            self.buffer.shrink_to(KEPT);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn objects_that_do_not_fit_are_set_apart() {
        #[derive(Deserialize, Debug)]
        struct Sized {
            #[allow(dead_code, reason = "its type is what the test is about")]
            size: u8,
        }
        let body = br#"{"metadata":{"resourceVersion":"9","continue":"more"},"items":[
            {"metadata":{"name":"a","namespace":"n","resourceVersion":"3"},"size":1},
            {"metadata":{"name":"b","resourceVersion":"4"},"size":"big"}]}"#;
        let page = page::<Sized>(body).unwrap();
        assert_eq!(
            (page.resource_version.as_str(), page.continue_token.as_str()),
            ("9", "more")
        );
        assert_eq!(
            page.items
                .iter()
                .map(|i| (i.key.to_string(), i.revision))
                .collect::<Vec<_>>(),
            [("n/a".to_owned(), 3)]
        );
        assert_eq!(page.unreadable[0].0.to_string(), "b");
    }

    #[test]
    fn an_event_is_the_same_however_it_is_written() {
        let text = |line: &str| match event::<serde_json::Value>(line.as_bytes()) {
            Ok(Event::Put(put)) => format!("{} {} {}", put.key, put.revision, put.object),
            Ok(Event::Delete { key, revision }) => format!("no {key} {revision}"),
            Ok(Event::Bookmark(revision)) => format!("at {revision}"),
            Ok(Event::Error(status)) => format!("error {}", status.code),
            Ok(Event::Unreadable { error, .. }) => format!("unreadable {error}"),
            Err(_) => "none".to_owned(),
        };
        let object = r#"{"kind":"K","metadata":{"name":"a","namespace":"n","resourceVersion":"7"},"data":{"b":"}"}}"#;
        let late = r#"{"data":{"metadata":1},"metadata":{"name":"a","namespace":"n","resourceVersion":"7"}}"#;
        let put = format!(
            "n/a 7 {}",
            serde_json::from_str::<serde_json::Value>(object).expect("JSON")
        );
        let put_late = format!(
            "n/a 7 {}",
            serde_json::from_str::<serde_json::Value>(late).expect("JSON")
        );
        for (line, expected) in [
            (format!(r#"{{"type":"ADDED","object":{object}}}"#), &*put),
            (format!(r#"{{"type":"MODIFIED","object":{object} }}"#), &*put),
            (format!(r#" {{ "type" : "ADDED", "object": {object} }}"#), &*put),
            (format!(r#"{{"object":{object},"type":"ADDED"}}"#), &*put),
            (format!(r#"{{"type":"ADDED","object":{late}}}"#), &*put_late),
            (format!(r#"{{"type":"DELETED","object":{object}}}"#), "no n/a 7"),
            (
                r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#.to_owned(),
                "at 9",
            ),
            (r#"{"type":"BOOKMARK","object":{}}"#.to_owned(), "at 0"),
            (
                r#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#.to_owned(),
                "error 410",
            ),
            (format!(r#"{{"type":"ADDED","object":{object}"#), "none"),
            (format!(r#"{{"type":"ADDED","object":{object},"more":{{}}}}"#), "none"),
            (
                r#"{"type":"ADDED","object":{"metadata":{"name":"a"},"#.to_owned(),
                "none",
            ),
            ("nothing".to_owned(), "none"),
        ] {
            assert_eq!(text(&line), expected, "{line}");
        }
    }

    proptest! {
        /// However the bytes are cut, the lines are the same.
        #[test]
        fn lines_do_not_depend_on_chunks(text in "[ab\n ]{0,40}", cuts in prop::collection::vec(1usize..6, 0..40)) {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                lines.push(now);
                lines.drain(|line| { got.push(line.to_vec()); Ok::<_, ()>(()) }).unwrap();
                rest = later;
            }
            let complete = text.rsplit_once('\n').map_or("", |(before, _)| before);
            let wanted: Vec<Vec<u8>> =
                complete.split('\n').filter(|l| !l.trim().is_empty()).map(|l| l.as_bytes().to_vec()).collect();
            prop_assert_eq!(got, wanted);
        }
    }
}
