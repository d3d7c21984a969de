//! Admission: rules over a write that need more than the object itself. Plugins run in order, first all `admit` (which
//! may change the object), then, after validation, all `validate`.

use api::{Object, Status};
use async_trait::async_trait;

use crate::authn::UserInfo;
use crate::registry::reader::Reader;
use crate::registry::resource::{Operation, Resource};

/// One write under admission. Objects are in the storage version.
pub struct AdmissionRequest<'a> {
    pub user: &'a UserInfo,
    pub operation: Operation<'a>,
    pub resource: &'a Resource,
    pub subresource: Option<&'a str>,
    pub namespace: Option<&'a str>,
    /// Empty when the server is about to generate it.
    pub name: &'a str,
    /// The object to be stored; `None` on delete.
    pub object: Option<&'a mut Object>,
    /// The object as stored now; `None` on create.
    pub old: Option<&'a Object>,
    pub dry_run: bool,
    pub reader: &'a dyn Reader,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// One admission plugin.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// The plugin's name in metrics and logs, e.g. `NamespaceLifecycle`.
    fn name(&self) -> &'static str;

    /// Cheap first test, so that a plugin costs nothing where it has nothing to say.
    fn handles(&self, _operation: &Operation<'_>, _resource: &Resource, _subresource: Option<&str>) -> bool {
        true
    }

    /// May change `request.object`, or refuse.
    async fn admit(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        Ok(())
    }

    /// May refuse; must not change anything.
    async fn validate(&self, _request: &AdmissionRequest<'_>) -> Result<(), Status> {
        Ok(())
    }
}
