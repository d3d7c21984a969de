//! What the claims of a token make of its bearer: mappings and rules of a configuration, compiled. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::cel::values::Unshaped;
use schema::cel::{self, Budget, Program, Type, from_json};
use serde_json::{Map, Value, json};

use crate::authn::UserInfo;

type Claims = Map<String, Value>;

/// From claims to a user.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(super) username: Source,
    /// `None` for no groups.
    pub(super) groups: Option<Source>,
    pub(super) uid: Option<Source>,
    /// By the key of what is said of the user.
    pub(super) extra: Vec<(String, Expression)>,
    pub(super) required: Vec<(String, String)>,
    pub(super) claim_rules: Vec<Rule>,
    pub(super) user_rules: Vec<Rule>,
}

/// Where a text comes from.
#[derive(Debug)]
pub(super) enum Source {
    Claim { name: String, prefix: String },
    Expression(Expression),
}

/// An expression over claims, or over the user.
#[derive(Debug)]
pub(super) struct Expression {
    source: String,
    program: Program,
}

/// An expression that must hold, and what to say where it does not.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) expression: Expression,
    pub(super) message: String,
}

/// What an expression is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Claims,
    User,
}

impl About {
    fn name(self) -> &'static str {
        match self {
            About::Claims => "claims",
            About::User => "user",
        }
    }

    fn type_(self) -> Type {
        let texts = || Type::List(Arc::new(Type::String));
        match self {
            About::Claims => Type::Map(Arc::new(Type::Dyn)),
            About::User => cel::object([
                ("username".to_owned(), Type::String),
                ("uid".to_owned(), Type::String),
                ("groups".to_owned(), texts()),
                ("extra".to_owned(), Type::Map(Arc::new(texts()))),
            ]),
        }
    }
}

impl Expression {
    /// Compiles an expression; `result` is the one type it may have, with the words for when it has another.
    pub(super) fn compile(source: &str, about: About, result: Option<(&Type, &str)>) -> Result<Self, String> {
        let program = Program::compile(source, &[(about.name(), about.type_())], result);
        Ok(Expression {
            source: source.to_owned(),
            program: program.map_err(|error| error.to_string())?,
        })
    }

    /// Whether it looks at a claim by its name.
    pub(super) fn reads(&self, claim: &str) -> bool {
        let need = self.program.need(About::Claims.name());
        need.is_some_and(|need| need.field(claim).is_some())
    }

    fn value(&self, about: About, of: &Value, budget: &mut Budget) -> Result<Value, String> {
        let variables = match self.program.need(about.name()) {
            Some(need) => vec![(about.name(), from_json::<Unshaped>(of, None, need))],
            None => Vec::new(),
        };
        let value = self.program.eval(variables, budget);
        let value = value.map_err(|error| format!("expression '{}' resulted in error: {error}", self.source))?;
        cel::to_json(&value)
    }

    fn text(&self, claims: &Value, budget: &mut Budget, otherwise: &str) -> Result<String, String> {
        match self.value(About::Claims, claims, budget)? {
            Value::String(text) => Ok(text),
            _ => Err(otherwise.to_owned()),
        }
    }

    /// Texts, none for null and for an empty one.
    fn texts(&self, claims: &Value, budget: &mut Budget) -> Result<Vec<String>, String> {
        match self.value(About::Claims, claims, budget)? {
            Value::Null => Ok(Vec::new()),
            Value::String(text) if text.is_empty() => Ok(Vec::new()),
            value => strings(&value).ok_or_else(|| "expression must return a string or a list of strings".to_owned()),
        }
    }
}

impl Rule {
    fn check(&self, about: About, of: &Value, budget: &mut Budget) -> Result<(), String> {
        let held = self.expression.value(about, of, budget)?;
        if held == Value::Bool(true) {
            return Ok(());
        }
        let source = &self.expression.source;
        Err(match self.message.as_str() {
            "" => format!("validation expression '{source}' failed"),
            message => format!("validation expression '{source}' failed: {message}"),
        })
    }
}

