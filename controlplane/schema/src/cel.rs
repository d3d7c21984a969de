//! The Common Expression Language: expressions compiled against declared variables, evaluated within a budget.
//!
//! The parser and the functions come from `kube-cel`. It bounds nothing and checks no types, so both are done here:
//! [`check`] finds at compile time what names nothing or yields the wrong type, and [`meter`] rewrites an expression so
//! that it pays for its steps and for what it copies. A unit of cost is about a tenth of a microsecond.
//!
//! Not there: types of protobuf, `cel.bind` and comprehensions over two variables, and positions of type errors.

mod authorizer;
mod check;
mod declare;
mod estimate;
mod functions;
mod message;
mod meter;
mod scope;
#[cfg(test)]
mod scope_tests;
mod shallow;
#[cfg(test)]
mod tests;
pub mod values;

use std::{
    cell::Cell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use kube_cel::cel::{ExecutionError, IdedExpr, parser::Parser};

pub use authorizer::{AUTHORIZER, Check, REQUEST_RESOURCE, Verdict};
pub use check::{object, show};
pub use declare::declare;
pub use estimate::Extent;
pub use kube_cel::cel::Value;
pub use message::{JSON_PATCH, OBJECT, to_json, type_name};
pub use meter::Need;
pub use scope::{Inputs, Scope, VARIABLES, Variable};
pub use values::{Shape, escape, from_json, from_map, is_reserved, optional};

/// What one evaluation may cost, as Kubernetes' `PerCallLimit`.
pub const CALL_LIMIT: u64 = 1_000_000;
/// What all evaluations for one object may cost, as Kubernetes' `RuntimeCELCostBudget`.
pub const OBJECT_BUDGET: u64 = 10_000_000;
/// Bytes of an expression's text.
const MAX_SOURCE: usize = 16 << 10;
/// How deep an expression may be: evaluation takes stack for each level.
const MAX_DEPTH: usize = 100;
/// How deep an expression may be to be parsed on any stack.
const SHALLOW: usize = 20;
/// Bytes for those that are deeper.
const PARSER_STACK: usize = 8 << 20;

/// What is known of a value before it is there.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Anything; nothing is checked.
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Null,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<Type>),
    /// A map whose keys are known, escaped as expressions name them.
    Object(Arc<BTreeMap<String, Type>>),
    Optional(Arc<Type>),
    /// Something of which nothing but its name is known, and which has no fields.
    Opaque(&'static str),
    /// A message of that name, with whatever fields.
    Message(Arc<str>),
}

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It is not an expression.
    #[error("compilation failed: {0}")]
    Syntax(String),
    /// It names what is not there, or applies what does not fit.
    #[error("compilation failed: ERROR: <input>: {0}")]
    Check(String),
    /// It yields something else than is wanted.
    #[error("{0}")]
    Result(String),
    /// The machine cannot compile it now.
    #[error("compilation failed: no thread can be started: {0}")]
    NoThread(String),
    /// It is longer or deeper than anything needs.
    #[error("compilation failed: {0}")]
    TooLarge(&'static str),
}

/// Why an evaluation yields nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// In the words of cel-go.
    #[error("{0}")]
    Failed(String),
    /// The budget for this evaluation is used up.
    #[error("operation cancelled: actual cost limit exceeded")]
    CallLimit,
    /// The budget for all is used up.
    #[error("running out of cost budget")]
    Exhausted,
}

/// What evaluations may still cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u64,
}

impl Budget {
    pub fn new(units: u64) -> Self {
        Self { left: units }
    }

    pub fn is_exhausted(&self) -> bool {
        self.left == 0
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    expression: IdedExpr,
    needs: BTreeMap<String, Need>,
    /// How deep it is, with the variables it stands upon.
    depth: usize,
}

/// What an expression of a policy may name, beside the variables of the policy.
#[derive(Debug)]
pub struct Environment<'e> {
    pub inputs: &'e [(&'static str, Type)],
    /// The variables, in which an expression sees fields of [`VARIABLES`], with their types; `None` where there can be
    /// none.
    pub variables: Option<(&'e BTreeMap<String, Variable>, Type)>,
    /// Whether it may make messages.
    pub messages: bool,
}

