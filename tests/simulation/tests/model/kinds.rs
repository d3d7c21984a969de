//! The kinds that the model knows: where its fields lie in their JSON, and which rules Kubernetes documents for each.
//!
//! Written from Kubernetes' API reference and conventions, never from the server under test.

use serde_json::{Value, json};

/// A kind of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ConfigMap,
    Pod,
    Deployment,
    RoleBinding,
    Widget,
    Namespace,
}

pub const KINDS: [Kind; 6] = [
    Kind::ConfigMap,
    Kind::Pod,
    Kind::Deployment,
    Kind::RoleBinding,
    Kind::Widget,
    Kind::Namespace,
];

/// Which of two like fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    A,
    B,
}

/// Why an object that is being deleted stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finalizer {
    A,
    B,
    Orphan,
    Foreground,
}

pub const FINALIZERS: [(Finalizer, &str); 4] = [
    (Finalizer::A, "example.com/a"),
    (Finalizer::B, "example.com/b"),
    (Finalizer::Orphan, "orphan"),
    (Finalizer::Foreground, "foregroundDeletion"),
];

/// A field that the model follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// A label that every object has, by which the objects of a run are known. Who sends it again comes to own it.
    Case,
    Label(Key),
    Spec(Key),
    Status(Key),
    Finalizer(Finalizer),
}

/// How a field's number is written.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Any text at all, which is not written with the others.
    Run,
    /// `"v3"`
    Text,
    /// `3`
    Number,
    /// `"app:3"`
    Image,
    /// A list of one subject, replaced as a whole.
    Subjects,
    /// A reference to a ClusterRole, replaced as a whole.
    Role,
}

/// Where a field lies.
pub struct Slot {
    pub field: Field,
    pub path: &'static [&'static str],
    /// Its path in `fieldsV1`.
    pub owned: &'static [&'static str],
    pub form: Form,
    /// What the server makes of its absence.
    pub default: Option<i64>,
    /// Whether every body has it.
    pub required: bool,
    /// Whether an update may not change it.
    pub immutable: bool,
}

const fn slot(field: Field, path: &'static [&'static str], owned: &'static [&'static str], form: Form) -> Slot {
    Slot {
        field,
        path,
        owned,
        form,
        default: None,
        required: false,
        immutable: false,
    }
}

use Field::{Label, Spec, Status};
use Key::{A, B};

const CASE: Slot = Slot {
    required: true,
    ..slot(
        Field::Case,
        &["metadata", "labels", "case"],
        &["f:metadata", "f:labels", "f:case"],
        Form::Run,
    )
};
const LABEL_A: Slot = slot(
    Label(A),
    &["metadata", "labels", "a"],
    &["f:metadata", "f:labels", "f:a"],
    Form::Text,
);
const LABEL_B: Slot = slot(
    Label(B),
    &["metadata", "labels", "b"],
    &["f:metadata", "f:labels", "f:b"],
    Form::Text,
);

static CONFIG_MAP: [Slot; 5] = [
    CASE,
    LABEL_A,
    LABEL_B,
    slot(Spec(A), &["data", "a"], &["f:data", "f:a"], Form::Text),
    slot(Spec(B), &["data", "b"], &["f:data", "f:b"], Form::Text),
];
static POD: [Slot; 6] = [
    CASE,
    LABEL_A,
    LABEL_B,
    Slot {
        required: true,
        ..slot(
            Spec(A),
            &["spec", "containers", "0", "image"],
            &["f:spec", "f:containers", "k:{\"name\":\"c\"}", "f:image"],
            Form::Image,
        )
    },
    slot(
        Status(A),
        &["status", "message"],
        &["f:status", "f:message"],
        Form::Text,
    ),
    slot(Status(B), &["status", "reason"], &["f:status", "f:reason"], Form::Text),
];
static DEPLOYMENT: [Slot; 7] = [
    CASE,
    LABEL_A,
    LABEL_B,
    Slot {
        default: Some(1),
        ..slot(Spec(A), &["spec", "replicas"], &["f:spec", "f:replicas"], Form::Number)
    },
    Slot {
        default: Some(10),
        ..slot(
            Spec(B),
            &["spec", "revisionHistoryLimit"],
            &["f:spec", "f:revisionHistoryLimit"],
            Form::Number,
        )
    },
    slot(
        Status(A),
        &["status", "observedGeneration"],
        &["f:status", "f:observedGeneration"],
        Form::Number,
    ),
    slot(
        Status(B),
        &["status", "replicas"],
        &["f:status", "f:replicas"],
        Form::Number,
    ),
];
static ROLE_BINDING: [Slot; 5] = [
    CASE,
    LABEL_A,
    LABEL_B,
    slot(Spec(A), &["subjects"], &["f:subjects"], Form::Subjects),
    Slot {
        required: true,
        immutable: true,
        ..slot(Spec(B), &["roleRef"], &["f:roleRef"], Form::Role)
    },
];
static WIDGET: [Slot; 7] = [
    CASE,
    LABEL_A,
    LABEL_B,
    slot(Spec(A), &["spec", "replicas"], &["f:spec", "f:replicas"], Form::Number),
    slot(Spec(B), &["spec", "b"], &["f:spec", "f:b"], Form::Text),
    slot(Status(A), &["status", "a"], &["f:status", "f:a"], Form::Text),
    slot(
        Status(B),
        &["status", "replicas"],
        &["f:status", "f:replicas"],
        Form::Number,
    ),
];
static NAMESPACE: [Slot; 3] = [CASE, LABEL_A, LABEL_B];

