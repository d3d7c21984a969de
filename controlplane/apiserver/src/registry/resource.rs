//! What the server knows about one kind of object: its names, its served versions and its rules.
//!
//! A [`Resource`] is one storage kind plus its served versions with pure conversions between them. Built-in kinds make
//! theirs with [`Resource::of`] from a k8s-openapi type; whatever else yields a `Resource` value at run time is served
//! by the same verbs. Nothing here does IO: hooks are pure, except [`Effects`], which the few kinds that claim something
//! elsewhere (Service addresses) bring along.

use std::any::TypeId;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, Object, Status};
use async_trait::async_trait;
use k8s_openapi::NamespaceResourceScope;
use schema::Schema;
use schema::openapi::Source;
use serde_json::Value;

use super::reader::Reader;
use crate::authn::UserInfo;

/// A name that is static for built-in kinds and owned for kinds defined at run time.
pub type Name = Cow<'static, str>;

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// What is being done to the object a hook is asked about. Objects are in the storage version.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    Create,
    Update { old: &'a Object },
    UpdateStatus { old: &'a Object },
    Delete { old: &'a Object },
}

impl<'a> Operation<'a> {
    /// The object as it is stored now; `None` on create.
    pub fn old(&self) -> Option<&'a Object> {
        match *self {
            Operation::Create => None,
            Operation::Update { old } | Operation::UpdateStatus { old } | Operation::Delete { old } => Some(old),
        }
    }
}

/// Who asks for a write, when, and how; for the pure hooks.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub user: &'a UserInfo,
    pub now: Timestamp,
    /// `None` for cluster-scoped kinds.
    pub namespace: Option<&'a str>,
    /// The version that the request named, e.g. `v1`; objects are in the storage version all the same.
    pub version: &'a str,
    pub subresource: Option<&'a str>,
    pub dry_run: bool,
}

/// The pure, defaulted hooks of a kind. `new` has been decoded, pruned, defaulted and converted to the storage version.
pub trait Strategy: Send + Sync + 'static {
    /// Adjusts an incoming object before validation: clears what the caller may not set (status on create, spec on a
    /// status update) and computes the defaults that need more than a table.
    fn prepare(&self, _cx: &Context<'_>, _op: &Operation<'_>, _new: &mut Object) {}

    /// Checks what the schema cannot say; returns every problem, not only the first.
    fn validate(&self, _cx: &Context<'_>, _op: &Operation<'_>, _new: &Object) -> Vec<FieldError> {
        Vec::new()
    }

    /// Texts for `Warning` headers.
    fn warnings(&self, _cx: &Context<'_>, _op: &Operation<'_>, _new: &Object) -> Vec<String> {
        Vec::new()
    }

    /// Seconds of grace a delete of `old` gets, or `None` when the kind is deleted at once.
    fn graceful(&self, _old: &Object, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether something besides `metadata.finalizers` keeps a deleted object in place (a Namespace's `spec.finalizers`).
    /// While it does, a delete only marks the object; `prepare` sees the mark with [`Operation::Delete`].
    fn held(&self, _object: &Object) -> bool {
        false
    }

    /// Whether PUT to a name that does not exist creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Dotted paths of fields that an endpoint sets back, and that nobody comes to own by it; `None` for what follows
    /// from the kind having a status.
    fn reset_fields(&self, _subresource: Option<&str>) -> Option<&'static [&'static str]> {
        None
    }

    /// Whether PUT may omit `metadata.resourceVersion`.
    fn allow_unconditional_update(&self) -> bool {
        true
    }
}

/// The strategy of a kind that needs no rules of its own.
pub(crate) struct Plain;

impl Strategy for Plain {}

/// What [`Effects`] are given beside the object.
#[derive(Clone, Copy)]
pub struct EffectsContext<'a> {
    pub cx: Context<'a>,
    pub reader: &'a dyn Reader,
}

