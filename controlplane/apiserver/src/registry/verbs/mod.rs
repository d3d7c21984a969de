//! The verbs: what each does to a kind, with the same rules for every kind.

mod apply;
mod approve;
mod collection;
mod create;
mod decode;
mod delete;
mod get;
mod list;
mod modify;
mod options;
mod page;
mod patch;
mod scale;
mod update;
mod watch;

use std::sync::Arc;

use api::Status;
use api::time::Timestamp;
use bytes::Bytes;
use http::StatusCode;

pub(crate) use approve::approve_part;
pub(crate) use collection::delete_collection;
pub(crate) use create::create;
pub(crate) use decode::{from_storage, to_storage};
pub(crate) use delete::{Answer, delete, delete_object};
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use modify::{Current, Flavour, New, modify};
pub(crate) use options::{DeleteOptions, WriteOptions, manager, write_options, wrong_manager};
pub(crate) use patch::{PatchType, patch};
pub(crate) use scale::{as_scale, get_scale, patch_scale, take_scale, update_scale};
pub(crate) use update::update;
pub(crate) use watch::watch;

use super::catalog::Endpoint;
use super::resource::Context;
use crate::authn::UserInfo;
use crate::http::accept::Accepted;
use crate::http::info::RequestInfo;
use crate::http::query::Query;
use crate::server::Shared;

/// One request on one kind, authorized.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) server: &'a Arc<Shared>,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) info: &'a RequestInfo<'a>,
    pub(crate) user: &'a UserInfo,
    pub(crate) query: &'a Query<'a>,
    pub(crate) accepted: Accepted,
    /// Who comes to own the fields that the request changes: the field manager it names, else its user agent's name.
    pub(crate) manager: &'a str,
    /// Whether the admission that users bring along has a say: not on what the server does of itself.
    pub(crate) extended: bool,
    pub(crate) now: Timestamp,
}

impl<'a> Call<'a> {
    /// The namespace the request is about; `None` for cluster-scoped kinds and for all namespaces at once.
    pub(crate) fn namespace(&self) -> Option<&'a str> {
        let namespaced = self.endpoint.resource().is_namespaced();
        (namespaced && !self.info.namespace.is_empty()).then_some(&*self.info.namespace)
    }

    pub(crate) fn name(&self) -> &'a str {
        &self.info.name
    }

    pub(crate) fn subresource(&self) -> Option<&'a str> {
        (!self.info.subresource.is_empty()).then_some(self.info.subresource)
    }

    pub(crate) fn context(&self, dry_run: bool) -> Context<'a> {
        Context {
            user: self.user,
            now: self.now,
            namespace: self.namespace(),
            version: &self.endpoint.served().version,
            subresource: self.subresource(),
            dry_run,
        }
    }

    pub(crate) fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.endpoint.group_resource(), name)
    }
}

/// An object to answer with: JSON in the storage version with its revision in place.
pub(crate) struct Reply {
    pub(crate) code: StatusCode,
    pub(crate) bytes: Bytes,
    pub(crate) warnings: Vec<String>,
}
