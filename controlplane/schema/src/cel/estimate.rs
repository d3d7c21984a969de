//! What an expression may cost at most, as far as its schema bounds what it walks over.
//!
//! Kubernetes refuses rules whose worst case is beyond a budget, reckoned from `maxItems` and its like, and from how much
//! fits into a request where nothing is said. This is that reckoning from below: rounds of comprehensions over what the
//! schema describes, and single operations at one unit each. Nothing is refused that Kubernetes accepts; what slips through
//! here is stopped when it runs.

use std::collections::HashMap;

use kube_cel::cel::IdedExpr;
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, operators};

/// What is known of the size of a value.
pub trait Extent {
    /// How many items or entries it may have, and what they are.
    fn elements(&self) -> Option<(u64, &Self)>;
    /// A field, by its escaped name.
    fn field(&self, name: &str) -> Option<&Self>;
    /// What may stand under a key of a map.
    fn entry(&self) -> Option<&Self>;
}

/// The cost of an expression whose variables have these extents.
pub(super) fn cost<E: Extent>(expression: &IdedExpr, variables: &[(&str, &E)]) -> u64 {
    let mut scope: HashMap<&str, Option<&E>> = variables.iter().map(|(name, extent)| (*name, Some(*extent))).collect();
    estimate(expression, &mut scope).0
}

type Scope<'a, E> = HashMap<&'a str, Option<&'a E>>;

/// The cost of an expression, and the extent of its value.
fn estimate<'a, E: Extent>(of: &'a IdedExpr, scope: &mut Scope<'a, E>) -> (u64, Option<&'a E>) {
    match &of.expr {
        Expr::Ident(name) => (1, scope.get(name.as_str()).copied().flatten()),
        Expr::Select(select) => {
            let (cost, operand) = estimate(&select.operand, scope);
            let found = operand.and_then(|operand| operand.field(&select.field).or_else(|| operand.entry()));
            (cost.saturating_add(1), found)
        }
        Expr::Call(call) => of_call(call, scope),
        Expr::List(list) => (1 + sum(&mut list.elements.iter(), scope), None),
        Expr::Map(map) => {
            let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => Some([&entry.key, &entry.value]),
                EntryExpr::StructField(_) => None,
            });
            (1 + sum(&mut entries.flatten(), scope), None)
        }
        Expr::Comprehension(c) => {
            let (range, extent) = estimate(&c.iter_range, scope);
            let (init, _) = estimate(&c.accu_init, scope);
            let (rounds, item) = match extent.and_then(Extent::elements) {
                // Over a map the keys are visited.
                Some((rounds, _)) if extent.is_some_and(|extent| extent.entry().is_some()) => (rounds, None),
                Some((rounds, item)) => (rounds, Some(item)),
                None => (1, None),
            };
            let hidden = [
                (c.accu_var.as_str(), scope.insert(&c.accu_var, None)),
                (c.iter_var.as_str(), scope.insert(&c.iter_var, item)),
            ];
            let round = estimate(&c.loop_cond, scope)
                .0
                .saturating_add(estimate(&c.loop_step, scope).0);
            let (result, _) = estimate(&c.result, scope);
            for (name, before) in hidden.into_iter().rev() {
                match before {
                    Some(before) => drop(scope.insert(name, before)),
                    None => drop(scope.remove(name)),
                }
            }
            let rounds = rounds.saturating_mul(round);
            (
                range.saturating_add(init).saturating_add(rounds).saturating_add(result),
                None,
            )
        }
        _ => (0, None),
    }
}

fn of_call<'a, E: Extent>(call: &'a CallExpr, scope: &mut Scope<'a, E>) -> (u64, Option<&'a E>) {
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::CONDITIONAL, [condition, a, b]) => {
            let (condition, _) = estimate(condition, scope);
            let (a, b) = (estimate(a, scope), estimate(b, scope));
            (condition.saturating_add(a.0.max(b.0)), a.1.or(b.1))
        }
        (operators::INDEX | operators::OPT_INDEX, [of, index]) => {
            let (cost, extent) = estimate(of, scope);
            let item = extent.and_then(|extent| extent.entry().or_else(|| extent.elements().map(|(_, item)| item)));
            (cost.saturating_add(estimate(index, scope).0).saturating_add(1), item)
        }
        // What decides which of its parts counts costs nothing of its own.
        (operators::NOT_STRICTLY_FALSE | operators::LOGICAL_AND | operators::LOGICAL_OR, args) => {
            (sum(&mut args.iter(), scope), None)
        }
        (_, args) => {
            let target = call.target.as_deref().map_or(0, |target| estimate(target, scope).0);
            (
                target.saturating_add(sum(&mut args.iter(), scope)).saturating_add(1),
                None,
            )
        }
    }
}

fn sum<'a, E: Extent>(all: &mut dyn Iterator<Item = &'a IdedExpr>, scope: &mut Scope<'a, E>) -> u64 {
    all.map(|one| estimate(one, scope).0).fold(0, u64::saturating_add)
}