/// Claims that a write makes outside its own key, e.g. the addresses of a Service. Skipped on dry-run.
#[async_trait]
pub trait Effects: Send + Sync + 'static {
    /// Claims what `new` needs and writes it into `new`; runs after `prepare`, before validation and commit. For
    /// [`Operation::Delete`] `new` is the object being removed.
    async fn begin(
        &self,
        cx: &EffectsContext<'_>,
        op: &Operation<'_>,
        new: &mut Object,
    ) -> Result<Box<dyn Rollback>, Status>;
}

/// The end of a claim: exactly one of the two is called.
#[async_trait]
pub trait Rollback: Send + Sync {
    /// The write is durable; release what the old state held and the new one does not.
    async fn commit(self: Box<Self>, stored: &Object);
    /// The write failed; release what `begin` claimed.
    async fn rollback(self: Box<Self>);
}

/// One row of cells for an object in the storage version, in the order of the kind's columns.
pub type Cells = Arc<dyn Fn(&Object, Timestamp) -> Vec<Value> + Send + Sync>;
/// A field, beyond `metadata.name` and `metadata.namespace`, that field selectors may name. Its value is a string, number
/// or boolean of the object in the storage version, compared as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// As selectors name it, e.g. `spec.nodeName`.
    pub name: Name,
    /// Dotted paths; the first that holds something but the empty string gives the value.
    pub paths: Vec<Name>,
    /// The value when no path holds one.
    pub absent: Name,
}

/// Rewrites an object between a served version and the storage version, `apiVersion` excepted.
pub type Convert = fn(&mut Object);

/// Parts of an object with an endpoint of their own. Endpoints that are not part of the stored object are
/// [`VirtualRoute`](super::virtuals::VirtualRoute)s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subresource {
    Status,
    /// `approval`: the conditions by which a certificate signing request is approved or denied.
    Approval,
    /// `finalize`: a PUT that changes `spec.finalizers` alone (Namespace).
    Finalize,
    /// `binding`: assigns a pod to a node.
    Binding,
    /// `eviction`: deletes a pod by the leave of its disruption budget.
    Eviction,
    /// `ephemeralcontainers`: adds containers to a pod that exists.
    EphemeralContainers,
    /// `resize`: changes what the containers of a pod may use.
    Resize,
    /// `autoscaling/v1` Scale over the dotted paths of the replica counts and the label selector.
    Scale {
        spec_replicas: Name,
        status_replicas: Name,
        selector: Name,
    },
}

impl Subresource {
    /// The last segment of its path.
    pub fn name(&self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Approval => "approval",
            Subresource::Finalize => "finalize",
            Subresource::Binding => "binding",
            Subresource::Eviction => "eviction",
            Subresource::EphemeralContainers => "ephemeralcontainers",
            Subresource::Resize => "resize",
            Subresource::Scale { .. } => "scale",
        }
    }

    /// The verbs it answers to.
    pub fn verbs(&self) -> &'static [&'static str] {
        match self {
            Subresource::Status
            | Subresource::Approval
            | Subresource::EphemeralContainers
            | Subresource::Resize
            | Subresource::Scale { .. } => &["get", "patch", "update"],
            Subresource::Finalize => &["update"],
            Subresource::Binding | Subresource::Eviction => &["create"],
        }
    }

    /// Group, version and kind of what it takes and gives, where that is not the resource's own kind.
    pub fn kind(&self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Subresource::Status
            | Subresource::Approval
            | Subresource::Finalize
            | Subresource::EphemeralContainers
            | Subresource::Resize => None,
            Subresource::Binding => Some(("", "v1", "Binding")),
            Subresource::Eviction => Some(("policy", "v1", "Eviction")),
            Subresource::Scale { .. } => Some(("autoscaling", "v1", "Scale")),
        }
    }
}

