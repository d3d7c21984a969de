//! A program that the operator has asked whether something may be done, by SubjectAccessReview. Its answers are kept for a
//! while. Label and field selectors of a request are not told.

use std::time::Duration;

use async_trait::async_trait;
use schema::cel::values::Unshaped;
use schema::cel::{self, Budget, Program, Type, from_json};
use serde_json::{Value, json};

use super::{Attributes, Authorizer, Decision};
use crate::webhook::cache::Cache;
use crate::webhook::endpoint::Endpoint;

/// Answers that are remembered, and bytes of a question to be so.
const MAX_KEPT: usize = 8192;
const MAX_QUESTION: usize = 10_000;
/// What all conditions of a program may cost, as in Kubernetes.
const CONDITIONS_BUDGET: u64 = 2_500_000;

/// Which program is asked, how, and about what.
#[derive(Debug)]
pub struct Config {
    pub endpoint: Endpoint,
    /// Of `authorization.k8s.io`: `v1` or `v1beta1`.
    pub version: &'static str,
    pub timeout: Duration,
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
    /// Whether what it cannot answer is refused, whatever others say.
    pub denies_on_failure: bool,
    pub conditions: Conditions,
}

/// What must hold of a request for a program to be asked about it.
#[derive(Debug, Default)]
pub struct Conditions(Vec<(String, Program)>);

impl Conditions {
    /// Adds an expression.
    pub(super) fn add(&mut self, source: &str) -> Result<(), String> {
        let result = Some((&Type::Bool, "must evaluate to bool"));
        let program = Program::compile(source, &[("request", request())], result).map_err(|error| error.to_string())?;
        self.0.push((source.to_owned(), program));
        Ok(())
    }

    /// Whether all hold. One that does not decides, whatever others fail; what failed is told otherwise.
    fn hold(&self, spec: &Value) -> Result<bool, String> {
        let mut budget = Budget::new(CONDITIONS_BUDGET);
        let mut failure = None;
        for (source, program) in &self.0 {
            let need = program.need("request");
            let variables = need.map(|need| ("request", from_json::<Unshaped>(spec, None, need)));
            match program.eval(variables.into_iter().collect(), &mut budget) {
                Ok(cel::Value::Bool(true)) => {}
                Ok(cel::Value::Bool(false)) => return Ok(false),
                Ok(_) => failure = failure.or(Some(format!("cel evaluation error: expression '{source}' is no bool"))),
                Err(error) => {
                    let why = format!("cel evaluation error: expression '{source}' resulted in error: {error}");
                    failure = failure.or(Some(why));
                }
            }
        }
        failure.map_or(Ok(true), Err)
    }
}

/// What conditions see: the spec of a SubjectAccessReview.
fn request() -> Type {
    let texts = |names: &[&str]| {
        let fields: Vec<(String, Type)> = names.iter().map(|name| ((*name).to_owned(), Type::String)).collect();
        cel::object(fields)
    };
    let list = || Type::List(Type::String.into());
    let resource = texts(&[
        "namespace",
        "verb",
        "group",
        "version",
        "resource",
        "subresource",
        "name",
    ]);
    cel::object([
        ("resourceAttributes".to_owned(), resource),
        ("nonResourceAttributes".to_owned(), texts(&["path", "verb"])),
        ("user".to_owned(), Type::String),
        ("uid".to_owned(), Type::String),
        ("groups".to_owned(), list()),
        ("extra".to_owned(), Type::Map(list().into())),
    ])
}

/// Asks a program.
#[derive(Debug)]
pub(crate) struct Webhook {
    config: Config,
    kept: Cache<Decision>,
}

impl Webhook {
    pub(crate) fn new(config: Config) -> Self {
        Webhook {
            config,
            kept: Cache::new(MAX_KEPT),
        }
    }

