//! What can be known of an expression before it runs: that it names only what is declared, that fields exist, that the
//! two sides of a comparison can be compared, and of which type its result is.
//!
//! Where a type is not known, nothing is said: what is refused here would fail whenever it ran.

use std::{collections::BTreeMap, sync::Arc};

use kube_cel::cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators},
};

use super::{Type, functions, message};

type Result<T> = std::result::Result<T, String>;

/// The type of an expression's result.
pub(super) fn check(expression: &IdedExpr, variables: &[(&str, Type)]) -> Result<Type> {
    let mut scope: Vec<(&str, Type)> = variables.to_vec();
    infer(expression, &mut scope)
}

fn infer<'a>(of: &'a IdedExpr, scope: &mut Vec<(&'a str, Type)>) -> Result<Type> {
    match &of.expr {
        Expr::Literal(literal) => Ok(of_literal(literal)),
        Expr::Ident(name) => variable(name, scope),
        Expr::Select(select) => select_field(select, scope),
        Expr::Call(call) => of_call(call, scope),
        Expr::List(list) => {
            let mut item = None;
            for element in &list.elements {
                let type_ = infer(element, scope)?;
                item = Some(if item.is_none() || item.as_ref() == Some(&type_) {
                    type_
                } else {
                    Type::Dyn
                });
            }
            Ok(Type::List(Arc::new(item.unwrap_or(Type::Dyn))))
        }
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    infer(&entry.key, scope)?;
                    infer(&entry.value, scope)?;
                }
            }
            Ok(Type::Map(Arc::new(Type::Dyn)))
        }
        Expr::Comprehension(comprehension) => of_comprehension(comprehension, scope),
        Expr::Struct(_) => Err("messages cannot be made".to_owned()),
        Expr::Unspecified => Err("unspecified expression".to_owned()),
    }
}

fn of_literal(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}

fn variable(name: &str, scope: &[(&str, Type)]) -> Result<Type> {
    let found = scope.iter().rev().find(|(known, _)| *known == name);
    found
        .map(|(_, type_)| type_.clone())
        .ok_or_else(|| format!("undeclared reference to '{name}' (in container '')"))
}

fn select_field<'a>(select: &'a SelectExpr, scope: &mut Vec<(&'a str, Type)>) -> Result<Type> {
    let operand = infer(&select.operand, scope)?;
    let found = field(&operand, &select.field)?;
    Ok(if select.test { Type::Bool } else { found })
}

fn field(operand: &Type, name: &str) -> Result<Type> {
    match operand {
        Type::Dyn | Type::Message(_) => Ok(Type::Dyn),
        Type::Map(value) => Ok((**value).clone()),
        Type::Object(fields) => fields
            .get(name)
            .cloned()
            .ok_or_else(|| format!("undefined field '{name}'")),
        Type::Optional(inner) => Ok(Type::Optional(Arc::new(field(inner, name)?))),
        other => Err(format!("type '{}' does not support field selection", show(other))),
    }
}

fn of_call<'a>(call: &'a CallExpr, scope: &mut Vec<(&'a str, Type)>) -> Result<Type> {
    if let Some(prefix) = qualifier(call, scope) {
        let name = format!("{prefix}.{}", call.func_name);
        for arg in &call.args {
            infer(arg, scope)?;
        }
        return match functions::exists(&name) {
            true => Ok(result_of(&name)),
            false => Err(format!("undeclared reference to '{name}' (in container '')")),
        };
    }
    let target = call.target.as_deref().map(|target| infer(target, scope)).transpose()?;
    let args = call
        .args
        .iter()
        .map(|arg| infer(arg, scope))
        .collect::<Result<Vec<_>>>()?;
    if let Some(name) = message::name(call) {
        return Ok(Type::Message(name.into()));
    }
    if let Some(type_) = of_operator(&call.func_name, &args)? {
        return Ok(type_);
    }
    if !functions::exists(&call.func_name) {
        return Err(format!(
            "undeclared reference to '{}' (in container '')",
            call.func_name
        ));
    }
    Ok(match (call.func_name.as_str(), target) {
        ("orValue" | "value", Some(Type::Optional(inner))) => (*inner).clone(),
        ("or", Some(optional)) => optional,
        (name, _) => result_of(name),
    })
}

/// `sets` in `sets.contains(…)`, unless it is a variable.
fn qualifier<'a>(call: &'a CallExpr, scope: &[(&str, Type)]) -> Option<&'a str> {
    match &call.target.as_deref()?.expr {
        Expr::Ident(name) if !scope.iter().any(|(known, _)| known == name) => {
            let known = [
                "base64",
                "format",
                "ip",
                "jsonpatch",
                "lists",
                "math",
                "optional",
                "sets",
                "strings",
            ];
            known.contains(&name.as_str()).then_some(name)
        }
        _ => None,
    }
}

