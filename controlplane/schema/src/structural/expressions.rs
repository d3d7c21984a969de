//! `x-kubernetes-validations`: rules in CEL over the value they stand at (`self`), and over what it was (`oldSelf`).
//!
//! Rules are compiled when their kind is served, and run within a budget for the whole object. A rule that speaks of the
//! old value runs only where there is one, or where it takes an optional. What a rule finds against something that an
//! update did not touch is told as a warning.

use std::sync::OnceLock;

use api::{FieldError, Object, Path};
use serde_json::{Map, Value};

use super::{Additional, Findings, JsonType, Node, check::field_path, lists::Correlated, push, shown};
use crate::cel::{self, Budget, EvalError, Program, Shape, Type, values::Scalar};

/// Bytes of a message that an expression yields.
const MAX_MESSAGE: usize = 5 << 10;

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Or why it does not compile.
    program: Result<Program, String>,
    /// The rule's message, or its text.
    name: Box<str>,
    message: Option<Box<str>>,
    message_expression: Option<Program>,
    reason: Reason,
    /// Where below the value the error is, as a suffix of its path.
    field_path: Box<str>,
    optional_old: bool,
}

#[derive(Clone, Copy, Debug)]
enum Reason {
    Invalid,
    Forbidden,
    Required,
    Duplicate,
}

/// The rules of a schema. What does not compile has been refused when the schema was written; should it fail now, nothing
/// passes the rule.
pub(super) fn read(schema: &Map<String, Value>) -> Box<[Rule]> {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    let rules = rules.into_iter().flatten().filter_map(Value::as_object);
    rules.filter_map(|rule| read_rule(rule, schema)).collect()
}

fn read_rule(rule: &Map<String, Value>, schema: &Map<String, Value>) -> Option<Rule> {
    let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
    let message = Some(text("message").trim()).filter(|message| !message.is_empty());
    let field_path = match text("fieldPath") {
        "" => String::new(),
        path => field_path(schema, path).ok()?,
    };
    Some(Rule {
        program: Program::again(text("rule")).map_err(|error| error.to_string()),
        name: message.unwrap_or(text("rule").trim()).into(),
        message: message.map(Into::into),
        message_expression: match text("messageExpression") {
            "" => None,
            expression => Program::again(expression).ok(),
        },
        reason: match text("reason") {
            "FieldValueForbidden" => Reason::Forbidden,
            "FieldValueRequired" => Reason::Required,
            "FieldValueDuplicate" => Reason::Duplicate,
            _ => Reason::Invalid,
        },
        field_path: field_path.into(),
        optional_old: rule.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or_default(),
    })
}

impl Rule {
    fn uses_old(&self) -> bool {
        let named = |program: &Program| program.uses("oldSelf");
        self.program.as_ref().is_ok_and(named) || self.message_expression.as_ref().is_some_and(named)
    }
}

/// The type of a value as rules see it; `None` where they cannot see it.
pub(super) fn type_of(node: &Node) -> Option<Type> {
    if node.int_or_string {
        return Some(Type::Dyn);
    }
    Some(match node.type_? {
        JsonType::Boolean => Type::Bool,
        JsonType::Integer => Type::Int,
        JsonType::Number => Type::Double,
        JsonType::String => match node.scalar() {
            Scalar::Timestamp => Type::Timestamp,
            Scalar::Duration => Type::Duration,
            Scalar::Bytes => Type::Bytes,
            Scalar::Plain | Scalar::Double => Type::String,
        },
        JsonType::Array => Type::List(type_of(node.items.as_deref()?)?.into()),
        JsonType::Object => match &node.additional {
            Additional::Schema(schema) => Type::Map(type_of(schema)?.into()),
            _ => object_type(node),
        },
    })
}

fn object_type(node: &Node) -> Type {
    let given = node.properties.iter().map(|(name, property)| (&**name, property));
    let of_resources = ["apiVersion", "kind", "metadata"]
        .into_iter()
        .filter(|_| node.embedded)
        .filter_map(|name| Some((name, implied(name)?)));
    let fields = given
        .filter(|(name, _)| !node.embedded || implied(name).is_none())
        .chain(of_resources)
        .filter_map(|(name, property)| Some((cel::escape(name)?, type_of(property)?)));
    cel::object(fields)
}

/// What every resource has: rules see of the metadata the names alone.
pub(super) fn implied(name: &str) -> Option<&'static Node> {
    static TEXT: OnceLock<Node> = OnceLock::new();
    static METADATA: OnceLock<Node> = OnceLock::new();
    let text = || Node {
        type_: Some(JsonType::String),
        ..Node::default()
    };
    match name {
        "apiVersion" | "kind" => Some(TEXT.get_or_init(text)),
        "metadata" => Some(METADATA.get_or_init(|| Node {
            type_: Some(JsonType::Object),
            properties: Box::new([("generateName".into(), text()), ("name".into(), text())]),
            ..Node::default()
        })),
        _ => None,
    }
}