/// One version in which a kind is served.
pub struct Served {
    pub group: Name,
    pub version: Name,
    /// `group/version`, or `version` in the core group.
    pub api_version: Name,
    /// The OpenAPI definition, e.g. `io.k8s.api.core.v1.Pod`.
    pub definition: Name,
    pub schema_json: Source,
    pub to_storage: Convert,
    pub from_storage: Convert,
    /// Whether objects only rest in this version, and nobody may ask for it.
    pub hidden: bool,
    /// What this version shows in another way than the kind.
    pub view: Option<View>,
    /// The fields that selectors may name, with the kind's own names for them, where the version has others.
    pub fields: &'static [(&'static str, &'static str)],
    schema: Schema,
}

/// How one version of a kind differs from the others.
pub struct View {
    pub columns: Vec<Column>,
    pub cells: Cells,
    pub subresources: Vec<Subresource>,
    /// The fields that selectors may name.
    pub fields: Vec<Name>,
    /// What every request is told of a version that should no longer be used.
    pub deprecated: Option<String>,
}

impl Served {
    fn of<T>() -> Self
    where
        T: k8s_openapi::Resource + schemars::JsonSchema,
    {
        let definition = match T::schema_name() {
            Cow::Borrowed(name) => name,
            // Once per kind and process; generated types always borrow.
            Cow::Owned(name) => String::leak(name),
        };
        Served {
            group: Cow::Borrowed(T::GROUP),
            version: Cow::Borrowed(T::VERSION),
            api_version: Cow::Borrowed(T::API_VERSION),
            definition: Cow::Borrowed(definition),
            schema_json: Source::BuiltIn(schema::openapi::schema_json::<T>),
            to_storage: unchanged,
            from_storage: unchanged,
            hidden: false,
            view: None,
            fields: &[],
            schema: Schema::of::<T>(definition),
        }
    }

    /// A version of a custom resource.
    pub(crate) fn custom(
        group: &str,
        version: &str,
        definition: String,
        source: Source,
        schema: Schema,
        view: View,
    ) -> Self {
        Served {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            api_version: format!("{group}/{version}").into(),
            definition: definition.into(),
            schema_json: source,
            to_storage: unchanged,
            from_storage: unchanged,
            hidden: false,
            view: Some(view),
            fields: &[],
            schema,
        }
    }

    /// The schema of this version.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

fn unchanged(_: &mut Object) {}

/// One storage kind with its served versions and rules.
pub struct Resource {
    /// The group under which objects are stored; a served version may name another.
    pub group: Name,
    pub plural: Name,
    pub singular: Name,
    pub kind: Name,
    pub list_kind: Name,
    pub scope: Scope,
    pub short_names: Vec<Name>,
    pub categories: Vec<Name>,
    /// The storage version stands first.
    pub served: Vec<Served>,
    pub strategy: Arc<dyn Strategy>,
    pub effects: Option<Arc<dyn Effects>>,
    pub columns: Vec<Column>,
    pub cells: Cells,
    pub fields: Vec<SelectableField>,
    pub subresources: Vec<Subresource>,
    /// Decides whether a write raises `metadata.generation`; `None` when the kind has no generation.
    pub generation: Option<fn(old: &Object, new: &Object) -> bool>,
    pub verbs: &'static [&'static str],
    pub encrypted: bool,
    /// Whether a delete answers with the deleted object instead of a `Status`.
    pub returns_deleted: bool,
    /// Whether a delete that does not say what becomes of dependents leaves them alone.
    pub orphans_dependents: bool,
    /// How long an object lives after its last write.
    pub ttl: Option<Duration>,
    /// What every request is told of a kind that should no longer be used.
    pub deprecated: Option<&'static str>,
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resource({}/{})", self.group, self.plural)
    }
}

/// The verbs of a kind that can be read and written in every way.
pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

