//! VolumeAttachment: the wish that a volume be attached to a node, and whether it is.
//!
//! Of a volume described in place (`inlineVolumeSpec`), only that it is there is checked here.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, FieldErrors, Object};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use serde_json::{Value, json};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::keep_status_apart;
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, driver, meta};

const MAX_METADATA: usize = 256 * 1024;
const MAX_MESSAGE: usize = 1024;

pub(crate) fn resource() -> Resource {
    Resource::of::<VolumeAttachment>()
        .strategy(Attachments)
        .printer(definitions(), cells)
        .status()
        .build()
}

struct Attachments;

impl Strategy for Attachments {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(op, new, || json!({"attached": false}));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        driver::name(&spec.child("attacher"), &mut errors);
        source(&spec.child("source"), &mut errors);
        spec.child("nodeName").check(&mut errors, is_dns1123_subdomain);
        status(&At::root(new, "status"), &mut errors);
        let volume = spec.child("source").child("persistentVolumeName");
        if volume.is_set() {
            volume.check(&mut errors, is_dns1123_subdomain);
        }
        if let Some(old) = op.old() {
            spec.immutable(&mut errors, &At::root(old, "spec"));
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn source(at: &At<'_>, errors: &mut FieldErrors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let (inline, named) = (at.child("inlineVolumeSpec"), at.child("persistentVolumeName"));
    match (inline.is_set(), named.is_set()) {
        (false, false) => errors.push(at.required(ONE)),
        (true, true) => errors.push(at.forbidden(ONE)),
        (false, true) if named.is_empty() => errors.push(named.required("must specify non empty persistentVolumeName")),
        _ => {}
    }
}

fn status(at: &At<'_>, errors: &mut FieldErrors) {
    let metadata = at.child("attachmentMetadata");
    let size: usize = metadata
        .entries()
        .iter()
        .map(|(key, value)| key.len() + value.str().len())
        .sum();
    if size > MAX_METADATA {
        errors.push(FieldError::too_long(metadata.path(), MAX_METADATA));
    }
    for field in ["attachError", "detachError"] {
        let error = at.child(field);
        let message = error.child("message");
        if message.str().len() > MAX_MESSAGE {
            // Kubernetes names the other limit here.
            errors.push(FieldError::too_long(message.path(), MAX_METADATA));
        }
        error.child("errorCode").within(errors, 0, i32::MAX.into());
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Attacher|string|name|The driver that attaches.",
        "PV|string||The volume to attach.",
        "Node|string||The node to attach it to.",
        "Attached|boolean||Whether it is attached.",
        "Age|string",
    ])
}

fn cells(attachment: &Object, now: Timestamp) -> Vec<Value> {
    let text = |path: &str| Value::from(attachment.str_at(path).unwrap_or_default());
    vec![
        attachment.name().into(),
        text("spec.attacher"),
        text("spec.source.persistentVolumeName"),
        text("spec.nodeName"),
        attachment.bool_at("status.attached").unwrap_or_default().into(),
        age(attachment.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let attachment = |spec: Value| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "a",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, "status": {"attached": true}})
    };
    let good = json!({"attacher": "Disk.example.com", "nodeName": "n1", "source": {"persistentVolumeName": "v"}});
    let both = json!({"persistentVolumeName": "v", "inlineVolumeSpec": {}});
    crate::resources::testing::Cases {
        valid: vec![attachment(good.clone())],
        invalid: vec![
            (
                attachment(json!({"attacher": "", "nodeName": "n1"})),
                vec![
                    "spec.attacher: Required value",
                    "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                ],
            ),
            (
                attachment(json!({"attacher": "a", "nodeName": "n1", "source": both})),
                vec!["spec.source: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName"],
            ),
        ],
        table: vec![attachment(good)],
    }
}
