//! Conditions under which a request matches: named expressions.

use std::collections::HashSet;

use api::{FieldError, FieldErrors};
use schema::cel::Type;

use super::expressions;
use crate::admission::dynamic::environment::{Compiler, Options};
use crate::resources::validation::At;
use crate::resources::validation::names::is_qualified_name;

const MAX: usize = 64;

/// `matchConditions`.
pub(super) fn match_conditions(at: &At<'_>, compiler: &Compiler, errors: &mut FieldErrors) {
    if at.len() > MAX {
        errors.push(FieldError::too_many(at.path(), at.len(), MAX));
    }
    let mut names = HashSet::new();
    for condition in at.items() {
        let (name, expression) = (condition.child("name"), condition.child("expression"));
        if expression.str().trim().is_empty() {
            errors.push(expression.required(""));
        } else {
            expressions::check(&expression, compiler, Options::default(), &[Type::Bool], errors);
        }
        name.require(errors, is_qualified_name);
        if !name.is_empty() && !names.insert(name.str()) {
            errors.push(name.duplicate());
        }
    }
}
