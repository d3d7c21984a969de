//! Messages: `Object.spec{replicas: 3}` and `JSONPatch{op: "remove", path: "/spec"}`, of which mutating policies make what
//! they change. The interpreter knows none, so a message becomes a map that also holds the name of its type, and is
//! checked and taken apart when it becomes JSON.

use std::sync::Arc;

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue, MapEntryExpr, MapExpr,
    StructExpr,
};
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{ExecutionError, Value};
use serde_json::Value as Json;

use super::{CompileError, authorizer};

/// Makes a message; no expression can call it by this name.
pub(super) const MAKE: &str = "@message";
/// The message that is an object's configuration; those below have names that begin with it.
pub const OBJECT: &str = "Object";
/// The message that is one operation of a patch.
pub const JSON_PATCH: &str = "JSONPatch";
const OPERATION: [&str; 4] = ["from", "op", "path", "value"];
/// How deep an expression may be with its messages; the parser has been bounded before.
const MAX_DEPTH: usize = 200;

type Result<T> = std::result::Result<T, CompileError>;

/// Puts what the interpreter understands in the place of messages, if they are allowed, and of the authorizer's field.
pub(super) fn prepare(of: &mut IdedExpr, messages: bool) -> Result<()> {
    Preparing { messages, depth: 0 }.expression(of)
}

struct Preparing {
    messages: bool,
    depth: usize,
}

impl Preparing {
    fn expression(&mut self, of: &mut IdedExpr) -> Result<()> {
        if self.depth > MAX_DEPTH {
            return Err(CompileError::TooLarge("the expression is nested too deeply"));
        }
        self.depth += 1;
        let done = self.inside(of);
        self.depth -= 1;
        done
    }

