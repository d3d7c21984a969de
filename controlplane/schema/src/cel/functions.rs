//! The functions that expressions may call: those of `kube-cel`, with charges, and with bounds where one call could make
//! something huge of little.

use std::sync::{Arc, OnceLock};

use kube_cel::{
    KubeCelExt,
    cel::{
        Context, ExecutionError, FunctionContext, IdedExpr, Value,
        common::ast::{CallExpr, Expr},
        extractors::{Arguments, This},
    },
};

use super::{
    authorizer, charge, message,
    meter::{COST, HEAVY, SQUARE, STEP},
    scope,
};

type Result<T> = std::result::Result<T, ExecutionError>;

/// A round of a comprehension, or a call.
const STEP_COST: u64 = 10;
/// Bytes that a text made by one call may have.
const MAX_TEXT: usize = 4 << 20;
/// Items of a list made by one call.
const MAX_ITEMS: i64 = 100_000;

/// The context that all evaluations share.
pub(super) fn root() -> &'static Context<'static> {
    static ROOT: OnceLock<Context<'static>> = OnceLock::new();
    ROOT.get_or_init(|| {
        let mut context = Context::default().with_all();
        context.add_function(STEP, step);
        context.add_function(COST, cost);
        context.add_function(HEAVY, heavy);
        context.add_function(SQUARE, square);
        context.add_function("dyn", |value: Value| -> Result<Value> { Ok(value) });
        context.add_function("bool", to_bool);
        context.add_function("size", size);
        context.add_function("replace", replace);
        context.add_function("join", join);
        context.add_function("lists.range", range);
        context.add_function(message::MAKE, message::make);
        context.add_function(scope::READ, scope::read);
        authorizer::register(&mut context);
        context
    })
}

/// What a function makes of a text; `None` when it refuses it.
pub(super) fn convert(function: &str, text: &str) -> Option<Value> {
    let mut context = root().new_inner_scope();
    context.add_variable_from_value("text", text);
    let (prefix, name) = function
        .split_once('.')
        .map_or((None, function), |(prefix, name)| (Some(prefix), name));
    let ident = |name: &str| IdedExpr {
        id: 0,
        expr: Expr::Ident(name.to_owned()),
    };
    let call = IdedExpr {
        id: 0,
        expr: Expr::Call(CallExpr {
            func_name: name.to_owned(),
            target: prefix.map(|prefix| Box::new(ident(prefix))),
            args: vec![ident("text")],
        }),
    };
    context.resolve(&call).ok()
}

/// How much work it is to copy a value.
pub(super) fn weight(value: &Value) -> u64 {
    match value {
        Value::List(list) => 1 + list.iter().map(weight).sum::<u64>(),
        Value::Map(map) => 1 + map.map.values().map(|value| 1 + weight(value)).sum::<u64>(),
        Value::String(text) => 1 + text.len() as u64 / 32,
        Value::Bytes(bytes) => 1 + bytes.len() as u64 / 32,
        _ => 1,
    }
}

fn step() -> Result<Value> {
    charge(STEP_COST)?;
    Ok(Value::Bool(true))
}

fn cost(value: Value) -> Result<Value> {
    charge(weight(&value))?;
    Ok(value)
}

fn heavy(value: Value) -> Result<Value> {
    charge(STEP_COST + weight(&value))?;
    Ok(value)
}

fn square(value: Value) -> Result<Value> {
    let weight = weight(&value);
    charge(weight.saturating_mul(weight) / 4)?;
    Ok(value)
}

fn to_bool(value: Value) -> Result<Value> {
    match &value {
        Value::Bool(_) => Ok(value),
        Value::String(text) => match text.as_str() {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err(ExecutionError::function_error(
                "bool",
                "type conversion error from 'string' to 'bool'",
            )),
        },
        _ => Err(ExecutionError::NoSuchOverload),
    }
}

