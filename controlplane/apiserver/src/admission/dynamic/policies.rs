//! Admission policies and their bindings, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{GroupResource, GroupVersion, LabelSelector, Object};
use schema::cel::{self, Scope, Variable};
use serde_json::Value;

use super::environment::{Compiler, Extras, Known, Options, items, text};
use super::evaluate::{Conditions, Expression, Facts, scope};
use super::matching::{Matching, selector};
use super::request::{Matched, Request};
use crate::registry::catalog::Endpoint;
use crate::registry::custom::convert;
use crate::registry::verbs::{Current, from_storage};

/// A validating or mutating policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) fails_closed: bool,
    matching: Matching,
    params: Option<ParamKind>,
    conditions: Conditions,
    variables: Arc<BTreeMap<String, Variable>>,
    pub(crate) validations: Vec<Validation>,
    pub(crate) annotations: Vec<(String, Expression)>,
    pub(crate) mutations: Vec<Mutation>,
    pub(crate) sees_again: bool,
}

/// The kind of a policy's parameters.
#[derive(Debug)]
struct ParamKind {
    group: String,
    version: String,
    kind: String,
}

/// One rule of a validating policy.
#[derive(Debug)]
pub(crate) struct Validation {
    pub(crate) rule: Expression,
    pub(crate) message: String,
    pub(crate) computed: Option<Expression>,
    pub(crate) reason: String,
}

/// One change of a mutating policy.
#[derive(Debug)]
pub(crate) enum Mutation {
    Apply(Expression),
    Patch(Expression),
}

/// What puts a policy to work.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) name: String,
    policy: String,
    matching: Option<Matching>,
    params: Option<ParamRef>,
    pub(crate) actions: Vec<String>,
}

#[derive(Debug)]
struct ParamRef {
    namespace: String,
    name: String,
    selector: Option<LabelSelector>,
    deny_without: bool,
}

/// A policy with its bindings.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) policy: Arc<Policy>,
    pub(crate) bindings: Vec<Arc<Binding>>,
}

/// Why a policy cannot be evaluated for a request, and for which binding if not for all.
pub(crate) struct Misfit {
    pub(crate) binding: Option<Arc<Binding>>,
    pub(crate) why: String,
}

/// A policy to be evaluated for a request with one set of parameters.
pub(crate) struct Invocation {
    pub(crate) policy: Arc<Policy>,
    pub(crate) binding: Arc<Binding>,
    pub(crate) matched: Matched,
    pub(crate) params: Option<Arc<Object>>,
}

/// Which parts of a policy may name what.
pub(crate) fn extras(spec: &Value) -> Extras {
    Extras {
        params: spec.get("paramKind").is_some_and(|kind| !kind.is_null()),
        authorizer: true,
    }
}

/// What a message may be made by.
pub(crate) const WITHOUT_AUTHORIZER: Options = Options {
    no_authorizer: true,
    messages: false,
};
/// What a change may be made by.
pub(crate) const WITH_MESSAGES: Options = Options {
    no_authorizer: false,
    messages: true,
};

/// What the expression of an annotation may yield.
pub(crate) const ANNOTATION: [cel::Type; 2] = [cel::Type::String, cel::Type::Null];

/// What the expression of a change must yield.
pub(crate) fn change_type(patch: bool) -> cel::Type {
    match patch {
        true => cel::Type::List(Arc::new(cel::Type::Message(cel::JSON_PATCH.into()))),
        false => cel::Type::Message(cel::OBJECT.into()),
    }
}