impl Shape for Node {
    fn scalar(&self) -> Scalar {
        let format = self.limits.as_ref().and_then(|limits| limits.format.as_deref());
        match (self.type_, format) {
            (Some(JsonType::Number), _) => Scalar::Double,
            (Some(JsonType::String), Some("date-time" | "date")) => Scalar::Timestamp,
            (Some(JsonType::String), Some("duration")) => Scalar::Duration,
            (Some(JsonType::String), Some("byte")) => Scalar::Bytes,
            _ => Scalar::Plain,
        }
    }

    fn is_map(&self) -> bool {
        matches!(self.additional, Additional::Schema(_))
    }

    fn key(&self, name: &str) -> Option<&Self> {
        if self.embedded
            && let Some(node) = implied(name)
        {
            return Some(node);
        }
        self.at_key(name)
            .filter(|node| node.type_.is_some() || node.int_or_string)
    }

    fn item(&self) -> Option<&Self> {
        self.items.as_deref()
    }
}

/// A value beside what it was, if there is something that it can be compared with.
#[derive(Clone, Copy)]
struct Pair<'a> {
    new: At<'a>,
    old: Option<At<'a>>,
}

/// A value, or the root, which is a map without a value around it.
#[derive(Clone, Copy)]
enum At<'a> {
    Root(&'a Map<String, Value>),
    Value(&'a Value),
}

impl<'a> At<'a> {
    fn map(self) -> Option<&'a Map<String, Value>> {
        match self {
            At::Root(map) => Some(map),
            At::Value(value) => value.as_object(),
        }
    }

    fn value(self) -> Option<&'a Value> {
        match self {
            At::Root(_) => None,
            At::Value(value) => Some(value),
        }
    }

    fn is_null(self) -> bool {
        self.value().is_some_and(Value::is_null)
    }

    fn to_cel(self, node: &Node, program: &Program, variable: &str) -> cel::Value {
        let Some(need) = program.need(variable) else {
            return cel::Value::Null;
        };
        match self {
            At::Root(map) => cel::from_map(map, Some(node), need),
            At::Value(value) => cel::from_json(value, Some(node), need),
        }
    }
}

impl Pair<'_> {
    fn is_unchanged(&self) -> bool {
        match (self.new, self.old) {
            (At::Root(new), Some(At::Root(old))) => new == old,
            (At::Value(new), Some(At::Value(old))) => new == old,
            _ => false,
        }
    }
}

/// Runs all rules of a schema over an object.
pub(super) fn run(root: &Node, object: &Object, old: Option<&Object>, findings: &mut Findings) {
    let pair = Pair {
        new: At::Root(object.map()),
        old: old.map(|old| At::Root(old.map())),
    };
    let mut run = Run {
        budget: Budget::new(cel::OBJECT_BUDGET),
        findings,
        ended: false,
    };
    run.at(root, pair, None, &Path::default());
}

/// Runs all rules of a schema over a default.
pub(super) fn run_alone(node: &Node, value: &Value, at: &Path, findings: &mut Findings) {
    let mut run = Run {
        budget: Budget::new(cel::OBJECT_BUDGET),
        findings,
        ended: false,
    };
    let new = At::Value(value);
    run.at(node, Pair { new, old: None }, None, at);
}

struct Run<'f> {
    budget: Budget,
    findings: &'f mut Findings,
    /// No further rule may run.
    ended: bool,
}

