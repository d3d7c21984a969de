//! A set of paths: an ordered trie. What `fieldpath.Set` holds as members and children stands in one list here.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::element::{BadElement, Element};

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Set<'a> {
    /// Sorted by element. Each is a member or leads to one.
    nodes: Vec<Node<'a>>,
}

/// What the set holds at and below one element.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node<'a> {
    pub(crate) element: Element<'a>,
    /// Whether the path that ends here is in the set.
    pub(crate) member: bool,
    pub(crate) children: Set<'a>,
}

impl<'a> Node<'a> {
    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl<'a> Set<'a> {
    /// The set of some dotted paths of fields.
    pub(crate) fn of_fields(paths: &[&'a str]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert_fields(path);
        }
        set
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(crate) fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    fn insert_fields(&mut self, path: &'a str) {
        let (first, rest) = path
            .split_once('.')
            .map_or((path, None), |(first, rest)| (first, Some(rest)));
        let node = self.node(Element::field(first));
        match rest {
            Some(rest) => node.children.insert_fields(rest),
            None => node.member = true,
        }
    }

    /// The node of an element, made if there is none: the caller makes it a member or gives it children.
    fn node(&mut self, element: Element<'a>) -> &mut Node<'a> {
        let at = match self.nodes.binary_search_by(|node| node.element.cmp(&element)) {
            Ok(at) => at,
            Err(at) => {
                let node = Node {
                    element,
                    member: false,
                    children: Set::default(),
                };
                self.nodes.insert(at, node);
                at
            }
        };
        self.nodes.get_mut(at).expect("it was just found or inserted")
    }

    /// Adds a node, most often behind all others; one of that element is replaced. An empty node is left out.
    pub(crate) fn put(&mut self, node: Node<'a>) {
        if node.is_empty() {
            return;
        }
        if self.nodes.last().is_none_or(|last| last.element < node.element) {
            self.nodes.push(node);
            return;
        }
        match self.nodes.binary_search_by(|known| known.element.cmp(&node.element)) {
            Ok(at) => {
                if let Some(known) = self.nodes.get_mut(at) {
                    *known = node;
                }
            }
            Err(at) => self.nodes.insert(at, node),
        }
    }

    /// Makes an element a member; false when it was one.
    pub(crate) fn add(&mut self, element: Element<'a>) -> bool {
        !std::mem::replace(&mut self.node(element).member, true)
    }

    pub(crate) fn get(&self, element: &Element<'_>) -> Option<&Node<'a>> {
        let at = self.nodes.binary_search_by(|node| node.element.cmp(element)).ok()?;
        self.nodes.get(at)
    }

    /// Whether the path, of fields alone, is in the set.
    pub(crate) fn has_field(&self, path: &str) -> bool {
        let (first, rest) = path
            .split_once('.')
            .map_or((path, None), |(first, rest)| (first, Some(rest)));
        match (self.get(&Element::field(first)), rest) {
            (Some(node), Some(rest)) => node.children.has_field(rest),
            (Some(node), None) => node.member,
            (None, _) => false,
        }
    }

    /// What is in either.
    #[must_use]
    pub(crate) fn union(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let mut nodes = Vec::with_capacity(self.nodes.len().max(other.nodes.len()));
        let (mut ours, mut theirs) = (self.nodes.into_iter().peekable(), other.nodes.into_iter().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(a), Some(b)) => a.element.cmp(&b.element),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Self { nodes },
            };
            match order {
                Ordering::Less => nodes.extend(ours.next()),
                Ordering::Greater => nodes.extend(theirs.next()),
                Ordering::Equal => nodes.extend(ours.next().zip(theirs.next()).map(|(a, b)| Node {
                    element: a.element,
                    member: a.member || b.member,
                    children: a.children.union(b.children),
                })),
            }
        }
    }

    /// What is in both.
    pub(crate) fn intersection(&self, other: &Set<'_>) -> Self {
        let mut out = Self::default();
        for (node, theirs) in self.pairs(other) {
            if let Some(theirs) = theirs {
                out.put(Node {
                    element: node.element.clone(),
                    member: node.member && theirs.member,
                    children: node.children.intersection(&theirs.children),
                });
            }
        }
        out
    }

    /// What is here and not in `other`, path by path: that a path is in `other` says nothing of the paths below it.
    #[must_use]
    pub(crate) fn difference(mut self, other: &Set<'_>) -> Self {
        if !other.is_empty() {
            self.subtract(other, false);
        }
        self
    }

    /// What is here, less the paths in `other` and everything below them.
    #[must_use]
    pub(crate) fn recursive_difference(mut self, other: &Set<'_>) -> Self {
        if !other.is_empty() {
            self.subtract(other, true);
        }
        self
    }

    fn subtract(&mut self, other: &Set<'_>, below: bool) {
        let mut theirs = other.nodes.iter().peekable();
        self.nodes.retain_mut(|node| {
            while theirs.next_if(|their| their.element < node.element).is_some() {}
            let Some(their) = theirs.peek().filter(|their| their.element == node.element) else {
                return true;
            };
            if their.member {
                if below {
                    return false;
                }
                node.member = false;
            }
            if !their.children.is_empty() {
                node.children.subtract(&their.children, below);
            }
            !node.is_empty()
        });
    }

    /// Each node with the other set's node of the same element.
    fn pairs<'s, 'b>(&'s self, other: &'s Set<'b>) -> impl Iterator<Item = (&'s Node<'a>, Option<&'s Node<'b>>)> {
        let mut theirs = other.nodes.iter().peekable();
        self.nodes.iter().map(move |node| {
            while theirs.next_if(|their| their.element < node.element).is_some() {}
            let same = theirs.peek().copied().filter(|their| their.element == node.element);
            (node, same)
        })
    }

    /// Calls back with each path as messages show it (`.spec.containers[name="a"].image`), the shorter ones first.
    pub(crate) fn each_path(&self, call: &mut dyn FnMut(&str)) {
        self.each_below(&mut String::new(), call);
    }

    fn each_below(&self, prefix: &mut String, call: &mut dyn FnMut(&str)) {
        let mark = prefix.len();
        for node in self.nodes.iter().filter(|node| node.member) {
            prefix.push_str(&node.element.to_string());
            call(prefix);
            prefix.truncate(mark);
        }
        for node in self.nodes.iter().filter(|node| !node.children.is_empty()) {
            prefix.push_str(&node.element.to_string());
            node.children.each_below(prefix, call);
            prefix.truncate(mark);
        }
    }

    /// Writes FieldsV1.
    pub(crate) fn encode(&self) -> Map<String, Value> {
        let mut map = Map::new();
        for node in &self.nodes {
            let mut below = node.children.encode();
            if node.member && !below.is_empty() {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(node.element.encode(), Value::Object(below));
        }
        map
    }

    /// Reads FieldsV1.
    ///
    /// # Errors
    /// With the reason, when it is not what [`Set::encode`] writes.
    pub(crate) fn decode(fields: &'a Value) -> Result<Self, String> {
        decode(fields).map(|(children, _)| children)
    }
}

/// The paths below a place, and whether the place itself is in the set: it is when nothing below is.
fn decode(fields: &Value) -> Result<(Set<'_>, bool), String> {
    let map = match fields {
        Value::Object(map) => map,
        Value::Null => return Ok((Set::default(), true)),
        other => return Err(format!("expected {{ or n, but found {other}")),
    };
    let (mut set, mut member) = (Set::default(), false);
    for (key, below) in map {
        if key == "." {
            member = true;
            continue;
        }
        let element = match Element::decode(key) {
            Ok(element) => element,
            Err(BadElement::Unknown) => continue,
            Err(BadElement::Malformed(why)) => return Err(format!("parsing key as path element: {why}")),
        };
        let (children, child_is_member) = decode(below)?;
        set.put(Node {
            element,
            member: child_is_member,
            children,
        });
    }
    let member = member || set.is_empty();
    Ok((set, member))
}
