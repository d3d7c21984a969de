//! `AuthenticationConfiguration` of apiserver.config.k8s.io: which issuers are believed, what their claims mean, and where
//! somebody unknown may come. Read, checked in Kubernetes' words, and compiled; pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::field::Path;
use api::{FieldError, field};
use schema::cel::Type;
use serde::Deserialize;

use super::claims::{About, Expression, Mapping, Rule, Source};
use super::jwt::Algorithm;
use crate::authn::Anonymous;
use crate::webhook::check_ca_bundle;

const MAX_ISSUERS: usize = 64;

/// A configuration as it is written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Configuration {
    pub api_version: String,
    pub kind: String,
    pub jwt: Vec<Jwt>,
    pub anonymous: Option<AnonymousPaths>,
}

/// Where somebody unknown may come; everywhere, if no path is named.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnonymousPaths {
    pub enabled: bool,
    pub conditions: Vec<AnonymousPath>,
}

/// A path that somebody unknown may ask for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnonymousPath {
    pub path: String,
}

/// One issuer of tokens, and what they mean.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    pub issuer: Issuer,
    pub claim_validation_rules: Vec<ClaimRule>,
    pub claim_mappings: ClaimMappings,
    pub user_validation_rules: Vec<UserRule>,
    /// How its tokens may be signed; all ways that Kubernetes knows, when there are none.
    #[serde(skip)]
    pub algorithms: Vec<Algorithm>,
}

/// Who makes tokens, and for whom they must be.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    pub url: String,
    #[serde(rename = "discoveryURL")]
    pub discovery_url: String,
    /// PEM.
    pub certificate_authority: String,
    pub audiences: Vec<String>,
    pub audience_match_policy: String,
    pub egress_selector_type: String,
}

/// A claim that must have a value, or an expression that must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimRule {
    pub claim: String,
    pub required_value: String,
    pub expression: String,
    pub message: String,
}

/// What the claims of a token make of its bearer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimMappings {
    pub username: Prefixed,
    pub groups: Prefixed,
    pub uid: ClaimOrExpression,
    pub extra: Vec<ExtraMapping>,
}

/// A claim with a prefix, or an expression.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Prefixed {
    pub claim: String,
    pub prefix: Option<String>,
    pub expression: String,
}

/// A claim, or an expression.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimOrExpression {
    pub claim: String,
    pub expression: String,
}

/// Something more that is said of a user.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtraMapping {
    pub key: String,
    pub value_expression: String,
}

/// An expression that must hold of every user.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct UserRule {
    pub expression: String,
    pub message: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it is not an AuthenticationConfiguration of apiserver.config.k8s.io/v1: {0}")]
    Decode(String),
    #[error("its kind must be AuthenticationConfiguration of apiserver.config.k8s.io/v1, not {kind} of {version}")]
    Kind { kind: String, version: String },
    #[error("{}", field::aggregate(.0))]
    Invalid(Vec<FieldError>),
}

/// A configuration that may be used.
#[derive(Debug, Default)]
pub struct Settings {
    pub(crate) anonymous: Anonymous,
    pub(crate) issuers: Vec<(Jwt, Arc<Mapping>)>,
}

impl Configuration {
    /// Reads a configuration from YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let read: Self = serde_saphyr::from_str(text).map_err(|error| Error::Decode(error.to_string()))?;
        let group = read.api_version.strip_prefix("apiserver.config.k8s.io/");
        let known = matches!(group, Some("v1" | "v1beta1" | "v1alpha1"));
        match known && read.kind == "AuthenticationConfiguration" {
            true => Ok(read),
            false => Err(Error::Kind {
                kind: read.kind,
                version: read.api_version,
            }),
        }
    }

    /// Checks and compiles it. `disallowed` are issuers that others may not claim to be, `anonymous` is whether somebody
    /// unknown may come where the configuration does not say.
    pub fn compile(self, disallowed: &[String], anonymous: bool) -> Result<Settings, Error> {
        let (root, mut errors) = (Path::root("jwt"), Vec::new());
        if self.jwt.len() > MAX_ISSUERS {
            return Err(Error::Invalid(vec![FieldError::too_many(
                &root,
                self.jwt.len(),
                MAX_ISSUERS,
            )]));
        }
        let (mut urls, mut discoveries, mut issuers) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for (index, jwt) in self.jwt.iter().enumerate() {
            let at = root.index(index);
            let issuer = at.child("issuer");
            jwt.issuer.check(&issuer, disallowed, &mut errors);
            let mapping = jwt.mapping(&at, &mut errors);
            if !urls.insert(&jwt.issuer.url) {
                errors.push(FieldError::duplicate(&issuer.child("url"), jwt.issuer.url.as_str()));
            }
            let discovery = &jwt.issuer.discovery_url;
            if !discovery.is_empty() && !discoveries.insert(discovery) {
                errors.push(FieldError::duplicate(&issuer.child("discoveryURL"), discovery.as_str()));
            }
            issuers.extend(mapping.map(|mapping| (jwt.clone(), Arc::new(mapping))));
        }
        let anonymous = anonymous_of(self.anonymous.as_ref(), anonymous, &mut errors);
        match errors.is_empty() {
            true => Ok(Settings { anonymous, issuers }),
            false => Err(Error::Invalid(errors)),
        }
    }
}