impl Resource {
    /// Starts the description of the kind that `T` is: group, version, kind, plural, scope and schema come from the type.
    /// `T`'s version is the storage version.
    pub fn of<T>() -> ResourceBuilder
    where
        T: k8s_openapi::Resource + k8s_openapi::Metadata + schemars::JsonSchema,
        <T as k8s_openapi::Resource>::Scope: 'static,
    {
        let namespaced = TypeId::of::<<T as k8s_openapi::Resource>::Scope>() == TypeId::of::<NamespaceResourceScope>();
        ResourceBuilder(Resource {
            group: Cow::Borrowed(T::GROUP),
            plural: Cow::Borrowed(T::URL_PATH_SEGMENT),
            singular: Cow::Owned(T::KIND.to_ascii_lowercase()),
            kind: Cow::Borrowed(T::KIND),
            list_kind: Cow::Owned(format!("{}List", T::KIND)),
            scope: if namespaced { Scope::Namespaced } else { Scope::Cluster },
            short_names: Vec::new(),
            categories: Vec::new(),
            served: vec![Served::of::<T>()],
            strategy: Arc::new(Plain),
            effects: None,
            columns: super::printer::default_columns(),
            cells: Arc::new(super::printer::default_cells),
            fields: Vec::new(),
            subresources: Vec::new(),
            generation: None,
            verbs: ALL_VERBS,
            encrypted: false,
            returns_deleted: false,
            orphans_dependents: false,
            ttl: None,
            deprecated: None,
        })
    }

    /// The version in which objects rest in the store.
    pub fn storage(&self) -> &Served {
        self.served
            .first()
            .expect("a resource is built with its storage version")
    }

    /// A served version by its `apiVersion`.
    pub fn version(&self, api_version: &str) -> Option<&Served> {
        self.served.iter().find(|served| served.api_version == api_version)
    }

    /// Dotted paths of fields that an endpoint of the kind sets back, in a version.
    pub fn reset_fields(&self, served: &Served, subresource: Option<&str>) -> &'static [&'static str] {
        let by_kind = self.strategy.reset_fields(subresource);
        let parts = served
            .view
            .as_ref()
            .map_or(&self.subresources, |view| &view.subresources);
        by_kind.unwrap_or(match subresource {
            Some("status") => &["spec"],
            None if parts.contains(&Subresource::Status) => &["status"],
            _ => &[],
        })
    }

    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    pub fn has_status(&self) -> bool {
        self.subresources.contains(&Subresource::Status)
    }

    pub fn group_resource(&self) -> api::names::GroupResource {
        api::names::GroupResource::new(&self.group, &self.plural)
    }
}

/// Describes a [`Resource`]; every method returns the builder.
pub struct ResourceBuilder(Resource);

