//! What can be done to a pod beside reading and writing it: binding it to a node, evicting it, reading its logs,
//! entering it.

mod evict;
pub mod log;
pub mod stream;

use std::sync::Arc;

use api::{GroupKind, Object, Status, StatusDetails};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Binding;
use schema::openapi::schema_json;

use crate::admission::dynamic::KindName;
use crate::registry::verbs::{Call, Flavour, New, WriteOptions, approve_part, modify};
use crate::registry::virtuals::{Passing, Request, Response, Virtual, VirtualContext, VirtualRoute};

pub(crate) use evict::evict;

/// Assigns a pod to the node a Binding names, by compare-and-set; gives warnings too.
pub(crate) async fn bind(call: &Call<'_>, mut binding: Object) -> Result<(Status, Vec<String>), Status> {
    check_name(call, &binding)?;
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let kind = KindName::new("", "v1", "Binding");
    let warnings = approve_part(call, kind, &mut binding, options.dry_run).await?;
    let assign = |pod: &Object| {
        let mut object = pod.clone();
        crate::resources::core::pod::bind(&mut object, &binding, call.now)?;
        Ok(New {
            object,
            warnings: Vec::new(),
            managed: true,
        })
    };
    modify(call, Flavour::Decided, options.dry_run, assign).await?;
    Ok((created(), warnings))
}

/// `bindings`, the older way to bind the pod that a Binding names.
pub(crate) fn bindings() -> VirtualRoute {
    VirtualRoute {
        group: "",
        version: "v1",
        resource: "bindings",
        subresource: None,
        namespaced: true,
        kind: "Binding",
        kind_group_version: None,
        definition: Some(("io.k8s.api.core.v1.Binding", schema_json::<Binding>)),
        verbs: &["create"],
        passing: Passing::Create,
        handler: Arc::new(Bindings),
    }
}

struct Bindings;

#[async_trait]
impl Virtual for Bindings {
    async fn call(&self, _: VirtualContext, _: Request) -> Result<Response, Status> {
        Err(Status::no_such_path())
    }

    fn stands_for(&self) -> Option<(&'static str, &'static str)> {
        Some(("pods", "binding"))
    }
}

/// The name in the body, if there is one, must be the URL's.
fn check_name(call: &Call<'_>, object: &Object) -> Result<(), Status> {
    if object.name().is_empty() || object.name() == call.name() {
        return Ok(());
    }
    let kind = GroupKind::new("", object.kind());
    let path = api::Path::root("metadata").child("name");
    let error = api::FieldError::invalid(&path, object.name(), "must match the pod's name in the URL");
    Err(Status::invalid(&kind, object.name(), vec![error]))
}

fn created() -> Status {
    let mut status = Status::success(StatusDetails::default());
    status.details = None;
    status.code = 201;
    status
}
