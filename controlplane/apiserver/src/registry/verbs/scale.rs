//! The scale subresource: replica counts of any kind that has them, as `autoscaling/v1` Scale.

use std::sync::OnceLock;

use api::{FieldError, LabelSelector, Object, Path, Status};
use bytes::Bytes;
use http::StatusCode;
use schema::Schema;
use schema::apply::{Versions, Writer, apply, scale as ownership, update};
use serde_json::{Value, json};

use super::apply::Configuration;
use super::modify::{Current, Flavour, New, modify};
use super::options::WriteOptions;
use super::patch::{Patch, PatchType};
use super::{Call, Reply};
use crate::http::accept::Include;
use crate::http::decode::{Media, parse};
use crate::registry::index::parse as parse_stored;
use crate::registry::resource::Subresource;
use crate::registry::{managed, render};

const API_VERSION: &str = "autoscaling/v1";

/// Where a kind keeps what a Scale shows.
struct Paths<'a> {
    spec: &'a str,
    status: &'a str,
    selector: &'a str,
}

impl<'a> Paths<'a> {
    fn of(call: &Call<'a>) -> Result<Self, Status> {
        match call.endpoint.subresource("scale") {
            Some(Subresource::Scale {
                spec_replicas,
                status_replicas,
                selector,
            }) => Ok(Paths {
                spec: spec_replicas,
                status: status_replicas,
                selector,
            }),
            _ => Err(Status::no_such_path()),
        }
    }

    /// A custom resource may lack what its definition says it has.
    fn check(&self, call: &Call<'_>, object: &Object) -> Result<(), Status> {
        match object.i64_at(self.spec) {
            None if call.endpoint.kind.custom.is_some() => Err(Status::internal(&format!(
                "the spec replicas field {:?} does not exist",
                format!(".{}", self.spec)
            ))),
            _ => Ok(()),
        }
    }

    fn scale(&self, object: &Object) -> Value {
        let mut metadata = serde_json::Map::new();
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = object.at(&format!("metadata.{field}")) {
                metadata.insert(field.to_owned(), value.clone());
            }
        }
        let selector = match object.at(self.selector) {
            // A custom resource holds it as text.
            Some(Value::String(text)) => Some(text.clone()),
            Some(value) => selector(value).map(|selector| selector.to_string()),
            None => None,
        };
        let mut status = json!({"replicas": object.i64_at(self.status).unwrap_or_default()});
        if let (Some(selector), Some(status)) = (selector, status.as_object_mut()) {
            status.insert("selector".to_owned(), selector.into());
        }
        let replicas = object.i64_at(self.spec).unwrap_or_default();
        let spec = if replicas == 0 {
            json!({})
        } else {
            json!({"replicas": replicas})
        };
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
    }
}

/// A selector, or labels that ask for themselves, as a ReplicationController has them.
fn selector(value: &Value) -> Option<LabelSelector> {
    let entries = value.as_object().into_iter().flatten();
    let labels: Option<Vec<(&str, &str)>> = entries
        .map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    match labels {
        Some(labels) => Some(LabelSelector::from_labels(labels)),
        None => LabelSelector::from_json(value).ok(),
    }
}

/// The Scale of an object, as admission sees it.
pub(crate) fn as_scale(call: &Call<'_>, object: &Object) -> Result<Object, Status> {
    let scale = Paths::of(call)?.scale(object);
    Object::from_value(scale).map_err(|error| Status::internal(&error.to_string()))
}

/// Takes back a Scale that admission has changed.
pub(crate) fn take_scale(call: &Call<'_>, scale: &Value, object: &mut Object) -> Result<(), Status> {
    let replicas = replicas(scale.pointer("/spec/replicas"), call.name())?;
    object.set(Paths::of(call)?.spec, replicas);
    Ok(())
}

/// How many replicas a Scale asks for.
fn replicas(given: Option<&Value>, name: &str) -> Result<i64, Status> {
    let replicas = match given {
        None | Some(Value::Null) => 0,
        Some(value) => value
            .as_i64()
            .filter(|n| i32::try_from(*n).is_ok())
            .ok_or_else(|| Status::bad_request(format!("spec.replicas: {value} is not a 32-bit integer")))?,
    };
    if replicas < 0 {
        let path = Path::root("spec").child("replicas");
        let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
        let kind = api::GroupKind::new("autoscaling", "Scale");
        return Err(Status::invalid(&kind, name, vec![error]));
    }
    Ok(replicas)
}

pub(crate) async fn get_scale(call: &Call<'_>, include: Include) -> Result<Bytes, Status> {
    let paths = Paths::of(call)?;
    let current = Current::load(call.endpoint, call.namespace(), call.name()).await?;
    let current = current.ok_or_else(|| call.not_found(call.name()))?;
    paths.check(call, &current.object)?;
    let scale = paths.scale(&current.object);
    Ok(render::scale(scale, call.accepted.form, include, call.now))
}

