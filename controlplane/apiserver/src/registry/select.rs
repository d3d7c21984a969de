//! Label and field selectors over cached entries.

use api::{FieldSelector, LabelSelector, Status};
use bytes::Bytes;

use super::catalog::{CachedItem, Endpoint};
use super::custom::convert;
use super::index::Entry;
use super::resource::Resource;
use super::{name_of, namespace_of, render};
use crate::http::query::Query;

/// Which objects of a kind a request is about, beyond its namespace.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    labels: Option<LabelSelector>,
    fields: Option<FieldSelector>,
    /// Whether it looks at what a conversion webhook may write otherwise in the version of the request.
    converted: bool,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`; refuses fields that the kind does not offer. A `name` in the path
    /// selects that one object.
    pub(crate) fn parse(query: &Query<'_>, endpoint: &Endpoint, name: Option<&str>) -> Result<Self, Status> {
        let labels = query.get("labelSelector").map(LabelSelector::parse).transpose();
        let labels = labels.map_err(Status::bad_request)?;
        let mut text = query.get("fieldSelector").unwrap_or_default().to_owned();
        if let Some(name) = name {
            text = format!("metadata.name={name}");
        }
        let fields = (!text.is_empty()).then(|| FieldSelector::parse(&text)).transpose();
        let fields = fields.map_err(Status::bad_request)?;
        let fields = fields.map(|fields| fields.renamed(|field| resolve(endpoint, field)));
        let fields = fields
            .transpose()
            .map_err(|field| Status::bad_request(format!("field label not supported: {field}")))?;
        let labels = labels.filter(|l| !l.is_empty());
        let converted = convert::is_by_webhook(endpoint) && (labels.is_some() || fields.is_some());
        Ok(Selection {
            labels,
            fields,
            converted,
        })
    }

    /// Has converted what [`Selection::selects`] has to look at in the version of the endpoint.
    pub(crate) async fn prepare(&self, endpoint: &Endpoint, items: &[CachedItem]) -> Result<(), Status> {
        match self.converted {
            true => convert::prepare(endpoint, items).await,
            false => Ok(()),
        }
    }

    /// Whether a cached item is selected, by what it is in the version of the endpoint.
    pub(crate) fn selects(&self, endpoint: &Endpoint, item: &CachedItem) -> bool {
        if !self.converted || render::is_in_version(endpoint, &item.bytes) {
            return self.matches(endpoint.resource(), &item.key, &item.entry);
        }
        let shown = render::shown(endpoint, item);
        let entry = endpoint.kind.index.entry(&item.key, &shown);
        self.matches(endpoint.resource(), &item.key, &entry)
    }

    /// Whether an object of the past is selected; in the version of the endpoint where that is what counts.
    pub(crate) async fn selects_past(&self, endpoint: &Endpoint, key: &str, bytes: &Bytes) -> Result<bool, Status> {
        if self.is_everything() {
            return Ok(true);
        }
        let converted = match self.converted {
            true => Some(convert::past(endpoint, bytes.clone()).await?),
            false => None,
        };
        let entry = endpoint.kind.index.entry(key, converted.as_ref().unwrap_or(bytes));
        Ok(self.matches(endpoint.resource(), key, &entry))
    }

    /// Whether it has to look at objects in the version of the endpoint, which a webhook makes.
    pub(crate) fn is_converted(&self) -> bool {
        self.converted
    }

    /// Whether everything is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_none()
    }

    fn matches(&self, resource: &Resource, key: &str, entry: &Entry) -> bool {
        let by_labels = self.labels.as_ref().is_none_or(|l| l.matches(|key| entry.label(key)));
        by_labels
            && self
                .fields
                .as_ref()
                .is_none_or(|f| f.matches(|field| value(resource, key, entry, field)))
    }
}

/// The kind's name for a field that a version offers to selectors.
fn resolve(endpoint: &Endpoint, field: &str) -> Option<String> {
    let (resource, served) = (endpoint.resource(), endpoint.served());
    let known = match field {
        "metadata.name" => true,
        "metadata.namespace" => resource.is_namespaced(),
        _ if !served.fields.is_empty() => {
            let renamed = served.fields.iter().find(|(name, _)| *name == field);
            return renamed.map(|(_, own)| (*own).to_owned());
        }
        _ => match &served.view {
            Some(view) => view.fields.iter().any(|name| name == field),
            None => resource.fields.iter().any(|f| f.name == field),
        },
    };
    known.then(|| field.to_owned())
}

fn value<'a>(resource: &Resource, key: &'a str, entry: &'a Entry, field: &str) -> Option<&'a str> {
    match field {
        "metadata.name" => Some(name_of(key)),
        "metadata.namespace" => Some(namespace_of(key)),
        _ => entry.field(resource.fields.iter().position(|f| f.name == field)?),
    }
}
