//! Who shows a token: its signature, times and audience, and that the account and the bound object are still there.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Object, Status};
use async_trait::async_trait;
use jiff::Timestamp;

use super::claims::{Claims, Reference, groups, username};
use super::{Tokens, core};
use crate::authn::{AUTHENTICATED, TokenAuthenticator, UserInfo};

/// Seconds for which a token outlives the deletion mark of its account or bound object.
const LEEWAY_SECONDS: i64 = 60;

#[async_trait]
impl TokenAuthenticator for Tokens {
    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>, Status> {
        Ok(self
            .identify(token, &self.config.audiences)
            .await?
            .map(|(user, _)| user))
    }
}

impl Tokens {
    /// Whose token this is, and for which of `audiences`; `None` when it is not valid for any.
    pub(super) async fn identify(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<(UserInfo, Vec<String>)>, Status> {
        let Some(claims) = self.keys.open(token, &self.config.issuer) else {
            return Ok(None);
        };
        let now = (self.clock)();
        let matched: Vec<String> = claims
            .aud
            .iter()
            .filter(|audience| audiences.contains(audience))
            .cloned()
            .collect();
        if matched.is_empty() || !in_time(&claims, now) || !self.lives(&claims, now).await? {
            return Ok(None);
        }
        Ok(Some((user(&claims), matched)))
    }

    /// Whether the account and everything the token is bound to are there, with the UIDs they had.
    async fn lives(&self, claims: &Claims, now: Timestamp) -> Result<bool, Status> {
        let private = &claims.private;
        let namespace = Some(private.namespace.as_str());
        if claims.sub != username(&private.namespace, &private.serviceaccount.name) {
            return Ok(false);
        }
        if !self
            .is_there("serviceaccounts", namespace, &private.serviceaccount, now)
            .await?
        {
            return Ok(false);
        }
        if let Some(pod) = &private.pod {
            // A token of a pod also names its node, for information: it does not end with the node.
            return self.is_there("pods", namespace, pod, now).await;
        }
        if let Some(secret) = &private.secret {
            return self.is_there("secrets", namespace, secret, now).await;
        }
        match &private.node {
            Some(node) => self.is_there("nodes", None, node, now).await,
            None => Ok(true),
        }
    }

    async fn is_there(
        &self,
        resource: &str,
        namespace: Option<&str>,
        wanted: &Reference,
        now: Timestamp,
    ) -> Result<bool, Status> {
        let kind = core(resource);
        let is_it = |object: &Arc<Object>| object.uid() == wanted.uid;
        // The cache may be behind a token that was issued just now: ask the store before saying no.
        let found = match self.reader.get(&kind, namespace, &wanted.name).filter(is_it) {
            Some(found) => Some(found),
            None => self
                .reader
                .get_fresh(&kind, namespace, &wanted.name)
                .await?
                .filter(is_it),
        };
        Ok(found.is_some_and(|object| !is_gone(&object, now)))
    }
}

fn in_time(claims: &Claims, now: Timestamp) -> bool {
    (claims.nbf..claims.exp).contains(&now.as_second())
}

fn is_gone(object: &Object, now: Timestamp) -> bool {
    let deleted = object.deletion_timestamp().and_then(api::time::parse);
    deleted.is_some_and(|at| at.as_second().saturating_add(LEEWAY_SECONDS) < now.as_second())
}

fn user(claims: &Claims) -> UserInfo {
    let private = &claims.private;
    let mut extra = BTreeMap::from([(
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![format!("JTI={}", claims.jti)],
    )]);
    for (what, reference) in [("pod", &private.pod), ("node", &private.node)] {
        if let Some(reference) = reference {
            for (field, value) in [("name", &reference.name), ("uid", &reference.uid)] {
                extra.insert(
                    format!("authentication.kubernetes.io/{what}-{field}"),
                    vec![value.clone()],
                );
            }
        }
    }
    let mut groups = groups(&private.namespace);
    groups.push(AUTHENTICATED.to_owned());
    UserInfo {
        username: claims.sub.clone(),
        uid: private.serviceaccount.uid.clone(),
        groups,
        extra,
    }
}