impl ResourceBuilder {
    pub fn short_names(mut self, names: &'static [&'static str]) -> Self {
        self.0.short_names = names.iter().map(|n| Cow::Borrowed(*n)).collect();
        self
    }

    /// Groups of kinds that kubectl can ask for at once, e.g. `all`.
    pub fn categories(mut self, names: &'static [&'static str]) -> Self {
        self.0.categories = names.iter().map(|n| Cow::Borrowed(*n)).collect();
        self
    }

    pub fn strategy(mut self, strategy: impl Strategy) -> Self {
        self.0.strategy = Arc::new(strategy);
        self
    }

    pub fn effects(mut self, effects: impl Effects) -> Self {
        self.0.effects = Some(Arc::new(effects));
        self
    }

    /// How `kubectl get` prints the kind; cells stand in the order of the columns.
    pub fn printer(mut self, columns: Vec<Column>, cells: fn(&Object, Timestamp) -> Vec<Value>) -> Self {
        self.0.columns = columns;
        self.0.cells = Arc::new(cells);
        self
    }

    /// A field that field selectors may name, beyond `metadata.name` and `metadata.namespace`; empty when absent.
    pub fn field(self, path: &'static str) -> Self {
        self.field_at(path, &[path], "")
    }

    /// A selectable field with a value of its own for when it is absent, e.g. `("spec.hostNetwork", "false")`.
    pub fn field_or(self, path: &'static str, absent: &'static str) -> Self {
        self.field_at(path, &[path], absent)
    }

    /// A selectable field that stands elsewhere than its name says.
    pub fn field_at(mut self, name: &'static str, paths: &[&'static str], absent: &'static str) -> Self {
        self.0.fields.push(SelectableField {
            name: Cow::Borrowed(name),
            paths: paths.iter().map(|p| Cow::Borrowed(*p)).collect(),
            absent: Cow::Borrowed(absent),
        });
        self
    }

    /// A delete answers with the deleted object instead of a `Status`, as the kind's Kubernetes registry does.
    pub fn returns_deleted(mut self) -> Self {
        self.0.returns_deleted = true;
        self
    }

    /// A delete that does not say what becomes of dependents leaves them alone: kinds older than the garbage collector.
    pub fn orphans_dependents(mut self) -> Self {
        self.0.orphans_dependents = true;
        self
    }

    pub fn status(mut self) -> Self {
        self.0.subresources.push(Subresource::Status);
        self
    }

    /// Certificate signing requests: the `approval` endpoint.
    pub fn approval(mut self) -> Self {
        self.0.subresources.push(Subresource::Approval);
        self
    }

    /// Pods: the endpoints that only they have.
    pub fn pod_parts(mut self) -> Self {
        self.0.subresources.extend([
            Subresource::Binding,
            Subresource::Eviction,
            Subresource::EphemeralContainers,
            Subresource::Resize,
        ]);
        self
    }

    pub fn finalize(mut self) -> Self {
        self.0.subresources.push(Subresource::Finalize);
        self
    }

    /// Dotted paths of the wanted replicas, the counted replicas, and the label selector of the pods.
    pub fn scale(mut self, spec: &'static str, status: &'static str, selector: &'static str) -> Self {
        self.0.subresources.push(Subresource::Scale {
            spec_replicas: Cow::Borrowed(spec),
            status_replicas: Cow::Borrowed(status),
            selector: Cow::Borrowed(selector),
        });
        self
    }

    /// The kind has `metadata.generation`, raised whenever `spec` changes.
    pub fn generation(self) -> Self {
        self.generation_when(|old, new| old.at("spec") != new.at("spec"))
    }

    /// The kind has `metadata.generation`, raised whenever `changed(old, new)`.
    pub fn generation_when(mut self, changed: fn(&Object, &Object) -> bool) -> Self {
        self.0.generation = Some(changed);
        self
    }

    pub fn verbs(mut self, verbs: &'static [&'static str]) -> Self {
        self.0.verbs = verbs;
        self
    }

    /// Every request is told this, as a warning.
    pub fn deprecated(mut self, words: &'static str) -> Self {
        self.0.deprecated = Some(words);
        self
    }

    /// Values are encrypted at rest.
    pub fn encrypted(mut self) -> Self {
        self.0.encrypted = true;
        self
    }

    /// Objects vanish this long after their last write.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.0.ttl = Some(ttl);
        self
    }

    /// Serves the kind as `T` too; the functions convert a tree of `T` to the storage version and back.
    pub fn also_served_as<T>(self, to_storage: Convert, from_storage: Convert) -> Self
    where
        T: k8s_openapi::Resource + schemars::JsonSchema,
    {
        self.also_served_by::<T>(to_storage, from_storage, &[])
    }

    /// The same for a version that selects by other names of the fields.
    pub fn also_served_by<T>(
        mut self,
        to_storage: Convert,
        from_storage: Convert,
        fields: &'static [(&'static str, &'static str)],
    ) -> Self
    where
        T: k8s_openapi::Resource + schemars::JsonSchema,
    {
        self.0.served.push(Served {
            to_storage,
            from_storage,
            fields,
            ..Served::of::<T>()
        });
        self
    }

    pub fn build(self) -> Resource {
        self.0
    }
}