impl Kind {
    /// Its group and version, and its name in URLs.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::ConfigMap => ("v1", "configmaps"),
            Kind::Pod => ("v1", "pods"),
            Kind::Deployment => ("apps/v1", "deployments"),
            Kind::RoleBinding => ("rbac.authorization.k8s.io/v1", "rolebindings"),
            Kind::Widget => ("model.example.com/v1", "widgets"),
            Kind::Namespace => ("v1", "namespaces"),
        }
    }

    pub fn slots(self) -> &'static [Slot] {
        match self {
            Kind::ConfigMap => &CONFIG_MAP,
            Kind::Pod => &POD,
            Kind::Deployment => &DEPLOYMENT,
            Kind::RoleBinding => &ROLE_BINDING,
            Kind::Widget => &WIDGET,
            Kind::Namespace => &NAMESPACE,
        }
    }

    pub fn slot(self, field: Field) -> Option<&'static Slot> {
        self.slots().iter().find(|slot| slot.field == field)
    }

    pub fn is_namespaced(self) -> bool {
        self != Kind::Namespace
    }

    /// Whether changes of the spec are counted.
    pub fn counts_generations(self) -> bool {
        matches!(self, Kind::Pod | Kind::Deployment | Kind::Widget)
    }

    pub fn has_status(self) -> bool {
        matches!(self, Kind::Pod | Kind::Deployment | Kind::Widget | Kind::Namespace)
    }

    pub fn has_scale(self) -> bool {
        matches!(self, Kind::Deployment | Kind::Widget)
    }

    /// Whether an update may leave out the resourceVersion.
    pub fn updates_unconditionally(self) -> bool {
        self != Kind::Widget
    }

    /// Whether an update of what is not there creates it.
    pub fn creates_on_update(self) -> bool {
        self == Kind::RoleBinding
    }

    /// Whether the last state of a deleted object is answered, not a Status.
    pub fn shows_deleted(self) -> bool {
        self == Kind::Pod
    }

    /// What every object of the kind has beside the model's fields.
    pub fn skeleton(self) -> Value {
        let (version, _) = self.names();
        let mut object = json!({"apiVersion": version, "kind": format!("{self:?}"), "metadata": {}});
        let template =
            json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "app:1"}]}});
        match self {
            Kind::Pod => object["spec"] = json!({"containers": [{"name": "c"}]}),
            Kind::Deployment => {
                object["spec"] = json!({"selector": {"matchLabels": {"app": "x"}}, "template": template})
            }
            Kind::Widget => object["spec"] = json!({"kept": "x"}),
            Kind::ConfigMap | Kind::RoleBinding | Kind::Namespace => {}
        }
        object
    }
}

impl Form {
    pub fn write(self, value: i64) -> Value {
        match self {
            Form::Run => Value::Null,
            Form::Text => json!(format!("v{value}")),
            Form::Number => json!(value),
            Form::Image => json!(format!("app:{value}")),
            Form::Subjects => {
                json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": format!("v{value}")}])
            }
            Form::Role => {
                json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("v{value}")})
            }
        }
    }

    pub fn read(self, value: &Value) -> Option<i64> {
        let text = |value: &Value, prefix: &str| value.as_str()?.strip_prefix(prefix)?.parse().ok();
        match self {
            Form::Run => value.is_string().then_some(1),
            Form::Text => text(value, "v"),
            Form::Number => value.as_i64(),
            Form::Image => text(value, "app:"),
            Form::Subjects => text(value.get(0)?.get("name")?, "v"),
            Form::Role => text(value.get("name")?, "v"),
        }
    }
}

/// The definition of widgets.
pub fn definition() -> Value {
    let part = |replicas: &str, other: &str| {
        json!({"type": "object", "properties": {
            replicas: {"type": "integer"}, other: {"type": "string"}, "kept": {"type": "string"}}})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.model.example.com"},
        "spec": {
            "group": "model.example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": part("replicas", "b"), "status": part("replicas", "a")}}},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "selectableFields": [{"jsonPath": ".spec.b"}],
            }],
        },
    })
}
