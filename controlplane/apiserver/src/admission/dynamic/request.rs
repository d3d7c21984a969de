//! A request as webhooks and policies see it: who does what to what, in any version in which the object can be had.

use std::sync::Arc;

use api::{GroupResource, Object, Status};
use serde_json::{Value, json};

use super::rules::Asked;
use crate::authn::UserInfo;
use crate::registry::catalog::Endpoint;
use crate::registry::custom::convert;
use crate::registry::metadata;
use crate::registry::verbs::{Call, as_scale, from_storage, take_scale, to_storage};
use crate::server::Shared;

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KindName {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
}

impl KindName {
    pub(crate) fn new(group: &str, version: &str, kind: &str) -> Self {
        KindName {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }
}

/// What is admitted.
#[derive(Clone)]
pub(crate) enum Subject<'a> {
    /// An object as it is stored.
    Stored(Call<'a>),
    /// What an endpoint takes that is not stored, such as a Binding.
    Passing(KindName),
}

/// A request under admission, its object aside, which changes.
pub(crate) struct Request<'a> {
    pub(crate) server: &'a Arc<Shared>,
    pub(crate) user: &'a UserInfo,
    pub(crate) subject: Subject<'a>,
    pub(crate) operation: &'static str,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: String,
    /// In the version in which the object is worked on.
    pub(crate) old: Option<&'a Object>,
    pub(crate) dry_run: bool,
    pub(crate) options: Value,
}

/// As what a request matched: itself, or its like in another version.
#[derive(Clone)]
pub(crate) struct Matched {
    /// `None` for what passes.
    endpoint: Option<Endpoint>,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: KindName,
}

impl<'a> Request<'a> {
    /// A write to a stored object.
    pub(crate) fn of(
        call: Call<'a>,
        operation: &'static str,
        name: String,
        old: Option<&'a Object>,
        dry_run: bool,
        options: Value,
    ) -> Self {
        Request {
            server: call.server,
            user: call.user,
            operation,
            group: call.info.group,
            version: call.info.version,
            resource: call.info.resource,
            subresource: call.info.subresource,
            namespace: &call.info.namespace,
            name,
            old,
            dry_run,
            options,
            subject: Subject::Stored(call),
        }
    }

