//! Impersonation: `kubectl --as`. Who has the verb `impersonate` on a user, group, uid or extra value may act as such.
//!
//! A request that names somebody is answered as that somebody or not at all: headers are never ignored.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use http::HeaderMap;

use super::{Attributes, Authorizer};
use crate::authn::{AUTHENTICATED, MASTERS, UNAUTHENTICATED, UserInfo};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";
const ANONYMOUS: &str = "system:anonymous";

/// The user a request acts as: the caller, or whom the headers name.
///
/// Errors: 403 when the caller may not act as that user, 500 (as in Kubernetes) when the headers name no user.
pub(crate) async fn impersonate(
    authorizer: &dyn Authorizer,
    headers: &HeaderMap,
    caller: Arc<UserInfo>,
) -> Result<Arc<UserInfo>, Status> {
    let Some(wanted) = requested(headers)? else {
        return Ok(caller);
    };
    if !caller.groups.iter().any(|group| group == MASTERS) {
        for right in rights(&wanted) {
            let attributes = right.attributes(&caller);
            if let Some(refusal) = authorizer.authorize(&attributes).await.refusal(&attributes) {
                return Err(refusal);
            }
        }
    }
    Ok(Arc::new(complete(wanted)))
}

/// Whom the headers name; `None` when they name nobody.
fn requested(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let values = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .filter(|v| !v.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            extra.insert(percent_decoded(key), values(name.as_str()));
        }
    }
    let user = UserInfo {
        username: values(USER).into_iter().next().unwrap_or_default(),
        uid: values(UID).into_iter().next().unwrap_or_default(),
        groups: values(GROUP),
        extra,
    };
    if user == UserInfo::default() {
        return Ok(None);
    }
    match user.username.is_empty() {
        true => Err(Status::internal(
            "requested groups, uid or extra values without impersonating a user",
        )),
        false => Ok(Some(user)),
    }
}

/// Keys of extra values may hold what header names may not.
fn percent_decoded(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match hex.filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One thing that the caller must be allowed to impersonate.
struct Right<'a> {
    group: &'static str,
    resource: &'static str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Right<'a> {
    fn attributes(&'a self, caller: &'a UserInfo) -> Attributes<'a> {
        Attributes {
            user: caller,
            verb: "impersonate",
            namespace: self.namespace,
            group: self.group,
            version: "v1",
            resource: self.resource,
            subresource: self.subresource,
            name: self.name,
            field_selector: "",
            path: "",
            is_resource: true,
        }
    }
}

fn rights(wanted: &UserInfo) -> Vec<Right<'_>> {
    let right = |group, resource, subresource, namespace, name| Right {
        group,
        resource,
        subresource,
        namespace,
        name,
    };
    let mut rights = vec![match service_account(&wanted.username) {
        Some((namespace, name)) => right("", "serviceaccounts", "", namespace, name),
        None => right("", "users", "", "", &wanted.username),
    }];
    rights.extend(wanted.groups.iter().map(|group| right("", "groups", "", "", group)));
    if !wanted.uid.is_empty() {
        rights.push(right(AUTHENTICATION, "uids", "", "", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        rights.extend(
            values
                .iter()
                .map(|value| right(AUTHENTICATION, "userextras", key, "", value)),
        );
    }
    rights
}

fn service_account(username: &str) -> Option<(&str, &str)> {
    username.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// Adds the groups that the server itself would have given.
fn complete(mut user: UserInfo) -> UserInfo {
    if user.groups.is_empty()
        && let Some((namespace, _)) = service_account(&user.username)
    {
        user.groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
    }
    let own = if user.username == ANONYMOUS {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    if !user.groups.iter().any(|group| group == own) {
        user.groups.push(own.to_owned());
    }
    user
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::authz::Decision;

    /// Allows what is in the list, as `resource/name`.
    struct Only(&'static [&'static str]);

    #[async_trait]
    impl Authorizer for Only {
        async fn authorize(&self, a: &Attributes<'_>) -> Decision {
            let asked = [a.resource, a.subresource, a.name]
                .iter()
                .filter(|p| !p.is_empty())
                .copied()
                .collect::<Vec<_>>();
            match self.0.contains(&asked.join("/").as_str()) && a.verb == "impersonate" {
                true => Decision::Allow,
                false => Decision::NoOpinion(String::new()),
            }
        }
    }

    async fn act(
        allowed: &'static [&'static str],
        headers: &[(&'static str, &str)],
    ) -> Result<(String, Vec<String>), String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header"));
        }
        let jane = Arc::new(UserInfo {
            username: "jane".to_owned(),
            ..UserInfo::default()
        });
        let user = impersonate(&Only(allowed), &map, jane)
            .await
            .map_err(|status| status.message)?;
        Ok((user.username.clone(), user.groups.clone()))
    }

    fn is(name: &str, groups: &[&str]) -> Result<(String, Vec<String>), String> {
        Ok((name.to_owned(), groups.iter().map(|g| (*g).to_owned()).collect()))
    }

    #[tokio::test]
    async fn without_headers_everybody_is_themselves() {
        assert_eq!(act(&[], &[]).await, is("jane", &[]));
    }

    #[tokio::test]
    async fn acts_as_others_where_allowed() {
        assert_eq!(act(&["users/bob"], &[(USER, "bob")]).await, is("bob", &[AUTHENTICATED]));
        assert_eq!(
            act(&["users/bob", "groups/dev"], &[(USER, "bob"), (GROUP, "dev")]).await,
            is("bob", &["dev", AUTHENTICATED])
        );
        assert_eq!(
            act(&["serviceaccounts/sa"], &[(USER, "system:serviceaccount:ns:sa")]).await,
            is(
                "system:serviceaccount:ns:sa",
                &["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED]
            )
        );
        assert_eq!(
            act(&["users/system:anonymous"], &[(USER, ANONYMOUS)]).await,
            is(ANONYMOUS, &[UNAUTHENTICATED])
        );
        let extra = [(USER, "bob"), ("impersonate-extra-a.b%2fscopes", "view")];
        assert_eq!(
            act(&["users/bob", "userextras/a.b/scopes/view"], &extra).await,
            is("bob", &[AUTHENTICATED])
        );
    }

    #[tokio::test]
    async fn every_part_needs_its_own_right() {
        assert_eq!(
            act(&["users/bob"], &[(USER, "bob"), (GROUP, "system:masters")]).await,
            Err("groups \"system:masters\" is forbidden: User \"jane\" cannot impersonate resource \"groups\" in API group \"\" at \
                 the cluster scope"
                .to_owned())
        );
        assert!(act(&["users/bob"], &[(USER, "joe")]).await.is_err());
        assert!(
            act(&["groups/dev"], &[(GROUP, "dev")]).await.is_err(),
            "a group without a user"
        );
    }
}
