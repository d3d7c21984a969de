//! PriorityLevelConfiguration: how much of the server a class of requests gets, and what happens beyond that.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration;
use serde_json::{Value, json};

use super::{conditions, standard};
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::keep_status_apart;
use crate::resources::print::columns;
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, meta};

const TYPES: &[&str] = &["Exempt", "Limited"];
const RESPONSES: &[&str] = &["Queue", "Reject"];
const MAX_QUEUES: i64 = 10_000_000;
/// Bits of a flow's hash, from which its queues are dealt.
const HASH_BITS: f64 = 60.0;

pub(crate) fn resource() -> Resource {
    Resource::of::<PriorityLevelConfiguration>()
        .strategy(Levels)
        .printer(definitions(), cells)
        .generation()
        .status()
        .build()
}

struct Levels;

impl Strategy for Levels {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(op, new, || json!({}));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        if !matches!(op, Operation::UpdateStatus { .. }) {
            let at = At::root(new, "spec");
            spec(new.name(), &at, &mut errors);
            fixed(new.name(), &at, &mut errors);
        }
        conditions(new, "", &mut errors);
        errors
    }
}

fn spec(name: &str, spec: &At<'_>, errors: &mut FieldErrors) {
    let (kind, exempt, limited) = (spec.child("type"), spec.child("exempt"), spec.child("limited"));
    if (name == standard::EXEMPT) != (kind.str() == "Exempt") {
        errors.push(kind.invalid("must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    match kind.str() {
        "Exempt" => {
            if limited.is_set() {
                errors.push(limited.forbidden("must be nil if the type is not Limited"));
            }
            shares(&exempt, errors);
        }
        "Limited" => {
            if exempt.is_set() {
                errors.push(exempt.forbidden("must be nil if the type is Limited"));
            }
            if limited.is_set() {
                self::limited(&limited, errors);
            } else {
                errors.push(limited.required("must not be empty when type is Limited"));
            }
        }
        _ => errors.push(kind.not_supported(TYPES)),
    }
}

fn shares(at: &At<'_>, errors: &mut FieldErrors) {
    let nominal = at.child("nominalConcurrencyShares");
    if nominal.i64().is_some_and(|shares| shares < 0) {
        errors.push(nominal.invalid("must be a non-negative integer"));
    }
    at.child("lendablePercent").within(errors, 0, 100);
}

fn limited(at: &At<'_>, errors: &mut FieldErrors) {
    let nominal = at.child("nominalConcurrencyShares");
    if nominal.i64().is_some_and(|shares| shares < 0) {
        errors.push(nominal.invalid("must be a non-negative integer"));
    }
    response(&at.child("limitResponse"), errors);
    at.child("lendablePercent").within(errors, 0, 100);
    let borrowing = at.child("borrowingLimitPercent");
    if borrowing.i64().is_some_and(|percent| percent < 0) {
        errors.push(borrowing.invalid("if specified, must be a non-negative integer"));
    }
}

fn response(at: &At<'_>, errors: &mut FieldErrors) {
    let (kind, queuing) = (at.child("type"), at.child("queuing"));
    match kind.str() {
        "Reject" if queuing.is_set() => {
            errors.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited"));
        }
        "Reject" => {}
        "Queue" if queuing.is_set() => self::queuing(&queuing, errors),
        "Queue" => errors.push(queuing.required("must not be empty if limited.limitResponse.type is Limited")),
        _ => errors.push(kind.not_supported(RESPONSES)),
    }
}

fn queuing(at: &At<'_>, errors: &mut FieldErrors) {
    let (length, queues, hand) = (at.child("queueLengthLimit"), at.child("queues"), at.child("handSize"));
    let number = |at: &At<'_>| at.i64().unwrap_or_default();
    if number(&length) <= 0 {
        errors.push(length.invalid("must be positive"));
    }
    match number(&queues) {
        ..=0 => errors.push(queues.invalid("must be positive")),
        count if count > MAX_QUEUES => errors.push(queues.invalid(format!("must not be greater than {MAX_QUEUES}"))),
        _ => {}
    }
    let (deck, size) = (number(&queues), number(&hand));
    if size <= 0 {
        errors.push(hand.invalid("must be positive"));
    } else if size > deck {
        errors.push(hand.invalid(format!("should not be greater than queues ({deck})")));
    } else if entropy(deck, size) > HASH_BITS {
        errors.push(hand.invalid(format!(
            "required entropy bits of deckSize {deck} and handSize {size} should not be greater than {HASH_BITS}"
        )));
    }
}

/// Bits that dealing a hand of queues takes.
#[allow(clippy::cast_precision_loss, reason = "both are far below 2^52")]
fn entropy(deck: i64, hand: i64) -> f64 {
    ((deck as f64).log2() * hand as f64).ceil()
}

/// The mandatory levels are as they are; only what the exempt one lends may be changed.
fn fixed(name: &str, at: &At<'_>, errors: &mut FieldErrors) {
    let Some(wanted) = standard::mandatory_level(name) else {
        return;
    };
    let exempt = name == standard::EXEMPT;
    let part = |spec: Option<&Value>| {
        let mut map = spec.and_then(Value::as_object).cloned().unwrap_or_default();
        map.retain(|field, _| !(exempt && field == "exempt"));
        map
    };
    if part(Some(&wanted)) != part(at.value()) {
        let but = if exempt { " except the 'spec.exempt' field" } else { "" };
        errors.push(at.invalid(format!("spec of '{name}'{but} must equal the fixed value")));
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Type|string||Whether requests are limited.",
        "NominalConcurrencyShares|string||Its part of what the server does at once.",
        "Queues|string||How many queues there are.",
        "HandSize|string||How many queues a flow may use.",
        "QueueLengthLimit|string||How many requests may wait in a queue.",
        "Age|string",
    ])
}

fn cells(level: &Object, now: Timestamp) -> Vec<Value> {
    let number = |path: &str| {
        level
            .at(&format!("spec.limited.{path}"))
            .cloned()
            .unwrap_or_else(|| "<none>".into())
    };
    vec![
        level.name().into(),
        level.str_at("spec.type").unwrap_or_default().into(),
        number("nominalConcurrencyShares"),
        number("limitResponse.queuing.queues"),
        number("limitResponse.queuing.handSize"),
        number("limitResponse.queuing.queueLengthLimit"),
        age(level.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let level = |name: &str, spec: Value| {
        json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration", "metadata": {"name": name,
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
    };
    let queues = |queues: i64, hand: i64| {
        json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue",
            "queuing": {"queues": queues, "handSize": hand}}}})
    };
    let exempt = json!({"type": "Exempt", "exempt": {"lendablePercent": 50}});
    crate::resources::testing::Cases {
        valid: vec![
            level(
                "mine",
                json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}),
            ),
            level("exempt", exempt.clone()),
        ],
        invalid: vec![
            (
                level("mine", exempt),
                vec!["spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'"],
            ),
            (
                level("mine", queues(8, 9)),
                vec![
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 9: should not be greater than queues (8)",
                ],
            ),
            (
                level("mine", queues(1024, 7)),
                vec![
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 7: required entropy bits of deckSize 1024 and \
                     handSize 7 should not be greater than 60",
                ],
            ),
            (
                level(
                    "mine",
                    json!({"type": "Limited", "exempt": {}, "limited": {"nominalConcurrencyShares": -1,
                    "lendablePercent": 101, "borrowingLimitPercent": -1, "limitResponse": {"type": "Reject", "queuing": {}}}}),
                ),
                vec![
                    "spec.exempt: Forbidden: must be nil if the type is Limited",
                    "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
                    "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
                    "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
                    "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer",
                ],
            ),
            (
                level(
                    "catch-all",
                    json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 6,
                    "limitResponse": {"type": "Reject"}}}),
                ),
                vec![
                    "spec: Invalid value: {\"limited\":{\"lendablePercent\":0,\"limitResponse\":{\"type\":\"Reject\"},\
                     \"nominalConcurrencyShares\":6},\"type\":\"Limited\"}: spec of 'catch-all' must equal the fixed value",
                ],
            ),
        ],
        table: vec![level("mine", queues(64, 6)), level("exempt", json!({"type": "Exempt"}))],
    }
}