fn anonymous_of(configured: Option<&AnonymousPaths>, otherwise: bool, errors: &mut Vec<FieldError>) -> Anonymous {
    let Some(configured) = configured else {
        return match otherwise {
            true => Anonymous::Everywhere,
            false => Anonymous::Nowhere,
        };
    };
    let paths: Vec<String> = configured.conditions.iter().map(|c| c.path.clone()).collect();
    match (configured.enabled, paths.is_empty()) {
        (true, true) => Anonymous::Everywhere,
        (true, false) => Anonymous::At(paths),
        (false, true) => Anonymous::Nowhere,
        (false, false) => {
            let path = Path::root("anonymous").child("conditions");
            let detail = "enabled should be set to true when conditions are defined";
            errors.push(FieldError::invalid(&path, paths, detail));
            Anonymous::Nowhere
        }
    }
}

impl Issuer {
    fn check(&self, at: &Path, disallowed: &[String], errors: &mut Vec<FieldError>) {
        match self.url.is_empty() {
            true => errors.push(FieldError::required(&at.child("url"), "")),
            false => check_url(&self.url, &at.child("url"), disallowed, errors),
        }
        if !self.discovery_url.is_empty() {
            let at = at.child("discoveryURL");
            if !self.url.is_empty() && self.url.trim_end_matches('/') == self.discovery_url.trim_end_matches('/') {
                let detail = "discoveryURL must be different from URL";
                errors.push(FieldError::invalid(&at, self.discovery_url.as_str(), detail));
            }
            check_url(&self.discovery_url, &at, &[], errors);
        }
        self.check_audiences(at, errors);
        let authority = self.certificate_authority.as_bytes();
        if let Some(why) = check_ca_bundle(authority).filter(|_| !authority.is_empty()) {
            let at = at.child("certificateAuthority");
            errors.push(FieldError::invalid(&at, "<omitted>", why));
        }
        if !self.egress_selector_type.is_empty() {
            let detail = "egress selectors are not supported";
            let at = at.child("egressSelectorType");
            errors.push(FieldError::invalid(&at, self.egress_selector_type.as_str(), detail));
        }
    }

    fn check_audiences(&self, at: &Path, errors: &mut Vec<FieldError>) {
        let (list, policy) = (at.child("audiences"), at.child("audienceMatchPolicy"));
        if self.audiences.is_empty() {
            let detail = format!("at least one {list} is required");
            errors.push(FieldError::required(&list, detail));
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, audience) in self.audiences.iter().enumerate() {
            if audience.is_empty() {
                errors.push(FieldError::required(&list.index(index), ""));
            }
            if !seen.insert(audience) {
                errors.push(FieldError::duplicate(&list.index(index), audience.as_str()));
            }
        }
        let detail = match (self.audiences.len(), self.audience_match_policy.as_str()) {
            (_, "MatchAny") | (1, "") => return,
            (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
            _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
        };
        errors.push(FieldError::invalid(
            &policy,
            self.audience_match_policy.as_str(),
            detail,
        ));
    }
}

fn check_url(url: &str, at: &Path, disallowed: &[String], errors: &mut Vec<FieldError>) {
    let mut wrong = |detail: String| errors.push(FieldError::invalid(at, url, detail));
    if disallowed.iter().any(|issuer| issuer == url) {
        wrong(format!(
            "URL must not overlap with disallowed issuers: [{}]",
            disallowed.join(" ")
        ));
    }
    // What a fragment is the type of URIs does not tell.
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let parsed: http::Uri = match rest.parse() {
        Ok(parsed) => parsed,
        Err(error) => return wrong(format!("parse {url:?}: {error}")),
    };
    if parsed.scheme_str() != Some("https") {
        wrong("URL scheme must be https".to_owned());
    }
    if parsed
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        wrong("URL must not contain a username or password".to_owned());
    }
    if parsed.query().is_some_and(|query| !query.is_empty()) {
        wrong("URL must not contain a query".to_owned());
    }
    if !fragment.is_empty() {
        wrong("URL must not contain a fragment".to_owned());
    }
}

