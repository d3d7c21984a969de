//! Server-side apply: which manager owns which fields, what an applied configuration makes of an object, and when it
//! conflicts with others.
//!
//! The rules are those of `sigs.k8s.io/structured-merge-diff` and of `k8s.io/apimachinery/pkg/util/managedfields`, which the
//! API server's clients rely on. Everything here is a function of trees and their schema: [`update()`] keeps the books of
//! whatever writes a whole object, [`apply()`] merges a configuration, [`scale`] translates for the scale subresource.
//! Absent on purpose: names, versions and preconditions of a request, which are the caller's to check.

mod compare;
mod configure;
mod conflict;
mod element;
mod extract;
mod last_applied;
mod managers;
mod merge;
mod mutation;
mod ownership;
mod prune;
mod reconcile;
mod remove;
pub mod scale;
mod set;
mod shape;
#[cfg(test)]
mod tests;
mod update;
mod validate;

use std::borrow::Cow;

use self::managers::{Manager, Operation};
pub use self::{
    configure::{apply, described},
    mutation::mutate,
    ownership::Versions,
    update::update,
};
use crate::schema::Schema;

/// Who writes an object, and as what.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager; empty when nobody said.
    pub name: &'a str,
    /// The `apiVersion` that the request is about; the objects are in it.
    pub version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// The schema of that version.
    pub schema: &'a Schema,
    pub versions: &'a dyn Versions,
    /// Dotted paths of fields that the endpoint sets back, which nobody comes to own by it.
    pub reset: &'a [&'a str],
    /// The time, as objects hold it.
    pub now: &'a str,
}

impl<'a> Writer<'a> {
    fn schema_of<'s>(&'s self, version: &str) -> Option<&'s Schema> {
        if version == self.version {
            return Some(self.schema);
        }
        self.versions.schema(version)
    }

    fn manager(&self, name: &'a str, operation: Operation) -> Manager<'a> {
        Manager {
            name: Cow::Borrowed(if name.is_empty() { "unknown" } else { name }),
            operation,
            version: Cow::Borrowed(self.version),
            subresource: Cow::Borrowed(self.subresource),
        }
    }
}
