//! Records as they rest: the JSON that they travel as, a quarter of what the same takes as a tree of strings. There are
//! thousands of them, and each is looked at when its pod begins, ends or is asked about.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

/// A record at rest.
#[derive(Debug)]
pub(crate) struct Packed<R> {
    json: Box<[u8]>,
    of: PhantomData<fn() -> R>,
}

impl<R: Serialize + DeserializeOwned> Packed<R> {
    /// Packs a record of the protocol, all of which can be JSON.
    pub(crate) fn new(record: &R) -> Self {
        Self {
            json: serde_json::to_vec(record).unwrap_or_default().into_boxed_slice(),
            of: PhantomData,
        }
    }

    /// The record.
    pub(crate) fn unpack(&self) -> Option<R> {
        serde_json::from_slice(&self.json).ok()
    }
}

impl<R> PartialEq for Packed<R> {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}
