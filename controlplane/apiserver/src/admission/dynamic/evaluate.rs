//! Evaluating the expressions of a webhook or policy for one request.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Object, Status};
use schema::cel::values::Unshaped;
use schema::cel::{self, Budget, Check, EvalError, Inputs, Need, Program, Scope, Variable, Verdict, from_json};
use serde_json::{Value, json};

use super::environment::{Compiler, Options, items, text};
use super::matching;
use super::request::{Matched, Request};
use crate::authn::{AUTHENTICATED, MASTERS, UserInfo};
use crate::authz::{Attributes, Decision};

/// What all match conditions of one webhook or policy may cost, as in Kubernetes.
const CONDITIONS_BUDGET: u64 = 2_500_000;
/// How often an evaluation is begun anew for what the authorizer has said.
const ROUNDS: usize = 32;
const EXHAUSTED: &str = "validation failed due to running out of cost budget, no further validation rules will be run";

/// The roots of expressions.
#[derive(Clone, Default)]
pub(crate) struct Facts {
    pub(crate) object: Option<Arc<Object>>,
    pub(crate) old: Option<Arc<Object>>,
    pub(crate) request: Arc<Value>,
    pub(crate) params: Option<Arc<Object>>,
    pub(crate) namespace: Arc<Value>,
}

impl Inputs for Facts {
    fn value(&self, name: &str, need: &Need) -> Option<cel::Value> {
        let object = |object: &Option<Arc<Object>>| match object {
            Some(object) => cel::from_map::<Unshaped>(object.map(), None, need),
            None => cel::Value::Null,
        };
        Some(match name {
            "object" => object(&self.object),
            "oldObject" => object(&self.old),
            "params" => object(&self.params),
            "request" => from_json::<Unshaped>(&self.request, None, need),
            "namespaceObject" => from_json::<Unshaped>(&self.namespace, None, need),
            _ => return None,
        })
    }
}

impl Facts {
    /// The facts of a request in the version in which it matched; of params nothing yet.
    pub(crate) async fn of(
        request: &Request<'_>,
        object: Option<&Object>,
        matched: &Matched,
        with_namespace: bool,
    ) -> Result<Self, Status> {
        let object = match object {
            Some(object) => Some(Arc::new(request.view(object, matched).await?)),
            None => None,
        };
        let old = match request.old {
            Some(old) => Some(Arc::new(request.view(old, matched).await?)),
            None => None,
        };
        let namespaced = with_namespace && !request.namespace.is_empty() && request.resource != "namespaces";
        let namespace = match namespaced {
            true => shown(&*matching::namespace(request, request.namespace).await?),
            false => Value::Null,
        };
        Ok(Facts {
            object,
            old,
            request: Arc::new(request.json(matched)),
            params: None,
            namespace: Arc::new(namespace),
        })
    }
}