pub(crate) async fn update_scale(call: &Call<'_>, body: &[u8], media: Media) -> Result<Reply, Status> {
    let options = WriteOptions::parse(call.query, "UpdateOptions")?;
    let scale = parse(body, media)?;
    write(call, options, false, |_, _| Ok(scale.clone())).await
}

pub(crate) async fn patch_scale(call: &Call<'_>, patch_type: PatchType, body: &[u8]) -> Result<Reply, Status> {
    if patch_type == PatchType::Apply {
        return apply_scale(call, body).await;
    }
    let options = WriteOptions::of_patch(call.query, false)?;
    let patch = Patch::parse(patch_type, body)?;
    let make = |_: &Writer<'_>, old: &Object| {
        let mut tree = old.clone().into_value();
        patch.apply(&mut tree, &Schema::preserve_unknown())?;
        Object::from_value(tree).map_err(|error| Status::bad_request(error.to_string()))
    };
    write(call, options, false, make).await
}

async fn apply_scale(call: &Call<'_>, body: &[u8]) -> Result<Reply, Status> {
    let options = WriteOptions::of_patch(call.query, true)?;
    let config = Configuration::parse(body, options)?;
    config.check_kind(API_VERSION, "Scale")?;
    let make = |writer: &Writer<'_>, old: &Object| {
        apply(writer, Some(old), &config.object, config.force).map_err(|status| *status)
    };
    let mut reply = write(call, options, true, make).await?;
    reply.warnings.extend(config.warnings);
    Ok(reply)
}

/// Changes the object to what `make` makes of its Scale, and with it who owns the replica count: `make` says so itself when
/// it applies.
async fn write(
    call: &Call<'_>,
    options: WriteOptions,
    applies: bool,
    make: impl Fn(&Writer<'_>, &Object) -> Result<Object, Status>,
) -> Result<Reply, Status> {
    let paths = Paths::of(call)?;
    let now = api::time::rfc3339(call.now);
    let writer = writer(call, &now);
    let served = call.endpoint.resource().served.iter();
    let versions: Vec<_> = served.map(|served| (&*served.api_version, paths.spec)).collect();
    let change = |old: &Object| {
        let mut scale = Object::from_value(paths.scale(old)).map_err(|error| Status::internal(&error.to_string()))?;
        scale.set(
            managed::PATH,
            ownership::of_object(old.at(managed::PATH), &versions).unwrap_or_default(),
        );
        let mut new = make(&writer, &scale)?;
        let sent = new.remove(managed::PATH);
        let entries = match applies {
            true => sent,
            false => Some(update(&writer, Some(&scale), &new, None).into()),
        };
        let mut changed = with_scale(call, &paths, old, &new)?;
        let version = &call.endpoint.served().api_version;
        match ownership::to_object(old.at(managed::PATH), entries.as_ref(), version, &versions) {
            Ok(entries) if entries.is_empty() => drop(changed.object.remove(managed::PATH)),
            Ok(entries) => changed.object.set(managed::PATH, entries),
            Err(why) => tracing::debug!(%why, "managed fields are left as they are"),
        }
        Ok(changed)
    };
    let reply = modify(call, Flavour::Whole, options.dry_run, change).await?;
    Ok(answer(&paths, reply))
}

fn writer<'w>(call: &'w Call<'_>, now: &'w str) -> Writer<'w> {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    Writer {
        name: call.manager,
        version: API_VERSION,
        subresource: "scale",
        schema: SCHEMA
            .get_or_init(|| Schema::of::<k8s_openapi::api::autoscaling::v1::Scale>("io.k8s.api.autoscaling.v1.Scale")),
        versions: &OnlyOne,
        reset: &[],
        now,
    }
}

/// A Scale has one version.
struct OnlyOne;

impl Versions for OnlyOne {
    fn schema(&self, _: &str) -> Option<&Schema> {
        None
    }

    fn convert(&self, object: &Object, _: &str, _: &str) -> Object {
        object.clone()
    }
}

/// The object with the replicas that a Scale asks for.
fn with_scale(call: &Call<'_>, paths: &Paths<'_>, old: &Object, scale: &Object) -> Result<New, Status> {
    if scale.kind() != "Scale" {
        let why = format!("the body holds a {:?}, not a Scale of autoscaling/v1", scale.kind());
        return Err(Status::bad_request(why));
    }
    if scale.name() != call.name() {
        let (given, name) = (scale.name(), call.name());
        let why = format!("the name of the object ({given}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(why));
    }
    let replicas = replicas(scale.at("spec.replicas"), call.name())?;
    let mut object = old.clone();
    object.set(paths.spec, replicas);
    object.set_resource_version(scale.resource_version());
    if !scale.uid().is_empty() {
        object.set_uid(scale.uid());
    }
    Ok(New {
        object,
        warnings: Vec::new(),
        managed: true,
    })
}

fn answer(paths: &Paths<'_>, reply: Reply) -> Reply {
    let scale = paths.scale(&parse_stored(&reply.bytes));
    Reply {
        code: StatusCode::OK,
        bytes: scale.to_string().into(),
        ..reply
    }
}
