//! Sets written under an earlier schema, brought to the present one: what has become atomic since is owned as a whole.

use super::{
    element::Element,
    set::{Node, Set},
    shape::{Shape, Slot, root_fields},
};
use crate::schema::Schema;

/// Nothing changes in a set that fits the schema.
pub(super) fn reconcile<'a>(set: Set<'a>, schema: &Schema) -> Set<'a> {
    match needs(&set, Shape::Fields(root_fields(schema))) {
        true => rewrite(&set, Shape::Fields(root_fields(schema))),
        false => set,
    }
}

/// The place that a node is about, if the schema knows it.
fn place<'a>(node: &Node<'_>, shape: Shape<'a>) -> Option<Slot<'a>> {
    match (shape, &node.element) {
        (Shape::Fields(fields), Element::Field(name)) if !fields.is_free() => fields.slot(name),
        (Shape::Items(items), _) => Some(items.item),
        _ => None,
    }
}

/// Whether a node owns parts of something that is one whole, or merely leads to it.
fn is_split(node: &Node<'_>, shape: Shape<'_>) -> bool {
    match shape {
        Shape::AtomicList => !node.member || !node.children.is_empty(),
        Shape::AtomicMap => !node.children.is_empty(),
        _ => false,
    }
}

fn needs(set: &Set<'_>, shape: Shape<'_>) -> bool {
    set.nodes().iter().any(|node| {
        let Some(slot) = place(node, shape) else { return false };
        let below = slot.shape(None);
        is_split(node, below) || (!node.children.is_empty() && needs(&node.children, below))
    })
}

fn rewrite<'a>(set: &Set<'a>, shape: Shape<'_>) -> Set<'a> {
    let mut out = Set::default();
    for node in set.nodes() {
        let below = place(node, shape).map(|slot| slot.shape(None));
        let whole = below.is_some_and(|below| is_split(node, below));
        out.put(Node {
            element: node.element.clone(),
            member: node.member || whole,
            children: match below {
                Some(_) if whole => Set::default(),
                Some(below) => rewrite(&node.children, below),
                None => node.children.clone(),
            },
        });
    }
    out
}
