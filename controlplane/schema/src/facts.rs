//! What Kubernetes knows of its fields and k8s-openapi's schemas do not say: list types and keys, patch strategies,
//! defaults, enumerations.
//!
//! The facts stand in `facts/*.txt`, one line per definition or field, compiled into the binary and read once, on first
//! use. Several files may speak of one field; each adds its words.

use std::{collections::HashMap, sync::OnceLock};

use serde_json::Value;

/// How a list's items are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// Nothing is said; for merging this is the same as atomic.
    #[default]
    Unsaid,
    Atomic,
    Set,
    /// Items are maps, told apart by these fields.
    Map(Vec<&'static str>),
}

/// The facts of one field.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldFacts {
    pub(crate) list: ListKind,
    pub(crate) map_atomic: bool,
    /// The patch strategy `merge`, without which lists are replaced.
    pub(crate) merge: bool,
    /// The patch strategy `retainKeys`: clients name the keys that stay.
    pub(crate) retain_keys: bool,
    pub(crate) merge_key: Option<&'static str>,
    pub(crate) default: Option<Value>,
    /// The values allowed, in the order in which messages name them; empty when any is.
    pub(crate) values: Vec<&'static str>,
    /// The field in which the list's items must differ.
    pub(crate) unique: Option<&'static str>,
    /// An empty text is not kept: in Go the field is no pointer, so that empty and absent are the same.
    pub(crate) omit_empty: bool,
    /// Where k8s-openapi's schema is mistaken about it.
    pub(crate) required: Option<bool>,
    /// What an object holds here in Go when nothing was said.
    pub(crate) zero: Option<Value>,
    /// An empty list is not the same as none.
    pub(crate) keep_empty: bool,
}

/// A group, version and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
}

/// The facts of one definition.
#[derive(Debug, Default)]
pub(crate) struct DefinitionFacts {
    pub(crate) atomic: bool,
    pub(crate) kind: Option<Kind>,
    pub(crate) fields: HashMap<&'static str, FieldFacts>,
}

const FILES: [&str; 4] = [
    include_str!("../facts/openapi.txt"),
    include_str!("../facts/defaults.txt"),
    include_str!("../facts/rules.txt"),
    include_str!("../facts/zero.txt"),
];

/// The facts of a field about which nothing is known.
pub(crate) static NONE: FieldFacts = FieldFacts {
    list: ListKind::Unsaid,
    map_atomic: false,
    merge: false,
    retain_keys: false,
    merge_key: None,
    default: None,
    values: Vec::new(),
    unique: None,
    omit_empty: false,
    required: None,
    zero: None,
    keep_empty: false,
};

/// The facts of a definition, by its name (`io.k8s.api.core.v1.Pod`).
pub(crate) fn of(definition: &str) -> Option<&'static DefinitionFacts> {
    static ALL: OnceLock<HashMap<&'static str, DefinitionFacts>> = OnceLock::new();
    ALL.get_or_init(read_all).get(definition)
}

fn read_all() -> HashMap<&'static str, DefinitionFacts> {
    let mut all: HashMap<&'static str, DefinitionFacts> = HashMap::new();
    for file in FILES {
        let mut current = "";
        for line in file.lines().filter(|line| !line.starts_with('#')) {
            match line.strip_prefix("  ") {
                Some(field) => read_field(all.entry(current).or_default(), field),
                None => current = read_definition(&mut all, line),
            }
        }
    }
    all
}

fn read_definition(all: &mut HashMap<&'static str, DefinitionFacts>, line: &'static str) -> &'static str {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let facts = all.entry(name).or_default();
    for word in words {
        match word.split_once('=') {
            Some(("kind", text)) => facts.kind = read_kind(text),
            _ => facts.atomic |= word == "atomic",
        }
    }
    name
}

fn read_kind(text: &'static str) -> Option<Kind> {
    let mut parts = text.split('/');
    Some(Kind {
        group: parts.next()?,
        version: parts.next()?,
        kind: parts.next()?,
    })
}