impl Mapping {
    /// Whom the claims of a token stand for, if the rules allow it.
    pub(crate) fn user(&self, claims: &Claims) -> Result<UserInfo, String> {
        let mut budget = Budget::new(cel::OBJECT_BUDGET);
        // Expressions want the whole tree; without any, nothing is copied.
        let tree = match self.has_expressions() {
            true => Value::Object(claims.clone()),
            false => Value::Null,
        };
        let mut user = UserInfo {
            username: self.username(claims, &tree, &mut budget)?,
            groups: self.groups(claims, &tree, &mut budget)?,
            uid: self.uid(claims, &tree, &mut budget)?,
            extra: self.extra(&tree, &mut budget)?,
        };
        self.check_required(claims)?;
        for rule in &self.claim_rules {
            rule.check(About::Claims, &tree, &mut budget)
                .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
        }
        if !self.user_rules.is_empty() {
            let shown = json!({"username": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra});
            for rule in &self.user_rules {
                rule.check(About::User, &shown, &mut budget)
                    .map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))?;
            }
        }
        user.groups.push(crate::authn::AUTHENTICATED.to_owned());
        Ok(user)
    }

    fn has_expressions(&self) -> bool {
        let sources = [Some(&self.username), self.groups.as_ref(), self.uid.as_ref()];
        let mut sources = sources.into_iter().flatten();
        !self.extra.is_empty()
            || !self.claim_rules.is_empty()
            || sources.any(|source| matches!(source, Source::Expression(_)))
    }

    fn username(&self, claims: &Claims, tree: &Value, budget: &mut Budget) -> Result<String, String> {
        let name = match &self.username {
            Source::Expression(expression) => {
                return expression
                    .text(tree, budget, "username claim expression must return a string")
                    .map_err(|why| format!("oidc: error evaluating username claim expression: {why}"));
            }
            Source::Claim { name, prefix } => {
                let text =
                    text_of(claims, name).map_err(|why| format!("oidc: parse username claims {name:?}: {why}"))?;
                check_email(claims, name)?;
                format!("{prefix}{text}")
            }
        };
        Ok(name)
    }

    fn groups(&self, claims: &Claims, tree: &Value, budget: &mut Budget) -> Result<Vec<String>, String> {
        match &self.groups {
            None => Ok(Vec::new()),
            Some(Source::Expression(expression)) => expression
                .texts(tree, budget)
                .map_err(|why| format!("oidc: error evaluating group claim expression: {why}")),
            Some(Source::Claim { name, prefix }) => {
                let Some(found) = claims.get(name) else {
                    return Ok(Vec::new());
                };
                let groups = strings(found).ok_or_else(|| {
                    format!("oidc: parse groups claim {name:?}: it is neither a string nor a list of strings")
                })?;
                Ok(groups.into_iter().map(|group| format!("{prefix}{group}")).collect())
            }
        }
    }

    fn uid(&self, claims: &Claims, tree: &Value, budget: &mut Budget) -> Result<String, String> {
        match &self.uid {
            None => Ok(String::new()),
            Some(Source::Expression(expression)) => expression
                .text(tree, budget, "uid claim expression must return a string")
                .map_err(|why| format!("oidc: error evaluating uid claim expression: {why}")),
            Some(Source::Claim { name, .. }) => text_of(claims, name)
                .map(str::to_owned)
                .map_err(|why| format!("oidc: parse uid claim {name:?}: {why}")),
        }
    }

    fn extra(&self, tree: &Value, budget: &mut Budget) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut extra = BTreeMap::new();
        for (key, expression) in &self.extra {
            let values = expression
                .texts(tree, budget)
                .map_err(|why| format!("oidc: error evaluating extra claim expression: {key}: {why}"))?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        Ok(extra)
    }

    fn check_required(&self, claims: &Claims) -> Result<(), String> {
        for (claim, wanted) in &self.required {
            if !claims.contains_key(claim) {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            }
            let found = text_of(claims, claim).map_err(|why| format!("oidc: parse claim {claim}: {why}"))?;
            if found != wanted {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {found}, want = {wanted}"
                ));
            }
        }
        Ok(())
    }
}

/// An address that its issuer says is not verified names nobody.
fn check_email(claims: &Claims, username_claim: &str) -> Result<(), String> {
    match claims.get("email_verified").filter(|_| username_claim == "email") {
        None | Some(Value::Bool(true)) => Ok(()),
        Some(Value::Bool(false)) => Err("oidc: email not verified".to_owned()),
        Some(_) => Err("oidc: parse 'email_verified' claim: it is not a bool".to_owned()),
    }
}

fn text_of<'c>(claims: &'c Claims, name: &str) -> Result<&'c str, &'static str> {
    let claim = claims.get(name).ok_or("claim not present")?;
    claim.as_str().ok_or("it is not a string")
}

/// One string or several.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}
