//! `POST tokenreviews`: TokenReview of authentication.k8s.io/v1. Whose token is this?

use std::sync::Arc;

use api::{Object, Status};
use async_trait::async_trait;
use http::StatusCode;
use k8s_openapi::api::authentication::v1::TokenReview;
use schema::openapi::schema_json;
use serde_json::{Value, json};

use super::Tokens;
use crate::authn::{TokenAuthenticator, UserInfo};
use crate::authz::review::user_json;
use crate::registry::virtuals::{
    Passing, Request, Response, Virtual, VirtualContext, VirtualRoute, read_object, reply,
};

/// Answers token reviews.
struct Reviews {
    tokens: Arc<Tokens>,
    /// Who knows tokens that name no audience.
    others: Arc<dyn TokenAuthenticator>,
}

/// Where it stands.
pub(super) fn route(tokens: Arc<Tokens>, others: Arc<dyn TokenAuthenticator>) -> VirtualRoute {
    VirtualRoute {
        group: "authentication.k8s.io",
        version: "v1",
        resource: "tokenreviews",
        subresource: None,
        namespaced: false,
        kind: "TokenReview",
        kind_group_version: None,
        definition: Some(("io.k8s.api.authentication.v1.TokenReview", schema_json::<TokenReview>)),
        verbs: &["create"],
        passing: Passing::Unseen,
        handler: Arc::new(Reviews { tokens, others }),
    }
}

#[async_trait]
impl Virtual for Reviews {
    async fn call(&self, _cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let mut review = read_object(request).await?;
        let token = review.str_at("spec.token").unwrap_or_default();
        if token.is_empty() {
            return Err(Status::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let asked = audiences(&review);
        let wanted = if asked.is_empty() {
            self.tokens.config.audiences.clone()
        } else {
            asked.clone()
        };
        let mut found = self.tokens.identify(token, &wanted).await?;
        if found.is_none() {
            found = self.of_others(token, &wanted).await?;
        }
        review.set("status", status(found, &asked));
        // The token is a secret and has been read.
        review.remove("spec.token");
        Ok(reply(StatusCode::CREATED, &review))
    }
}

impl Reviews {
    /// A token that names no audience is for the API server itself, and for whom that stands.
    async fn of_others(&self, token: &str, wanted: &[String]) -> Result<Option<(UserInfo, Vec<String>)>, Status> {
        let own = &self.tokens.config.audiences;
        let matched: Vec<String> = wanted
            .iter()
            .filter(|audience| own.contains(audience))
            .cloned()
            .collect();
        if matched.is_empty() {
            return Ok(None);
        }
        Ok(self.others.authenticate(token).await?.map(|user| (user, matched)))
    }
}

fn audiences(review: &Object) -> Vec<String> {
    review
        .list_at("spec.audiences")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// `found`: the user, and for which of the wanted audiences the token is; `asked`: whether the caller named any.
fn status(found: Option<(UserInfo, Vec<String>)>, asked: &[String]) -> Value {
    match found {
        None => json!({"user": {}, "error": "[invalid bearer token, Token is invalid]"}),
        Some((user, _)) if asked.is_empty() => json!({"authenticated": true, "user": user_json(&user)}),
        Some((user, matched)) => json!({"authenticated": true, "user": user_json(&user), "audiences": matched}),
    }
}
