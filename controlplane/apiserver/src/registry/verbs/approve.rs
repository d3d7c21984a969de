//! What stands between a decoded object and its commit: mutating admission, preparation, claims, validation, validating
//! admission, in that order.

use std::sync::Arc;

use api::{Object, Status};

use super::Call;
use crate::admission::{Admission, AdmissionRequest};
use crate::registry::metadata::bump_generation;
use crate::registry::resource::{EffectsContext, Operation, Rollback};
use crate::resources::validation::merge;

/// The claims of an approved write, if it made any: to be committed or rolled back.
#[derive(Default)]
pub(super) struct Claims(Option<Box<dyn Rollback>>);

impl Claims {
    pub(super) async fn commit(self, stored: &Object) {
        if let Some(claims) = self.0 {
            claims.commit(stored).await;
        }
    }

    pub(super) async fn rollback(self) {
        if let Some(claims) = self.0 {
            claims.rollback().await;
        }
    }
}

/// Takes `object`, in the storage version, to the state in which it may be committed, or refuses it.
pub(super) async fn approve(
    call: &Call<'_>,
    operation: &Operation<'_>,
    object: &mut Object,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<Claims, Status> {
    let plugins = plugins(call, operation);
    if !plugins.is_empty() {
        admit(call, &plugins, operation, object, dry_run, warnings).await?;
    }
    let cx = call.context(dry_run);
    let resource = call.endpoint.resource();
    resource.strategy.prepare(&cx, operation, object);
    if let Some(old) = operation.old() {
        bump_generation(resource, old, object);
    }
    let claims = match &resource.effects {
        Some(effects) if !dry_run => {
            let cx = EffectsContext {
                cx,
                reader: &*call.server.reader,
            };
            Claims(Some(effects.begin(&cx, operation, object).await?))
        }
        _ => Claims::default(),
    };
    match judge(call, &plugins, operation, object, dry_run, warnings).await {
        Ok(()) => Ok(claims),
        Err(status) => {
            claims.rollback().await;
            Err(status)
        }
    }
}

/// Refuses a removal that validating admission objects to.
pub(super) async fn approve_delete(call: &Call<'_>, old: &Object, dry_run: bool) -> Result<(), Status> {
    let operation = Operation::Delete { old };
    let plugins = plugins(call, &operation);
    let mut request = request(call, &operation, None, dry_run);
    for plugin in &plugins {
        plugin.admit(&mut request).await?;
    }
    for plugin in &plugins {
        plugin.validate(&request).await?;
    }
    Ok(())
}

fn plugins<'a>(call: &Call<'a>, operation: &Operation<'_>) -> Vec<&'a Arc<dyn Admission>> {
    let resource = call.endpoint.resource();
    let handles = |p: &&Arc<dyn Admission>| p.handles(operation, resource, call.subresource());
    call.server.admission.iter().filter(handles).collect()
}

fn request<'r>(
    call: &Call<'r>,
    operation: &Operation<'r>,
    object: Option<&'r mut Object>,
    dry_run: bool,
) -> AdmissionRequest<'r> {
    AdmissionRequest {
        user: call.user,
        operation: *operation,
        resource: call.endpoint.resource(),
        subresource: call.subresource(),
        namespace: call.namespace(),
        name: call.name(),
        object,
        old: operation.old(),
        dry_run,
        reader: &*call.server.reader,
        warnings: parking_lot::Mutex::default(),
    }
}

async fn admit(
    call: &Call<'_>,
    plugins: &[&Arc<dyn Admission>],
    operation: &Operation<'_>,
    object: &mut Object,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let mut request = request(call, operation, Some(&mut *object), dry_run);
    for plugin in plugins {
        plugin.admit(&mut request).await?;
    }
    warnings.append(&mut request.warnings.into_inner());
    // What a plugin added may have defaults of its own.
    schema::default(object, call.endpoint.resource().storage().schema());
    Ok(())
}

async fn judge(
    call: &Call<'_>,
    plugins: &[&Arc<dyn Admission>],
    operation: &Operation<'_>,
    object: &mut Object,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let cx = call.context(dry_run);
    let resource = call.endpoint.resource();
    let by_kind = resource.strategy.validate(&cx, operation, object);
    let errors = merge(by_kind, schema::validate(object, resource.storage().schema()));
    if !errors.is_empty() {
        return Err(Status::invalid(&call.endpoint.group_kind(), object.name(), errors));
    }
    warnings.extend(resource.strategy.warnings(&cx, operation, object));
    let request = request(call, operation, Some(object), dry_run);
    for plugin in plugins {
        plugin.validate(&request).await?;
    }
    warnings.append(&mut request.warnings.into_inner());
    Ok(())
}
