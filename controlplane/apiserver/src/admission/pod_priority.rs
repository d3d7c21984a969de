//! Priority: which pods may push others aside, as their PriorityClass says; of classes, that one at most is the default.

use api::{GroupResource, Object, Status};
use async_trait::async_trait;

use super::{Admission, AdmissionRequest, is_core};
use crate::registry::reader::Reader;
use crate::registry::resource::{Operation, Resource};
use crate::resources::scheduling::priority_class::SYSTEM;

const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";
const PREEMPTION: &str = "PreemptLowerPriority";

pub(super) struct Priority;

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update { .. });
        (is_core(resource, "pods") || is_class(resource)) && subresource.is_none() && writes
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if is_class(request.resource) {
            return Ok(());
        }
        let old = request.old;
        let class = match (&request.object, old) {
            (Some(pod), None) => class_of(pod, request).await?,
            _ => None,
        };
        let Some(pod) = request.object.as_deref_mut() else {
            return Ok(());
        };
        let done = match (old, class) {
            (Some(old), _) => {
                keep(old, pod);
                Ok(())
            }
            (None, class) => decide(pod, class),
        };
        done.map_err(|why| request.forbidden(&why))
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(class) = request.object.as_deref().filter(|_| is_class(request.resource)) else {
            return Ok(());
        };
        if class.bool_at("globalDefault") != Some(true) {
            return Ok(());
        }
        match default_class(request.reader).filter(|default| default.name() != class.name()) {
            Some(default) => Err(request.forbidden(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                default.name()
            ))),
            None => Ok(()),
        }
    }
}

fn is_class(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == PLURAL
}

fn kind() -> GroupResource {
    GroupResource::new(GROUP, PLURAL)
}

/// What a class says about its pods.
struct Class {
    name: String,
    value: i64,
    preemption: Option<String>,
}

impl Class {
    fn of(class: &Object) -> Self {
        Class {
            name: class.name().to_owned(),
            value: class.i64_at("value").unwrap_or_default(),
            preemption: class.str_at("preemptionPolicy").map(str::to_owned),
        }
    }
}

/// The class that a pod names, or else the default one. The system's own are known before they are written.
async fn class_of(pod: &Object, request: &AdmissionRequest<'_>) -> Result<Option<Class>, Status> {
    let name = pod.str_at("spec.priorityClassName").unwrap_or_default();
    if name.is_empty() {
        return Ok(default_class(request.reader).map(|class| Class::of(&class)));
    }
    if let Some((name, value)) = SYSTEM.iter().find(|(system, _)| *system == name) {
        return Ok(Some(Class {
            name: (*name).to_owned(),
            value: *value,
            preemption: Some(PREEMPTION.to_owned()),
        }));
    }
    let found = match request.reader.get(&kind(), None, name) {
        Some(class) => Some(class),
        None => request.reader.get_fresh(&kind(), None, name).await?,
    };
    match found {
        Some(class) => Ok(Some(Class::of(&class))),
        None => Err(request.forbidden(&format!("no PriorityClass with name {name} was found"))),
    }
}

/// The default class. Two writes at once may have made two: then the one that is worth less.
fn default_class(reader: &dyn Reader) -> Option<std::sync::Arc<Object>> {
    let classes = reader.list(&kind(), None).into_iter();
    let defaults = classes.filter(|class| class.bool_at("globalDefault") == Some(true));
    defaults.min_by_key(|class| class.i64_at("value").unwrap_or_default())
}

/// A pod keeps the priority it was born with.
fn keep(old: &Object, pod: &mut Object) {
    for field in ["spec.priority", "spec.preemptionPolicy"] {
        if let (None, Some(value)) = (pod.at(field), old.at(field).cloned()) {
            pod.set(field, value);
        }
    }
}

fn decide(pod: &mut Object, class: Option<Class>) -> Result<(), String> {
    let class = class.unwrap_or_else(|| Class {
        name: String::new(),
        value: 0,
        preemption: Some(PREEMPTION.to_owned()),
    });
    let value = class.value;
    if let Some(given) = pod.i64_at("spec.priority").filter(|given| *given != value) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed \
             {value} from the given PriorityClass name"
        ));
    }
    if !class.name.is_empty() {
        pod.set("spec.priorityClassName", class.name);
    }
    pod.set("spec.priority", value);
    let Some(policy) = class.preemption else { return Ok(()) };
    if let Some(given) = pod.str_at("spec.preemptionPolicy").filter(|given| *given != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        ));
    }
    pod.set("spec.preemptionPolicy", policy);
    Ok(())
}