/// What expressions see of a namespace.
fn shown(namespace: &Object) -> Value {
    const METADATA: [&str; 11] = [
        "name",
        "generateName",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "finalizers",
    ];
    let all = namespace.map_at("metadata").into_iter().flatten();
    let metadata: serde_json::Map<String, Value> = all
        .filter(|(key, _)| METADATA.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    json!({"metadata": metadata, "spec": namespace.at("spec"), "status": namespace.at("status")})
}

/// Begins the evaluation of one webhook or policy.
pub(crate) fn scope(request: &Request<'_>, facts: Facts, variables: &Arc<BTreeMap<String, Variable>>) -> Arc<Scope> {
    let about = Check {
        group: request.group.to_owned(),
        resource: request.resource.to_owned(),
        subresource: request.subresource.to_owned(),
        namespace: request.namespace.to_owned(),
        name: request.name.clone(),
        ..Check::default()
    };
    Scope::new(Arc::new(facts), variables.clone(), about)
}

/// Evaluates an expression, and again while it has questions for the authorizer.
pub(crate) async fn evaluate(
    request: &Request<'_>,
    scope: &Arc<Scope>,
    program: &Program,
    budget: &mut Budget,
) -> Result<cel::Value, EvalError> {
    for _ in 0..ROUNDS {
        let mut left = *budget;
        let result = scope.eval(program, &mut left);
        let questions = scope.questions();
        if questions.is_empty() {
            *budget = left;
            return result;
        }
        for question in questions {
            let verdict = ask(request, &question).await;
            scope.answer(question, verdict);
        }
    }
    Err(EvalError::CallLimit)
}

async fn ask(request: &Request<'_>, question: &Check) -> Verdict {
    let account = question.service_account.as_ref().map(|(namespace, name)| UserInfo {
        username: format!("system:serviceaccount:{namespace}:{name}"),
        groups: [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            AUTHENTICATED.to_owned(),
        ]
        .into(),
        ..UserInfo::default()
    });
    let user = account.as_ref().unwrap_or(request.user);
    let is_resource = question.path.is_empty();
    let attributes = Attributes {
        user,
        verb: &question.verb,
        namespace: &question.namespace,
        group: &question.group,
        version: if is_resource { "*" } else { "" },
        resource: &question.resource,
        subresource: &question.subresource,
        name: &question.name,
        field_selector: &question.field_selector,
        path: &question.path,
        is_resource,
    };
    let decision = match user.groups.iter().any(|group| group == MASTERS) {
        true => Decision::Allow,
        false => request.server.authorizer.authorize(&attributes).await,
    };
    match decision {
        Decision::Allow => Verdict {
            allowed: true,
            reason: String::new(),
        },
        refused => Verdict {
            allowed: false,
            reason: refused.reason(),
        },
    }
}

/// An expression with its text, compiled, or why it is not.
#[derive(Debug)]
pub(crate) struct Expression {
    pub(crate) source: String,
    program: Result<Program, String>,
}

impl Expression {
    pub(crate) fn new(compiler: &Compiler, source: &str, options: Options, wanted: &[cel::Type]) -> Self {
        let compiled = compiler.program(source, options, wanted);
        Expression {
            source: source.to_owned(),
            program: compiled.map(|(program, _)| program).map_err(|error| error.to_string()),
        }
    }

    /// Its value, or what to say of it.
    pub(crate) async fn value(
        &self,
        request: &Request<'_>,
        scope: &Arc<Scope>,
        budget: &mut Budget,
    ) -> Result<cel::Value, Failure> {
        let program = match &self.program {
            Ok(program) => program,
            Err(why) => return Err(Failure::Own(format!("compilation error: {why}"))),
        };
        match evaluate(request, scope, program, budget).await {
            Ok(value) => Ok(value),
            Err(EvalError::Exhausted) => Err(Failure::Exhausted),
            Err(error) => {
                let source = &self.source;
                Err(Failure::Own(format!(
                    "expression '{source}' resulted in error: {error}"
                )))
            }
        }
    }
}

/// Why an expression has no value.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed; others may not.
    Own(String),
    /// There is nothing left to spend for any.
    Exhausted,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Own(why) => f.write_str(why),
            Failure::Exhausted => f.write_str(EXHAUSTED),
        }
    }
}

/// `matchConditions`: all must hold.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<Expression>);

impl Conditions {
    pub(crate) fn read(of: &Value, compiler: &Compiler) -> Self {
        let conditions = items(of, "matchConditions");
        let compile = |condition: &Value| {
            Expression::new(
                compiler,
                text(condition, "expression"),
                Options::default(),
                &[cel::Type::Bool],
            )
        };
        Conditions(conditions.map(compile).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not decides, whatever others fail; what failed is told otherwise.
    pub(crate) async fn hold(&self, request: &Request<'_>, scope: &Arc<Scope>) -> Result<bool, String> {
        let mut budget = Budget::new(CONDITIONS_BUDGET);
        let mut failures = Vec::new();
        for condition in &self.0 {
            match condition.value(request, scope, &mut budget).await {
                Ok(cel::Value::Bool(true)) => {}
                Ok(cel::Value::Bool(false)) => return Ok(false),
                Ok(_) => failures.push(format!("expression '{}' is not a bool", condition.source)),
                Err(Failure::Exhausted) => return Err(EXHAUSTED.to_owned()),
                Err(Failure::Own(why)) => failures.push(why),
            }
        }
        match failures.len() {
            0 => Ok(true),
            1 => Err(failures.pop().unwrap_or_default()),
            _ => Err(format!("[{}]", failures.join(", "))),
        }
    }
}