/// Of a text, the characters; `cel` counts bytes.
fn size(This(this): This<Value>) -> Result<Value> {
    let size = match &this {
        Value::List(list) => list.len(),
        Value::Map(map) => map.map.len(),
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn too_large(function: &str) -> ExecutionError {
    ExecutionError::function_error(function, "the result is too large")
}

fn text(function: &str, value: Option<&Value>) -> Result<Arc<String>> {
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(ExecutionError::function_error(function, "no such overload")),
    }
}

fn replace(This(this): This<Arc<String>>, Arguments(args): Arguments) -> Result<Value> {
    let (from, to) = (text("replace", args.first())?, text("replace", args.get(1))?);
    let limit = match args.get(2) {
        Some(Value::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let times = this.matches(from.as_str()).take(limit).count();
    match times
        .checked_mul(to.len())
        .and_then(|added| added.checked_add(this.len()))
    {
        Some(length) if length <= MAX_TEXT => Ok(Value::String(Arc::new(this.replacen(from.as_str(), &to, limit)))),
        _ => Err(too_large("replace")),
    }
}

fn join(This(this): This<Arc<Vec<Value>>>, Arguments(args): Arguments) -> Result<Value> {
    let separator = match args.first() {
        None => Arc::default(),
        given => text("join", given)?,
    };
    let mut out = String::new();
    for (nth, item) in this.iter().enumerate() {
        let item = text("join", Some(item))?;
        if out.len() + item.len() + separator.len() > MAX_TEXT {
            return Err(too_large("join"));
        }
        if nth > 0 {
            out.push_str(&separator);
        }
        out.push_str(&item);
    }
    Ok(Value::String(Arc::new(out)))
}

fn range(ftx: &FunctionContext, count: i64) -> Result<Value> {
    match count {
        0..=MAX_ITEMS => {
            charge(count.unsigned_abs())?;
            Ok(Value::List(Arc::new((0..count).map(Value::Int).collect())))
        }
        ..0 => Ok(Value::List(Arc::default())),
        _ => Err(too_large(ftx.name)),
    }
}

/// The names of all functions, qualified ones with their prefix.
const NAMES: [&str; 153] = [
    "add",
    "allowed",
    "asApproximateFloat",
    "asInteger",
    "base64.decode",
    "base64.encode",
    "bool",
    "bytes",
    "charAt",
    "check",
    "cidr",
    "compareTo",
    "contains",
    "containsCIDR",
    "containsIP",
    "distinct",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "error",
    "errored",
    "family",
    "fieldSelector",
    "find",
    "findAll",
    "first",
    "flatten",
    "format",
    "format.byte",
    "format.date",
    "format.datetime",
    "format.dns1035Label",
    "format.dns1035LabelPrefix",
    "format.dns1123Label",
    "format.dns1123LabelPrefix",
    "format.dns1123Subdomain",
    "format.dns1123SubdomainPrefix",
    "format.labelValue",
    "format.named",
    "format.qualifiedName",
    "format.uri",
    "format.uuid",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getEscapedPath",
    "getFullYear",
    "getHost",
    "getHostname",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getPort",
    "getQuery",
    "getScheme",
    "getSeconds",
    "group",
    "hasValue",
    "indexOf",
    "int",
    "ip",
    "ip.isCanonical",
    "isCIDR",
    "isCIDRv4",
    "isCIDRv6",
    "isGlobalUnicast",
    "isGreaterThan",
    "isIP",
    "isIPv4",
    "isIPv6",
    "isInteger",
    "isLessThan",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isLoopback",
    "isQuantity",
    "isSemver",
    "isSorted",
    "isURL",
    "isUnspecified",
    "join",
    "jsonpatch.escapeKey",
    "labelSelector",
    "last",
    "lastIndexOf",
    "lists.range",
    "lowerAscii",
    "major",
    "masked",
    "matches",
    "math.abs",
    "math.bitAnd",
    "math.bitNot",
    "math.bitOr",
    "math.bitShiftLeft",
    "math.bitShiftRight",
    "math.bitXor",
    "math.ceil",
    "math.floor",
    "math.greatest",
    "math.isFinite",
    "math.isInf",
    "math.isNaN",
    "math.least",
    "math.round",
    "math.sign",
    "math.sqrt",
    "math.trunc",
    "max",
    "min",
    "minor",
    "name",
    "namespace",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "patch",
    "path",
    "prefixLength",
    "quantity",
    "reason",
    "replace",
    "resource",
    "reverse",
    "semver",
    "serviceAccount",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "sign",
    "size",
    "slice",
    "sort",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "sub",
    "subresource",
    "substring",
    "sum",
    "timestamp",
    "trim",
    "uint",
    "upperAscii",
    "url",
    "validate",
    "value",
];

/// Whether there is a function of that name.
pub(super) fn exists(name: &str) -> bool {
    NAMES.binary_search(&name).is_ok()
}
