//! What the watch cache remembers of an object beside its bytes: labels and selectable fields.
//!
//! They are picked out of the JSON by a walk that visits the wanted paths and skips everything else, so that no tree is
//! built per write.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use api::Object;
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;
use store::Revision;
use store::cache::Index;

use super::custom::Normal;
use super::encode;
use super::resource::Resource;
use super::texts::Texts;

/// What selectors need to know of a cached object.
pub(crate) struct Entry {
    /// The keys and values of the labels in turn, then the values of the kind's selectable fields in their order.
    texts: Texts,
    labels: u32,
    parsed: OnceLock<Arc<Object>>,
    /// Of the object's protobuf message, once it is known.
    protobuf_length: AtomicU32,
}

/// Bytes of an object that may be kept parsed: a tree takes ten times the memory of its text, and a pod's is 50 kB.
const KEEP_PARSED: usize = 2 << 10;

impl Entry {
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let nth = (0..self.labels as usize).find(|nth| self.texts.get(2 * nth) == Some(key))?;
        self.texts.get(2 * nth + 1)
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.labels as usize).filter_map(|nth| Some((self.texts.get(2 * nth)?, self.texts.get(2 * nth + 1)?)))
    }

    /// The value of the kind's `nth` selectable field.
    pub(crate) fn field(&self, nth: usize) -> Option<&str> {
        self.texts.get(2 * self.labels as usize + nth)
    }

    /// How long the object's protobuf message is, which `measure` finds out once.
    pub(crate) fn protobuf_length<E>(&self, measure: impl FnOnce() -> Result<usize, E>) -> Result<usize, E> {
        let known = self.protobuf_length.load(Ordering::Relaxed);
        if known > 0 {
            return Ok(known as usize);
        }
        let length = measure()?;
        self.protobuf_length
            .store(u32::try_from(length).unwrap_or_default(), Ordering::Relaxed);
        Ok(length)
    }

    /// The object as a tree; a small one is parsed once and shared.
    pub(crate) fn object(&self, bytes: &Bytes) -> Arc<Object> {
        if bytes.len() > KEEP_PARSED {
            return Arc::new(parse(bytes));
        }
        self.parsed.get_or_init(|| Arc::new(parse(bytes))).clone()
    }
}

/// Parses bytes that this server wrote.
pub(crate) fn parse(bytes: &[u8]) -> Object {
    Object::from_slice(bytes).unwrap_or_else(|error| {
        tracing::error!(%error, "a stored object is not JSON");
        Object::new("", "")
    })
}

/// Where a selectable field finds its value among those the walk collects.
struct Slots {
    /// The first that holds something gives the value.
    slots: SmallVec<[usize; 2]>,
    absent: Box<str>,
}

/// Indexes one storage kind.
pub(crate) struct KindIndex {
    kind: Box<str>,
    api_version: Box<str>,
    fields: Vec<Slots>,
    wanted: Wanted,
    /// How many values the walk collects.
    slots: usize,
    /// How stored custom resources are made to fit what their definition says now.
    normal: Option<Arc<Normal>>,
}

/// The paths the walk looks for, as a tree.
#[derive(Default)]
struct Wanted {
    children: Vec<(Box<str>, Wanted)>,
    leaf: Option<Leaf>,
}

#[derive(Clone, Copy)]
enum Leaf {
    Value(usize),
    Labels,
}

impl Wanted {
    fn add(&mut self, path: &str, leaf: Leaf) {
        let mut node = self;
        for segment in path.split('.') {
            let at = node
                .children
                .iter()
                .position(|(name, _)| &**name == segment)
                .unwrap_or_else(|| {
                    node.children.push((segment.into(), Wanted::default()));
                    node.children.len() - 1
                });
            let Some((_, child)) = node.children.get_mut(at) else {
                return;
            };
            node = child;
        }
        node.leaf = Some(leaf);
    }
}

impl KindIndex {
    pub(crate) fn new(resource: &Resource, normal: Option<Arc<Normal>>) -> Self {
        let mut wanted = Wanted::default();
        wanted.add("metadata.labels", Leaf::Labels);
        // Several fields may look at one path.
        let mut paths: Vec<&str> = Vec::new();
        let mut slot = |path| {
            paths.iter().position(|known| *known == path).unwrap_or_else(|| {
                wanted.add(path, Leaf::Value(paths.len()));
                paths.push(path);
                paths.len() - 1
            })
        };
        let fields = resource.fields.iter().map(|field| Slots {
            slots: field.paths.iter().map(|path| slot(&**path)).collect(),
            absent: field.absent.as_ref().into(),
        });
        let fields = fields.collect();
        KindIndex {
            kind: resource.kind.as_ref().into(),
            api_version: resource.storage().api_version.as_ref().into(),
            fields,
            slots: paths.len(),
            wanted,
            normal,
        }
    }

