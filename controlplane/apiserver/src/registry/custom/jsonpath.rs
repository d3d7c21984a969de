//! The JSONPath of printer columns: what `k8s.io/client-go/util/jsonpath` understands of one expression without braces.
//!
//! Fields (`.a.b`, `['a.b']`), wildcards, indexes and slices (negative ones count from the end), unions of them, recursive
//! descent (`..`), and filters that compare a path with a literal or with another path, or ask whether it is there.

use serde_json::{Map, Value};

/// A parsed path.
#[derive(Debug, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    /// From, to, step; as Go's slices, but counted from the end where negative.
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Union(Vec<Step>),
    Descend,
    Filter(Operand, Compare, Operand),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Literal(Value),
}

/// Steps that a path may have: each may multiply what is visited.
const MAX_STEPS: usize = 64;
/// Values that one path may find.
const MAX_FOUND: usize = 10_000;

impl JsonPath {
    /// Parses a path that begins with a dot or a bracket.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text };
        let path = parser.path()?;
        parser.rest.trim().is_empty().then_some(path)
    }

    /// All values that the path leads to; what is missing is not found.
    pub(crate) fn find<'a>(&self, root: &'a Map<String, Value>) -> Vec<&'a Value> {
        let Some((Step::Field(first), rest)) = self.0.split_first() else {
            return self.find_from_root(root);
        };
        let found = root.get(first).into_iter().collect();
        walk(rest, found)
    }

    /// Wildcards and descents from the root, which has no value of its own.
    fn find_from_root<'a>(&self, root: &'a Map<String, Value>) -> Vec<&'a Value> {
        match self.0.split_first() {
            Some((Step::Wildcard, rest)) => walk(rest, root.values().collect()),
            Some((Step::Descend, rest)) => {
                let mut found = Vec::new();
                if let Some((Step::Field(name), _)) = rest.split_first() {
                    found.extend(root.get(name));
                    let below: Vec<&Value> = root.values().collect();
                    let mut all = Vec::new();
                    below.into_iter().for_each(|value| descend(value, &mut all));
                    found.extend(all.into_iter().filter_map(|value| value.get(name)));
                    return walk(rest.get(1..).unwrap_or_default(), found);
                }
                root.values().for_each(|value| descend(value, &mut found));
                walk(rest, found)
            }
            _ => Vec::new(),
        }
    }
}

fn walk<'a>(steps: &[Step], mut found: Vec<&'a Value>) -> Vec<&'a Value> {
    for step in steps {
        let mut next = Vec::new();
        for value in found {
            take(step, value, &mut next);
            next.truncate(MAX_FOUND);
        }
        found = next;
    }
    found
}

fn take<'a>(step: &Step, value: &'a Value, out: &mut Vec<&'a Value>) {
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => out.extend(map.get(name)),
        (Step::Wildcard, Value::Object(map)) => out.extend(map.values()),
        (Step::Wildcard, Value::Array(list)) => out.extend(list),
        (Step::Index(index), Value::Array(list)) => out.extend(place(*index, list.len()).and_then(|at| list.get(at))),
        (Step::Slice(from, to, step), Value::Array(list)) => out.extend(slice(list, *from, *to, *step)),
        (Step::Union(steps), value) => steps.iter().for_each(|step| take(step, value, out)),
        (Step::Descend, value) => descend(value, out),
        (Step::Filter(left, compare, right), Value::Array(list)) => {
            out.extend(list.iter().filter(|item| passes(item, left, *compare, right)));
        }
        (Step::Filter(left, compare, right), Value::Object(map)) => {
            out.extend(map.values().filter(|item| passes(item, left, *compare, right)));
        }
        _ => {}
    }
}

fn place(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 {
        index + i64::try_from(length).ok()?
    } else {
        index
    };
    usize::try_from(index).ok()
}

fn slice(list: &[Value], from: Option<i64>, to: Option<i64>, step: i64) -> impl Iterator<Item = &Value> {
    let clamp = |index: i64| place(index, list.len()).unwrap_or_default().min(list.len());
    let (from, to) = (from.map_or(0, clamp), to.map_or(list.len(), clamp));
    let step = usize::try_from(step).unwrap_or(1).max(1);
    list.get(from..to).unwrap_or_default().iter().step_by(step)
}

/// A value and all below it.
fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    if out.len() >= MAX_FOUND {
        return;
    }
    out.push(value);
    match value {
        Value::Object(map) => map.values().for_each(|value| descend(value, out)),
        Value::Array(list) => list.iter().for_each(|value| descend(value, out)),
        _ => {}
    }
}

