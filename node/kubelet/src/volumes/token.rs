//! Service account tokens for projected volumes: bound to the pod, renewed at 80 % of their life.

use std::collections::HashMap;

use api::NamespacedName;
use client::{Client, kinds};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    Error,
    payload::{self, TokenKey},
};
use crate::pod::Pod;

/// A token and when to ask for the next. Does not print.
#[derive(Clone)]
pub(crate) struct Token {
    text: String,
    renew_at: Timestamp,
}

/// The tokens of one pod.
#[derive(Clone, Default)]
pub(crate) struct Tokens(HashMap<TokenKey, Token>);

impl Tokens {
    /// Asks for the tokens that are missing or due, all at the same time, and keeps the others.
    ///
    /// # Errors
    /// The API refused or did not answer, and a token that is still valid is not at hand.
    pub(crate) async fn renew(&mut self, client: &Client, pod: &Pod, now: Timestamp) -> Result<(), Error> {
        let holds = |key: &TokenKey| self.0.get(key).is_some_and(|token| token.renew_at > now);
        let due = payload::tokens(pod).into_iter().filter(|key| !holds(key));
        let requests = due.map(|key| async move {
            let answer = request(client, pod, &key).await?;
            let renew_at = renew_at(&answer.expires, now);
            let text = answer.token;
            Ok((key, Token { text, renew_at }))
        });
        let renewed = try_join_all(requests).await.map_err(|source| Error::Token {
            volume: volume(pod),
            source,
        })?;
        self.0.extend(renewed);
        Ok(())
    }

    /// The tokens' texts, to be written.
    pub(crate) fn texts(&self) -> HashMap<TokenKey, String> {
        self.0
            .iter()
            .map(|(key, token)| (key.clone(), token.text.clone()))
            .collect()
    }

    /// When the first of them is to be renewed.
    pub(crate) fn renew_at(&self) -> Option<Timestamp> {
        self.0.values().map(|token| token.renew_at).min()
    }
}

struct Answer {
    token: String,
    expires: Option<Timestamp>,
}

/// A token for a driver, and when it expires.
///
/// # Errors
/// The API refused or did not answer.
pub(crate) async fn request_token(
    client: &Client,
    pod: &Pod,
    key: &TokenKey,
) -> Result<(String, Option<Timestamp>), client::Error> {
    let answer = request(client, pod, key).await?;
    Ok((answer.token, answer.expires))
}

async fn request(client: &Client, pod: &Pod, key: &TokenKey) -> Result<Answer, client::Error> {
    let audiences: Vec<&str> = Some(&*key.audience).filter(|a| !a.is_empty()).into_iter().collect();
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": key.seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": &*pod.metadata.name, "uid": &*pod.metadata.uid},
        },
    });
    let at = NamespacedName::new(&pod.metadata.namespace, pod.service_account());
    let made = client.create_sub(&kinds::SERVICE_ACCOUNT, &at, "token", &body).await?;
    Ok(Answer {
        token: made.str_at("status.token").unwrap_or_default().to_owned(),
        expires: made.str_at("status.expirationTimestamp").and_then(api::time::parse),
    })
}

/// 80 % of the way to the end, and never more than a day ahead.
fn renew_at(expires: &Option<Timestamp>, now: Timestamp) -> Timestamp {
    let life = expires.map_or(SignedDuration::from_secs(3600), |end| end.duration_since(now));
    let wait = (life * 4 / 5).clamp(SignedDuration::from_secs(1), SignedDuration::from_hours(24));
    now.saturating_add(wait).unwrap_or(now)
}

/// The first volume with a token, for the message.
fn volume(pod: &Pod) -> String {
    let has_token = |p: &crate::pod::ProjectedSource| p.sources.iter().any(|s| s.service_account_token.is_some());
    let found = pod
        .spec
        .volumes
        .iter()
        .find(|v| v.projected.as_deref().is_some_and(has_token));
    found.map_or_else(String::new, |v| v.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renews_at_four_fifths_and_at_least_daily() {
        let now = Timestamp::from_second(1_000_000).expect("time");
        let cases = [
            (Some(3600), 2880),
            (Some(600), 480),
            (Some(31_536_000), 86_400),
            (Some(-5), 1),
            (None, 2880),
        ];
        for (life, want) in cases {
            let expires = life.map(|s| now + SignedDuration::from_secs(s));
            assert_eq!(renew_at(&expires, now).duration_since(now).as_secs(), want);
        }
    }
}
