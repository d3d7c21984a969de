//! apply: a configuration, merged into the object by what its applier owns. Creates the object where there is none.

use api::{Object, Status};
use schema::{DecodeError, FieldValidation};

use super::create::create_object;
use super::decode;
use super::modify::{Flavour, New, modify};
use super::options::WriteOptions;
use super::{Call, Reply};
use crate::authn::MASTERS;
use crate::authz::Attributes;
use crate::registry::{managed, metadata};

/// How often an apply starts over when the object appears or vanishes meanwhile.
const ATTEMPTS: usize = 4;

/// What an apply request asks for.
pub(super) struct Configuration {
    pub(super) object: Object,
    pub(super) force: bool,
    pub(super) warnings: Vec<String>,
}

impl Configuration {
    /// Reads the body, YAML or the JSON that is YAML. Nothing is known of its schema yet.
    pub(super) fn parse(body: &[u8], options: WriteOptions) -> Result<Self, Status> {
        let schema = schema::Schema::preserve_unknown();
        let decoded = match body.first() {
            Some(b'{') => schema::decode_json(body, &schema).or_else(|_| schema::decode_yaml(body, &schema)),
            _ => schema::decode_yaml(body, &schema),
        };
        let decoded = decoded.map_err(|error| {
            let what = match error {
                DecodeError::Json { .. } | DecodeError::Yaml { .. } => "error encoding patch",
                DecodeError::Type { .. } | DecodeError::TooDeep => "error decoding patch",
            };
            Status::bad_request(format!("{what}: {error}"))
        })?;
        let mut warnings = Vec::new();
        match options.validation {
            FieldValidation::Strict if !decoded.problems.is_empty() => {
                let keys = schema::repeated_keys(body).join("\n  ");
                return Err(Status::bad_request(format!(
                    "error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  {keys}"
                )));
            }
            FieldValidation::Warn => warnings = decoded.problems,
            FieldValidation::Strict | FieldValidation::Ignore => {}
        }
        Ok(Configuration {
            object: decoded.object,
            force: options.force,
            warnings,
        })
    }

    /// A configuration must say of which kind and version it is.
    pub(super) fn check_kind(&self, api_version: &str, kind: &str) -> Result<(), Status> {
        let (given_version, given) = (self.object.api_version(), self.object.kind());
        if (given_version, given) == (api_version, kind) {
            return Ok(());
        }
        let (group, version) = given_version.split_once('/').unwrap_or(("", given_version));
        Err(Status::bad_request(format!(
            "invalid object type: {group}/{version}, Kind={given}"
        )))
    }

    /// What it makes of the object as it is, or of none.
    fn onto(&self, call: &Call<'_>, old: Option<&Object>) -> Result<New, Status> {
        let served = call.endpoint.served();
        self.check_kind(&served.api_version, &call.endpoint.resource().kind)?;
        let mut applied = managed::configure(call, old, &self.object, self.force)?;
        check_identity(call, &mut applied)?;
        let words = schema::apply::described(&self.object);
        let mut tree = applied.into_value();
        let object = decode::patched(call, &mut tree, FieldValidation::Ignore, &mut Vec::new()).map_err(|why| {
            Status::unexplained(format!("failed to convert new typed object ({words}) to object: {why}"))
        })?;
        Ok(New {
            object,
            warnings: self.warnings.clone(),
            managed: true,
        })
    }
}

pub(super) async fn apply(call: &Call<'_>, flavour: Flavour, body: &[u8]) -> Result<Reply, Status> {
    let options = WriteOptions::of_patch(call.query, true)?;
    let config = Configuration::parse(body, options)?;
    for _ in 0..ATTEMPTS {
        match modify(call, flavour, options.dry_run, |old| config.onto(call, Some(old))).await {
            Err(status) if flavour == Flavour::Whole && status == call.not_found(call.name()) => {}
            result => return result,
        }
        match create(call, &config, options).await {
            Err(status) if status.is("AlreadyExists") => {}
            result => return result,
        }
    }
    Err(Status::modified(&call.endpoint.group_resource(), call.name()))
}

async fn create(call: &Call<'_>, config: &Configuration, options: WriteOptions) -> Result<Reply, Status> {
    let mut new = config.onto(call, None)?;
    if !new.object.uid().is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {}, and no existing object was found",
            new.object.uid()
        );
        return Err(Status::conflict(&call.endpoint.group_resource(), call.name(), &why));
    }
    authorize_create(call).await?;
    new.object.set_resource_version(None);
    create_object(call, new.object, options, new.warnings).await
}

/// Who may patch may not for that reason create.
pub(super) async fn authorize_create(call: &Call<'_>) -> Result<(), Status> {
    let attributes = Attributes {
        user: call.user,
        verb: "create",
        namespace: &call.info.namespace,
        group: call.info.group,
        version: call.info.version,
        resource: call.info.resource,
        subresource: call.info.subresource,
        name: &call.info.name,
        field_selector: "",
        path: call.info.path,
        is_resource: true,
    };
    if call.user.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let decision = call.server.authorizer.authorize(&attributes).await;
    decision.refusal(&attributes).map_or(Ok(()), Err)
}

/// Name and namespace must be those of the URL.
pub(super) fn check_identity(call: &Call<'_>, object: &mut Object) -> Result<(), Status> {
    let (given, name) = (object.name(), call.name());
    if given.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: Internal error occurred: name must be provided"
        )));
    }
    if given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    metadata::check_namespace(object, call.namespace())
}
