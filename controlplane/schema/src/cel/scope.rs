//! What the expressions of one policy share while they are evaluated: inputs, variables that are evaluated when they are
//! first asked for, and the answers of the authorizer.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue};
use kube_cel::cel::{ExecutionError, IdedExpr, Value};

use super::authorizer::{self, Check, Verdict};
use super::{Budget, EvalError, MAX_DEPTH, Need, Program, charge, functions, message, words};

/// The variable whose fields are the variables of a policy.
pub const VARIABLES: &str = "variables";
/// Evaluates a variable; no expression can call it by this name.
pub(super) const READ: &str = "@variable";

/// The roots of expressions, as values; each is asked for what of it an expression looks at.
pub trait Inputs: Send + Sync {
    /// `None` for a name that nothing stands behind.
    fn value(&self, name: &str, need: &Need) -> Option<Value>;
}

/// A variable: a program, or why it is none.
pub type Variable = Result<Program, String>;

/// One evaluation of a policy.
pub struct Scope {
    inputs: Arc<dyn Inputs>,
    variables: Arc<BTreeMap<String, Variable>>,
    /// What `authorizer.requestResource` is about.
    about: Check,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    values: HashMap<String, Result<Value, String>>,
    answers: HashMap<Check, Verdict>,
    questions: Vec<Check>,
}

thread_local! {
    /// The scope of the evaluation that runs on this thread. Evaluations do not wait for anything.
    static CURRENT: RefCell<Option<Arc<Scope>>> = const { RefCell::new(None) };
}

impl Scope {
    pub fn new(inputs: Arc<dyn Inputs>, variables: Arc<BTreeMap<String, Variable>>, about: Check) -> Arc<Self> {
        Arc::new(Self {
            inputs,
            variables,
            about,
            state: Mutex::default(),
        })
    }

    /// Evaluates a program. If [`Scope::questions`] then has some, the result means nothing: it is to be evaluated again
    /// when they are answered.
    ///
    /// # Errors
    /// When the evaluation fails, or costs too much.
    pub fn eval(self: &Arc<Self>, program: &Program, budget: &mut Budget) -> Result<Value, EvalError> {
        let outer = CURRENT.replace(Some(self.clone()));
        let result = program.eval(self.bindings(program), budget);
        CURRENT.set(outer);
        result
    }

    /// What has been asked of the authorizer and has no answer.
    pub fn questions(&self) -> Vec<Check> {
        std::mem::take(&mut self.state().questions)
    }

    /// Answers a question.
    pub fn answer(&self, check: Check, verdict: Verdict) {
        self.state().answers.insert(check, verdict);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bindings<'p>(&self, program: &'p Program) -> Vec<(&'p str, Value)> {
        let needs = program.needs.iter();
        needs
            .filter_map(|(name, need)| {
                let value = match name.as_str() {
                    authorizer::AUTHORIZER => authorizer::root(),
                    authorizer::REQUEST_RESOURCE => authorizer::request_resource(&self.about),
                    name => self.inputs.value(name, need)?,
                };
                Some((name.as_str(), value))
            })
            .collect()
    }

    /// How deep variables may stand upon each other is bounded when they are compiled.
    fn variable(&self, name: &str) -> Result<Value, ExecutionError> {
        let failed = |why: &str| ExecutionError::function_error(READ, why);
        let known = self.state().values.get(name).cloned();
        if let Some(known) = known {
            return known.map_err(|why| failed(&why));
        }
        let program = match self.variables.get(name) {
            Some(Ok(program)) => program,
            Some(Err(why)) => return Err(failed(&format!("composited variable {name:?} fails to compile: {why}"))),
            None => return Err(ExecutionError::NoSuchKey(Arc::new(name.to_owned()))),
        };
        let mut context = functions::root().new_inner_scope();
        for (name, value) in self.bindings(program) {
            context.add_variable_from_value(name, value);
        }
        let result = context.resolve(&program.expression).map_err(|error| words(&error));
        let mut state = self.state();
        if state.questions.is_empty() {
            let result = result.map_err(|why| format!("composited variable {name:?} fails to evaluate: {why}"));
            state.values.insert(name.to_owned(), result.clone());
            return result.map_err(|why| failed(&why));
        }
        result.map_err(|why| failed(&why))
    }
}

/// The function behind [`READ`].
pub(super) fn read(name: Arc<String>) -> Result<Value, ExecutionError> {
    let scope = CURRENT.with_borrow(Clone::clone);
    let scope = scope.ok_or_else(|| ExecutionError::UndeclaredReference(Arc::new(VARIABLES.to_owned())))?;
    let value = scope.variable(&name)?;
    charge(functions::weight(&value))?;
    Ok(value)
}

/// The authorizer's answer, if it is known; else the question is noted.
pub(super) fn verdict(check: Check) -> Option<Verdict> {
    let scope = CURRENT.with_borrow(Clone::clone)?;
    let mut state = scope.state();
    let known = state.answers.get(&check).cloned();
    if known.is_none() && !state.questions.contains(&check) {
        state.questions.push(check);
    }
    known
}

/// Puts calls in the place of `variables.x`; gives the names of the variables that are named.
pub(super) fn rewrite(of: &mut IdedExpr) -> Vec<String> {
    let mut names = Vec::new();
    replace(of, &mut names);
    names.sort_unstable();
    names.dedup();
    names
}

fn replace(of: &mut IdedExpr, names: &mut Vec<String>) {
    match &mut of.expr {
        Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(name) if name == VARIABLES) => {
            let name = std::mem::take(&mut select.field);
            of.expr = match select.test {
                // That it is there has been checked.
                true => Expr::Literal(LiteralValue::Boolean(true.into())),
                false => Expr::Call(CallExpr {
                    func_name: READ.to_owned(),
                    target: None,
                    args: vec![message::text(&name)],
                }),
            };
            names.push(name);
        }
        Expr::Select(select) => replace(&mut select.operand, names),
        Expr::Call(call) => {
            let parts = call.target.as_deref_mut().into_iter().chain(&mut call.args);
            parts.for_each(|part| replace(part, names));
        }
        Expr::List(list) => list.elements.iter_mut().for_each(|part| replace(part, names)),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    replace(&mut entry.key, names);
                    replace(&mut entry.value, names);
                }
            }
        }
        Expr::Comprehension(c) => {
            let parts = [
                &mut c.iter_range,
                &mut c.accu_init,
                &mut c.loop_cond,
                &mut c.loop_step,
                &mut c.result,
            ];
            parts.into_iter().for_each(|part| replace(part, names));
        }
        _ => {}
    }
}

/// What a call from an expression to a variable takes of the stack, in levels of an expression.
const CALL_DEPTH: usize = 5;

/// How deep an expression is with the variables it stands upon, or that this is too deep.
pub(super) fn depth(own: usize, names: &[String], variables: &BTreeMap<String, Variable>) -> Option<usize> {
    let below = names.iter().filter_map(|name| variables.get(name)?.as_ref().ok());
    let depth = own
        + below
            .map(|program| CALL_DEPTH + program.depth)
            .max()
            .unwrap_or_default();
    (depth <= MAX_DEPTH).then_some(depth)
}
