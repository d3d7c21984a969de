//! Admission webhooks: who is asked about a request, and what becomes of the answer.

use std::time::Duration;

use api::{Object, Status};
use futures::future::join_all;
use serde_json::{Value, json};

use super::environment::{Compiler, items, text};
use super::evaluate::{Conditions, Facts, scope};
use super::matching::Matching;
use super::request::{Matched, Request};
use super::review::{self, Answer, Version};
use super::rounds::Rounds;
use crate::audit::annotations;
use crate::webhook::{CallError, Target};

const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
const FAILED_OPEN: [&str; 2] = [
    "failed-open.validating.webhook.admission.k8s.io/",
    "failed-open.mutation.webhook.admission.k8s.io/",
];

/// One webhook of a configuration.
#[derive(Debug)]
pub(crate) struct Hook {
    configuration: String,
    name: String,
    /// Tells it from others of the same name.
    id: String,
    matching: Matching,
    conditions: Conditions,
    /// Whether a failure to call it is ignored.
    fails_open: bool,
    timeout: Duration,
    /// Whether it does nothing beside answering when a request is a dry run.
    is_quiet: bool,
    sees_again: bool,
    version: Option<Version>,
    target: Target,
}

/// Why a request does not pass a webhook.
enum Problem {
    /// It could not be asked, or its answer makes no sense.
    Failed(String),
    /// It refuses, or may not be asked.
    Refused(Box<Status>),
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        Problem::Refused(Box::new(status))
    }
}

impl Hook {
    /// The webhooks of a configuration, in their order.
    pub(crate) fn read_all(configuration: &Object) -> Vec<Self> {
        let hooks = configuration.list_at("webhooks").iter();
        hooks
            .enumerate()
            .map(|(nth, hook)| Self::read(configuration.name(), nth, hook))
            .collect()
    }

    fn read(configuration: &str, nth: usize, hook: &Value) -> Self {
        let seconds = hook.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(10);
        Hook {
            configuration: configuration.to_owned(),
            name: text(hook, "name").to_owned(),
            id: format!("{configuration}/{nth}/{}", text(hook, "name")),
            matching: Matching::of_webhook(hook),
            conditions: Conditions::read(hook, &Compiler::plain()),
            fails_open: text(hook, "failurePolicy") == "Ignore",
            timeout: Duration::from_secs(seconds.clamp(1, 30)),
            is_quiet: matches!(text(hook, "sideEffects"), "None" | "NoneOnDryRun"),
            sees_again: text(hook, "reinvocationPolicy") == "IfNeeded",
            version: Version::of(items(hook, "admissionReviewVersions")),
            target: Target::read(hook.get("clientConfig").unwrap_or(&Value::Null)),
        }
    }

    /// As what it is to be asked about the request, if it is.
    async fn wants(&self, request: &Request<'_>, object: Option<&Object>) -> Result<Option<Matched>, Status> {
        let Some(matched) = self.matching.of(request, object).await? else {
            return Ok(None);
        };
        if self.conditions.is_empty() {
            return Ok(Some(matched));
        }
        let facts = Facts::of(request, object, &matched, false).await?;
        match self
            .conditions
            .hold(request, &scope(request, facts, &Default::default()))
            .await
        {
            Ok(true) => Ok(Some(matched)),
            Err(why) if !self.fails_open => Err(request.forbidden(object, &why)),
            Ok(false) | Err(_) => Ok(None),
        }
    }

    async fn ask(
        &self,
        request: &Request<'_>,
        object: Option<&Object>,
        matched: &Matched,
        mutating: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, Problem> {
        if request.dry_run && !self.is_quiet {
            let why = format!("admission webhook {:?} does not support dry run", self.name);
            return Err(Status::bad_request(why).into());
        }
        let Some(version) = self.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions \
                       (v1, v1beta1)";
            return Err(Problem::Failed(why.to_owned()));
        };
        let uid = crate::random_uuid().to_string();
        let question = review::question(
            version,
            &uid,
            request.json(matched),
            in_version(request, object, matched).await?,
            in_version(request, request.old, matched).await?,
        );
        let body = serde_json::to_vec(&question).map_err(|error| Status::internal(&error.to_string()))?;
        let called = request
            .server
            .webhooks
            .call(&self.target, body.into(), self.timeout)
            .await;
        let body = called.map_err(|error| Problem::Failed(self.failure(&error)))?;
        let review: Value = serde_json::from_slice(&body).map_err(|error| {
            let why = format!("failed to call webhook: couldn't get version/kind; json parse error: {error}");
            Problem::Failed(why)
        })?;
        let mut answer = review::answer(version, &uid, mutating, &review)
            .map_err(|why| Problem::Failed(format!("received invalid webhook response: {why}")))?;
        for (key, value) in std::mem::take(&mut answer.annotations) {
            annotations::add(format!("{}/{key}", self.name), || value);
        }
        warnings.append(&mut answer.warnings);
        match answer.allowed {
            true => Ok(answer),
            false => Err(review::denial(&self.name, answer.result).into()),
        }
    }