impl Jwt {
    /// Compiles what claims mean; `None` where there is an error.
    fn mapping(&self, at: &Path, errors: &mut Vec<FieldError>) -> Option<Mapping> {
        let before = errors.len();
        let (required, claim_rules) = self.claim_rules(&at.child("claimValidationRules"), errors);
        let mappings = at.child("claimMappings");
        let username = self
            .claim_mappings
            .username
            .compile(&mappings.child("username"), true, errors);
        let groups = self
            .claim_mappings
            .groups
            .compile(&mappings.child("groups"), false, errors);
        let uid = self.claim_mappings.uid.compile(&mappings.child("uid"), errors);
        let extra = self.extra(&mappings.child("extra"), errors);
        let user_rules = self.user_rules(&at.child("userValidationRules"), errors);
        let verified = extra.iter().map(|(_, expression)| expression);
        let mut verified = verified.chain(claim_rules.iter().map(|rule| &rule.expression));
        if let Some(Source::Expression(expression)) = &username
            && expression.reads("email")
            && !expression.reads("email_verified")
            && !verified.any(|other| other.reads("email_verified"))
        {
            let detail = "claims.email_verified must be used in claimMappings.username.expression or \
                          claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when \
                          claims.email is used in claimMappings.username.expression";
            let at = mappings.child("username").child("expression");
            let shown = self.claim_mappings.username.expression.as_str();
            errors.push(FieldError::invalid(&at, shown, detail));
        }
        let username = username.filter(|_| errors.len() == before)?;
        Some(Mapping {
            username,
            groups,
            uid,
            extra,
            required,
            claim_rules,
            user_rules,
        })
    }

    fn claim_rules(&self, at: &Path, errors: &mut Vec<FieldError>) -> (Vec<(String, String)>, Vec<Rule>) {
        let (mut required, mut rules) = (Vec::new(), Vec::new());
        let (mut claims, mut expressions) = (BTreeSet::new(), BTreeSet::new());
        for (index, rule) in self.claim_validation_rules.iter().enumerate() {
            let at = at.index(index);
            match (rule.claim.as_str(), rule.expression.as_str()) {
                ("", "") => errors.push(FieldError::required(&at, "claim or expression is required")),
                (claim, "") => {
                    if !rule.message.is_empty() {
                        let detail = "may not be specified when claim is set";
                        errors.push(FieldError::invalid(&at.child("message"), rule.message.as_str(), detail));
                    }
                    if !claims.insert(claim) {
                        errors.push(FieldError::duplicate(&at.child("claim"), claim));
                    }
                    required.push((claim.to_owned(), rule.required_value.clone()));
                }
                ("", expression) => {
                    if !rule.required_value.is_empty() {
                        let detail = "may not be specified when expression is set";
                        let shown = rule.required_value.as_str();
                        errors.push(FieldError::invalid(&at.child("requiredValue"), shown, detail));
                    }
                    if !expressions.insert(expression) {
                        errors.push(FieldError::duplicate(&at.child("expression"), expression));
                        continue;
                    }
                    rules.extend(condition(expression, &rule.message, About::Claims, &at, errors));
                }
                (claim, _) => {
                    errors.push(FieldError::invalid(
                        &at,
                        claim,
                        "claim and expression can't both be set",
                    ));
                }
            }
        }
        (required, rules)
    }

