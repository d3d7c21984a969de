//! Which objects a list or watch is about: label selectors and field selectors, as text and as `metav1.LabelSelector`.

mod field;
mod label;
mod lex;
mod parse;
#[cfg(test)]
mod tests;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement};
