//! The scale subresource: replica counts of any kind that has them, as `autoscaling/v1` Scale.

use api::{FieldError, LabelSelector, Object, Path, Status};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::modify::{Current, Flavour, New, modify};
use super::options::WriteOptions;
use super::patch::{Patch, PatchType};
use super::{Call, Reply};
use crate::http::decode::{Media, parse};
use crate::registry::index::parse as parse_stored;
use crate::registry::resource::Subresource;

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

    fn scale(&self, object: &Object) -> Value {
        let mut metadata = serde_json::Map::new();
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = object.at(&format!("metadata.{field}")) {
                metadata.insert(field.to_owned(), value.clone());
            }
        }
        let selector = object.at(self.selector).and_then(selector);
        let mut status = json!({"replicas": object.i64_at(self.status).unwrap_or_default()});
        if let (Some(selector), Some(status)) = (selector, status.as_object_mut()) {
            status.insert("selector".to_owned(), selector.to_string().into());
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

pub(crate) async fn get_scale(call: &Call<'_>) -> Result<Bytes, Status> {
    let paths = Paths::of(call)?;
    let current = Current::load(&call.endpoint.kind, call.namespace(), call.name()).await?;
    let current = current.ok_or_else(|| call.not_found(call.name()))?;
    Ok(paths.scale(&current.object).to_string().into())
}

pub(crate) async fn update_scale(call: &Call<'_>, body: &[u8], media: Media) -> Result<Reply, Status> {
    let options = WriteOptions::parse(call.query, "UpdateOptions")?;
    let paths = Paths::of(call)?;
    let scale = parse(body, media)?;
    let reply = modify(call, Flavour::Whole, options.dry_run, |old| {
        with_scale(call, &paths, old, &scale)
    })
    .await?;
    Ok(answer(&paths, reply))
}

pub(crate) async fn patch_scale(call: &Call<'_>, patch_type: PatchType, body: &[u8]) -> Result<Reply, Status> {
    let options = WriteOptions::parse(call.query, "PatchOptions")?;
    let paths = Paths::of(call)?;
    let patch = Patch::parse(patch_type, body)?;
    let make = |old: &Object| {
        let mut tree = paths.scale(old);
        patch.apply(&mut tree, &schema::Schema::preserve_unknown())?;
        let scale = Object::from_value(tree).map_err(|error| Status::bad_request(error.to_string()))?;
        with_scale(call, &paths, old, &scale)
    };
    let reply = modify(call, Flavour::Whole, options.dry_run, make).await?;
    Ok(answer(&paths, reply))
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
    let path = Path::root("spec").child("replicas");
    let replicas = match scale.at("spec.replicas") {
        None | Some(Value::Null) => 0,
        Some(value) => value
            .as_i64()
            .filter(|n| i32::try_from(*n).is_ok())
            .ok_or_else(|| Status::bad_request(format!("spec.replicas: {value} is not a 32-bit integer")))?,
    };
    if replicas < 0 {
        let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
        let kind = api::GroupKind::new("autoscaling", "Scale");
        return Err(Status::invalid(&kind, call.name(), vec![error]));
    }
    let mut object = old.clone();
    object.set(paths.spec, replicas);
    object.set_resource_version(scale.resource_version());
    if !scale.uid().is_empty() {
        object.set_uid(scale.uid());
    }
    Ok(New {
        object,
        warnings: Vec::new(),
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
