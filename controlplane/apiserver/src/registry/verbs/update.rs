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

/// How often an update that may create starts over, when others create and delete what it is about.
const ATTEMPTS: usize = 5;

pub(crate) async fn update(call: &Call<'_>, flavour: Flavour, body: &[u8], media: Media) -> Result<Reply, Status> {
    let options = WriteOptions::parse(call.query, "UpdateOptions")?;
    let mut warnings = Vec::new();
    let mut object = decode::object(call, body, media, options.validation, &mut warnings)?;
    check_identity(call, &mut object)?;
    warnings.extend(metadata::without_duplicate_owners(&mut object, ""));
    let replace = |_: &Object| {
        Ok(New {
            object: object.clone(),
            warnings: warnings.clone(),
            managed: false,
        })
    };
    for _ in 0..ATTEMPTS {
        match modify(call, flavour, options.dry_run, replace).await {
            Err(status) if status.is("NotFound") && creates(call, flavour) => {}
            result => return result,
        }
        // Unless somebody else creates it meanwhile.
        match create(call, &object, options, warnings.clone()).await {
            Err(status) if status.is("AlreadyExists") => {}
            result => return result,
        }
    }
    Err(Status::modified(&call.endpoint.group_resource(), call.name()))
}

async fn create(
    call: &Call<'_>,
    object: &Object,
    options: WriteOptions,
    warnings: Vec<String>,
) -> Result<Reply, Status> {
    if !object.uid().is_empty() {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: ",
            object.uid()
        );
        return Err(Status::conflict(&call.endpoint.group_resource(), call.name(), &why));
    }
    authorize_create(call).await?;
    let mut object = object.clone();
    // What was read before it went may come again.
    object.set_resource_version(None);
    managed::track(call, None, &mut object);
    let reply = create_object(call, object, options, warnings).await?;
    Ok(Reply {
        code: StatusCode::CREATED,
        ..reply
    })
}

fn creates(call: &Call<'_>, flavour: Flavour) -> bool {
    flavour == Flavour::Whole && call.endpoint.resource().strategy.allow_create_on_update()
}
