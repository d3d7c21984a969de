//! Laws that hold whatever is applied.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::{
    apply,
    compare::compare,
    element::Element,
    extract::extract,
    set::{Node, Set},
};
use super::{deployments, object, writer};

fn element() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-d.]{1,3}".prop_map(|name| format!("f:{name}")),
        "[a-c]{1,2}".prop_map(|name| format!("k:{}", json!({"name": name}))),
        (0..3u8, any::<bool>()).prop_map(|(port, tcp)| format!("k:{}", json!({"port": port, "tcp": tcp}))),
        "[a<&\"]{0,2}".prop_map(|text| format!("v:{}", json!(text))),
        (0..3u8).prop_map(|index| format!("i:{index}")),
    ]
}

/// FieldsV1 of any shape.
fn fields() -> impl Strategy<Value = Value> {
    let leaf = Just(json!({}));
    leaf.prop_recursive(3, 24, 4, |inner| {
        (prop::collection::btree_map(element(), inner, 1..4), any::<bool>()).prop_map(|(entries, member)| {
            let mut map: Map<String, Value> = entries.into_iter().collect();
            if member {
                map.insert(".".to_owned(), json!({}));
            }
            Value::Object(map)
        })
    })
}

fn leaves(set: &Set<'_>) -> Vec<String> {
    let mut paths = Vec::new();
    set.each_path(&mut |path| paths.push(path.to_owned()));
    paths.sort();
    paths
}