fn of_operator(name: &str, args: &[Type]) -> Result<Option<Type>> {
    use operators::{
        ADD, CONDITIONAL, DIVIDE, EQUALS, GREATER, GREATER_EQUALS, IN, INDEX, LESS, LESS_EQUALS, LOGICAL_AND,
        LOGICAL_NOT, LOGICAL_OR, MODULO, MULTIPLY, NEGATE, NOT_EQUALS, NOT_STRICTLY_FALSE, OPT_INDEX, OPT_SELECT,
        SUBSTRACT,
    };
    let mismatch = || {
        let shown: Vec<String> = args.iter().map(show).collect();
        format!(
            "found no matching overload for '{name}' applied to '({})'",
            shown.join(", ")
        )
    };
    let type_ = match (name, args) {
        (LOGICAL_AND | LOGICAL_OR, [a, b]) => {
            let fits = |type_: &Type| matches!(type_, Type::Dyn | Type::Bool);
            return if fits(a) && fits(b) {
                Ok(Some(Type::Bool))
            } else {
                Err(mismatch())
            };
        }
        (LOGICAL_NOT, [Type::Dyn | Type::Bool]) | (NOT_STRICTLY_FALSE, _) => Type::Bool,
        (LOGICAL_NOT, _) => return Err(mismatch()),
        (EQUALS | NOT_EQUALS, [a, b]) => {
            return if comparable(a, b, true) {
                Ok(Some(Type::Bool))
            } else {
                Err(mismatch())
            };
        }
        (LESS | LESS_EQUALS | GREATER | GREATER_EQUALS, [a, b]) => {
            let ordered = |type_: &Type| !matches!(type_, Type::List(_) | Type::Map(_) | Type::Object(_) | Type::Null);
            let fits = ordered(a) && ordered(b) && (comparable(a, b, false) || (number(a) && number(b)));
            return if fits { Ok(Some(Type::Bool)) } else { Err(mismatch()) };
        }
        (ADD | SUBSTRACT | MULTIPLY | DIVIDE | MODULO, [a, b]) => arithmetic(name, a, b).ok_or_else(mismatch)?,
        (NEGATE, [type_]) => type_.clone(),
        (IN, [_, Type::Dyn | Type::List(_) | Type::Map(_) | Type::Object(_)]) => Type::Bool,
        (IN, _) => return Err(mismatch()),
        (CONDITIONAL, [condition, a, b]) => {
            if !matches!(condition, Type::Dyn | Type::Bool) {
                return Err(mismatch());
            }
            if a == b { a.clone() } else { Type::Dyn }
        }
        (INDEX, [of, _]) => item(of).ok_or_else(mismatch)?,
        (OPT_INDEX, [of, _]) => Type::Optional(Arc::new(item(of).unwrap_or(Type::Dyn))),
        (OPT_SELECT, _) => Type::Optional(Arc::new(Type::Dyn)),
        _ => return Ok(None),
    };
    Ok(Some(type_))
}

fn number(type_: &Type) -> bool {
    matches!(type_, Type::Int | Type::Uint | Type::Double)
}

/// Whether two types have values that can be equal; for order, of the same kind.
fn comparable(a: &Type, b: &Type, nulls: bool) -> bool {
    let loose = |type_: &Type| matches!(type_, Type::Dyn | Type::Optional(_)) || (nulls && *type_ == Type::Null);
    match (a, b) {
        _ if loose(a) || loose(b) => true,
        (Type::List(_), Type::List(_)) => true,
        (Type::Map(_) | Type::Object(_), Type::Map(_) | Type::Object(_)) => true,
        _ => a == b,
    }
}

fn arithmetic(name: &str, a: &Type, b: &Type) -> Option<Type> {
    use Type::{Bytes, Double, Duration, Dyn, Int, List, String, Timestamp, Uint};
    Some(match (name, a, b) {
        (_, Dyn, _) | (_, _, Dyn) => Dyn,
        (_, Int, Int) => Int,
        (_, Uint, Uint) => Uint,
        (operators::MODULO, Double, Double) => return None,
        (_, Double, Double) => Double,
        (operators::ADD, String, String) => String,
        (operators::ADD, Bytes, Bytes) => Bytes,
        (operators::ADD, List(a), List(b)) => List(Arc::new(if a == b { (**a).clone() } else { Dyn })),
        (operators::ADD, Timestamp, Duration) | (operators::ADD, Duration, Timestamp) => Timestamp,
        (operators::SUBSTRACT, Timestamp, Duration) => Timestamp,
        (operators::SUBSTRACT, Timestamp, Timestamp) => Duration,
        (operators::ADD | operators::SUBSTRACT, Duration, Duration) => Duration,
        _ => return None,
    })
}