/// The most that an expression may cost by its estimate, as Kubernetes' `StaticEstimatedCostLimit`.
pub const ESTIMATE_LIMIT: u64 = 10_000_000;

impl Program {
    /// Compiles an expression over variables of known types. `result` is what it must yield, with the words for when it
    /// does not.
    ///
    /// # Errors
    /// When it is no expression, names something unknown, or yields another type.
    pub fn compile(
        source: &str,
        variables: &[(&str, Type)],
        result: Option<(&Type, &str)>,
    ) -> Result<Self, CompileError> {
        let expression = parse(source)?;
        let found = check::check(&expression, variables).map_err(CompileError::Check)?;
        if let Some((wanted, words)) = result
            && found != Type::Dyn
            && found != *wanted
        {
            return Err(CompileError::Result(words.to_owned()));
        }
        Ok(Self::metered(expression))
    }

    /// Compiles an expression of a policy, which runs in a [`Scope`]; gives its type too, which must be one of `wanted`.
    ///
    /// # Errors
    /// When it is no expression, names something unknown, or yields another type.
    pub fn of_policy(
        source: &str,
        environment: &Environment<'_>,
        wanted: &[Type],
    ) -> Result<(Self, Type), CompileError> {
        let mut expression = parse(source)?;
        message::prepare(&mut expression, environment.messages)?;
        let declared = environment
            .variables
            .iter()
            .map(|(_, type_)| (VARIABLES, type_.clone()));
        let known: Vec<(&str, Type)> = environment.inputs.iter().cloned().chain(declared).collect();
        let found = check::check(&expression, &known).map_err(CompileError::Check)?;
        if found != Type::Dyn && !wanted.is_empty() && !wanted.contains(&found) {
            return Err(CompileError::Result(other_than(wanted, &found)));
        }
        let names = scope::rewrite(&mut expression);
        let none = BTreeMap::new();
        let variables = environment.variables.as_ref().map_or(&none, |(variables, _)| variables);
        let depth = scope::depth(check::depth(&expression), &names, variables)
            .ok_or(CompileError::TooLarge("the expression is nested too deeply"))?;
        let mut program = Self::metered(expression);
        program.depth = depth;
        Ok((program, found))
    }

    /// Compiles an expression that has been compiled before against its variables: nothing but the syntax is checked.
    ///
    /// # Errors
    /// When it is no expression.
    pub fn again(source: &str) -> Result<Self, CompileError> {
        parse(source).map(Self::metered)
    }

    fn metered(mut expression: IdedExpr) -> Self {
        let needs = meter::needs(&expression);
        let depth = check::depth(&expression);
        meter::rewrite(&mut expression);
        Self {
            expression,
            needs,
            depth,
        }
    }

    /// What an expression may cost at most, from below, for variables of these extents. An expression that cannot be parsed
    /// costs nothing.
    pub fn estimate<E: Extent>(source: &str, variables: &[(&str, &E)]) -> u64 {
        parse(source).map_or(0, |expression| estimate::cost(&expression, variables))
    }