/// Some of a deployment's fields: scalars, a map, lists of both kinds, an atomic map.
fn config() -> impl Strategy<Value = Value> {
    let containers = prop::collection::btree_map("[a-c]", prop::option::of("[x-z]"), 1..3).prop_shuffle_map();
    (
        prop::option::of(0..3i64),
        prop::option::of(any::<bool>()),
        prop::collection::btree_map("[a-c]", "[x-z]", 0..3),
        prop::collection::btree_set("[a-c]", 0..3),
        containers,
        prop::option::of("[x-z]"),
    )
        .prop_map(|(replicas, paused, labels, finalizers, containers, selector)| {
            let mut spec = Map::new();
            spec.extend(replicas.map(|n| ("replicas".to_owned(), n.into())));
            spec.extend(paused.map(|paused| ("paused".to_owned(), paused.into())));
            spec.extend(selector.map(|app| ("selector".to_owned(), json!({"matchLabels": {"app": app}}))));
            spec.insert("template".to_owned(), json!({"spec": {"containers": containers}}));
            let mut metadata = json!({"name": "d"});
            if !labels.is_empty() {
                metadata["labels"] = json!(labels);
            }
            if !finalizers.is_empty() {
                metadata["finalizers"] = json!(finalizers);
            }
            json!({"apiVersion": "v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
        })
}

trait ShuffleMap: Strategy<Value = std::collections::BTreeMap<String, Option<String>>> + Sized {
    /// The entries as containers, in any order.
    fn prop_shuffle_map(self) -> BoxedStrategy<Value>;
}

impl<S> ShuffleMap for S
where
    S: Strategy<Value = std::collections::BTreeMap<String, Option<String>>> + 'static,
{
    fn prop_shuffle_map(self) -> BoxedStrategy<Value> {
        let entries = self.prop_map(|map| map.into_iter().collect::<Vec<_>>()).prop_shuffle();
        let container = |(name, image): (String, Option<String>)| match image {
            Some(image) => json!({"name": name, "image": image}),
            None => json!({"name": name}),
        };
        entries
            .prop_map(move |list| list.into_iter().map(container).collect())
            .boxed()
    }
}

/// The object after each of these configurations was applied, in turn, by its manager, with force.
fn applied(configs: &[(&str, &Value)]) -> api::Object {
    let schema = deployments();
    let mut live: Option<api::Object> = None;
    for (name, config) in configs {
        let mut next = apply(&writer(name, &schema), live.as_ref(), &object((*config).clone()), true).unwrap();
        next.set("metadata.uid", "u");
        live = Some(next);
    }
    live.unwrap()
}

/// Whether two configurations want some field otherwise: none does that only one of them names.
fn disagree(a: &Value, b: &Value) -> bool {
    let schema = deployments();
    let (a, b) = (object(a.clone()), object(b.clone()));
    let changes = compare(a.map(), b.map(), &schema).unwrap();
    let both = extract(a.map(), &schema).intersection(&extract(b.map(), &schema));
    let nobodys = Set::of_fields(&["metadata.name"]);
    !both.intersection(&changes.modified).difference(&nobodys).is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_what_is_read(fields in fields()) {
        let set = Set::decode(&fields).unwrap();
        let written = Value::Object(set.encode());
        prop_assert_eq!(Set::decode(&written).unwrap(), set);
    }

    #[test]
    fn sets_obey_the_laws_of_sets(a in fields(), b in fields()) {
        let (a, b) = (Set::decode(&a).unwrap(), Set::decode(&b).unwrap());
        let union = a.clone().union(b.clone());
        prop_assert_eq!(&union, &b.clone().union(a.clone()));
        let (both, only) = (a.intersection(&b), a.clone().difference(&b));
        prop_assert_eq!(&both, &b.intersection(&a));
        prop_assert_eq!(&both.clone().union(only.clone()), &a);
        prop_assert!(only.intersection(&b).is_empty());
        let mut all = leaves(&a);
        all.extend(leaves(&b));
        all.sort();
        all.dedup();
        prop_assert_eq!(leaves(&union), all);
        // Nothing at or below a path of `b` is left.
        let recursive = a.clone().recursive_difference(&b);
        prop_assert!(leaves(&recursive).len() <= leaves(&only).len());
        prop_assert!(recursive.intersection(&b).is_empty());
    }

    #[test]
    fn putting_keeps_the_order(names in prop::collection::vec("[a-e]", 0..12)) {
        let mut set = Set::default();
        for name in &names {
            set.put(Node { element: Element::field(name), member: true, children: Set::default() });
        }
        prop_assert!(set.nodes().is_sorted_by(|a, b| a.element < b.element));
        prop_assert!(names.iter().all(|name| set.get(&Element::field(name)).is_some()));
    }

    #[test]
    fn applying_twice_is_applying_once(first in config(), second in config()) {
        let once = applied(&[("a", &first), ("b", &second)]);
        let twice = applied(&[("a", &first), ("b", &second), ("b", &second)]);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn who_applies_alone_gets_what_it_asked_for(first in config(), second in config()) {
        let mut left = applied(&[("a", &first), ("a", &second)]);
        left.remove("metadata.managedFields");
        let schema = deployments();
        let asked = object(second);
        let have = extract(left.map(), &schema).difference(&Set::of_fields(&["metadata.uid"]));
        let want = extract(asked.map(), &schema);
        prop_assert_eq!(leaves(&have), leaves(&want));
    }

    #[test]
    fn appliers_conflict_exactly_when_they_disagree(first in config(), second in config()) {
        let schema = deployments();
        let live = applied(&[("a", &first)]);
        let result = apply(&writer("b", &schema), Some(&live), &object(second.clone()), false);
        prop_assert_eq!(result.is_err(), disagree(&first, &second));
    }

    #[test]
    fn appliers_that_agree_commute(first in config(), second in config()) {
        prop_assume!(!disagree(&first, &second));
        let schema = deployments();
        let fields = |object: &api::Object| leaves(&extract(object.map(), &schema));
        let (ab, ba) = (applied(&[("a", &first), ("b", &second)]), applied(&[("b", &second), ("a", &first)]));
        prop_assert_eq!(fields(&ab), fields(&ba));
        let changes = compare(ab.map(), ba.map(), &schema).unwrap();
        let books = Set::of_fields(&["metadata.managedFields"]);
        prop_assert!(changes.modified.difference(&books).is_empty());
    }
}
