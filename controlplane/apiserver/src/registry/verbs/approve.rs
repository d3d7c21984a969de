//! What stands between a decoded object and its commit: mutating admission, preparation, claims, validation, validating
//! admission, in that order.

use std::sync::Arc;

use api::{Object, Status};

use super::Call;
use super::options::{DeleteOptions, write_options};
use crate::admission::dynamic::{KindName, Plans, Request, Rounds, Subject, admit_passing};
use crate::admission::{Admission, AdmissionRequest};
use crate::registry::metadata::{self, bump_generation};
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

/// Takes `object`, in the storage version, to the state in which it may be committed, or refuses it. `name` is what was
/// asked for: empty where the server has made a name.
pub(super) async fn approve(
    call: &Call<'_>,
    operation: &Operation<'_>,
    name: &str,
    object: &mut Object,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<Claims, Status> {
    let plugins = plugins(call, operation);
    let plans = call.server.dynamic.plans().await?;
    let asked = is_asked(call, &plans).then(|| Asked {
        plans: &plans,
        request: dynamic_request(call, operation, name, dry_run),
    });
    let asked = asked.as_ref();
    admit(call, &plugins, asked, operation, object, dry_run, warnings).await?;
    let cx = call.context(dry_run);
    let resource = call.endpoint.resource();
    resource.strategy.prepare(&cx, operation, object);
    if let Some(old) = operation
        .old()
        .filter(|_| !matches!(operation, Operation::UpdateStatus { .. }))
    {
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
    match judge(call, &plugins, asked, operation, object, dry_run, warnings).await {
        Ok(()) => Ok(claims),
        Err(status) => {
            claims.rollback().await;
            Err(status)
        }
    }
}

/// Whether what users brought along is asked about a request.
fn is_asked(call: &Call<'_>, plans: &Plans) -> bool {
    call.extended && (plans.mutates() || plans.validates())
}

/// What users brought along to decide on a request, and the request as they see it.
struct Asked<'r> {
    plans: &'r Plans,
    request: Request<'r>,
}

fn dynamic_request<'r>(call: &Call<'r>, operation: &Operation<'r>, name: &str, dry_run: bool) -> Request<'r> {
    let (word, kind) = match (operation, call.info.verb) {
        (Operation::Create, _) => ("CREATE", "CreateOptions"),
        (_, "patch") => ("UPDATE", "PatchOptions"),
        _ => ("UPDATE", "UpdateOptions"),
    };
    let options = write_options(call.query, kind);
    Request::of(*call, word, name.to_owned(), operation.old(), dry_run, options)
}

/// Refuses a removal that validating admission objects to; gives warnings.
pub(super) async fn approve_delete(
    call: &Call<'_>,
    old: &Object,
    options: &DeleteOptions,
) -> Result<Vec<String>, Status> {
    let operation = Operation::Delete { old };
    let plugins = plugins(call, &operation);
    let plans = call.server.dynamic.plans().await?;
    let mut warnings = Vec::new();
    {
        let mut request = request(call, &operation, None, options.dry_run);
        for plugin in &plugins {
            plugin.admit(&mut request).await?;
        }
    }
    let asked = is_asked(call, &plans).then(|| {
        let name = old.name().to_owned();
        Request::of(*call, "DELETE", name, Some(old), options.dry_run, options.json())
    });
    if let Some(asked) = &asked {
        let mut rounds = Rounds::default();
        Box::pin(plans.mutate(asked, None, &mut rounds, &mut warnings)).await?;
    }
    let request = request(call, &operation, None, options.dry_run);
    for plugin in plugins.iter().filter(|plugin| !plugin.is_last()) {
        plugin.validate(&request).await?;
    }
    if let Some(asked) = &asked {
        Box::pin(plans.validate(asked, None, &mut warnings)).await?;
    }
    for plugin in plugins.iter().filter(|plugin| plugin.is_last()) {
        plugin.validate(&request).await?;
    }
    Ok(warnings)
}

/// Admits a part of an object that is not stored as it is sent, such as a Binding; gives warnings.
pub(crate) async fn approve_part(
    call: &Call<'_>,
    kind: KindName,
    object: &mut Object,
    dry_run: bool,
) -> Result<Vec<String>, Status> {
    let mut warnings = Vec::new();
    let plans = call.server.dynamic.plans().await?;
    if is_asked(call, &plans) {
        let options = write_options(call.query, "CreateOptions");
        let mut request = Request::of(*call, "CREATE", call.name().to_owned(), None, dry_run, options);
        request.subject = Subject::Passing(kind);
        Box::pin(admit_passing(&plans, &request, object, &mut warnings)).await?;
    }
    Ok(warnings)
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

/// Lets the object be changed: by the server's own plugins, then by what users brought along; and once more by all, when
/// somebody has to see what others have made of it.
async fn admit(
    call: &Call<'_>,
    plugins: &[&Arc<dyn Admission>],
    asked: Option<&Asked<'_>>,
    operation: &Operation<'_>,
    object: &mut Object,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    change(call, plugins, operation, object, dry_run, warnings).await?;
    let Some(asked) = asked.filter(|asked| asked.plans.mutates()) else {
        return Ok(());
    };
    let mut rounds = Rounds::default();
    Box::pin(asked.plans.mutate(&asked.request, Some(object), &mut rounds, warnings)).await?;
    if rounds.wanted {
        let mut said = Vec::new();
        change(call, plugins, operation, object, dry_run, &mut said).await?;
        rounds.again = true;
        Box::pin(asked.plans.mutate(&asked.request, Some(object), &mut rounds, warnings)).await?;
        let when = " after mutating admission happens";
        warnings.extend(metadata::without_duplicate_owners(object, when));
    }
    Ok(())
}

/// Lets the server's own plugins change the object.
async fn change(
    call: &Call<'_>,
    plugins: &[&Arc<dyn Admission>],
    operation: &Operation<'_>,
    object: &mut Object,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if plugins.is_empty() {
        return Ok(());
    }
    let mut request = request(call, operation, Some(&mut *object), dry_run);
    for plugin in plugins {
        plugin.admit(&mut request).await?;
    }
    warnings.append(&mut request.warnings.into_inner());
    // What a plugin added may have defaults of its own.
    schema::default(object, call.endpoint.hub().schema());
    Ok(())
}

async fn judge(
    call: &Call<'_>,
    plugins: &[&Arc<dyn Admission>],
    asked: Option<&Asked<'_>>,
    operation: &Operation<'_>,
    object: &mut Object,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let cx = call.context(dry_run);
    let resource = call.endpoint.resource();
    let by_kind = resource.strategy.validate(&cx, operation, object);
    let errors = merge(by_kind, schema::validate(object, call.endpoint.hub().schema()));
    if !errors.is_empty() {
        return Err(Status::invalid(&call.endpoint.group_kind(), object.name(), errors));
    }
    warnings.extend(resource.strategy.warnings(&cx, operation, object));
    let request = request(call, operation, Some(object), dry_run);
    for plugin in plugins.iter().filter(|plugin| !plugin.is_last()) {
        plugin.validate(&request).await?;
    }
    if let Some(asked) = asked.filter(|asked| asked.plans.validates()) {
        let object = request.object.as_deref();
        Box::pin(asked.plans.validate(&asked.request, object, warnings)).await?;
    }
    for plugin in plugins.iter().filter(|plugin| plugin.is_last()) {
        plugin.validate(&request).await?;
    }
    warnings.append(&mut request.warnings.into_inner());
    Ok(())
}