    fn inside(&mut self, of: &mut IdedExpr) -> Result<()> {
        match &mut of.expr {
            Expr::Call(call) => self.all(call.target.as_deref_mut().into_iter().chain(&mut call.args)),
            Expr::List(list) => self.all(list.elements.iter_mut()),
            Expr::Map(map) => self.entries(&mut map.entries),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(message) => {
                self.entries(&mut message.entries)?;
                if self.messages {
                    of.expr = made(std::mem::take(message))?;
                }
                Ok(())
            }
            Expr::Select(select) => {
                self.expression(&mut select.operand)?;
                if let Some(name) = authorizer::field(select) {
                    of.expr = Expr::Ident(name.to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn all<'a>(&mut self, mut parts: impl Iterator<Item = &'a mut IdedExpr>) -> Result<()> {
        parts.try_for_each(|part| self.expression(part))
    }

    fn entries(&mut self, entries: &mut [IdedEntryExpr]) -> Result<()> {
        entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
            EntryExpr::MapEntry(entry) => {
                self.expression(&mut entry.key)?;
                self.expression(&mut entry.value)
            }
            EntryExpr::StructField(field) => self.expression(&mut field.value),
        })
    }

    fn comprehension(&mut self, of: &mut ComprehensionExpr) -> Result<()> {
        let parts = [
            &mut of.iter_range,
            &mut of.accu_init,
            &mut of.loop_cond,
            &mut of.loop_step,
            &mut of.result,
        ];
        self.all(parts.into_iter())
    }
}

/// The call that makes a message.
fn made(message: StructExpr) -> Result<Expr> {
    let name = message.type_name;
    let is_object = name == OBJECT || name.strip_prefix(OBJECT).is_some_and(|rest| rest.starts_with('.'));
    if !is_object && name != JSON_PATCH {
        let why = format!("undeclared reference to '{name}' (in container '')");
        return Err(CompileError::Check(why));
    }
    let mut entries = Vec::with_capacity(message.entries.len());
    for entry in message.entries {
        let EntryExpr::StructField(field) = entry.expr else {
            continue;
        };
        if !is_object && !OPERATION.contains(&field.field.as_str()) {
            return Err(CompileError::Check(format!("undefined field '{}'", field.field)));
        }
        entries.push(IdedEntryExpr {
            id: entry.id,
            expr: EntryExpr::MapEntry(MapEntryExpr {
                key: text(&field.field),
                value: field.value,
                optional: field.optional,
            }),
        });
    }
    let map = IdedExpr {
        id: 0,
        expr: Expr::Map(MapExpr { entries }),
    };
    Ok(Expr::Call(CallExpr {
        func_name: MAKE.to_owned(),
        target: None,
        args: vec![text(&name), map],
    }))
}

/// A literal.
pub(super) fn text(of: &str) -> IdedExpr {
    IdedExpr {
        id: 0,
        expr: Expr::Literal(LiteralValue::String(of.into())),
    }
}

/// The name of the message that a call makes.
pub(super) fn name(call: &CallExpr) -> Option<&str> {
    match call.args.first().map(|arg| &arg.expr) {
        Some(Expr::Literal(LiteralValue::String(name))) if call.func_name == MAKE => Some(name.inner()),
        _ => None,
    }
}

/// The function behind [`MAKE`].
pub(super) fn make(name: Arc<String>, fields: Value) -> std::result::Result<Value, ExecutionError> {
    let Value::Map(fields) = fields else {
        return Err(ExecutionError::NoSuchOverload);
    };
    let mut map = Arc::unwrap_or_clone(fields.map);
    map.insert(TYPE, Value::String(name));
    Ok(Value::Map(Map { map: Arc::new(map) }))
}

/// The key under which a message holds the name of its type. No map that comes from JSON has it, whatever its keys are.
const TYPE: Key = Key::Bool(true);

/// A value as JSON; messages must be named as the fields that hold them.
///
/// # Errors
/// For what JSON does not have, and for messages in wrong places.
pub fn to_json(value: &Value) -> std::result::Result<Json, String> {
    json(value, None)
}

/// `path` is the name that a message here must have; the first one met may have any.
fn json(value: &Value, path: Option<&str>) -> std::result::Result<Json, String> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::UInt(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(&**bytes).into()
        }
        Value::Timestamp(time) => time.to_rfc3339().replace("+00:00", "Z").into(),
        Value::Duration(duration) => seconds(duration.num_nanoseconds().unwrap_or(i64::MAX)).into(),
        Value::List(list) => {
            let items = list.iter().map(|item| json(item, path));
            Json::Array(items.collect::<std::result::Result<_, _>>()?)
        }
        Value::Map(map) => from_map(map, path)?,
        other => return Err(format!("a value of type {} has no form in JSON", other.type_of())),
    })
}

fn from_map(map: &Map, path: Option<&str>) -> std::result::Result<Json, String> {
    let name = match map.map.get(&TYPE) {
        Some(Value::String(name)) => Some(name.as_str()),
        _ => None,
    };
    if let (Some(name), Some(path)) = (name, path)
        && name != path
        && name != JSON_PATCH
    {
        return Err(format!(
            "unexpected type name {name:?}, expected {path:?}, which matches field name path from root Object type"
        ));
    }
    let mut out = serde_json::Map::new();
    for (key, value) in map.map.iter() {
        let key = match key {
            Key::String(key) => key,
            key if *key == TYPE && name.is_some() => continue,
            other => return Err(format!("map key {other:?} is not a string")),
        };
        let below = name
            .filter(|name| *name != JSON_PATCH)
            .map(|name| format!("{name}.{key}"));
        out.insert(key.to_string(), json(value, below.as_deref().or(path))?);
    }
    Ok(Json::Object(out))
}

fn seconds(nanoseconds: i64) -> String {
    let (whole, rest) = (nanoseconds / 1_000_000_000, (nanoseconds % 1_000_000_000).abs());
    match rest {
        0 => format!("{whole}s"),
        rest => format!("{whole}.{}s", format!("{rest:09}").trim_end_matches('0')),
    }
}

/// The name of the message that a value is, if it is one.
pub fn type_name(value: &Value) -> Option<Arc<String>> {
    match value {
        Value::Map(map) => match map.map.get(&TYPE) {
            Some(Value::String(name)) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}
