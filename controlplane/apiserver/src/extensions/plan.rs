//! What a definition needs next: names, or to be called established. Pure.
//!
//! Names belong to whoever was granted them first, within a group. Only when all are granted is the kind served, and only
//! when it is served here is it said to be.

use std::collections::BTreeSet;

use api::Object;
use api::time::Timestamp;
use serde_json::Value;

use crate::resources::apiextensions::custom_resource_definition::{Condition, FINALIZER, is_true, set_condition};
use crate::resources::apiextensions::spec::bundle_is_sound;

/// What the loop remembers of a definition.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    pub(super) group: String,
    wanted: Names,
    accepted: Names,
    names_accepted: bool,
    pub(super) established: bool,
    pub(super) terminating: bool,
    /// Its objects have to go, and then it.
    pub(super) wants_removal: bool,
    sound_bundle: bool,
    /// What its status says of its names, and of its being established.
    said: Vec<(String, String, String, String)>,
}

/// The names of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    plural: String,
    singular: String,
    short: Vec<String>,
    kind: String,
    list_kind: String,
    categories: Vec<String>,
}

/// The names that others of a group have been granted.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Names {
    fn read(object: &Object, at: &str) -> Self {
        let text = |field: &str| object.str_at(&format!("{at}.{field}")).unwrap_or_default().to_owned();
        let list = |field: &str| {
            let list = object
                .list_at(&format!("{at}.{field}"))
                .iter()
                .filter_map(Value::as_str);
            list.map(str::to_owned).collect()
        };
        Names {
            plural: text("plural"),
            singular: text("singular"),
            short: list("shortNames"),
            kind: text("kind"),
            list_kind: text("listKind"),
            categories: list("categories"),
        }
    }

    fn to_json(&self) -> Value {
        let mut map = serde_json::Map::new();
        for (field, value) in [
            ("plural", &self.plural),
            ("singular", &self.singular),
            ("kind", &self.kind),
            ("listKind", &self.list_kind),
        ] {
            let required = matches!(field, "plural" | "kind");
            if required || !value.is_empty() {
                map.insert(field.to_owned(), value.as_str().into());
            }
        }
        for (field, list) in [("shortNames", &self.short), ("categories", &self.categories)] {
            if !list.is_empty() {
                map.insert(field.to_owned(), list.clone().into());
            }
        }
        Value::Object(map)
    }

    /// What definitions of a group hold.
    pub(super) fn taken<'a>(others: impl Iterator<Item = &'a Summary>, group: &str) -> Taken {
        let mut taken = Taken::default();
        for other in others.filter(|other| other.group == group) {
            let names = &other.accepted;
            taken.resources.extend([names.plural.clone(), names.singular.clone()]);
            taken.resources.extend(names.short.iter().cloned());
            taken.kinds.extend([names.kind.clone(), names.list_kind.clone()]);
        }
        taken
    }
}

impl Summary {
    pub(super) fn of(definition: &Object) -> Self {
        let names_accepted = is_true(definition, "NamesAccepted");
        Summary {
            group: definition.str_at("spec.group").unwrap_or_default().to_owned(),
            wanted: Names::read(definition, "spec.names"),
            accepted: Names::read(definition, "status.acceptedNames"),
            names_accepted,
            established: is_true(definition, "Established"),
            terminating: definition.is_deleting() || is_true(definition, "Terminating"),
            wants_removal: definition.is_deleting() && definition.finalizers().contains(&FINALIZER),
            sound_bundle: bundle_is_sound(definition),
            said: said(definition),
        }
    }

    fn says(&self, condition: &Condition) -> bool {
        self.said.contains(&condition.words())
    }

    /// Whether requests for its kind are answered.
    pub(super) fn is_served(&self) -> bool {
        let complete = ![&self.accepted.plural, &self.accepted.kind, &self.accepted.list_kind]
            .iter()
            .any(|n| n.is_empty());
        complete && (self.names_accepted || self.established)
    }
}