impl Run<'_> {
    /// `nearest` is the nearest value above this one that can be compared with what it was.
    fn at(&mut self, node: &Node, pair: Pair<'_>, nearest: Option<Pair<'_>>, at: &Path) {
        if !node.has_rules || self.ended || pair.new.is_null() {
            return;
        }
        for rule in &node.rules {
            if !self.ended {
                self.check(rule, node, pair, nearest, at);
            }
        }
        let nearest = if pair.old.is_some() { Some(pair) } else { nearest };
        if let Some(map) = pair.new.map() {
            self.in_map(node, map, pair, nearest, at);
        } else if let (Some(items), Some(list)) = (&node.items, pair.new.value().and_then(Value::as_array)) {
            let correlated = Correlated::new(node, pair.old.and_then(At::value));
            for (index, item) in list.iter().enumerate() {
                let item = Pair {
                    new: At::Value(item),
                    old: correlated.of(item).map(At::Value),
                };
                self.at(items, item, nearest, &at.index(index));
            }
        }
    }

    fn in_map(&mut self, node: &Node, map: &Map<String, Value>, pair: Pair<'_>, nearest: Option<Pair<'_>>, at: &Path) {
        let old = pair.old.filter(|_| !node.map_atomic).and_then(At::map);
        for (key, value) in map {
            let below = match (node.property(key), &node.additional) {
                (Some(property), _) => (property, at.child(key)),
                (None, Additional::Schema(schema)) => (&**schema, at.key(key)),
                _ => continue,
            };
            let value = Pair {
                new: At::Value(value),
                old: old.and_then(|old| old.get(key)).map(At::Value),
            };
            self.at(below.0, value, nearest, &below.1);
        }
    }

    fn check(&mut self, rule: &Rule, node: &Node, pair: Pair<'_>, nearest: Option<Pair<'_>>, at: &Path) {
        let old = pair.old.filter(|old| !old.is_null());
        if rule.uses_old() && old.is_none() && !rule.optional_old {
            return;
        }
        let type_ = node.type_.map_or("", JsonType::name);
        if self.budget.is_exhausted() {
            let why = "validation failed due to running out of cost budget, no further validation rules will be run";
            self.ended = true;
            push(&mut self.findings.errors, FieldError::invalid(&shown(at), type_, why));
            return;
        }
        let program = match &rule.program {
            Ok(program) => program,
            Err(why) => {
                let why = format!("rule compile error: {why}");
                push(&mut self.findings.errors, FieldError::invalid(&shown(at), type_, why));
                return;
            }
        };
        match program.eval(variables(rule, program, node, pair.new, old), &mut self.budget) {
            Ok(cel::Value::Bool(true)) => {}
            Ok(_) => {
                let error = self.refusal(rule, node, pair, old, at);
                let unchanged = || match pair.old {
                    Some(_) => pair.is_unchanged(),
                    None => nearest.is_some_and(|nearest| nearest.is_unchanged()),
                };
                if !rule.uses_old() && unchanged() {
                    self.findings.warnings.push(error.to_string());
                } else {
                    push(&mut self.findings.errors, error);
                }
            }
            Err(error) => {
                let why = self.failure(rule, &error);
                push(&mut self.findings.errors, FieldError::invalid(&shown(at), type_, why));
            }
        }
    }

    fn failure(&mut self, rule: &Rule, error: &EvalError) -> String {
        let name = &rule.name;
        match error {
            EvalError::Exhausted => {
                self.ended = true;
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned()
            }
            EvalError::CallLimit => {
                self.ended = true;
                format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                )
            }
            EvalError::Failed(why) if why.starts_with("no such overload") => format!(
                "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
            ),
            EvalError::Failed(why) => format!("{why} evaluating rule: {name}"),
        }
    }

    /// What a rule that is not fulfilled says.
    fn refusal(&mut self, rule: &Rule, node: &Node, pair: Pair<'_>, old: Option<At<'_>>, at: &Path) -> FieldError {
        let computed = rule.message_expression.as_ref().and_then(|program| {
            let result = program.eval(variables(rule, program, node, pair.new, old), &mut self.budget);
            match result {
                Ok(cel::Value::String(text)) => usable(&text),
                _ => None,
            }
        });
        let detail = computed.unwrap_or_else(|| match &rule.message {
            Some(message) => message.to_string(),
            None => format!("failed rule: {}", rule.name),
        });
        let path = match (&*rule.field_path, at.as_str()) {
            ("", _) => shown(at),
            (suffix, "") => Path::root(suffix.trim_start_matches('.')),
            (suffix, at) => Path::root(&format!("{at}{suffix}")),
        };
        let value = pair.new.value().filter(|value| !value.is_object() && !value.is_array());
        let with = |make: fn(&Path, Value, String) -> FieldError| {
            let error = make(&path, value.cloned().unwrap_or_default(), detail.clone());
            if value.is_some() { error } else { error.without_value() }
        };
        match rule.reason {
            Reason::Invalid => with(FieldError::invalid),
            Reason::Duplicate => with(|path, value, _| FieldError::duplicate(path, value)),
            Reason::Forbidden => FieldError::forbidden(&path, detail),
            Reason::Required => FieldError::required(&path, detail),
        }
    }
}

fn variables<'n>(
    rule: &Rule,
    program: &Program,
    node: &Node,
    new: At<'_>,
    old: Option<At<'_>>,
) -> Vec<(&'n str, cel::Value)> {
    let mut variables = Vec::with_capacity(2);
    if program.uses("self") {
        variables.push(("self", new.to_cel(node, program, "self")));
    }
    if program.uses("oldSelf") {
        let old = old.map(|old| old.to_cel(node, program, "oldSelf"));
        let old = if rule.optional_old {
            cel::optional(old)
        } else {
            old.unwrap_or(cel::Value::Null)
        };
        variables.push(("oldSelf", old));
    }
    variables
}

/// A message that is one line and not too long.
fn usable(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')).then(|| text.to_owned())
}
