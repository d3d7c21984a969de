//! patch: JSON patch, merge patch and strategic merge patch, applied to the object as it is now in the caller's version.

use api::names::GroupKind;
use api::{FieldError, Object, Path, Status};
use serde_json::Value;

use super::apply::{apply, check_identity};
use super::decode::{self, from_storage};
use super::modify::{Flavour, New, modify};
use super::options::WriteOptions;
use super::{Call, Reply};
use crate::registry::metadata;

/// The kinds of patch, by their media types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
    /// Server-side apply.
    Apply,
}

const ACCEPTED: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

impl PatchType {
    /// By `Content-Type`.
    pub(crate) fn parse(content_type: Option<&str>) -> Result<Self, Status> {
        match content_type {
            Some("application/json-patch+json") => Ok(PatchType::Json),
            Some("application/merge-patch+json") => Ok(PatchType::Merge),
            Some("application/strategic-merge-patch+json") => Ok(PatchType::Strategic),
            Some("application/apply-patch+yaml") => Ok(PatchType::Apply),
            _ => Err(Status::unsupported_media_type(&ACCEPTED)),
        }
    }
}

pub(crate) async fn patch(
    call: &Call<'_>,
    flavour: Flavour,
    patch_type: PatchType,
    body: &[u8],
) -> Result<Reply, Status> {
    if patch_type == PatchType::Apply {
        return apply(call, flavour, body).await;
    }
    let options = WriteOptions::of_patch(call.query, false)?;
    let patch = Patch::parse(patch_type, body)?;
    let make = |old: &Object| {
        let mut object = old.clone();
        from_storage(call.endpoint, &mut object);
        let mut tree = object.into_value();
        patch.apply(&mut tree, call.endpoint.served().schema())?;
        let mut warnings = Vec::new();
        let mut object = match &patch {
            Patch::Strategic(given) => decode::merged(call, &mut tree, options.validation, &mut warnings)
                .map_err(|why| unfit(&api::text::go(given), &why)),
            Patch::Json(_) | Patch::Merge(_) => {
                let text = tree.to_string();
                decode::patched(call, &mut tree, options.validation, &mut warnings).map_err(|why| unfit(&text, &why))
            }
        }?;
        check_identity(call, &mut object)?;
        warnings.extend(metadata::without_duplicate_owners(
            &mut object,
            " after mutating admission happens",
        ));
        Ok(New {
            object,
            warnings,
            managed: false,
        })
    };
    modify(call, flavour, options.dry_run, make).await
}

/// A patch that is known to be JSON of the right shape.
pub(super) enum Patch<'a> {
    Json(&'a [u8]),
    Merge(Value),
    Strategic(Value),
}

impl<'a> Patch<'a> {
    pub(super) fn parse(patch_type: PatchType, body: &'a [u8]) -> Result<Self, Status> {
        if patch_type == PatchType::Json {
            return Ok(Patch::Json(body));
        }
        let map = schema::patch::map(body).map_err(|error| match patch_type {
            PatchType::Strategic => Status::bad_request(error.to_string()),
            _ => Status::bad_request(format!("error decoding patch: {error}")),
        })?;
        Ok(match patch_type {
            PatchType::Strategic => Patch::Strategic(map),
            _ => Patch::Merge(map),
        })
    }

    pub(super) fn apply(&self, tree: &mut Value, schema: &schema::Schema) -> Result<(), Status> {
        match self {
            Patch::Json(patch) => schema::patch::json(tree, patch),
            Patch::Merge(patch) => {
                schema::patch::merge(tree, patch);
                Ok(())
            }
            Patch::Strategic(patch) => schema::patch::strategic(tree, patch, schema),
        }
        .map_err(crate::http::respond::patch_error)
    }
}

/// The patched tree is not an object of the kind. `shown` is that tree or, of a strategic merge patch, the patch.
fn unfit(shown: &str, why: &str) -> Status {
    let error = FieldError::invalid(&Path::root("patch"), shown, why);
    Status::invalid(&GroupKind::new("", ""), "", vec![error])
}