    /// Whether the request is about what decides on requests, which must always be possible to mend.
    pub(crate) fn is_exempt(&self) -> bool {
        self.group == "admissionregistration.k8s.io"
    }

    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked {
            operation: self.operation,
            group: self.group,
            version: self.version,
            resource: self.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            name: &self.name,
        }
    }

    pub(crate) fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group, self.resource)
    }

    /// The request as it was asked.
    pub(crate) fn itself(&self) -> Matched {
        match &self.subject {
            Subject::Stored(call) => self.through(call.endpoint),
            Subject::Passing(kind) => Matched {
                endpoint: None,
                group: self.group.to_owned(),
                version: self.version.to_owned(),
                kind: kind.clone(),
            },
        }
    }

    fn through(&self, endpoint: &Endpoint) -> Matched {
        let served = endpoint.served();
        Matched {
            endpoint: Some(endpoint.clone()),
            group: served.group.to_string(),
            version: served.version.to_string(),
            kind: match self.subresource {
                "scale" => KindName::new("autoscaling", "v1", "Scale"),
                _ => KindName::new(&served.group, &served.version, &endpoint.resource().kind),
            },
        }
    }

    /// The same in the other versions in which the kind is served.
    pub(crate) fn equivalents(&self) -> Vec<Matched> {
        let Subject::Stored(call) = &self.subject else {
            return Vec::new();
        };
        let versions = call.endpoint.versions();
        let others = versions.filter(|other| other.nth() != call.endpoint.nth());
        others.map(|other| self.through(&other)).collect()
    }

    /// An object in the version in which the request matched.
    pub(crate) async fn view(&self, object: &Object, matched: &Matched) -> Result<Object, Status> {
        let (Subject::Stored(call), Some(endpoint)) = (&self.subject, &matched.endpoint) else {
            return Ok(object.clone());
        };
        if self.subresource == "scale" {
            return as_scale(call, object);
        }
        if endpoint.kind.custom.is_some() {
            return convert::to_hub(endpoint, object.clone()).await;
        }
        let mut object = object.clone();
        from_storage(endpoint, &mut object);
        Ok(object)
    }

    /// Takes back an object that was changed in the version in which the request matched. What is not a caller's to set
    /// stays as it was.
    pub(crate) async fn take(&self, changed: Value, matched: &Matched, object: &mut Object) -> Result<(), Status> {
        let internal = |why: &str| Status::internal(why);
        let (Subject::Stored(call), Some(endpoint)) = (&self.subject, &matched.endpoint) else {
            *object = Object::from_value(changed).map_err(|error| internal(&error.to_string()))?;
            return Ok(());
        };
        if self.subresource == "scale" {
            return take_scale(call, &changed, object);
        }
        let served = endpoint.served();
        let mut changed = changed;
        schema::check(&mut changed, served.schema()).map_err(|error| internal(&error.to_string()))?;
        let mut new = Object::from_value(changed).map_err(|error| internal(&error.to_string()))?;
        if new.api_version() != served.api_version || new.kind() != endpoint.resource().kind {
            let (version, kind) = (new.api_version(), new.kind());
            return Err(internal(&format!("{version}, Kind={kind} is not what was admitted")));
        }
        schema::default(&mut new, served.schema());
        let new = match endpoint.kind.custom {
            Some(_) => convert::to_hub(call.endpoint, new).await?,
            None => {
                to_storage(endpoint, &mut new);
                new
            }
        };
        let before = std::mem::replace(object, new);
        self.mend(call, &before, object);
        Ok(())
    }

    /// Puts back what an admitted object may not change.
    fn mend(&self, call: &Call<'_>, before: &Object, object: &mut Object) {
        object.set_resource_version(before.resource_version());
        object.set_uid(before.uid());
        object.set_namespace(before.namespace());
        for field in [
            "metadata.creationTimestamp",
            "metadata.deletionTimestamp",
            "metadata.deletionGracePeriodSeconds",
            "metadata.generation",
            "metadata.managedFields",
        ] {
            match before.at(field) {
                Some(value) => object.set(field, value.clone()),
                None => drop(object.remove(field)),
            }
        }
        if let Some(old) = self.old {
            match call.info.subresource {
                "status" => metadata::keep_all_but_status(old, object),
                "finalize" => metadata::keep_all_but_finalizers(old, object),
                _ => {}
            }
        }
    }

    /// `userInfo`.
    pub(crate) fn user_json(&self) -> Value {
        let mut user = json!({"username": self.user.username});
        let fields = [
            ("uid", json!(self.user.uid), self.user.uid.is_empty()),
            ("groups", json!(self.user.groups), self.user.groups.is_empty()),
            ("extra", json!(self.user.extra), self.user.extra.is_empty()),
        ];
        for (name, value, empty) in fields {
            if let (false, Some(user)) = (empty, user.as_object_mut()) {
                user.insert(name.to_owned(), value);
            }
        }
        user
    }

    /// What an AdmissionRequest says but for its uid and its objects.
    pub(crate) fn json(&self, matched: &Matched) -> Value {
        let asked = self.itself();
        let resource = |of: &Matched| json!({"group": of.group, "version": of.version, "resource": self.resource});
        let mut out = json!({
            "kind": matched.kind.json(), "resource": resource(matched),
            "requestKind": asked.kind.json(), "requestResource": resource(&asked),
            "operation": self.operation, "userInfo": self.user_json(), "dryRun": self.dry_run,
            "options": self.options,
        });
        let optional = [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", &*self.name),
            ("namespace", self.namespace),
        ];
        for (name, text) in optional.into_iter().filter(|(_, text)| !text.is_empty()) {
            if let Some(out) = out.as_object_mut() {
                out.insert(name.to_owned(), text.into());
            }
        }
        out
    }

    /// 403 as admission words it.
    pub(crate) fn forbidden(&self, object: Option<&Object>, why: &str) -> Status {
        let named = object.map(Object::name).filter(|name| !name.is_empty());
        let name = match (&*self.name, named) {
            ("", named) => named.unwrap_or("Unknown"),
            (name, _) => name,
        };
        Status::forbidden(&self.group_resource(), name, why)
    }
}

impl Request<'_> {
    /// The schema of an object in the version in which the request matched, where it has one.
    pub(crate) fn schema(&self, matched: &Matched) -> Option<schema::Schema> {
        let endpoint = matched.endpoint.as_ref().filter(|_| self.subresource != "scale")?;
        Some(endpoint.served().schema().clone())
    }
}