impl Policy {
    /// Reads a policy that has been validated; what does not compile all the same fails when it is evaluated.
    pub(crate) fn read(policy: &Object) -> Self {
        let null = Value::Null;
        let spec = policy.at("spec").unwrap_or(&null);
        let mut compiler = Compiler::of_policy(extras(spec), &Known::NOTHING);
        for variable in items(spec, "variables") {
            // Why it is none is told when it is asked for.
            let _ = compiler.declare(text(variable, "name"), text(variable, "expression"));
        }
        let annotation = |of: &Value| {
            let expression = Expression::new(&compiler, text(of, "valueExpression"), WITHOUT_AUTHORIZER, &ANNOTATION);
            (text(of, "key").to_owned(), expression)
        };
        Policy {
            name: policy.name().to_owned(),
            fails_closed: text(spec, "failurePolicy") != "Ignore",
            matching: Matching::of_policy(spec.get("matchConstraints").unwrap_or(&null)),
            params: spec.get("paramKind").and_then(ParamKind::read),
            conditions: Conditions::read(spec, &compiler),
            validations: items(spec, "validations").map(|of| validation(of, &compiler)).collect(),
            annotations: items(spec, "auditAnnotations").map(annotation).collect(),
            mutations: items(spec, "mutations").map(|of| mutation(of, &compiler)).collect(),
            sees_again: text(spec, "reinvocationPolicy") == "IfNeeded",
            variables: compiler.variables(),
        }
    }

    /// Begins an evaluation.
    pub(crate) fn scope(&self, request: &Request<'_>, facts: Facts) -> Arc<Scope> {
        scope(request, facts, &self.variables)
    }

    /// Whether its conditions hold.
    pub(crate) async fn applies(&self, request: &Request<'_>, scope: &Arc<Scope>) -> Result<bool, String> {
        match self.conditions.is_empty() {
            true => Ok(true),
            false => self.conditions.hold(request, scope).await,
        }
    }
}

fn validation(of: &Value, compiler: &Compiler) -> Validation {
    let computed = text(of, "messageExpression");
    Validation {
        rule: Expression::new(compiler, text(of, "expression"), Options::default(), &[cel::Type::Bool]),
        message: text(of, "message").trim().to_owned(),
        computed: (!computed.is_empty())
            .then(|| Expression::new(compiler, computed, WITHOUT_AUTHORIZER, &[cel::Type::String])),
        reason: text(of, "reason").to_owned(),
    }
}

fn mutation(of: &Value, compiler: &Compiler) -> Mutation {
    let expression = |field: &str, patch: bool| {
        let source = of.get(field).map(|of| text(of, "expression")).unwrap_or_default();
        Expression::new(compiler, source, WITH_MESSAGES, &[change_type(patch)])
    };
    match text(of, "patchType") {
        "JSONPatch" => Mutation::Patch(expression("jsonPatch", true)),
        _ => Mutation::Apply(expression("applyConfiguration", false)),
    }
}

impl ParamKind {
    fn read(of: &Value) -> Option<Self> {
        let parsed = text(of, "apiVersion").parse::<GroupVersion>().ok()?;
        Some(ParamKind {
            group: parsed.group,
            version: parsed.version,
            kind: text(of, "kind").to_owned(),
        })
    }
}

impl Binding {
    pub(crate) fn read(binding: &Object) -> Self {
        let null = Value::Null;
        let spec = binding.at("spec").unwrap_or(&null);
        let actions = items(spec, "validationActions").filter_map(Value::as_str);
        let params = spec.get("paramRef").filter(|of| of.is_object());
        Binding {
            name: binding.name().to_owned(),
            policy: text(spec, "policyName").to_owned(),
            matching: spec
                .get("matchResources")
                .filter(|of| of.is_object())
                .map(Matching::of_policy),
            params: params.map(|of| ParamRef {
                namespace: text(of, "namespace").to_owned(),
                name: text(of, "name").to_owned(),
                selector: of.get("selector").map(|of| selector(Some(of))),
                deny_without: text(of, "parameterNotFoundAction") == "Deny",
            }),
            actions: actions.map(str::to_owned).collect(),
        }
    }

    pub(crate) fn is_of(&self, policy: &str) -> bool {
        self.policy == policy
    }
}