    fn user_rules(&self, at: &Path, errors: &mut Vec<FieldError>) -> Vec<Rule> {
        let (mut rules, mut seen) = (Vec::new(), BTreeSet::new());
        for (index, rule) in self.user_validation_rules.iter().enumerate() {
            let at = at.index(index);
            match rule.expression.as_str() {
                "" => errors.push(FieldError::required(&at.child("expression"), "")),
                again if !seen.insert(again) => errors.push(FieldError::duplicate(&at.child("expression"), again)),
                expression => rules.extend(condition(expression, &rule.message, About::User, &at, errors)),
            }
        }
        rules
    }

    fn extra(&self, at: &Path, errors: &mut Vec<FieldError>) -> Vec<(String, Expression)> {
        let (mut extra, mut seen) = (Vec::new(), BTreeSet::new());
        for (index, mapping) in self.claim_mappings.extra.iter().enumerate() {
            let (key, at) = (mapping.key.as_str(), at.index(index));
            check_key(key, &at.child("key"), errors);
            if !seen.insert(key) {
                errors.push(FieldError::duplicate(&at.child("key"), key));
                continue;
            }
            let at = at.child("valueExpression");
            if mapping.value_expression.is_empty() {
                errors.push(FieldError::required(&at, ""));
                continue;
            }
            let compiled = compile(&mapping.value_expression, About::Claims, None, &at, errors);
            extra.extend(compiled.map(|expression| (key.to_owned(), expression)));
        }
        extra
    }
}

/// A key of what is said of a user: `DOMAIN/PATH`, and not Kubernetes' own.
fn check_key(key: &str, at: &Path, errors: &mut Vec<FieldError>) {
    if key.is_empty() {
        return errors.push(FieldError::required(at, ""));
    }
    let mut wrong = |detail: &str| errors.push(FieldError::invalid(at, key, detail));
    let (domain, path) = key.split_once('/').unwrap_or((key, ""));
    if domain.is_empty() || path.is_empty() || !api::names::is_dns1123_subdomain(domain).is_empty() {
        wrong("must be a domain-prefixed path (such as \"acme.io/foo\")");
    }
    if key.chars().any(char::is_uppercase) {
        wrong("must be lowercase");
    }
    let reserved = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    if reserved("kubernetes.io") || reserved("k8s.io") {
        wrong("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
    }
}

fn compile(
    expression: &str,
    about: About,
    result: Option<(&Type, &str)>,
    at: &Path,
    errors: &mut Vec<FieldError>,
) -> Option<Expression> {
    match Expression::compile(expression, about, result) {
        Ok(compiled) => Some(compiled),
        Err(why) => {
            errors.push(FieldError::invalid(at, expression, why));
            None
        }
    }
}

fn condition(expression: &str, message: &str, about: About, at: &Path, errors: &mut Vec<FieldError>) -> Option<Rule> {
    let result = Some((&Type::Bool, "must evaluate to bool"));
    let expression = compile(expression, about, result, &at.child("expression"), errors)?;
    Some(Rule {
        expression,
        message: message.to_owned(),
    })
}

impl Prefixed {
    fn compile(&self, at: &Path, is_required: bool, errors: &mut Vec<FieldError>) -> Option<Source> {
        match (self.claim.as_str(), self.expression.as_str()) {
            ("", "") => {
                if is_required {
                    errors.push(FieldError::required(at, "claim or expression is required"));
                }
                None
            }
            ("", expression) => {
                if let Some(prefix) = &self.prefix {
                    let detail = "may not be specified when expression is set";
                    errors.push(FieldError::invalid(&at.child("prefix"), prefix.as_str(), detail));
                }
                let at = at.child("expression");
                compile(expression, About::Claims, None, &at, errors).map(Source::Expression)
            }
            (claim, "") => {
                if self.prefix.is_none() {
                    let detail = "prefix is required when claim is set. It can be set to an empty string to disable \
                                  prefixing";
                    errors.push(FieldError::required(&at.child("prefix"), detail));
                }
                Some(Source::Claim {
                    name: claim.to_owned(),
                    prefix: self.prefix.clone().unwrap_or_default(),
                })
            }
            _ => {
                errors.push(FieldError::invalid(at, "", "claim and expression can't both be set"));
                None
            }
        }
    }
}

impl ClaimOrExpression {
    fn compile(&self, at: &Path, errors: &mut Vec<FieldError>) -> Option<Source> {
        let both = Prefixed {
            claim: self.claim.clone(),
            prefix: (!self.claim.is_empty()).then(String::new),
            expression: self.expression.clone(),
        };
        both.compile(at, false, errors)
    }
}
