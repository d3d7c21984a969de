//! Priority: which pods may push others aside. A pod gets the priority and the policy of its class, or of the default one.

use std::sync::Arc;

use api::{GroupResource, Object, Status};
use async_trait::async_trait;

use super::{Admission, AdmissionRequest, is_core};
use crate::registry::resource::{Operation, Resource};
use crate::resources::scheduling::priority_class::SYSTEM;

const PREEMPTION: &str = "PreemptLowerPriority";
const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";

pub(super) struct Priority;

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update { .. });
        let kind = is_core(resource, "pods") || is_class(resource);
        kind && subresource.is_none() && writes
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if is_class(request.resource) {
            return Ok(());
        }
        if let Some(old) = request.old {
            request.object.as_deref_mut().into_iter().for_each(|pod| keep(old, pod));
            return Ok(());
        }
        let name = request
            .object
            .as_deref()
            .and_then(|pod| pod.str_at("spec.priorityClassName"))
            .unwrap_or_default()
            .to_owned();
        let class = match name.is_empty() {
            true => default_class(request).map_or_else(Class::none, |class| Class::of(&class)),
            false => named(request, &name).await?,
        };
        match request.object.as_deref_mut().map(|pod| class.apply(pod)) {
            Some(Err(why)) => Err(request.forbidden(&why)),
            _ => Ok(()),
        }
    }

    /// One class at most is the default.
    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let class = request.object.as_deref().filter(|_| is_class(request.resource));
        let Some(class) = class.filter(|class| class.bool_at("globalDefault") == Some(true)) else {
            return Ok(());
        };
        let other = default_class(request).filter(|other| request.old.is_none() || other.name() != class.name());
        match other {
            Some(other) => Err(request.forbidden(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name()
            ))),
            None => Ok(()),
        }
    }
}

fn is_class(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == PLURAL
}

/// The class of pods that name none; of several, the one with the least priority.
fn default_class(request: &AdmissionRequest<'_>) -> Option<Arc<Object>> {
    let classes = request.reader.list(&GroupResource::new(GROUP, PLURAL), None);
    let defaults = classes
        .into_iter()
        .filter(|class| class.bool_at("globalDefault") == Some(true));
    defaults.min_by_key(|class| class.i64_at("value"))
}

async fn named(request: &AdmissionRequest<'_>, name: &str) -> Result<Class, Status> {
    let kind = GroupResource::new(GROUP, PLURAL);
    let found = match request.reader.get(&kind, None, name) {
        Some(found) => Some(found),
        None => request.reader.get_fresh(&kind, None, name).await?,
    };
    let standard = SYSTEM.iter().find(|(class, _)| *class == name);
    match (found, standard) {
        (Some(found), _) => Ok(Class::of(&found)),
        (None, Some((name, value))) => Ok(Class {
            name: (*name).to_owned(),
            value: *value,
            ..Class::none()
        }),
        (None, None) => Err(request.forbidden(&format!("no PriorityClass with name {name} was found"))),
    }
}

/// What a class gives.
struct Class {
    name: String,
    value: i64,
    preemption: Option<String>,
}

impl Class {
    fn none() -> Self {
        Class {
            name: String::new(),
            value: 0,
            preemption: Some(PREEMPTION.to_owned()),
        }
    }

    fn of(class: &Object) -> Self {
        Class {
            name: class.name().to_owned(),
            value: class.i64_at("value").unwrap_or_default(),
            preemption: class.str_at("preemptionPolicy").map(str::to_owned),
        }
    }

    /// Writes it into a pod, which may have said the same itself; the error says what it said otherwise.
    fn apply(&self, pod: &mut Object) -> Result<(), String> {
        const BY: &str = "must not be provided in pod spec; priority admission controller computed";
        const FROM: &str = "from the given PriorityClass name";
        if let Some(given) = pod.i64_at("spec.priority").filter(|given| *given != self.value) {
            return Err(format!(
                "the integer value of priority ({given}) {BY} {} {FROM}",
                self.value
            ));
        }
        let given = pod.str_at("spec.preemptionPolicy");
        if let (Some(given), Some(policy)) = (given, &self.preemption)
            && given != policy
        {
            return Err(format!(
                "the string value of PreemptionPolicy ({given}) {BY} {policy} {FROM}"
            ));
        }
        if !self.name.is_empty() {
            pod.set("spec.priorityClassName", self.name.as_str());
        }
        pod.set("spec.priority", self.value);
        if let Some(policy) = &self.preemption {
            pod.set("spec.preemptionPolicy", policy.as_str());
        }
        Ok(())
    }
}

/// A pod keeps the priority it was born with.
fn keep(old: &Object, pod: &mut Object) {
    for field in ["spec.priority", "spec.preemptionPolicy"] {
        if let (None, Some(value)) = (pod.at(field), old.at(field).cloned()) {
            pod.set(field, value);
        }
    }
}
