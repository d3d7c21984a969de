//! Bootstrap tokens, by which nodes join: those that have ended are removed, and `cluster-info` in `kube-public` is signed
//! with each that may sign, so that who holds one knows the cluster from an impostor. Both keep to what `kubeadm` expects.

use std::collections::BTreeMap;

use api::{NamespacedName, Object};
use aws_lc_rs::hmac;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use client::{
    DeleteOptions, Error, Informer, Meta, OptionalExt, Scope, kinds,
    reconcile::{self, Action},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Context, RESYNC};

const TOKENS: &str = "metadata.namespace=kube-system,type=bootstrap.kubernetes.io/token";
const PREFIX: &str = "bootstrap-token-";
const SIGNATURE: &str = "jws-kubeconfig-";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Token {
    metadata: Meta,
    data: BTreeMap<Box<str>, Box<str>>,
}

impl Token {
    fn text(&self, field: &str) -> Option<String> {
        let bytes = STANDARD.decode(&**self.data.get(field)?).ok()?;
        String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
    }

    /// When it ends: `None` never; what cannot be read has ended.
    fn end(&self) -> Option<Timestamp> {
        let text = self.text("expiration")?;
        Some(api::time::parse(&text).unwrap_or(Timestamp::MIN))
    }

    fn has_ended(&self, now: Timestamp) -> bool {
        self.end().is_some_and(|end| end <= now)
    }

    /// The id and the secret of a token that may sign.
    fn signer(&self, now: Timestamp) -> Option<(String, String)> {
        let id = self.text("token-id")?;
        let named = self.metadata.name.strip_prefix(PREFIX) == Some(&id);
        let signs = self.text("usage-bootstrap-signing").as_deref() == Some("true");
        (named && signs && !self.has_ended(now)).then_some(())?;
        Some((id, self.text("token-secret")?))
    }
}

fn tokens(context: &Context) -> Informer<Token> {
    context.informers.get(&kinds::SECRET, Scope::Fields(TOKENS.to_owned()))
}

/// Removes tokens at their end.
pub(crate) async fn clean(context: Context) {
    let tokens = tokens(&context);
    let triggers = vec![reconcile::on_change(&tokens), reconcile::every(RESYNC, &tokens)];
    match reconcile::keyed("token-cleaner", 1, triggers, |key| remove(&context, &tokens, key)).await {}
}

async fn remove(context: &Context, tokens: &Informer<Token>, key: NamespacedName) -> Result<Action, Error> {
    let Some(token) = tokens.get(&key) else {
        return Ok(Action::Done);
    };
    let now = context.config.clock.now();
    if token.has_ended(now) {
        let options = DeleteOptions::of_uid(&token.metadata.uid);
        return match context.client.delete(&kinds::SECRET, &key, &options).await.optional() {
            Err(error) if !error.is_conflict() => Err(error),
            _ => Ok(Action::Done),
        };
    }
    let left = token.end().map(|end| end.duration_since(now).unsigned_abs());
    Ok(left.map_or(Action::Done, Action::After))
}

/// Keeps the signatures of `cluster-info` as the tokens are.
pub(crate) async fn sign(context: Context) {
    let tokens = tokens(&context);
    let at = NamespacedName::new("kube-public", "cluster-info");
    let info: Informer<Object> = context.informers.get(&kinds::CONFIG_MAP, Scope::Object(at.clone()));
    tokens.synced().await;
    info.synced().await;
    let of_token = reconcile::mapped(&tokens, move |_| [at.clone()]);
    let triggers = vec![of_token, reconcile::on_change(&info), reconcile::every(RESYNC, &info)];
    match reconcile::keyed("bootstrap-signer", 1, triggers, |key| {
        publish(&context, &tokens, &info, key)
    })
    .await {}
}