    /// The stored bytes with their revision in place.
    pub(crate) fn with_revision(&self, stored: &Bytes, revision: Revision) -> Bytes {
        if let Some(normal) = &self.normal {
            let mut object = parse(stored);
            normal.apply(&mut object);
            object.set_resource_version(Some(&revision.to_string()));
            return encode::served(&object);
        }
        match encode::metadata_offset(stored, &self.kind, &self.api_version) {
            Some(offset) => encode::splice(stored, offset, revision),
            None => {
                let mut object = parse(stored);
                object.set_resource_version(Some(&revision.to_string()));
                encode::served(&object)
            }
        }
    }

    pub(crate) fn entry(&self, key: &str, stored: &[u8]) -> Entry {
        let mut found = Found {
            values: SmallVec::from_elem(None, self.slots),
            labels: Vec::new(),
        };
        let mut walk = serde_json::Deserializer::from_slice(stored);
        if let Err(error) = (Visit {
            wanted: &self.wanted,
            found: &mut found,
        })
        .deserialize(&mut walk)
        {
            tracing::error!(key, %error, "a stored object cannot be indexed");
        }
        let value = |slot: &usize| found.values.get(*slot)?.clone().filter(|value| !value.is_empty());
        let fields = self.fields.iter().map(|field| {
            let present = field.slots.iter().find_map(value);
            present.unwrap_or_else(|| field.absent.clone())
        });
        let labels = found.labels.len();
        let texts = found.labels.into_iter().flat_map(|(key, value)| [key, value]);
        Entry {
            texts: texts.chain(fields).collect(),
            labels: u32::try_from(labels).unwrap_or_default(),
            parsed: OnceLock::new(),
            protobuf_length: AtomicU32::new(0),
        }
    }
}

impl Index for KindIndex {
    type Entry = Entry;

    fn index(&self, key: &str, revision: Revision, stored: &Bytes) -> (Bytes, Entry) {
        let served = self.with_revision(stored, revision);
        let entry = self.entry(key, if self.normal.is_some() { &served } else { stored });
        (served, entry)
    }
}

struct Found {
    values: SmallVec<[Option<Box<str>>; 16]>,
    labels: Vec<(Box<str>, Box<str>)>,
}

/// Visits one JSON value for the paths below `wanted`.
struct Visit<'w, 'f> {
    wanted: &'w Wanted,
    found: &'f mut Found,
}

impl Visit<'_, '_> {
    fn scalar(self, text: &str) {
        if let Some(Leaf::Value(slot)) = self.wanted.leaf
            && let Some(value) = self.found.values.get_mut(slot)
        {
            *value = Some(text.into());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Visit<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Visit<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some(Leaf::Labels) = self.wanted.leaf {
            while let Some(pair) = map.next_entry()? {
                self.found.labels.push(pair);
            }
            return Ok(());
        }
        while let Some(child) = map.next_key_seed(Child(self.wanted))? {
            match child {
                Some(wanted) => map.next_value_seed(Visit {
                    wanted,
                    found: &mut *self.found,
                })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scalar(text);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.scalar(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.scalar(&value.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.scalar(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.scalar(&value.to_string());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a key as the child it leads to.
struct Child<'w>(&'w Wanted);

impl<'de, 'w> DeserializeSeed<'de> for Child<'w> {
    type Value = Option<&'w Wanted>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for Child<'w> {
    type Value = Option<&'w Wanted>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self
            .0
            .children
            .iter()
            .find(|(name, _)| &**name == key)
            .map(|(_, child)| child))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_object_is_kept_parsed_and_a_large_one_is_not() {
        for (size, kept) in [(10, true), (KEEP_PARSED, false)] {
            let entry = Entry {
                texts: Texts::default(),
                labels: 0,
                parsed: OnceLock::new(),
                protobuf_length: AtomicU32::new(0),
            };
            let bytes = Bytes::from(format!(r#"{{"kind":"{}"}}"#, "x".repeat(size)));
            let (first, second) = (entry.object(&bytes), entry.object(&bytes));
            assert_eq!(first.kind(), "x".repeat(size));
            assert_eq!(Arc::ptr_eq(&first, &second), kept, "{size}");
        }
    }
}
