//! ServiceAccount: who a pod is. Its tokens are made by the `token` endpoint and stored nowhere.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::print::columns;
use crate::resources::validation::meta;
use crate::resources::validation::names::is_dns1123_subdomain;

pub(crate) fn resource() -> Resource {
    Resource::of::<ServiceAccount>()
        .short_names(&["sa"])
        .strategy(Accounts)
        .printer(definitions(), cells)
        .returns_deleted()
        .build()
}

struct Accounts;

impl Strategy for Accounts {
    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        meta::validate(cx, op, new, is_dns1123_subdomain)
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Secrets|string||How many secrets the account lists.",
        "Age|string",
    ])
}

fn cells(account: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        account.name().into(),
        account.list_at("secrets").len().into(),
        age(account.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "ns"}});
    crate::resources::testing::Cases {
        valid: vec![account("default")],
        invalid: vec![(
            account("a_b"),
            vec![
                "metadata.name: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                  characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used \
                  for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        )],
        table: vec![
            json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}, "secrets": [{"name": "s"}]}),
        ],
    }
}