async fn publish(
    context: &Context,
    tokens: &Informer<Token>,
    info: &Informer<Object>,
    key: NamespacedName,
) -> Result<Action, Error> {
    let now = context.config.clock.now();
    let (signers, next) = {
        let all = tokens.snapshot();
        let signers: BTreeMap<_, _> = all.iter().filter_map(|(_, token)| token.signer(now)).collect();
        (
            signers,
            all.iter()
                .filter_map(|(_, token)| token.end())
                .filter(|end| *end > now)
                .min(),
        )
    };
    let again = next.map_or(Action::Done, |end| {
        Action::After(end.duration_since(now).unsigned_abs())
    });
    let unsigned = |info: &Object| signed(info.map_at("data")?, &signers);
    if info.get(&key).and_then(|info| unsigned(&info)).is_none() {
        return Ok(again);
    }
    let Some(mut live): Option<Object> = context.client.get_opt(&kinds::CONFIG_MAP, &key).await? else {
        return Ok(again);
    };
    // What is signed is what is there, not what the watch has told of.
    let Some(data) = unsigned(&live) else {
        return Ok(again);
    };
    live.set("data", data);
    match context
        .client
        .replace(&kinds::CONFIG_MAP, &live, None)
        .await
        .optional()?
    {
        Some(written) => info.wait_written(&written).await,
        None => return Ok(again),
    }
    Ok(again)
}

/// The data with the signatures that it should have; `None` where it has them.
fn signed(data: &Map<String, Value>, signers: &BTreeMap<String, String>) -> Option<Map<String, Value>> {
    let content = data.get("kubeconfig")?.as_str()?;
    let others = data.iter().filter(|(key, _)| !key.starts_with(SIGNATURE));
    let mut wanted: Map<String, Value> = others.map(|(key, value)| (key.clone(), value.clone())).collect();
    for (id, secret) in signers {
        wanted.insert(format!("{SIGNATURE}{id}"), signature(content, id, secret).into());
    }
    (wanted != *data).then_some(wanted)
}

/// A JSON Web Signature without its payload (RFC 7515, appendix F), byte for byte as `kubeadm` makes it to compare.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}"));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(id: &str, more: &[(&str, &str)]) -> Token {
        let mut data = json!({"token-id": STANDARD.encode(id), "token-secret": STANDARD.encode("0123456789abcdef")});
        for (field, text) in more {
            data[*field] = STANDARD.encode(text).into();
        }
        serde_json::from_value(json!({"metadata": {"name": format!("{PREFIX}abcdef")}, "data": data})).unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn tokens_end_when_they_say_or_when_nobody_can_read_what_they_say() {
        assert!(!token("abcdef", &[]).has_ended(now()));
        assert!(!token("abcdef", &[("expiration", "2026-01-01T00:00:01Z")]).has_ended(now()));
        assert!(token("abcdef", &[("expiration", "2026-01-01T00:00:00Z")]).has_ended(now()));
        assert!(token("abcdef", &[("expiration", "tomorrow")]).has_ended(now()));
    }

    #[test]
    fn only_tokens_that_may_sign_do() {
        let signs = ("usage-bootstrap-signing", "true");
        assert!(token("abcdef", &[signs]).signer(now()).is_some());
        assert!(token("abcdef", &[]).signer(now()).is_none());
        assert!(token("other1", &[signs]).signer(now()).is_none());
        assert!(
            token("abcdef", &[signs, ("expiration", "2020-01-01T00:00:00Z")])
                .signer(now())
                .is_none()
        );
    }

    #[test]
    fn signatures_follow_the_tokens() {
        let signers = BTreeMap::from([("joshua".to_owned(), "my-secret".to_owned())]);
        let data = json!({"kubeconfig": "fake", "jws-kubeconfig-gone01": "x"});
        let wanted = signed(data.as_object().unwrap(), &signers).unwrap();
        assert_eq!(
            wanted.keys().collect::<Vec<_>>(),
            ["jws-kubeconfig-joshua", "kubeconfig"]
        );
        assert!(signed(&wanted, &signers).is_none());
        let text = signature(
            "Hello from the other side. I must have called a thousand times.",
            "joshua",
            "my voice is my passcode",
        );
        assert_eq!(
            text,
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }
}