fn read_field(definition: &mut DefinitionFacts, line: &'static str) {
    let mut words = line.split(' ');
    let Some(name) = words.next() else { return };
    let facts = definition.fields.entry(name).or_default();
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        read_word(facts, key, value);
    }
}

fn read_word(facts: &mut FieldFacts, key: &str, value: &'static str) {
    match key {
        "list" => facts.list = read_list(value),
        "map" => facts.map_atomic = value == "atomic",
        "patch" => read_patch(facts, value),
        "default" => facts.default = serde_json::from_str(value).ok(),
        "enum" => facts.values = value.split(',').collect(),
        "unique" => facts.unique = Some(value),
        "zero" => facts.zero = serde_json::from_str(value).ok(),
        "keepempty" => facts.keep_empty = true,
        "omitempty" => facts.omit_empty = true,
        "required" => facts.required = Some(true),
        "optional" => facts.required = Some(false),
        _ => {}
    }
}

fn read_list(value: &'static str) -> ListKind {
    match value.split_once(':') {
        Some(("map", keys)) => ListKind::Map(keys.split(',').collect()),
        _ if value == "set" => ListKind::Set,
        _ => ListKind::Atomic,
    }
}

fn read_patch(facts: &mut FieldFacts, value: &'static str) {
    let (strategies, key) = value
        .split_once(':')
        .map_or((value, None), |(strategies, key)| (strategies, Some(key)));
    facts.merge = strategies.split(',').any(|strategy| strategy == "merge");
    facts.retain_keys = strategies.split(',').any(|strategy| strategy == "retainKeys");
    facts.merge_key = key;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(definition: &str, name: &str) -> FieldFacts {
        of(definition)
            .unwrap()
            .fields
            .get(name)
            .unwrap_or_else(|| panic!("{definition}.{name}"))
            .clone()
    }

    #[test]
    fn every_line_is_understood() {
        for line in FILES
            .into_iter()
            .flat_map(str::lines)
            .filter(|line| !line.starts_with('#'))
        {
            let (indented, words) = (line.starts_with("  "), line.trim_start().split(' ').skip(1));
            for word in words {
                let (key, value) = word.split_once('=').unwrap_or((word, ""));
                let known = match (indented, key) {
                    (false, "atomic") | (true, "required" | "optional" | "omitempty" | "keepempty") => value.is_empty(),
                    (false, "kind") => value.split('/').count() == 3,
                    (true, "list") => matches!(value, "atomic" | "set") || value.starts_with("map:"),
                    (true, "map") => value == "atomic",
                    (true, "patch" | "enum" | "unique") => !value.is_empty(),
                    (true, "default" | "zero") => serde_json::from_str::<Value>(value).is_ok(),
                    _ => false,
                };
                assert!(known, "{line}");
            }
        }
    }

    #[test]
    fn several_files_add_up() {
        let containers = field("io.k8s.api.core.v1.PodSpec", "containers");
        assert_eq!(containers.list, ListKind::Map(vec!["name"]));
        assert_eq!(
            (containers.merge, containers.merge_key, containers.unique),
            (true, Some("name"), Some("name"))
        );
        let volumes = field("io.k8s.api.core.v1.PodSpec", "volumes");
        assert!(volumes.merge && volumes.retain_keys);
        let ports = field("io.k8s.api.core.v1.Container", "ports");
        assert_eq!(ports.list, ListKind::Map(vec!["containerPort", "protocol"]));
        assert_eq!(ports.merge_key, Some("containerPort"));
        assert_eq!(
            field("io.k8s.api.core.v1.ContainerPort", "protocol").default,
            Some("TCP".into())
        );
        assert_eq!(
            field("io.k8s.api.apps.v1.DeploymentSpec", "strategy").default,
            Some(serde_json::json!({}))
        );
        assert_eq!(
            field("io.k8s.api.core.v1.LocalObjectReference", "name").required,
            Some(false)
        );
        let pod = of("io.k8s.api.core.v1.Pod").unwrap().kind;
        assert_eq!(
            pod,
            Some(Kind {
                group: "",
                version: "v1",
                kind: "Pod"
            })
        );
    }
}
