//! The end of a definition: its objects are deleted, as a delete of the collection would do it, and when none is left, so is
//! the definition.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Object, Status};
use store::Key;

use super::{delete, write};
use crate::authn::{MASTERS, UserInfo};
use crate::http::accept::Accepted;
use crate::http::info::RequestInfo;
use crate::http::query::Query;
use crate::registry::catalog::{Endpoint, Kind};
use crate::registry::index::parse;
use crate::registry::{namespace_of, verbs};
use crate::resources::apiextensions::custom_resource_definition::{Condition, FINALIZER, is_true, set_condition};
use crate::server::Shared;

/// Takes the removal of a definition a step further; tells whether it has to be looked at again.
pub(super) async fn step(shared: &Arc<Shared>, definitions: &Arc<Kind>, key: &Key) -> bool {
    let Some(item) = definitions.cache.get(key) else {
        return false;
    };
    let mut definition = parse(&item.bytes);
    let group = definition.str_at("spec.group").unwrap_or_default().to_owned();
    let plural = definition
        .str_at("status.acceptedNames.plural")
        .unwrap_or_default()
        .to_owned();
    let is_served = is_true(&definition, "Established");
    let progress = Condition::new(
        "Terminating",
        true,
        "InstanceDeletionInProgress",
        "CustomResource deletion is in progress",
    );
    if is_served && !says(&definition, &progress) {
        set_condition(&mut definition, &progress, shared.now());
        write(shared, key, item.revision, &definition).await;
        // Its own change brings the loop back here.
        return false;
    }
    let outcome = match is_served {
        true => delete_objects(shared, key, &group, &plural).await,
        false => Ok(Done::NeverServed),
    };
    let condition = match outcome {
        Ok(Done::Left) => return true,
        Ok(Done::Gone) => Condition::new(
            "Terminating",
            false,
            "InstanceDeletionCompleted",
            "removed all instances",
        ),
        Ok(Done::NeverServed) => Condition::new(
            "Terminating",
            false,
            "NeverEstablished",
            "resource was never established",
        ),
        Err(status) => {
            let words = format!("could not issue all deletes: {}", status.message);
            let failed = Condition::new("Terminating", true, "InstanceDeletionFailed", &words);
            if !says(&definition, &failed) {
                set_condition(&mut definition, &failed, shared.now());
                write(shared, key, item.revision, &definition).await;
            }
            return true;
        }
    };
    set_condition(&mut definition, &condition, shared.now());
    definition.remove_finalizer(FINALIZER);
    match definition.finalizers().is_empty() {
        true => delete(shared, key, item.revision).await,
        false => write(shared, key, item.revision, &definition).await,
    };
    false
}

fn says(definition: &Object, condition: &Condition) -> bool {
    let text =
        |c: &serde_json::Value, field: &str| c.get(field).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let words = |c: &serde_json::Value| {
        (
            text(c, "type"),
            text(c, "status"),
            text(c, "reason"),
            text(c, "message"),
        )
    };
    definition
        .list_at("status.conditions")
        .iter()
        .any(|c| words(c) == condition.words())
}

enum Done {
    /// No object is left.
    Gone,
    /// Some wait for their finalizers.
    Left,
    NeverServed,
}

async fn delete_objects(shared: &Arc<Shared>, key: &Key, group: &str, plural: &str) -> Result<Done, Status> {
    let kind = shared.registry.kind(group, plural);
    let kind = kind.filter(|kind| kind.custom.as_ref().is_some_and(|custom| custom.definition == *key));
    // Established, but not served here yet.
    let Some(kind) = kind else { return Ok(Done::Left) };
    let version = kind.resource.storage().version.clone();
    kind.cache.fresh().await.map_err(crate::http::respond::store_error)?;
    let snapshot = kind.cache.snapshot();
    let places: BTreeSet<String> = snapshot
        .range(&kind.prefix, None)
        .map(|item| namespace_of(&item.key).to_owned())
        .collect();
    let endpoint = Endpoint::storage_of(&kind);
    for namespace in places {
        delete_in(shared, &endpoint, group, &version, plural, &namespace).await?;
    }
    kind.cache.fresh().await.map_err(crate::http::respond::store_error)?;
    Ok(match kind.cache.snapshot().range(&kind.prefix, None).next() {
        None => Done::Gone,
        Some(_) => Done::Left,
    })
}

async fn delete_in(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    group: &str,
    version: &str,
    plural: &str,
    namespace: &str,
) -> Result<(), Status> {
    let user = Arc::new(UserInfo {
        username: "system:apiserver".to_owned(),
        groups: vec![MASTERS.to_owned()],
        ..UserInfo::default()
    });
    let info = RequestInfo {
        verb: "deletecollection",
        is_resource: true,
        group,
        version,
        namespace: Cow::Borrowed(namespace),
        resource: plural,
        subresource: "",
        name: Cow::Borrowed(""),
        path: "",
        trailing: false,
    };
    let query = Query::parse("");
    let call = verbs::Call {
        server: shared,
        endpoint,
        info: &info,
        user: &user,
        query: &query,
        accepted: Accepted::JSON,
        manager: "kube-apiserver",
        extended: false,
        now: shared.now(),
    };
    verbs::delete_collection(&call, &verbs::DeleteOptions::default())
        .await
        .map(drop)
}
