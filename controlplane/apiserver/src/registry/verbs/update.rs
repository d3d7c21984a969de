//! update: PUT of a whole object, of its status, or of a namespace's finalizers.

use api::{Object, Status};
use http::StatusCode;

use super::apply::{authorize_create, check_identity};
use super::create::create_object;
use super::modify::{Flavour, New, modify};
use super::options::WriteOptions;
use super::{Call, Reply, decode};
use crate::http::decode::Media;
use crate::registry::{managed, metadata};

pub(crate) async fn update(call: &Call<'_>, flavour: Flavour, body: &[u8], media: Media) -> Result<Reply, Status> {
    let options = WriteOptions::parse(call.query, "UpdateOptions")?;
    let mut warnings = Vec::new();
    let mut object = decode::object(call, body, media, options.validation, &mut warnings)?;
    check_identity(call, &object)?;
    warnings.extend(metadata::without_duplicate_owners(&mut object, ""));
    let replace = |_: &Object| {
        Ok(New {
            object: object.clone(),
            warnings: warnings.clone(),
            managed: false,
        })
    };
    match modify(call, flavour, options.dry_run, replace).await {
        Err(status) if status.is("NotFound") && creates(call, flavour) => {
            authorize_create(call).await?;
            managed::track(call, None, &mut object);
            let reply = create_object(call, object, options, warnings).await?;
            Ok(Reply {
                code: StatusCode::CREATED,
                ..reply
            })
        }
        result => result,
    }
}

fn creates(call: &Call<'_>, flavour: Flavour) -> bool {
    flavour == Flavour::Whole && call.endpoint.resource().strategy.allow_create_on_update()
}
