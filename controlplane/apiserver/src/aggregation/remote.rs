//! An aggregated server as its APIService describes it, and the connections to it. They are kept for the next request, and
//! each goes to an endpoint of the Service; the server's certificate must be for `NAME.NAMESPACE.svc`.

use std::sync::Arc;

use api::Object;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::ServerName;
use serde_json::Value;

use super::Aggregator;
use crate::http::body::Body;
use crate::webhook;
use crate::webhook::connect::{Connector, Kept, Way};

/// A group and version that another server answers for.
pub(crate) struct Remote {
    /// Of the APIService.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) group_priority: i64,
    pub(crate) version_priority: i64,
    /// Whether it was there when it was last asked.
    pub(crate) available: bool,
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u16,
    pub(super) uid: String,
    /// The `Available` condition, as stored.
    pub(super) condition: Option<Value>,
    spec: Value,
    /// Or why there can be none.
    pub(super) client: Result<Kept<Body>, String>,
}

impl Remote {
    /// Reads an APIService that names a Service; what is known of it goes on where nothing has changed.
    pub(super) fn read(service: &Object, known: Option<&Arc<Remote>>, of: &Aggregator) -> Option<Arc<Remote>> {
        let spec = service.at("spec")?;
        let reference = spec.get("service").filter(|reference| reference.is_object())?;
        let conditions = service.list_at("status.conditions").iter();
        let condition = conditions
            .into_iter()
            .find(|condition| condition.get("type").and_then(Value::as_str) == Some("Available"))
            .cloned();
        let same = known.filter(|known| known.spec == *spec && known.uid == service.uid());
        if let Some(same) = same.filter(|same| same.condition == condition) {
            return Some(same.clone());
        }
        let text = |of: &Value, field: &str| of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |field: &str| spec.get(field).and_then(Value::as_i64).unwrap_or_default();
        let port = reference.get("port").and_then(Value::as_u64);
        let mut remote = Remote {
            name: service.name().to_owned(),
            group: text(spec, "group"),
            version: text(spec, "version"),
            group_priority: number("groupPriorityMinimum"),
            version_priority: number("versionPriority"),
            available: condition.as_ref().is_some_and(|c| text(c, "status") == "True"),
            namespace: text(reference, "namespace"),
            service: text(reference, "name"),
            port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            uid: service.uid().to_owned(),
            condition,
            spec: spec.clone(),
            client: Err(String::new()),
        };
        remote.client = match same {
            Some(same) => same.client.clone(),
            None => remote.connect(of),
        };
        Some(Arc::new(remote))
    }

    /// What its certificate must be for.
    pub(super) fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Where discovery of its group and version is.
    pub(super) fn discovery_path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    fn connect(&self, of: &Aggregator) -> Result<Kept<Body>, String> {
        let bundle = self.spec.get("caBundle").and_then(Value::as_str).unwrap_or_default();
        let bundle = STANDARD.decode(bundle).unwrap_or_default();
        let insecure = self.spec.get("insecureSkipTLSVerify").and_then(Value::as_bool) == Some(true);
        let identity = of.client.as_ref();
        let identity = identity.map(|client| (client.certificates.clone(), client.key.clone_key()));
        let tls = webhook::tls::config(&bundle, insecure, identity)?;
        let name = ServerName::try_from(self.host()).map_err(|error| error.to_string())?;
        let way = Way::Service {
            reader: of.webhooks.reader(),
            namespace: self.namespace.clone(),
            name: self.service.clone(),
            port: self.port,
        };
        Ok(Connector::new(way, tls, Some(name)).client())
    }
}