fn item(of: &Type) -> Option<Type> {
    match of {
        Type::Dyn | Type::Object(_) | Type::Optional(_) => Some(Type::Dyn),
        Type::List(item) | Type::Map(item) => Some((**item).clone()),
        _ => None,
    }
}

/// What functions yield, where it does not depend on what they are given.
fn result_of(name: &str) -> Type {
    match name {
        "contains" | "startsWith" | "endsWith" | "matches" | "bool" | "hasValue" | "sets.contains"
        | "sets.equivalent" | "sets.intersects" | "isGreaterThan" | "isLessThan" | "containsIP" | "containsCIDR"
        | "ip.isCanonical" | "allowed" | "errored" => Type::Bool,
        "size" | "int" | "indexOf" | "lastIndexOf" | "compareTo" | "getFullYear" | "getMonth" | "getDayOfYear"
        | "getDayOfMonth" | "getDate" | "getDayOfWeek" | "getHours" | "getMinutes" | "getSeconds"
        | "getMilliseconds" | "major" | "minor" | "asInteger" | "prefixLength" | "family" => Type::Int,
        "double" | "asApproximateFloat" => Type::Double,
        "uint" => Type::Uint,
        "bytes" | "base64.decode" => Type::Bytes,
        "string"
        | "charAt"
        | "lowerAscii"
        | "upperAscii"
        | "trim"
        | "replace"
        | "substring"
        | "join"
        | "format"
        | "find"
        | "strings.quote"
        | "base64.encode"
        | "jsonpatch.escapeKey"
        | "getScheme"
        | "getHost"
        | "getHostname"
        | "getPort"
        | "getEscapedPath"
        | "error"
        | "reason" => Type::String,
        "split" | "findAll" => Type::List(Arc::new(Type::String)),
        "lists.range" => Type::List(Arc::new(Type::Int)),
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        name if name
            .strip_prefix("is")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase())) =>
        {
            Type::Bool
        }
        _ => Type::Dyn,
    }
}

fn of_comprehension<'a>(comprehension: &'a ComprehensionExpr, scope: &mut Vec<(&'a str, Type)>) -> Result<Type> {
    let range = infer(&comprehension.iter_range, scope)?;
    let item = match &range {
        Type::Dyn | Type::Optional(_) => Type::Dyn,
        Type::List(item) => (**item).clone(),
        Type::Map(_) | Type::Object(_) => Type::String,
        other => {
            return Err(format!(
                "expression of type '{}' cannot be range of a comprehension (must be list, map, or dynamic)",
                show(other)
            ));
        }
    };
    let accumulated = infer(&comprehension.accu_init, scope)?;
    let known = scope.len();
    scope.push((&comprehension.accu_var, accumulated.clone()));
    scope.push((&comprehension.iter_var, item));
    let inside = [&comprehension.loop_cond, &comprehension.loop_step]
        .into_iter()
        .try_for_each(|inner| infer(inner, scope).map(drop));
    let result = inside.and_then(|()| infer(&comprehension.result, scope));
    scope.truncate(known);
    result
}

/// A type as cel-go prints it.
pub fn show(type_: &Type) -> String {
    match type_ {
        Type::Dyn => "dyn".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int => "int".to_owned(),
        Type::Uint => "uint".to_owned(),
        Type::Double => "double".to_owned(),
        Type::String => "string".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        Type::Null => "null".to_owned(),
        Type::Timestamp => "timestamp".to_owned(),
        Type::Duration => "duration".to_owned(),
        Type::List(item) => format!("list({})", show(item)),
        Type::Map(value) => format!("map(string, {})", show(value)),
        Type::Object(_) => "object".to_owned(),
        Type::Optional(inner) => format!("optional_type({})", show(inner)),
        Type::Opaque(name) => (*name).to_owned(),
        Type::Message(name) => name.to_string(),
    }
}

/// How deep an expression is.
pub(super) fn depth(of: &IdedExpr) -> usize {
    let deepest = |all: &mut dyn Iterator<Item = &IdedExpr>| all.map(depth).max().unwrap_or_default();
    1 + match &of.expr {
        Expr::Call(call) => deepest(&mut call.target.as_deref().into_iter().chain(&call.args)),
        Expr::Select(select) => depth(&select.operand),
        Expr::List(list) => deepest(&mut list.elements.iter()),
        Expr::Map(map) => {
            let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => Some([&entry.key, &entry.value]),
                EntryExpr::StructField(_) => None,
            });
            deepest(&mut entries.flatten())
        }
        Expr::Comprehension(c) => {
            let parts = [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result];
            deepest(&mut parts.into_iter())
        }
        _ => 0,
    }
}

/// Declares fields.
pub fn object(fields: impl IntoIterator<Item = (String, Type)>) -> Type {
    Type::Object(Arc::new(fields.into_iter().collect::<BTreeMap<_, _>>()))
}
