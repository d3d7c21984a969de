use api::Object;
use serde_json::{Value, json};

use super::plan::{self, Names, Summary};

fn definition(plural: &str, change: impl FnOnce(&mut Object)) -> Object {
    let mut definition = Object::from_value(json!({
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {"group": "example.com", "names": {
            "plural": plural, "singular": plural.trim_end_matches('s'), "kind": plural, "listKind": format!("{plural}List"),
            "shortNames": ["x"]}}}))
    .expect("an object");
    change(&mut definition);
    definition
}

/// Takes a definition as far as it comes without being served, and then as far as it comes.
fn settle(definition: &mut Object, others: &[&Object]) -> Vec<String> {
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    let others: Vec<Summary> = others.iter().map(|other| Summary::of(other)).collect();
    let mut said = Vec::new();
    for served in [false, true] {
        while let Some(change) = plan::next(
            &Summary::of(definition),
            &Names::taken(others.iter(), "example.com"),
            served,
        ) {
            change.apply(definition, now);
            said.push(conditions(definition));
            assert!(said.len() < 10, "it never settles: {said:?}");
        }
    }
    said
}

fn conditions(definition: &Object) -> String {
    let text = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
    let one = |c: &Value| {
        format!(
            "{}={} {}: {}",
            text(c, "type"),
            text(c, "status"),
            text(c, "reason"),
            text(c, "message")
        )
    };
    definition
        .list_at("status.conditions")
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join("; ")
}

#[test]
fn a_definition_is_established_when_it_is_served() {
    let mut only = definition("as", |_| ());
    assert_eq!(
        settle(&mut only, &[]),
        [
            "NamesAccepted=True NoConflicts: no conflicts found; \
             Established=False Installing: the initial names have been accepted",
            "NamesAccepted=True NoConflicts: no conflicts found; \
             Established=True InitialNamesAccepted: the initial names have been accepted",
        ]
    );
    assert_eq!(only.at("status.acceptedNames"), only.at("spec.names"));
    assert!(Summary::of(&only).is_served());
}

#[test]
fn names_belong_to_who_came_first() {
    let mut first = definition("as", |_| ());
    settle(&mut first, &[]);
    let mut second = definition("bs", |_| ());
    let said = settle(&mut second, &[&first]);
    assert_eq!(
        said,
        ["NamesAccepted=False ShortNamesConflict: \"x\" is already in use; \
          Established=False NotAccepted: not all names are accepted"]
    );
    assert!(!Summary::of(&second).is_served());
    assert_eq!(
        second.at("status.acceptedNames.plural"),
        Some(&json!("bs")),
        "what is free is granted"
    );
    // The other one lets go.
    let said = settle(&mut second, &[]);
    assert!(
        said.last().is_some_and(|said| said.contains("Established=True")),
        "{said:?}"
    );
}

#[test]
fn an_established_definition_stays_so_whatever_it_asks_for_next() {
    let mut first = definition("as", |_| ());
    settle(&mut first, &[]);
    let mut second = definition("bs", |d| d.set("spec.names.shortNames", json!(["y"])));
    settle(&mut second, &[&first]);
    second.set("spec.names.shortNames", json!(["x"]));
    settle(&mut second, &[&first]);
    let summary = Summary::of(&second);
    assert!(summary.established && summary.is_served());
    assert_eq!(second.at("status.acceptedNames.shortNames"), Some(&json!(["y"])));
    assert!(conditions(&second).contains("NamesAccepted=False ShortNamesConflict"));
}

#[test]
fn a_webhook_without_a_sound_bundle_is_not_established() {
    let mut broken = definition("as", |d| {
        d.set(
            "spec.conversion",
            json!({"strategy": "Webhook", "webhook": {"clientConfig": {"caBundle": "anVuaw=="}}}),
        );
    });
    let said = settle(&mut broken, &[]);
    assert_eq!(
        said.last().map(String::as_str),
        Some(
            "NamesAccepted=True NoConflicts: no conflicts found; \
             Established=False InvalidCABundle: The conversion webhook CABundle is invalid"
        )
    );
}
