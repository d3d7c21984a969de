//! create: stamp, approve, and write a key that must not exist, guarded by the namespace it goes into.

use api::names::{GroupResource, generate_name};
use api::{Object, Status};
use http::StatusCode;
use store::{Expect, Key, Kv, Outcome, Write};

use super::approve::approve;
use super::modify::answered;
use super::options::WriteOptions;
use super::{Call, Reply, decode};
use crate::audit::annotations;
use crate::http::decode::Media;
use crate::http::respond::store_error;
use crate::registry::custom::{self, convert};
use crate::registry::resource::Operation;
use crate::registry::{encode, managed, metadata};

/// How often a create starts over: generated names that were taken, or a namespace that changed meanwhile.
const ATTEMPTS: usize = 8;

pub(crate) async fn create(call: &Call<'_>, body: &[u8], media: Media) -> Result<Reply, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let mut warnings = Vec::new();
    let mut object = decode::object(call, body, media, options.validation, &mut warnings)?;
    annotations::sent(&object);
    warnings.extend(metadata::without_duplicate_owners(&mut object, ""));
    managed::track(call, None, &mut object);
    create_object(call, object, options, warnings).await
}

/// Creates an object that is decoded and in the storage version, with its managed fields.
pub(super) async fn create_object(
    call: &Call<'_>,
    mut template: Object,
    options: WriteOptions,
    mut warnings: Vec<String>,
) -> Result<Reply, Status> {
    check_template(call, &mut template)?;
    let mut taken = None;
    for _ in 0..ATTEMPTS {
        let namespace = Surroundings::current(call, template.name())?;
        let mut object = template.clone();
        stamp(call, &mut object);
        let known_warnings = warnings.len();
        let (name, dry) = (template.name(), options.dry_run);
        let claims = approve(call, &Operation::Create, name, &mut object, dry, &mut warnings).await?;
        if options.dry_run {
            return dry_run(call, &object, warnings).await;
        }
        if template.resource_version().is_some_and(|version| version != "0") {
            claims.rollback().await;
            return Err(versioned());
        }
        let kind = &call.endpoint.kind;
        let key: Key = kind.key(call.namespace(), object.name()).into();
        let bytes = encode::stored(&*convert::to_storage(call.endpoint, &object).await?);
        let write = Write {
            key: key.clone(),
            expect: Expect::Absent,
            value: Some(bytes.clone()),
            guards: namespace.guards(),
            ttl: kind.resource.ttl,
        };
        let refused = match call.server.backend.write(write).await {
            Ok(Outcome::Committed(revision) | Outcome::Unchanged(revision)) => {
                claims.commit(&object).await;
                let bytes = answered(kind, &object, &bytes, revision);
                return Ok(Reply {
                    code: StatusCode::CREATED,
                    bytes,
                    warnings,
                });
            }
            Ok(Outcome::Conflict { key: moved, current }) => Ok((moved, current)),
            Err(error) => Err(store_error(error)),
        };
        claims.rollback().await;
        let (moved, current) = refused?;
        warnings.truncate(known_warnings);
        if moved != key {
            namespace.catch_up(call, &moved, current).await?;
        } else if template.name().is_empty() {
            taken = Some(object.name().to_owned());
        } else {
            return Err(Status::already_exists(&call.endpoint.group_resource(), object.name()));
        }
    }
    let resource = call.endpoint.group_resource();
    Err(match taken {
        Some(name) => Status::generate_name_conflict(&resource, &name, 1),
        None => Status::server_timeout(&resource, "create", 1),
    })
}

/// Kubernetes' store refuses it, after everybody else was asked.
fn versioned() -> Status {
    let mut status = Status::internal("");
    status.message = "resourceVersion should not be set on objects to be created".to_owned();
    status.reason.clear();
    status.details = None;
    status
}

fn check_template(call: &Call<'_>, template: &mut Object) -> Result<(), Status> {
    if template.name().contains('/') {
        let path = api::Path::root("metadata").child("name");
        let error = api::FieldError::invalid(&path, template.name(), "may not contain '/'");
        return Err(Status::invalid(
            &call.endpoint.group_kind(),
            template.name(),
            vec![error],
        ));
    }
    metadata::check_namespace(template, call.namespace())
}

fn stamp(call: &Call<'_>, object: &mut Object) {
    object.set_resource_version(None);
    if object.name().is_empty()
        && let Some(base) = object.generate_name()
    {
        let mut random = |below: usize| rand::random_range(0..below);
        let name = generate_name(base, &mut random);
        object.set_name(&name);
    }
    let uid = crate::random_uuid().to_string();
    metadata::on_create(call.endpoint.resource(), object, call.namespace(), &uid, call.now);
}

async fn dry_run(call: &Call<'_>, object: &Object, warnings: Vec<String>) -> Result<Reply, Status> {
    let kind = &call.endpoint.kind;
    kind.cache.fresh().await.map_err(store_error)?;
    if kind.cache.get(&kind.key(call.namespace(), object.name())).is_some() {
        return Err(Status::already_exists(&call.endpoint.group_resource(), object.name()));
    }
    Ok(Reply {
        code: StatusCode::CREATED,
        bytes: encode::served(object),
        warnings,
    })
}

/// What an object comes into, as it is before admission looks at it: its namespace, and the definition of its kind. Both
/// must still be that when the write commits, so that nothing appears in what has begun to go.
struct Surroundings(Vec<(Key, Expect)>);

impl Surroundings {
    fn current(call: &Call<'_>, name: &str) -> Result<Self, Status> {
        let registry = &call.server.registry;
        let namespace = call.namespace().and_then(|name| {
            let namespaces = registry.kind("", "namespaces")?;
            let item = namespaces.cache.get(&namespaces.key(None, name))?;
            Some((item.key.clone(), Expect::At(item.revision)))
        });
        let mut guards: Vec<(Key, Expect)> = namespace.into_iter().collect();
        if let Some(custom) = &call.endpoint.kind.custom {
            guards.push(custom.guard(registry, call, name)?);
        }
        Ok(Surroundings(guards))
    }

    fn guards(&self) -> Vec<(Key, Expect)> {
        self.0.clone()
    }

    /// Lets the cache come to what the store says of what has changed, so that the next attempt judges by that.
    async fn catch_up(&self, call: &Call<'_>, moved: &Key, current: Option<Kv>) -> Result<(), Status> {
        let custom = call.endpoint.kind.custom.as_ref();
        if custom.is_some_and(|custom| custom.definition == *moved) {
            return custom::catch_up(&call.server.registry).await;
        }
        let namespace = call.namespace().unwrap_or_default();
        let Some(namespaces) = call.server.registry.kind("", "namespaces") else {
            return Ok(());
        };
        namespaces.cache.fresh().await.map_err(store_error)?;
        match current {
            Some(_) => Ok(()),
            None => Err(Status::not_found(&GroupResource::new("", "namespaces"), namespace)),
        }
    }
}
