//! A program that the operator has asked whose a token is, by TokenReview. Its answers are kept for a while; what it cannot
//! answer is nobody's token.

use std::collections::BTreeMap;
use std::time::Duration;

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{AUTHENTICATED, TokenAuthenticator, UserInfo};
use crate::webhook::cache::Cache;
use crate::webhook::endpoint::Endpoint;

/// How long it may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens that are remembered.
const MAX_KEPT: usize = 4096;

/// Which program is asked, and how.
#[derive(Clone, Debug)]
pub struct Config {
    pub endpoint: Endpoint,
    /// Of `authentication.k8s.io`: `v1` or `v1beta1`.
    pub version: &'static str,
    /// How long an answer counts.
    pub ttl: Duration,
}

/// Asks it.
pub(crate) struct Reviewer {
    config: Config,
    /// Whom tokens must be for.
    audiences: Vec<String>,
    kept: Cache<Option<UserInfo>>,
}

impl Reviewer {
    pub(crate) fn new(config: Config, audiences: Vec<String>) -> Self {
        Reviewer {
            config,
            audiences,
            kept: Cache::new(MAX_KEPT),
        }
    }

    fn question(&self, token: &str) -> Value {
        json!({"kind": "TokenReview", "apiVersion": format!("authentication.k8s.io/{}", self.config.version),
            "metadata": {}, "spec": {"token": token, "audiences": self.audiences}, "status": {"user": {}}})
    }
}

#[async_trait]
impl TokenAuthenticator for Reviewer {
    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>, Status> {
        let asked = Cache::<()>::asked(token.as_bytes());
        if let Some(known) = self.kept.get(&asked) {
            return Ok(known);
        }
        let answer = self.config.endpoint.ask(&self.question(token), TIMEOUT).await;
        let found = answer
            .map_err(|error| error.to_string())
            .and_then(|review| read(&review, &self.audiences));
        match found {
            Ok(user) => {
                self.kept.keep(asked, user.clone(), self.config.ttl);
                Ok(user)
            }
            Err(why) => {
                tracing::warn!(%why, "the authentication webhook has no answer for a token");
                Ok(None)
            }
        }
    }
}

/// What a review says: whose the token is, `None` for nobody's, and an error where that could not be found out.
fn read(review: &Value, audiences: &[String]) -> Result<Option<UserInfo>, String> {
    let status = review.get("status").filter(|status| status.is_object());
    let status = status.ok_or("the answer has no status")?;
    if status.get("authenticated").and_then(Value::as_bool) != Some(true) {
        return match status.get("error").and_then(Value::as_str).unwrap_or_default() {
            "" => Ok(None),
            why => Err(why.to_owned()),
        };
    }
    let meant = texts(status.get("audiences"));
    if !meant.is_empty() && !meant.iter().any(|audience| audiences.contains(audience)) {
        return Ok(None);
    }
    let user = status.get("user").unwrap_or(&Value::Null);
    let text = |field: &str| user.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let extra = user.get("extra").and_then(Value::as_object).into_iter().flatten();
    let mut found = UserInfo {
        username: text("username"),
        uid: text("uid"),
        groups: texts(user.get("groups")),
        extra: extra
            .map(|(key, values)| (key.clone(), texts(Some(values))))
            .collect::<BTreeMap<_, _>>(),
    };
    if !found.groups.iter().any(|group| group == AUTHENTICATED) {
        found.groups.push(AUTHENTICATED.to_owned());
    }
    Ok(Some(found))
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_says_whose_a_token_is() {
        let audiences = ["https://api".to_owned()];
        let of = |status: Value| read(&json!({"status": status}), &audiences);
        let user = json!({"username": "jane", "uid": "1", "groups": ["dev"], "extra": {"example.com/a": ["b"]}});
        let found = of(json!({"authenticated": true, "user": user})).unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.uid.as_str()), ("jane", "1"));
        assert_eq!(found.groups, ["dev", AUTHENTICATED]);
        assert_eq!(found.extra["example.com/a"], ["b"]);
        assert_eq!(of(json!({"authenticated": false})), Ok(None));
        assert_eq!(of(json!({})), Ok(None));
        assert_eq!(
            of(json!({"authenticated": false, "error": "no database"})),
            Err("no database".to_owned())
        );
        let meant = |audience: &str| of(json!({"authenticated": true, "user": user, "audiences": [audience]}));
        assert!(meant("https://api").unwrap().is_some());
        assert_eq!(meant("https://other"), Ok(None));
        assert!(read(&json!({"kind": "Lie"}), &audiences).is_err());
    }
}