/// The conditions of a definition: type, status, reason and message.
fn said(definition: &Object) -> Vec<(String, String, String, String)> {
    let text = |condition: &Value, field: &str| {
        condition
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let words = |c: &Value| {
        (
            text(c, "type"),
            text(c, "status"),
            text(c, "reason"),
            text(c, "message"),
        )
    };
    definition.list_at("status.conditions").iter().map(words).collect()
}

fn accepted() -> Condition {
    Condition::new("NamesAccepted", true, "NoConflicts", "no conflicts found")
}

fn installing() -> Condition {
    Condition::new(
        "Established",
        false,
        "Installing",
        "the initial names have been accepted",
    )
}

fn invalid_bundle() -> Condition {
    Condition::new(
        "Established",
        false,
        "InvalidCABundle",
        "The conversion webhook CABundle is invalid",
    )
}

/// A write that takes a definition further.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    names: Option<Names>,
    conditions: Vec<Condition>,
}

impl Change {
    pub(super) fn apply(&self, definition: &mut Object, now: Timestamp) {
        if let Some(names) = &self.names {
            definition.set("status.acceptedNames", names.to_json());
        }
        for condition in &self.conditions {
            set_condition(definition, condition, now);
        }
        if definition.at("status.storedVersions").is_none() {
            definition.set("status.storedVersions", Vec::<Value>::new());
        }
    }
}

/// The next step of a definition, if there is one. `served` is whether its kind answers requests here.
pub(super) fn next(summary: &Summary, taken: &Taken, served: bool) -> Option<Change> {
    if summary.wanted != summary.accepted || !summary.names_accepted {
        let (names, condition) = grant(&summary.wanted, &summary.accepted, taken);
        if names != summary.accepted || !summary.says(&condition) {
            let mut conditions = vec![condition.clone()];
            if !summary.established {
                conditions.push(match condition.status {
                    true => installing(),
                    false => Condition::new("Established", false, "NotAccepted", "not all names are accepted"),
                });
            }
            return Some(Change {
                names: Some(names),
                conditions,
            });
        }
    }
    if !summary.names_accepted || summary.established || !served {
        return None;
    }
    if !summary.sound_bundle {
        return (!summary.says(&invalid_bundle())).then(|| Change {
            names: None,
            conditions: vec![invalid_bundle()],
        });
    }
    let words = "the initial names have been accepted";
    Some(Change {
        names: None,
        conditions: vec![Condition::new("Established", true, "InitialNamesAccepted", words)],
    })
}

/// Grants what nobody else has; what is refused stays as it was.
fn grant(wanted: &Names, accepted: &Names, taken: &Taken) -> (Names, Condition) {
    let mut granted = accepted.clone();
    let mut refusal = None;
    let mut refuse = |reason: &str, why: String| refusal = Some(Condition::new("NamesAccepted", false, reason, &why));
    let free = |wanted: &str, own: &str, taken: &BTreeSet<String>| wanted == own || !taken.contains(wanted);
    let in_use = |name: &str| format!("{name:?} is already in use");
    for (wanted, own, granted, reason) in [
        (&wanted.plural, &accepted.plural, &mut granted.plural, "PluralConflict"),
        (
            &wanted.singular,
            &accepted.singular,
            &mut granted.singular,
            "SingularConflict",
        ),
    ] {
        match free(wanted, own, &taken.resources) {
            true => granted.clone_from(wanted),
            false => refuse(reason, in_use(wanted)),
        }
    }
    let used: Vec<String> = wanted
        .short
        .iter()
        .filter(|name| !accepted.short.contains(name) && taken.resources.contains(*name))
        .map(|name| in_use(name))
        .collect();
    match used.as_slice() {
        [] => granted.short.clone_from(&wanted.short),
        [one] => refuse("ShortNamesConflict", one.clone()),
        several => refuse("ShortNamesConflict", format!("[{}]", several.join(", "))),
    }
    for (wanted, own, granted, reason) in [
        (&wanted.kind, &accepted.kind, &mut granted.kind, "KindConflict"),
        (
            &wanted.list_kind,
            &accepted.list_kind,
            &mut granted.list_kind,
            "ListKindConflict",
        ),
    ] {
        match free(wanted, own, &taken.kinds) {
            true => granted.clone_from(wanted),
            false => refuse(reason, in_use(wanted)),
        }
    }
    granted.categories.clone_from(&wanted.categories);
    (granted, refusal.unwrap_or_else(self::accepted))
}
