//! ResourceClaim: the wish for devices, and which ones it got.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde_json::{Value, json};

use super::{claim, status};
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::keep_status_apart;
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<ResourceClaim>()
        .strategy(Claims)
        .printer(definitions(), cells)
        .status()
        .build()
}

struct Claims;

impl Strategy for Claims {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(op, new, || json!({}));
        if let Operation::UpdateStatus { old } = op {
            status::drop_deallocated(old, new);
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        match op {
            Operation::Create => claim::spec(&spec, &mut errors),
            Operation::Update { old } => spec.immutable(&mut errors, &At::root(old, "spec")),
            Operation::UpdateStatus { old } => status::rules(old, new, &mut errors),
            Operation::Delete { .. } => {}
        }
        errors
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "State|string||A summary of the current state (allocated, pending, reserved, etc.).",
        "Age|string",
    ])
}

fn cells(claim: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        claim.name().into(),
        state(claim).into(),
        age(claim.creation_timestamp(), now),
    ]
}

fn state(claim: &Object) -> String {
    let allocated = claim
        .at("status.allocation")
        .is_some_and(|allocation| !allocation.is_null());
    let reserved = allocated && !claim.list_at("status.reservedFor").is_empty();
    let words = [
        (claim.is_deleting(), "deleted"),
        (!allocated && !claim.is_deleting(), "pending"),
        (allocated, "allocated"),
        (reserved, "reserved"),
    ];
    let holding = words.into_iter().filter(|(holds, _)| *holds);
    holding.map(|(_, word)| word).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let claim = |spec: Value, status: Value| {
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "one", "namespace": "ns",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, "status": status})
    };
    let gpu = |name: &str| json!({"name": name, "exactly": {"deviceClassName": "gpu.example.com"}});
    let some = json!({"name": "some", "firstAvailable": [{"name": "big", "deviceClassName": "gpu.example.com", "count": 2,
        "tolerations": [{"key": "a", "operator": "Exists"}]}]});
    let good = json!({"devices": {"requests": [gpu("gpu"), some],
        "constraints": [{"requests": ["gpu", "some/big"], "matchAttribute": "example.com/numa"}],
        "config": [{"requests": ["gpu"], "opaque": {"driver": "gpu.example.com", "parameters": {}}}]}});
    let mut both = gpu("both");
    both["firstAvailable"] = json!([{"name": "x", "deviceClassName": "y"}]);
    let odd = json!({"name": "odd", "exactly": {"deviceClassName": "", "allocationMode": "All", "count": 1,
        "tolerations": [{"operator": "Exists", "value": "v", "effect": "Cry"}]}});
    let bad = json!({"devices": {"requests": [gpu("gpu"), gpu("gpu"), {"name": "none"}, both, odd],
        "constraints": [{"requests": ["gpu/x", "a/b/c"]}, {"matchAttribute": "numa"}]}});
    let reference =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let at = |i: usize, text: &str| -> &'static str {
        String::leak(format!(
            "spec.devices.constraints[0].requests[{i}]: Invalid value: \"{text}\": {reference}"
        ))
    };
    let got = json!({"allocation": {"devices": {}}, "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]});
    crate::resources::testing::Cases {
        valid: vec![claim(good.clone(), got.clone()), claim(json!({}), json!({}))],
        invalid: vec![(
            claim(bad, json!({})),
            vec![
                "spec.devices.requests[2]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                "spec.devices.requests[3]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but \
                 multiple fields are set",
                "spec.devices.requests[4].exactly.deviceClassName: Required value",
                "spec.devices.requests[4].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'",
                "spec.devices.requests[4].exactly.tolerations[0].value: Invalid value: \"v\": must be empty for operator `Exists`",
                "spec.devices.requests[4].exactly.tolerations[0].effect: Unsupported value: \"Cry\": supported values: \
                 \"NoExecute\", \"NoSchedule\", \"None\"",
                "spec.devices.requests[1]: Duplicate value: \"gpu\"",
                at(0, "gpu/x"),
                at(1, "a/b/c"),
                "spec.devices.constraints[0]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is \
                 required, but multiple fields are set",
                "spec.devices.constraints[1].matchAttribute: Invalid value: \"numa\": a fully qualified name must be a domain and \
                 a name separated by a slash",
            ],
        )],
        table: vec![claim(good.clone(), json!({})), claim(good, got)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    fn claim(status: Value) -> Object {
        object(json!({"metadata": {"name": "a", "namespace": "ns"},
            "spec": {"devices": {"requests": [{"name": "gpu"}]}}, "status": status}))
    }

    fn update(old: &Object, status: Value) -> (Object, Vec<String>) {
        let mut new = claim(status);
        let op = Operation::UpdateStatus { old };
        context(Some("ns"), |cx| {
            Claims.prepare(cx, &op, &mut new);
            let found = messages(Claims.validate(cx, &op, &new));
            (new, found)
        })
    }

    fn result() -> Value {
        json!({"request": "gpu", "driver": "d.example.com", "pool": "n1", "device": "gpu0"})
    }

    #[test]
    fn devices_are_allocated_once_and_used_only_then() {
        let allocated = json!({"allocation": {"devices": {"results": [result()]}}});
        let (new, found) = update(&claim(json!({})), allocated);
        assert!(found.is_empty(), "{found:?}");
        let (_, found) = update(&new, json!({"allocation": {"devices": {"results": []}}}));
        assert_eq!(
            found,
            ["status.allocation: Invalid value: {\"devices\":{\"results\":[]}}: field is immutable"]
        );
        let (_, found) = update(
            &claim(json!({})),
            json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}),
        );
        assert_eq!(
            found,
            ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
        );
    }

    #[test]
    fn reports_go_with_their_devices_and_are_of_devices_that_are_there() {
        let mut report = result();
        report.as_object_mut().expect("a map").remove("request");
        let old = claim(json!({"allocation": {"devices": {"results": [result()]}}, "devices": [report.clone()]}));
        let (new, found) = update(&old, json!({"devices": [report.clone()]}));
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(new.at("status.devices"), None);
        let (_, found) = update(&claim(json!({})), json!({"devices": [report]}));
        assert_eq!(
            found,
            ["status.devices[0]: Invalid value: \"d.example.com/n1/gpu0\": must be an allocated device in the claim"]
        );
    }
}