    /// Whether the expression names a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.needs.contains_key(variable)
    }

    /// What of a variable the expression looks at; `None` when it names it not at all.
    pub fn need(&self, variable: &str) -> Option<&Need> {
        self.needs.get(variable)
    }

    /// Evaluates with the variables given.
    ///
    /// # Errors
    /// When the evaluation fails, or costs too much.
    pub fn eval(&self, variables: Vec<(&str, Value)>, budget: &mut Budget) -> Result<Value, EvalError> {
        let limit = budget.left.min(CALL_LIMIT);
        let mut context = functions::root().new_inner_scope();
        for (name, value) in variables {
            context.add_variable_from_value(name, value);
        }
        let (result, used) = metered(limit, || guarded(|| context.resolve(&self.expression)));
        budget.left = budget.left.saturating_sub(used.max(1));
        match result {
            _ if used > limit && limit < CALL_LIMIT => Err(EvalError::Exhausted),
            _ if used > limit => Err(EvalError::CallLimit),
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(EvalError::Failed(words(&error))),
            None => Err(EvalError::Failed("internal error".to_owned())),
        }
    }
}

/// That an expression yields something else than is wanted.
fn other_than(wanted: &[Type], found: &Type) -> String {
    let shown: Vec<String> = wanted.iter().map(show).collect();
    match shown.as_slice() {
        [one] => format!("must evaluate to {one} but got {}", show(found)),
        _ => format!("must evaluate to one of [{}] but got {}", shown.join(" "), show(found)),
    }
}

/// Calls the parser for an expression of this depth: it takes 10 KB of stack for a level. `None` when it panics.
///
/// # Errors
/// When the machine has no thread for it.
fn with_stack<R: Send>(depth: usize, f: impl FnOnce() -> R + Send) -> std::io::Result<Option<R>> {
    if depth <= SHALLOW {
        return Ok(guarded(f));
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(PARSER_STACK);
        Ok(thread.spawn_scoped(scope, f)?.join().ok())
    })
}

/// Calls the parser or the interpreter, which are not ours and panic here and there; `None` when they do.
fn guarded<R>(f: impl FnOnce() -> R) -> Option<R> {
    // What they work on is dropped with the panic, or not changed by them.
    catch_unwind(AssertUnwindSafe(f)).ok()
}

thread_local! {
    /// What the evaluation that runs on this thread has used, and may use. Evaluations do not wait for anything.
    static METER: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Runs `f` with a meter of its own; returns what it used.
fn metered<R>(limit: u64, f: impl FnOnce() -> R) -> (R, u64) {
    let outer = METER.replace((0, limit));
    let result = f();
    let (used, _) = METER.replace(outer);
    (result, used)
}

/// Charges the evaluation that runs on this thread.
fn charge(units: u64) -> Result<(), ExecutionError> {
    let (used, limit) = METER.get();
    let used = used.saturating_add(units);
    METER.set((used, limit));
    match used > limit {
        true => Err(ExecutionError::function_error("cost", "actual cost limit exceeded")),
        false => Ok(()),
    }
}

fn parse(source: &str) -> Result<IdedExpr, CompileError> {
    if source.len() > MAX_SOURCE {
        return Err(CompileError::TooLarge("the expression is longer than 16384 bytes"));
    }
    let depth = shallow::depth(source, MAX_DEPTH)?;
    let parsed = with_stack(depth, || {
        let parser = Parser::new().enable_optional_syntax(true);
        parser.parse(source).map_err(|errors| errors.to_string())
    });
    let parsed = parsed.map_err(|error| CompileError::NoThread(error.to_string()))?;
    let parsed = parsed.unwrap_or_else(|| Err("ERROR: <input>: Syntax error".to_owned()));
    let expression = parsed.map_err(CompileError::Syntax)?;
    match check::depth(&expression) > MAX_DEPTH {
        true => Err(CompileError::TooLarge("the expression is nested too deeply")),
        false => Ok(expression),
    }
}

/// An error of evaluation as cel-go words it.
fn words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::NoSuchOverload
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::UnsupportedUnaryOperator(..)
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::NotSupportedAsMethod { .. } => "no such overload".to_owned(),
        ExecutionError::UndeclaredReference(name) => format!("no such attribute(s): {name}"),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::IndexOutOfBounds(Value::Int(index)) => format!("index out of bounds: {index}"),
        ExecutionError::FunctionError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}
