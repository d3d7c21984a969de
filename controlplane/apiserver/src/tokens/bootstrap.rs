//! Bootstrap tokens: Secrets of type `bootstrap.kubernetes.io/token` in `kube-system`, by which machines join before they
//! have a certificate. Nothing is remembered: a token ends with its Secret.

use std::sync::Arc;

use api::{Object, Status};
use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::core;
use crate::authn::{AUTHENTICATED, TokenAuthenticator, UserInfo};
use crate::registry::reader::Reader;
use crate::server::Clock;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// Recognises bootstrap tokens.
pub(crate) struct Bootstrap {
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) clock: Clock,
}

#[async_trait]
impl TokenAuthenticator for Bootstrap {
    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>, Status> {
        let Some((id, secret)) = parts(token) else {
            return Ok(None);
        };
        let name = format!("bootstrap-token-{id}");
        let stored = self.reader.get(&core("secrets"), Some("kube-system"), &name);
        Ok(stored.and_then(|stored| user(&stored, id, secret, (self.clock)())))
    }
}

/// The id and the secret of a token; `None` for what does not look like one.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain =
        |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (plain(id, 6) && plain(secret, 16)).then_some((id, secret))
}

/// Whom a Secret lets in who shows this token.
fn user(stored: &Object, id: &str, secret: &str, now: Timestamp) -> Option<UserInfo> {
    let text = |field: &str| {
        let bytes = STANDARD.decode(stored.map_at("data")?.get(field)?.as_str()?).ok()?;
        String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
    };
    let refuse = |why: &str| tracing::debug!(secret = stored.name(), why, "a bootstrap token is refused");
    if stored.is_deleting() || stored.str_at("type") != Some(TYPE) {
        refuse("its secret goes, or is of another type");
        return None;
    }
    let expected = text("token-secret").unwrap_or_default();
    if verify_slices_are_equal(expected.as_bytes(), secret.as_bytes()).is_err()
        || text("token-id").as_deref() != Some(id)
    {
        refuse("it is not the token of its secret");
        return None;
    }
    let ended = text("expiration").is_some_and(|end| api::time::parse(&end).is_none_or(|end| end <= now));
    if ended || text("usage-bootstrap-authentication").as_deref() != Some("true") {
        refuse("it has ended, or is not for authentication");
        return None;
    }
    let extra = text("auth-extra-groups").unwrap_or_default();
    let extra: Vec<&str> = extra.split(',').filter(|_| !extra.is_empty()).collect();
    if !extra.iter().all(|group| is_group(group)) {
        refuse("a group it names is not one of bootstrappers");
        return None;
    }
    let mut groups: Vec<String> = extra.into_iter().chain([GROUP]).map(str::to_owned).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.push(AUTHENTICATED.to_owned());
    Some(UserInfo {
        username: format!("system:bootstrap:{id}"),
        groups,
        ..UserInfo::default()
    })
}

/// Whether a token may name a group: `system:bootstrappers:` and up to 256 of `a-z0-9:-`, no sign at the end.
fn is_group(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let sound = rest.bytes().all(|b| alphanumeric(b) || matches!(b, b':' | b'-'));
    sound && rest.len() <= 256 && rest.bytes().last().is_some_and(alphanumeric)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resources::testing::{now, object};

    const SECRET: &str = "0123456789abcdef";

    fn ask(fields: &[(&str, &str)], token: &str) -> Option<Vec<String>> {
        let mut data = json!({});
        let usual = [
            ("token-id", "abcdef"),
            ("token-secret", SECRET),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (field, text) in usual.iter().chain(fields) {
            data[*field] = Value::from(STANDARD.encode(text));
        }
        let stored = object(json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": TYPE, "data": data}));
        let (id, secret) = parts(token)?;
        user(&stored, id, secret, now()).map(|user| user.groups)
    }

    #[test]
    fn a_token_is_who_its_secret_says() {
        let token = format!("abcdef.{SECRET}");
        assert_eq!(ask(&[], &token).unwrap(), [GROUP, AUTHENTICATED]);
        assert_eq!(
            ask(
                &[("auth-extra-groups", "system:bootstrappers:b,system:bootstrappers:a")],
                &token
            )
            .unwrap(),
            [GROUP, "system:bootstrappers:a", "system:bootstrappers:b", AUTHENTICATED]
        );
        let refused: [(&[(&str, &str)], &str); 7] = [
            (&[], "abcdef.0123456789abcdeX"),
            (&[], "abcdef.0123456789abcdee"),
            (&[], "abcdef0123456789abcdef"),
            (&[("token-id", "other1")], &token),
            (&[("expiration", "2020-01-01T00:00:00Z")], &token),
            (&[("usage-bootstrap-authentication", "false")], &token),
            (&[("auth-extra-groups", "system:masters")], &token),
        ];
        for (fields, token) in refused {
            assert_eq!(ask(fields, token), None, "{fields:?} {token}");
        }
        assert!(ask(&[("expiration", "2100-01-01T00:00:00Z")], &token).is_some());
    }
}