impl Bound {
    /// What is to be evaluated for a request, and what cannot be.
    pub(crate) async fn invocations(
        &self,
        request: &Request<'_>,
        object: Option<&Object>,
    ) -> (Vec<Invocation>, Vec<Misfit>) {
        let (mut invocations, mut misfits) = (Vec::new(), Vec::new());
        let matched = match self.policy.matching.of(request, object).await {
            Ok(None) => return (invocations, misfits),
            Ok(Some(matched)) => matched,
            Err(status) => {
                misfits.push(of_policy(&status.message));
                return (invocations, misfits);
            }
        };
        let endpoint = match &self.policy.params {
            None => None,
            Some(kind) => match request.server.registry.by_kind(&kind.group, &kind.version, &kind.kind) {
                Some(endpoint) => Some(endpoint),
                None => {
                    let ParamKind { group, version, kind } = kind;
                    misfits.push(of_policy(&format!(
                        "failed to find resource referenced by paramKind: '{group}/{version}, Kind={kind}'"
                    )));
                    return (invocations, misfits);
                }
            },
        };
        for binding in &self.bindings {
            match binding.params_of(request, object, endpoint.as_ref()).await {
                Ok(all) => invocations.extend(all.into_iter().map(|params| Invocation {
                    policy: self.policy.clone(),
                    binding: binding.clone(),
                    matched: matched.clone(),
                    params,
                })),
                Err(why) => misfits.push(Misfit {
                    binding: Some(binding.clone()),
                    why: format!("failed to configure binding: {why}"),
                }),
            }
        }
        (invocations, misfits)
    }
}

fn of_policy(why: &str) -> Misfit {
    Misfit {
        binding: None,
        why: format!("failed to configure policy: {why}"),
    }
}

impl Binding {
    /// The parameters with which the policy is to be evaluated, each time with others: none at all where the binding does
    /// not match.
    async fn params_of(
        &self,
        request: &Request<'_>,
        object: Option<&Object>,
        endpoint: Option<&Endpoint>,
    ) -> Result<Vec<Option<Arc<Object>>>, String> {
        if let Some(matching) = &self.matching {
            match matching.of(request, object).await {
                Ok(None) => return Ok(Vec::new()),
                Ok(Some(_)) => {}
                Err(status) => return Err(status.message),
            }
        }
        let (Some(endpoint), Some(params)) = (endpoint, &self.params) else {
            return Ok(vec![None]);
        };
        let found = params.find(request, endpoint).await?;
        if found.is_empty() && params.deny_without {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
        }
        Ok(found.into_iter().map(|object| Some(Arc::new(object))).collect())
    }
}

impl ParamRef {
    async fn find(&self, request: &Request<'_>, endpoint: &Endpoint) -> Result<Vec<Object>, String> {
        let namespace = match (endpoint.resource().is_namespaced(), &*self.namespace) {
            (false, "") => None,
            (false, _) => {
                return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
            }
            (true, "") if request.namespace.is_empty() => {
                let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
                return Err(why.to_owned());
            }
            (true, "") => Some(request.namespace),
            (true, own) => Some(own),
        };
        let mut found = Vec::new();
        if let Some(selector) = &self.selector {
            let resource = endpoint.resource();
            let kind = GroupResource::new(&resource.group, &resource.plural);
            let reader = &request.server.reader;
            reader.fresh(&kind).await.map_err(|status| status.message)?;
            for object in reader.list(&kind, namespace) {
                if selector.matches(|key| object.label(key)) {
                    found.push((*object).clone());
                }
            }
        } else {
            let kind = &endpoint.kind;
            let cached = request.server.reader.get(
                &GroupResource::new(&kind.resource.group, &kind.resource.plural),
                namespace,
                &self.name,
            );
            match cached {
                Some(object) => found.push((*object).clone()),
                None => {
                    let current = Current::load(endpoint, namespace, &self.name).await;
                    let current = current.map_err(|status| status.message)?;
                    found.extend(current.map(|current| current.object));
                }
            }
        }
        let mut converted = Vec::with_capacity(found.len());
        for object in found {
            converted.push(in_version(endpoint, object).await?);
        }
        Ok(converted)
    }
}

async fn in_version(endpoint: &Endpoint, mut object: Object) -> Result<Object, String> {
    if endpoint.kind.custom.is_some() {
        let converted = convert::to_hub(endpoint, object).await;
        return converted.map_err(|status| status.message);
    }
    from_storage(endpoint, &mut object);
    Ok(object)
}
