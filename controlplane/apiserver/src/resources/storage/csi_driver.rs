//! CSIDriver: what the cluster should know of a storage driver before it uses it.

use std::collections::HashSet;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, FieldErrors, Object, Path};
use k8s_openapi::api::storage::v1::CSIDriver;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::{columns, or_none};
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

const GROUP_POLICIES: &[&str] = &["File", "None", "ReadWriteOnceWithFSType"];
const MODES: &[&str] = &["Persistent", "Ephemeral"];
const MIN_TOKEN_SECONDS: i64 = 600;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;
const MIN_UPDATE_PERIOD: i64 = 10;
/// Behind a feature gate that is closed in Kubernetes 1.36.
const GATED: &str = "spec.preventPodSchedulingIfMissing";
const TOKENS_ADVICE: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to \
                             prevent possible logging of tokens in volume attributes";

pub(crate) fn resource() -> Resource {
    Resource::of::<CSIDriver>()
        .strategy(Drivers)
        .printer(definitions(), cells)
        .generation()
        .build()
}

struct Drivers;

impl Strategy for Drivers {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        if op.old().is_none() {
            // The first change makes it 1.
            new.remove("metadata.generation");
        }
        let known = op.old().is_some_and(|old| old.at(GATED).is_some());
        if !known {
            new.remove(GATED);
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let spec = At::root(new, "spec");
        rules(&spec, &mut errors);
        if let Some(old) = op.old() {
            let before = At::root(old, "spec");
            let attach = spec.child("attachRequired");
            if attach.value() != before.child("attachRequired").value() {
                // Kubernetes misspells the field here.
                let path = Path::root("spec").child("attachedRequired");
                errors.push(FieldError::invalid(&path, attach.bool(), "field is immutable"));
            }
            spec.child("volumeLifecycleModes")
                .immutable(&mut errors, &before.child("volumeLifecycleModes"));
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        let requests = new.at("spec.tokenRequests");
        let asks = !new.list_at("spec.tokenRequests").is_empty();
        let fresh = op.old().is_none_or(|old| old.at("spec.tokenRequests") != requests);
        let unset = new.at("spec.serviceAccountTokenInSecrets").is_none();
        if asks && fresh && unset {
            vec![TOKENS_ADVICE.to_owned()]
        } else {
            Vec::new()
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn rules(spec: &At<'_>, errors: &mut FieldErrors) {
    spec.child("fsGroupPolicy").one_of(errors, GROUP_POLICIES);
    let requests = spec.child("tokenRequests");
    tokens(&requests, errors);
    let modes = spec.child("volumeLifecycleModes");
    for mode in modes.items() {
        if !MODES.contains(&mode.str()) {
            errors.push(FieldError::not_supported(modes.path(), mode.str(), MODES));
        }
    }
    let period = spec.child("nodeAllocatableUpdatePeriodSeconds");
    if period.i64().is_some_and(|seconds| seconds < MIN_UPDATE_PERIOD) {
        errors.push(period.invalid("must be greater than or equal to 10 seconds"));
    }
    let in_secrets = spec.child("serviceAccountTokenInSecrets");
    if in_secrets.is_set() && requests.is_empty() {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(in_secrets.invalid(detail));
    }
}

/// Tokens for the driver: one for each audience, of a life that is neither too short nor absurd.
fn tokens(at: &At<'_>, errors: &mut FieldErrors) {
    let mut audiences = HashSet::new();
    for request in at.items() {
        let (audience, expiration) = (request.child("audience"), request.child("expirationSeconds"));
        if !audiences.insert(audience.str()) {
            errors.push(audience.duplicate());
            continue;
        }
        match expiration.i64() {
            Some(seconds) if seconds < MIN_TOKEN_SECONDS => {
                errors.push(expiration.invalid("may not specify a duration less than 10 minutes"));
            }
            Some(seconds) if seconds > MAX_TOKEN_SECONDS => {
                errors.push(expiration.invalid("may not specify a duration larger than 2^32 seconds"));
            }
            _ => {}
        }
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "AttachRequired|boolean||Whether volumes are attached before they are mounted.",
        "PodInfoOnMount|boolean||Whether the driver is told about the pod.",
        "StorageCapacity|boolean||Whether the scheduler looks at capacities.",
        "TokenRequests|string||Audiences of tokens the driver gets.",
        "RequiresRepublish|boolean||Whether volumes are published again and again.",
        "Modes|string||Lives of volumes the driver supports.",
        "Age|string",
    ])
}

fn cells(driver: &Object, now: Timestamp) -> Vec<Value> {
    let flag = |field: &str, absent: bool| Value::from(driver.bool_at(&format!("spec.{field}")).unwrap_or(absent));
    let texts = |path: &str, field: Option<&str>| -> String {
        let items = driver.list_at(path).iter();
        let texts = items.map(|item| field.map_or(Some(item), |f| item.get(f)).and_then(Value::as_str));
        texts.map(Option::unwrap_or_default).collect::<Vec<_>>().join(",")
    };
    let tokens = match driver.at("spec.tokenRequests") {
        Some(_) => texts("spec.tokenRequests", Some("audience")),
        None => "<unset>".to_owned(),
    };
    vec![
        driver.name().into(),
        flag("attachRequired", true),
        flag("podInfoOnMount", false),
        flag("storageCapacity", false),
        tokens.into(),
        flag("requiresRepublish", false),
        or_none(&texts("spec.volumeLifecycleModes", None)),
        age(driver.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let driver = |spec: Value| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "disk.example.com",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
    };
    crate::resources::testing::Cases {
        valid: vec![
            driver(json!({"preventPodSchedulingIfMissing": true})),
            driver(json!({"attachRequired": false, "tokenRequests": [{"audience": "a", "expirationSeconds": 600}]})),
        ],
        invalid: vec![(
            driver(
                json!({"fsGroupPolicy": "Sometimes", "volumeLifecycleModes": ["Eternal"],
                "tokenRequests": [{"audience": "a", "expirationSeconds": 1}, {"audience": "a"}],
                "nodeAllocatableUpdatePeriodSeconds": 9}),
            ),
            vec![
                "spec.fsGroupPolicy: Unsupported value: \"Sometimes\": supported values: \"File\", \"None\", \
                 \"ReadWriteOnceWithFSType\"",
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                "spec.volumeLifecycleModes: Unsupported value: \"Eternal\": supported values: \"Persistent\", \"Ephemeral\"",
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
            ],
        )],
        table: vec![
            driver(
                json!({"attachRequired": true, "volumeLifecycleModes": ["Persistent", "Ephemeral"],
                "tokenRequests": [{"audience": "a"}, {"audience": "b"}]}),
            ),
            driver(json!({})),
        ],
    }
}