    fn failure(&self, error: &CallError) -> String {
        match error {
            CallError::CaBundle => format!("could not get REST client: {error}"),
            CallError::NoService { .. } => {
                let url = self.target.url(self.timeout);
                format!("failed to call webhook: Post \"{url}\": {error}")
            }
            _ => format!("failed to call webhook: {error}"),
        }
    }

    /// What a problem comes to: nothing, where failures are ignored.
    fn settle(&self, problem: Problem, mutating: bool, key: &str) -> Result<(), Status> {
        let why = match problem {
            Problem::Refused(status) => return Err(*status),
            Problem::Failed(why) => format!("failed calling webhook {:?}: {why}", self.name),
        };
        if !self.fails_open {
            return Err(Status::internal(&why));
        }
        tracing::warn!(webhook = %self.name, %why, "a webhook could not be asked, and the request goes on");
        let [validating, mutation] = FAILED_OPEN;
        let prefix = if mutating { mutation } else { validating };
        annotations::add(format!("{prefix}{key}"), || self.name.clone());
        Ok(())
    }
}

/// An object as JSON in the version in which the request matched; null for none.
async fn in_version(request: &Request<'_>, object: Option<&Object>, matched: &Matched) -> Result<Value, Status> {
    match object {
        Some(object) => Ok(request.view(object, matched).await?.into_value()),
        None => Ok(Value::Null),
    }
}

/// Asks mutating webhooks one after the other.
pub(crate) async fn mutate(
    hooks: &[std::sync::Arc<Hook>],
    request: &Request<'_>,
    mut object: Option<&mut Object>,
    rounds: &mut Rounds,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    rounds.hooks.begin(rounds.again, object.as_deref());
    for (nth, hook) in hooks.iter().enumerate() {
        let Some(matched) = hook.wants(request, object.as_deref()).await? else {
            continue;
        };
        if !rounds.hooks.is_due(rounds.again, &hook.id) {
            continue;
        }
        let key = format!("round_{}_index_{nth}", u8::from(rounds.again));
        let asked = hook.ask(request, object.as_deref(), &matched, true, warnings).await;
        let changed = match asked {
            Ok(answer) => patch(hook, request, object.as_deref_mut(), &matched, &answer.patch).await,
            Err(problem) => Err(problem),
        };
        let mutated = matches!(changed, Ok(true));
        let note = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": mutated});
        annotations::add(format!("{MUTATION}{key}"), || note.to_string());
        if mutated {
            rounds.hooks.changed();
            rounds.wanted = true;
        }
        if hook.sees_again {
            rounds.hooks.willing(&hook.id);
        }
        if let Err(problem) = changed {
            hook.settle(problem, true, &key)?;
        }
    }
    rounds.hooks.end(object.as_deref());
    Ok(())
}

/// Applies the patch of an answer; tells whether it changed anything.
async fn patch(
    hook: &Hook,
    request: &Request<'_>,
    object: Option<&mut Object>,
    matched: &Matched,
    patch: &[u8],
) -> Result<bool, Problem> {
    if patch.is_empty() {
        return Ok(false);
    }
    let operations: Vec<Value> = serde_json::from_slice(patch)
        .map_err(|error| Problem::Failed(format!("received undecodable patch in webhook response: {error}")))?;
    if operations.is_empty() {
        return Ok(false);
    }
    let Some(object) = object else {
        let name = &hook.name;
        let why = format!(
            "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
        );
        return Err(Status::internal(&why).into());
    };
    let mut tree = request.view(object, matched).await?.into_value();
    schema::patch::json(&mut tree, patch).map_err(|error| Status::internal(&error.to_string()))?;
    let before = object.clone();
    request.take(tree, matched, object).await?;
    Ok(before != *object)
}

/// Asks validating webhooks, all at once.
pub(crate) async fn validate(
    hooks: &[std::sync::Arc<Hook>],
    request: &Request<'_>,
    object: Option<&Object>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let mut asked = Vec::new();
    for hook in hooks {
        if let Some(matched) = hook.wants(request, object).await? {
            asked.push((hook, matched));
        }
    }
    let answers = asked.iter().map(|(hook, matched)| async move {
        let mut said = Vec::new();
        let answer = hook.ask(request, object, matched, false, &mut said).await;
        (answer, said)
    });
    let answers = join_all(answers).await;
    let mut refused = Ok(());
    for (nth, ((answer, said), (hook, _))) in answers.into_iter().zip(&asked).enumerate() {
        warnings.extend(said);
        if let Err(problem) = answer {
            let settled = hook.settle(problem, false, &format!("round_0_index_{nth}"));
            refused = refused.and(settled);
        }
    }
    refused
}
