//! `authorizer`: what expressions ask about what a user may do.
//!
//! An evaluation does not wait, and who decides may have to. So a question whose answer is not known ends the evaluation
//! and is noted in its [`Scope`](super::Scope); whoever evaluates finds the answer and evaluates again.

use std::sync::Arc;

use kube_cel::cel::common::ast::{Expr, SelectExpr};
use kube_cel::cel::extractors::This;
use kube_cel::cel::objects::Opaque;
use kube_cel::cel::{Context, ExecutionError, Value};

use super::{charge, scope};

/// The variable.
pub const AUTHORIZER: &str = "authorizer";
/// Its one field, the check for what the request is about.
pub const REQUEST_RESOURCE: &str = "authorizer.requestResource";
/// What one question costs, as in Kubernetes.
const COST: u64 = 350_000;

/// A question: may this user do that?
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Check {
    /// Namespace and name, where it is not the request's user.
    pub service_account: Option<(String, String)>,
    /// A path that is no resource; the rest but the verb is then empty.
    pub path: String,
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    pub reason: String,
}

/// What expressions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Authz {
    Authorizer(Check),
    Path(Check),
    Group(Check),
    Resource(Check),
    Decision(Verdict),
}

impl Opaque for Authz {
    fn runtime_type_name(&self) -> &str {
        match self {
            Authz::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Authz::Path(_) => "kubernetes.authorization.PathCheck",
            Authz::Group(_) => "kubernetes.authorization.GroupCheck",
            Authz::Resource(_) => "kubernetes.authorization.ResourceCheck",
            Authz::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

type Result = std::result::Result<Value, ExecutionError>;

fn value(of: Authz) -> Value {
    Value::Opaque(Arc::new(of))
}

/// The value of [`AUTHORIZER`].
pub(super) fn root() -> Value {
    value(Authz::Authorizer(Check::default()))
}

/// The value of [`REQUEST_RESOURCE`].
pub(super) fn request_resource(about: &Check) -> Value {
    value(Authz::Resource(about.clone()))
}

/// The variable that a selection stands for, if it is of the authorizer.
pub(super) fn field(select: &SelectExpr) -> Option<&'static str> {
    let of_authorizer = matches!(&select.operand.expr, Expr::Ident(name) if name == AUTHORIZER);
    (of_authorizer && select.field == "requestResource" && !select.test).then_some(REQUEST_RESOURCE)
}

fn refused(function: &str, why: &str) -> Result {
    Err(ExecutionError::function_error(function, why))
}

fn of(this: &Value) -> std::result::Result<&Authz, ExecutionError> {
    match this {
        Value::Opaque(opaque) => opaque.downcast_ref::<Authz>().ok_or(ExecutionError::NoSuchOverload),
        _ => Err(ExecutionError::NoSuchOverload),
    }
}

/// Gives the functions to a context.
pub(super) fn register(context: &mut Context<'_>) {
    context.add_function("path", path);
    context.add_function("group", group);
    context.add_function("serviceAccount", service_account);
    context.add_function("resource", resource);
    context.add_function("subresource", |this: This<Value>, text: Arc<String>| {
        narrow(&this.0, |check| check.subresource.clone_from(&text))
    });
    context.add_function("namespace", |this: This<Value>, text: Arc<String>| {
        narrow(&this.0, |check| check.namespace.clone_from(&text))
    });
    context.add_function("name", |this: This<Value>, text: Arc<String>| {
        narrow(&this.0, |check| check.name.clone_from(&text))
    });
    context.add_function("fieldSelector", |this: This<Value>, text: Arc<String>| {
        narrow(&this.0, |check| check.field_selector.clone_from(&text))
    });
    context.add_function("labelSelector", |this: This<Value>, text: Arc<String>| {
        narrow(&this.0, |check| check.label_selector.clone_from(&text))
    });
    context.add_function("check", check);
    context.add_function("allowed", |this: This<Value>| {
        decision(&this.0, |decision| decision.allowed.into())
    });
    context.add_function("errored", |this: This<Value>| decision(&this.0, |_| false.into()));
    context.add_function("error", |this: This<Value>| decision(&this.0, |_| "".into()));
    context.add_function("reason", |this: This<Value>| {
        decision(&this.0, |decision| decision.reason.as_str().into())
    });
}

fn path(This(this): This<Value>, path: Arc<String>) -> Result {
    let Authz::Authorizer(check) = of(&this)? else {
        return Err(ExecutionError::NoSuchOverload);
    };
    if path.trim().is_empty() {
        return refused("path", "path must not be empty");
    }
    Ok(value(Authz::Path(Check {
        path: path.to_string(),
        ..check.clone()
    })))
}

fn group(This(this): This<Value>, group: Arc<String>) -> Result {
    let Authz::Authorizer(check) = of(&this)? else {
        return Err(ExecutionError::NoSuchOverload);
    };
    Ok(value(Authz::Group(Check {
        group: group.to_string(),
        ..check.clone()
    })))
}

fn resource(This(this): This<Value>, resource: Arc<String>) -> Result {
    let Authz::Group(check) = of(&this)? else {
        return Err(ExecutionError::NoSuchOverload);
    };
    if resource.trim().is_empty() {
        return refused("resource", "resource must not be empty");
    }
    Ok(value(Authz::Resource(Check {
        resource: resource.to_string(),
        ..check.clone()
    })))
}

fn service_account(This(this): This<Value>, namespace: Arc<String>, name: Arc<String>) -> Result {
    let Authz::Authorizer(check) = of(&this)? else {
        return Err(ExecutionError::NoSuchOverload);
    };
    if !api::names::is_dns1123_subdomain(&name).is_empty() {
        return refused("serviceAccount", "Invalid service account name");
    }
    if !api::names::is_dns1123_label(&namespace).is_empty() {
        return refused("serviceAccount", "Invalid service account namespace");
    }
    Ok(value(Authz::Authorizer(Check {
        service_account: Some((namespace.to_string(), name.to_string())),
        ..check.clone()
    })))
}

fn narrow(this: &Value, change: impl FnOnce(&mut Check)) -> Result {
    let Authz::Resource(check) = of(this)? else {
        return Err(ExecutionError::NoSuchOverload);
    };
    let mut check = check.clone();
    change(&mut check);
    Ok(value(Authz::Resource(check)))
}

fn check(This(this): This<Value>, verb: Arc<String>) -> Result {
    let (Authz::Resource(check) | Authz::Path(check)) = of(&this)? else {
        return Err(ExecutionError::NoSuchOverload);
    };
    charge(COST)?;
    let check = Check {
        verb: verb.to_string(),
        ..check.clone()
    };
    match scope::verdict(check) {
        Some(verdict) => Ok(value(Authz::Decision(verdict))),
        None => refused("check", "the answer of the authorizer is not known yet"),
    }
}

fn decision(this: &Value, read: impl FnOnce(&Verdict) -> Value) -> Result {
    match of(this)? {
        Authz::Decision(verdict) => Ok(read(verdict)),
        _ => Err(ExecutionError::NoSuchOverload),
    }
}
