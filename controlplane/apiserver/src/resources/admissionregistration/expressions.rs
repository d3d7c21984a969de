//! Whether the expressions of webhooks and policies compile.

use api::FieldErrors;
use schema::cel::{CompileError, Type};
use serde_json::Value;

use crate::admission::dynamic::environment::{Compiler, Known, Options, items, text};
use crate::admission::dynamic::policies::extras;
use crate::resources::validation::At;

/// Says what is wrong with an expression that is there.
pub(super) fn check(at: &At<'_>, compiler: &Compiler, options: Options, wanted: &[Type], errors: &mut FieldErrors) {
    if let Err(error) = compiler.program(at.str(), options, wanted) {
        errors.push(at.invalid(error.to_string()));
    }
}

/// The compiler of a policy, which knows its variables; beside it, what is wrong with each of them.
pub(super) fn compiler(spec: &At<'_>) -> (Compiler, Vec<Option<CompileError>>) {
    let null = Value::Null;
    let spec = spec.value().unwrap_or(&null);
    let mut compiler = Compiler::of_policy(extras(spec), &Known::NOTHING);
    let declared = items(spec, "variables").map(|variable| {
        let declared = compiler.declare(text(variable, "name"), text(variable, "expression"));
        declared.err()
    });
    let declared = declared.collect();
    (compiler, declared)
}
