//! A container's environment, command and arguments from what the pod says and the objects it names. Pure: the objects
//! are read beforehand.
//!
//! Order and precedence are the kubelet's: `envFrom`, then `env` (each may use the ones before), then Services.

mod expand;
mod fields;
mod services;

use std::{collections::HashMap, sync::Arc};

pub(crate) use expand::expand;
pub(crate) use fields::{Facts, field};
pub(crate) use services::{Service, variables as service_variables};

use crate::{
    objects::{Content, Id, Source},
    pod::{Container, EnvFrom, EnvSource, EnvVar, KeyRef, ObjectRef, Pod},
    resources,
};

/// The objects a container's environment names, as read; an absent one is `None`.
pub(crate) type Objects = HashMap<Id, Option<Arc<Content>>>;

/// A reference that cannot be followed; worded as users know it from `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("{kind} \"{name}\" not found")]
    ObjectNotFound { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    KeyNotFound {
        key: String,
        kind: &'static str,
        namespace: String,
        name: String,
    },
    #[error("{0}")]
    Field(String),
}

/// Names the objects that a container's environment needs.
pub(crate) fn needs(pod: &Pod, container: &Container) -> Vec<Id> {
    let id = |source: Source, name: &str| Id::new(source, &pod.metadata.namespace, name);
    let mut out = Vec::new();
    for from in &container.env_from {
        out.extend(from.config_map_ref.as_ref().map(|r| id(Source::ConfigMap, &r.name)));
        out.extend(from.secret_ref.as_ref().map(|r| id(Source::Secret, &r.name)));
    }
    for source in container.env.iter().filter_map(|e| e.value_from.as_deref()) {
        out.extend(
            source
                .config_map_key_ref
                .as_ref()
                .map(|r| id(Source::ConfigMap, &r.name)),
        );
        out.extend(source.secret_key_ref.as_ref().map(|r| id(Source::Secret, &r.name)));
    }
    out.sort();
    out.dedup();
    out
}

/// The environment under construction: names keep the place where they were first set.
#[derive(Default)]
struct Env {
    order: Vec<String>,
    values: HashMap<String, String>,
}

impl Env {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn into_pairs(mut self) -> Vec<(String, String)> {
        let take = |name: String| self.values.remove(&name).map(|value| (name, value));
        self.order.into_iter().filter_map(take).collect()
    }
}

/// Makes the environment of one container.
///
/// # Errors
/// The first reference that cannot be followed and is not optional.
pub(crate) fn make(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    services: &[(String, String)],
    facts: &Facts,
) -> Result<Vec<(String, String)>, Error> {
    let reader = Reader {
        pod,
        container,
        objects,
        facts,
    };
    let service = |name: &str| services.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    let mut env = Env::default();
    env.set("HOSTNAME", facts.hostname.clone());
    for from in &container.env_from {
        for (name, value) in reader.all_of(from)? {
            env.set(&name, value);
        }
    }
    for variable in &container.env {
        let value = match &variable.value_from {
            Some(source) => reader.one_of(variable, source)?,
            None => Some(expand(&variable.value, |name| env.get(name).or_else(|| service(name)))),
        };
        if let Some(value) = value {
            env.set(&variable.name, value);
        }
    }
    for (name, value) in services {
        if env.get(name).is_none() {
            env.set(name, value.clone());
        }
    }
    Ok(env.into_pairs())
}

struct Reader<'a> {
    pod: &'a Pod,
    container: &'a Container,
    objects: &'a Objects,
    facts: &'a Facts,
}

impl Reader<'_> {
    fn object(&self, source: Source, name: &str, optional: bool) -> Result<Option<&Content>, Error> {
        let id = Id::new(source, &self.pod.metadata.namespace, name);
        match self.objects.get(&id).and_then(Option::as_ref) {
            Some(content) => Ok(Some(content)),
            None if optional => Ok(None),
            None => Err(Error::ObjectNotFound {
                kind: source.word(),
                name: name.to_owned(),
            }),
        }
    }

    /// Every key of an `envFrom` that can be a variable's name.
    fn all_of(&self, from: &EnvFrom) -> Result<Vec<(String, String)>, Error> {
        let mut out = Vec::new();
        let references = [
            (Source::ConfigMap, &from.config_map_ref),
            (Source::Secret, &from.secret_ref),
        ];
        for (source, reference) in references {
            let Some(ObjectRef { name, optional }) = reference else {
                continue;
            };
            let Some(content) = self.object(source, name, *optional)? else {
                continue;
            };
            let pairs = content
                .iter()
                .map(|(key, value)| (format!("{}{key}", from.prefix), text(value)));
            out.extend(pairs.filter(|(name, _)| is_name(name)));
        }
        Ok(out)
    }

    /// The value of one `valueFrom`; `None` if what it names is optional and absent.
    fn one_of(&self, variable: &EnvVar, source: &EnvSource) -> Result<Option<String>, Error> {
        if let Some(reference) = &source.config_map_key_ref {
            return self.key(Source::ConfigMap, reference);
        }
        if let Some(reference) = &source.secret_key_ref {
            return self.key(Source::Secret, reference);
        }
        if let Some(reference) = &source.field_ref {
            return field(self.pod, &reference.field_path, self.facts)
                .map(Some)
                .map_err(Error::Field);
        }
        if let Some(reference) = &source.resource_field_ref {
            let named = self.pod.container(&reference.container_name).map(|(_, c)| c);
            let container = named.unwrap_or(self.container);
            return resources::field(container, reference, &self.facts.capacity)
                .map(Some)
                .map_err(Error::Field);
        }
        Err(Error::Field(format!(
            "environment variable {}: valueFrom names no source that is known",
            variable.name
        )))
    }

    fn key(&self, source: Source, reference: &KeyRef) -> Result<Option<String>, Error> {
        let Some(content) = self.object(source, &reference.name, reference.optional)? else {
            return Ok(None);
        };
        match content.get(&reference.key) {
            Some(value) => Ok(Some(text(value))),
            None if reference.optional => Ok(None),
            None => Err(Error::KeyNotFound {
                key: reference.key.clone(),
                kind: source.kind(),
                namespace: self.pod.metadata.namespace.to_string(),
                name: reference.name.clone(),
            }),
        }
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// What Kubernetes takes as a variable's name: printable ASCII without `=`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=')
}

#[cfg(test)]
mod tests;
