//! What an expression needs of its variables, and what it pays for.
//!
//! The interpreter copies what is selected from a map, so a whole object is never handed to it: [`needs`] tells which
//! paths an expression reads, and only those become values. [`rewrite`] puts charges around whatever may repeat or grow:
//! each round of a comprehension, selections and calls within one, concatenations everywhere.

use std::collections::BTreeMap;

use kube_cel::cel::IdedExpr;
use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};

/// What of a value is looked at.
#[derive(Clone, Debug, Default)]
pub struct Need {
    /// All of it.
    all: bool,
    /// These fields, by their escaped names.
    fields: BTreeMap<String, Need>,
}

impl Need {
    /// Everything.
    pub fn all() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    pub(crate) fn is_all(&self) -> bool {
        self.all
    }

    /// What of a field, by its escaped name, is looked at.
    pub fn field(&self, name: &str) -> Option<&Need> {
        self.fields.get(name)
    }
}

/// The free variables of an expression, and what it looks at in each.
pub(super) fn needs(expression: &IdedExpr) -> BTreeMap<String, Need> {
    let mut found = BTreeMap::new();
    collect(expression, &mut Vec::new(), &mut found);
    found
}

fn collect<'a>(of: &'a IdedExpr, bound: &mut Vec<&'a str>, found: &mut BTreeMap<String, Need>) {
    if let Some((variable, path, test)) = path(of) {
        if !bound.contains(&variable) {
            note(found.entry(variable.to_owned()).or_default(), &path, test);
        }
        return;
    }
    match &of.expr {
        Expr::Call(call) => {
            for inner in call.target.as_deref().into_iter().chain(&call.args) {
                collect(inner, bound, found);
            }
        }
        Expr::Select(select) => collect(&select.operand, bound, found),
        Expr::List(list) => list.elements.iter().for_each(|inner| collect(inner, bound, found)),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    collect(&entry.key, bound, found);
                    collect(&entry.value, bound, found);
                }
            }
        }
        Expr::Comprehension(comprehension) => {
            collect(&comprehension.iter_range, bound, found);
            collect(&comprehension.accu_init, bound, found);
            let known = bound.len();
            bound.push(&comprehension.accu_var);
            bound.push(&comprehension.iter_var);
            for inner in [
                &comprehension.loop_cond,
                &comprehension.loop_step,
                &comprehension.result,
            ] {
                collect(inner, bound, found);
            }
            bound.truncate(known);
        }
        _ => {}
    }
}

/// A chain of selections that begins at a variable: its name, the fields, and whether only the last one's presence is
/// asked for.
fn path(of: &IdedExpr) -> Option<(&str, Vec<&str>, bool)> {
    let mut fields = Vec::new();
    let mut at = of;
    let mut test = false;
    loop {
        match &at.expr {
            Expr::Ident(name) => {
                fields.reverse();
                return Some((name, fields, test));
            }
            Expr::Select(select) => {
                test |= select.test;
                fields.push(select.field.as_str());
                at = &select.operand;
            }
            _ => return None,
        }
    }
}

fn note(need: &mut Need, path: &[&str], test: bool) {
    match path.split_first() {
        // The presence of a field is known when it is there with nothing in it.
        None => need.all |= !test,
        Some((first, rest)) => note(need.fields.entry((*first).to_owned()).or_default(), rest, test),
    }
}

/// Called around what is paid for by its size.
pub(super) const COST: &str = "@cost";
/// Called around what is paid for by its size and then some.
pub(super) const HEAVY: &str = "@heavy";
/// Called around what is compared with itself.
pub(super) const SQUARE: &str = "@square";
/// Called for each round of a comprehension.
pub(super) const STEP: &str = "@step";

/// Puts charges into an expression.
pub(super) fn rewrite(expression: &mut IdedExpr) {
    charge(expression, false);
}

fn charge(of: &mut IdedExpr, repeated: bool) {
    let wrap = match &mut of.expr {
        Expr::Call(call) => {
            for inner in call.target.as_deref_mut().into_iter().chain(&mut call.args) {
                charge(inner, repeated);
            }
            square(call);
            price(call, repeated)
        }
        Expr::Select(select) => {
            charge(&mut select.operand, repeated);
            (repeated && !select.test).then_some(COST)
        }
        Expr::List(list) => {
            list.elements.iter_mut().for_each(|inner| charge(inner, repeated));
            repeated.then_some(COST)
        }
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    charge(&mut entry.key, repeated);
                    charge(&mut entry.value, repeated);
                }
            }
            repeated.then_some(COST)
        }
        Expr::Comprehension(comprehension) => {
            charge_rounds(comprehension, repeated);
            None
        }
        _ => None,
    };
    if let Some(function) = wrap {
        let inner = std::mem::take(of);
        *of = call(function, vec![inner]);
    }
}

fn charge_rounds(comprehension: &mut ComprehensionExpr, repeated: bool) {
    charge(&mut comprehension.iter_range, repeated);
    charge(&mut comprehension.accu_init, repeated);
    charge(&mut comprehension.loop_step, true);
    charge(&mut comprehension.result, repeated);
    let condition = std::mem::take(&mut comprehension.loop_cond);
    let never = IdedExpr {
        id: 0,
        expr: Expr::Literal(LiteralValue::Boolean(false.into())),
    };
    comprehension.loop_cond = call(operators::CONDITIONAL, vec![call(STEP, Vec::new()), condition, never]);
}

/// What a call pays for.
fn price(call: &CallExpr, repeated: bool) -> Option<&'static str> {
    match call.func_name.as_str() {
        operators::ADD => Some(COST),
        operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT => repeated.then_some(COST),
        name if name.starts_with('@') || is_operator(name) => None,
        _ => Some(HEAVY),
    }
}

/// Operators are written with the places of their operands.
fn is_operator(name: &str) -> bool {
    name.starts_with(['_', '!', '-'])
}

/// Functions that compare every item with every other.
fn square(call: &mut CallExpr) {
    let qualified = call
        .target
        .as_ref()
        .is_some_and(|target| matches!(&target.expr, Expr::Ident(name) if name == "sets"));
    if !qualified && call.func_name != "distinct" {
        return;
    }
    let operands = if qualified { None } else { call.target.as_deref_mut() };
    for inner in operands.into_iter().chain(&mut call.args) {
        let taken = std::mem::take(inner);
        *inner = self::call(SQUARE, vec![taken]);
    }
}

fn call(function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr {
        id: 0,
        expr: Expr::Call(CallExpr {
            func_name: function.to_owned(),
            target: None,
            args,
        }),
    }
}