    async fn ask(&self, spec: Value) -> Decision {
        let text = spec.to_string();
        let asked = Cache::<()>::asked(text.as_bytes());
        if let Some(known) = self.kept.get(&asked) {
            return known;
        }
        let question = json!({"kind": "SubjectAccessReview", "metadata": {}, "spec": spec, "status": {"allowed": false},
            "apiVersion": format!("authorization.k8s.io/{}", self.config.version)});
        let answer = self.config.endpoint.ask(&question, self.config.timeout).await;
        let decided = answer
            .map_err(|error| error.to_string())
            .and_then(|review| decision(&review));
        match decided {
            Ok(decision) => {
                let ttl = match decision {
                    Decision::Allow => self.config.authorized_ttl,
                    _ => self.config.unauthorized_ttl,
                };
                if text.len() <= MAX_QUESTION {
                    self.kept.keep(asked, decision.clone(), ttl);
                }
                decision
            }
            Err(why) => self.failed(&why),
        }
    }

    fn failed(&self, why: &str) -> Decision {
        tracing::warn!(why, "the authorization webhook has no answer");
        Decision::Failed {
            denies: self.config.denies_on_failure,
            why: why.to_owned(),
        }
    }
}

#[async_trait]
impl Authorizer for Webhook {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let spec = spec(attributes, self.config.version);
        if !self.config.conditions.0.is_empty() {
            // Conditions are about v1, whatever is sent.
            match self.config.conditions.hold(&spec_for_conditions(attributes)) {
                Ok(true) => {}
                Ok(false) => return Decision::NoOpinion(String::new()),
                Err(why) => return self.failed(&why),
            }
        }
        self.ask(spec).await
    }
}

/// The question as it is sent: fields that say nothing are left out.
fn spec(a: &Attributes<'_>, version: &str) -> Value {
    let mut spec = json!({});
    let filled = |fields: &[(&str, &str)]| {
        let said = fields.iter().filter(|(_, text)| !text.is_empty());
        Value::Object(
            said.map(|(name, text)| ((*name).to_owned(), Value::from(*text)))
                .collect(),
        )
    };
    let mut set = |field: &str, value: Value| {
        if let Some(map) = spec.as_object_mut() {
            map.insert(field.to_owned(), value);
        }
    };
    match a.is_resource {
        true => set("resourceAttributes", filled(&resource_fields(a))),
        false => set("nonResourceAttributes", filled(&[("path", a.path), ("verb", a.verb)])),
    }
    if !a.user.username.is_empty() {
        set("user", a.user.username.as_str().into());
    }
    if !a.user.uid.is_empty() {
        set("uid", a.user.uid.as_str().into());
    }
    if !a.user.groups.is_empty() {
        // The older version has another name for it.
        set(
            if version == "v1beta1" { "group" } else { "groups" },
            json!(a.user.groups),
        );
    }
    if !a.user.extra.is_empty() {
        set("extra", json!(a.user.extra));
    }
    spec
}

/// The same for conditions, which find every text.
fn spec_for_conditions(a: &Attributes<'_>) -> Value {
    let texts = |fields: &[(&str, &str)]| {
        let all = fields.iter();
        Value::Object(
            all.map(|(name, text)| ((*name).to_owned(), Value::from(*text)))
                .collect(),
        )
    };
    let user = a.user;
    let mut spec = json!({"user": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra});
    let (field, attributes) = match a.is_resource {
        true => ("resourceAttributes", texts(&resource_fields(a))),
        false => ("nonResourceAttributes", texts(&[("path", a.path), ("verb", a.verb)])),
    };
    if let Some(map) = spec.as_object_mut() {
        map.insert(field.to_owned(), attributes);
    }
    spec
}

fn resource_fields<'a>(a: &Attributes<'a>) -> [(&'static str, &'a str); 7] {
    [
        ("namespace", a.namespace),
        ("verb", a.verb),
        ("group", a.group),
        ("version", a.version),
        ("resource", a.resource),
        ("subresource", a.subresource),
        ("name", a.name),
    ]
}

/// What a review says.
fn decision(review: &Value) -> Result<Decision, String> {
    let status = review.get("status").filter(|status| status.is_object());
    let status = status.ok_or("the answer has no status")?;
    let is = |field: &str| status.get(field).and_then(Value::as_bool) == Some(true);
    let reason = status
        .get("reason")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    match (is("allowed"), is("denied")) {
        (true, true) => Err("webhook subject access review returned both allow and deny response".to_owned()),
        (true, false) => Ok(Decision::Allow),
        (false, true) => Ok(Decision::Deny(reason)),
        (false, false) => Ok(Decision::NoOpinion(reason)),
    }
}
