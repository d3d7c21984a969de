//! What a shared store holds of a repository, and where. Pure.

use std::collections::BTreeMap;

use ::store::Kv;
use api::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::PREFIX;
use crate::catalogue::Catalogue;
use crate::digest::Digest;
use crate::name::Repository;
use crate::store::StoreError;

/// Repositories by namespace and name; records of content by namespace and place; chunks by place and number.
pub(super) const REPOSITORIES: &str = "wherry/images/repositories/";
pub(super) const CONTENTS: &str = "wherry/images/contents/";
const CHUNKS: &str = "wherry/images/chunks/";

/// A repository.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) catalogue: Catalogue,
    pub(super) places: BTreeMap<Digest, Place>,
}

/// Where content is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) size: u64,
    pub(super) chunks: u32,
}

/// That there is a place, whether or not a repository names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) repository: String,
    pub(super) chunks: u32,
    pub(super) since: Timestamp,
    /// It has been given up: no repository may name it any more.
    #[serde(default)]
    pub(super) going: bool,
}

impl Document {
    /// As it is in the store. What was changed by its last write has the revision of that.
    pub(super) fn read(kv: &Kv) -> Result<Self, StoreError> {
        let damaged = |what: String| ::store::Error::Corrupt {
            what: format!("the value of \"{}\" is no repository of images: {what}", kv.key),
        };
        let document: Document = serde_json::from_slice(&kv.value).map_err(|error| damaged(error.to_string()))?;
        let catalogue = document.catalogue.check().map_err(|error| damaged(error.to_string()))?;
        Ok(Document {
            catalogue: catalogue.settled(kv.revision.0),
            places: document.places,
        })
    }

    /// As it is written after `before`.
    pub(super) fn bytes(&self, before: &Document) -> Vec<u8> {
        let written = Document {
            catalogue: self.catalogue.unsettled(before.catalogue.revision),
            places: self.places.clone(),
        };
        serde_json::to_vec(&written).expect("maps of strings are JSON")
    }

    /// Forgets where content is that no image needs.
    pub(super) fn prune(&mut self) {
        let needed = self.catalogue.needs();
        self.places.retain(|digest, _| needed.contains(digest));
    }

    /// The places that `next` does not name any more.
    pub(super) fn no_more_in(&self, next: &Document) -> Vec<Place> {
        let named = |place: &&Place| next.names(&place.id);
        self.places.values().filter(|place| !named(place)).cloned().collect()
    }

    pub(super) fn names(&self, id: &str) -> bool {
        self.places.values().any(|place| place.id == id)
    }
}

pub(super) fn key(repository: &Repository) -> String {
    format!("{REPOSITORIES}{}/{}", repository.namespace, repository.name)
}

/// The repository of a key.
pub(super) fn repository(key: &str) -> Option<Repository> {
    let (namespace, name) = key.strip_prefix(REPOSITORIES)?.split_once('/')?;
    Repository::new(namespace, name).ok()
}

pub(super) fn record_key(namespace: &str, id: &str) -> String {
    format!("{CONTENTS}{namespace}/{id}")
}

/// The namespace and the place of a record's key.
pub(super) fn recorded(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(CONTENTS)?.split_once('/')
}

pub(super) fn chunk_key(id: &str, number: u32) -> String {
    format!("{CHUNKS}{id}/{number:08}")
}

// What is sealed is what begins so.
const _: () =
    assert!(REPOSITORIES.len() > PREFIX.len() && CONTENTS.len() > PREFIX.len() && CHUNKS.len() > PREFIX.len());