fn passes(item: &Value, left: &Operand, compare: Compare, right: &Operand) -> bool {
    let operand = |operand: &Operand| -> Option<Value> {
        match operand {
            Operand::Literal(value) => Some(value.clone()),
            Operand::Path(path) => walk(&path.0, vec![item]).first().map(|value| (*value).clone()),
        }
    };
    let Some(left) = operand(left) else { return false };
    if compare == Compare::Exists {
        return true;
    }
    let Some(right) = operand(right) else { return false };
    let order = match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.partial_cmp(&right),
        _ => left.as_str().and_then(|left| Some(left.cmp(right.as_str()?))),
    };
    match compare {
        Compare::Exists => true,
        Compare::Equal => left == right || order.is_some_and(std::cmp::Ordering::is_eq),
        Compare::NotEqual => left != right && !order.is_some_and(std::cmp::Ordering::is_eq),
        Compare::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Compare::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Compare::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Compare::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn path(&mut self) -> Option<JsonPath> {
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Descend);
                if !self.rest.starts_with('[') {
                    steps.push(self.name()?);
                }
            } else if self.eat(".") {
                if !self.rest.is_empty() && !self.rest.starts_with('[') {
                    steps.push(self.name()?);
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else {
                break;
            }
            if steps.len() > MAX_STEPS {
                return None;
            }
        }
        Some(JsonPath(steps))
    }

    fn eat(&mut self, what: &str) -> bool {
        let left = self.rest.strip_prefix(what);
        self.rest = left.unwrap_or(self.rest);
        left.is_some()
    }

    /// A field's name, in which a backslash takes the next character as it is.
    fn name(&mut self) -> Option<Step> {
        if self.eat("*") {
            return Some(Step::Wildcard);
        }
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.push(chars.next()?.1),
                '.' | '[' | ']' | ')' | ' ' | '=' | '!' | '<' | '>' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        self.rest = self.rest.get(end..)?;
        (!name.is_empty()).then_some(Step::Field(name))
    }

    /// What stands in brackets; the opening one is read.
    fn bracket(&mut self) -> Option<Step> {
        if self.eat("?(") {
            return self.filter();
        }
        let mut parts = Vec::new();
        loop {
            parts.push(self.part()?);
            if self.eat(",") {
                continue;
            }
            self.eat("]").then_some(())?;
            return match parts.len() {
                1 => parts.pop(),
                _ => Some(Step::Union(parts)),
            };
        }
    }

    fn part(&mut self) -> Option<Step> {
        self.rest = self.rest.trim_start();
        for quote in ['\'', '"'] {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                let end = rest.find(quote)?;
                let name = rest.get(..end)?.to_owned();
                self.rest = rest.get(end + 1..)?;
                return Some(Step::Field(name));
            }
        }
        let end = self.rest.find([',', ']'])?;
        let text = self.rest.get(..end)?.trim();
        self.rest = self.rest.get(end..)?;
        if text == "*" {
            return Some(Step::Wildcard);
        }
        let bounds: Vec<Option<i64>> = text
            .split(':')
            .map(|part| {
                if part.is_empty() {
                    Ok(None)
                } else {
                    part.parse().map(Some)
                }
            })
            .collect::<Result<_, _>>()
            .ok()?;
        match bounds.as_slice() {
            [Some(index)] => Some(Step::Index(*index)),
            [from, to] => Some(Step::Slice(*from, *to, 1)),
            [from, to, step] => Some(Step::Slice(*from, *to, step.unwrap_or(1))),
            _ => None,
        }
    }

    fn filter(&mut self) -> Option<Step> {
        let left = self.operand()?;
        let known = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        self.rest = self.rest.trim_start();
        let compare = known
            .into_iter()
            .find(|(sign, _)| self.eat(sign))
            .map(|(_, compare)| compare);
        let right = match compare {
            Some(_) => self.operand()?,
            None => Operand::Literal(Value::Null),
        };
        self.rest = self.rest.trim_start();
        self.eat(")]").then_some(())?;
        Some(Step::Filter(left, compare.unwrap_or(Compare::Exists), right))
    }

    fn operand(&mut self) -> Option<Operand> {
        self.rest = self.rest.trim_start();
        if self.eat("@") {
            return self.path().map(Operand::Path);
        }
        for quote in ['\'', '"'] {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                let end = rest.find(quote)?;
                let text = rest.get(..end)?.to_owned();
                self.rest = rest.get(end + 1..)?;
                return Some(Operand::Literal(text.into()));
            }
        }
        let end = self.rest.find([')', ' ', '=', '!', '<', '>'])?;
        let text = self.rest.get(..end)?;
        let value: Value = serde_json::from_str(text).ok()?;
        self.rest = self.rest.get(end..)?;
        Some(Operand::Literal(value))
    }
}
