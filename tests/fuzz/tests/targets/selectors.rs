//! Selectors: what is printed reads as the same selector.

use api::{FieldSelector, LabelSelector};

pub const WORDS: &[&str] = &[
    "in",
    "notin",
    "(",
    ")",
    ",",
    "=",
    "==",
    "!=",
    "!",
    "a",
    "b.c/d",
    " ",
    "metadata.name",
    "spec.nodeName",
    "\\",
    "\\,",
    "\\=",
    ">",
    "<",
    "exists",
    "1",
    "()",
    "(,)",
];

pub fn labels(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(selector) = LabelSelector::parse(text) else {
        return;
    };
    let printed = selector.to_string();
    if printed.contains("in ()") {
        return; // as in Kubernetes, a set of nothing but the empty value is printed as one that is refused
    }
    let again = LabelSelector::parse(&printed).unwrap_or_else(|error| panic!("{printed:?}: {error}"));
    assert_eq!(again.to_string(), printed);
    for labels in [&[][..], &[("a", "b")], &[("a", ""), ("b.c/d", "1")]] {
        let label = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        assert_eq!(
            selector.matches(label),
            again.matches(label),
            "{text:?} and {printed:?}"
        );
    }
}

pub fn fields(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(selector) = FieldSelector::parse(text) else {
        return;
    };
    let printed = selector.to_string();
    let again = FieldSelector::parse(&printed).unwrap_or_else(|error| panic!("{printed:?}: {error}"));
    // Terms are taken in the order of their texts, and `==` is printed as `=`.
    let sorted = |selector: &FieldSelector| {
        let mut requirements = selector.requirements().to_vec();
        requirements.sort();
        requirements
    };
    assert_eq!(sorted(&again), sorted(&selector), "{text:?} and {printed:?}");
}
