//! create: stamp, approve, and write a key that must not exist, guarded by the namespace it goes into.

use api::names::{GroupResource, generate_name};
use api::{Object, Status};
use http::StatusCode;
use store::{Expect, Key, Kv, Outcome, Write};

use super::approve::approve;
use super::options::WriteOptions;
use super::{Call, Reply, decode};
use crate::http::decode::Media;
use crate::http::respond::store_error;
use crate::registry::resource::Operation;
use crate::registry::{encode, managed, metadata};

/// How often a create starts over: generated names that were taken, or a namespace that changed meanwhile.
const ATTEMPTS: usize = 8;

pub(crate) async fn create(call: &Call<'_>, body: &[u8], media: Media) -> Result<Reply, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let mut warnings = Vec::new();
    let mut object = decode::object(call, body, media, options.validation, &mut warnings)?;
    warnings.extend(metadata::without_duplicate_owners(&mut object, ""));
    managed::track(call, None, &mut object);
    create_object(call, object, options, warnings).await
}

/// Creates an object that is decoded and in the storage version, with its managed fields.
pub(super) async fn create_object(
    call: &Call<'_>,
    template: Object,
    options: WriteOptions,
    mut warnings: Vec<String>,
) -> Result<Reply, Status> {
    check_template(call, &template)?;
    let mut taken = None;
    for _ in 0..ATTEMPTS {
        let namespace = Namespace::current(call);
        let mut object = template.clone();
        stamp(call, &mut object);
        let known_warnings = warnings.len();
        let claims = approve(call, &Operation::Create, &mut object, options.dry_run, &mut warnings).await?;
        if options.dry_run {
            return dry_run(call, &object, warnings).await;
        }
        let kind = &call.endpoint.kind;
        let key: Key = kind.key(call.namespace(), object.name()).into();
        let bytes = encode::stored(&object);
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
                let bytes = kind.index.with_revision(&bytes, revision);
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
            namespace.catch_up(call, current).await?;
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

fn check_template(call: &Call<'_>, template: &Object) -> Result<(), Status> {
    if template.resource_version().is_some_and(|version| version != "0") {
        let mut status = Status::internal("");
        status.message = "resourceVersion should not be set on objects to be created".to_owned();
        status.reason.clear();
        status.details = None;
        return Err(status);
    }
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

/// The namespace as it is before admission looks at it: it must still be that when the write commits, so that nothing
/// appears in a namespace that has begun to terminate.
struct Namespace(Option<(Key, Expect)>);

impl Namespace {
    fn current(call: &Call<'_>) -> Self {
        let found = call.namespace().and_then(|name| {
            let namespaces = call.server.registry.kind("", "namespaces")?;
            let item = namespaces.cache.get(&namespaces.key(None, name))?;
            Some((item.key.clone(), Expect::At(item.revision)))
        });
        Namespace(found)
    }

    fn guards(&self) -> Vec<(Key, Expect)> {
        self.0.iter().cloned().collect()
    }

    /// Lets the cache come to what the store says of the namespace, so that admission judges by that.
    async fn catch_up(&self, call: &Call<'_>, current: Option<Kv>) -> Result<(), Status> {
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
