//! Owners and dependents that come and go at the same time, in every way of deleting: what must go goes, what must stay
//! stays, and nothing hangs.

use std::collections::BTreeMap;

use api::{NamespacedName, Object};
use client::{Client, DeleteOptions, Informer, OptionalExt, Propagation, kinds};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{NAMESPACE, Plane, until};

const FAMILIES: usize = 24;
const KEEPER: &str = "keeper";

/// The names of owners that each object should have in the end.
type Expected = BTreeMap<String, Vec<String>>;

async fn make(client: &Client, name: &str, owners: &[&Object]) -> Object {
    let reference = |owner: &&Object| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner.name(), "uid": owner.uid(), "blockOwnerDeletion": true});
    let references: Vec<Value> = owners.iter().map(reference).collect();
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": references}});
    client.create(&kinds::CONFIG_MAP, Some(NAMESPACE), &map).await.unwrap()
}

async fn delete(client: &Client, name: &str, propagation: Propagation) {
    let options = DeleteOptions {
        propagation: Some(propagation),
        ..DeleteOptions::default()
    };
    let at = NamespacedName::new(NAMESPACE, name);
    client
        .delete(&kinds::CONFIG_MAP, &at, &options)
        .await
        .optional()
        .unwrap();
}

/// One owner with dependents, deleted and made again under the same name; answers what should be left.
async fn family(client: &Client, maps: &Informer<Object>, keeper: &Object, nth: usize) -> Expected {
    let [owner, shared, own, child, late, new] =
        ["owner", "shared", "own", "child", "late", "new"].map(|w| format!("{w}-{nth}"));
    let made = make(client, &owner, &[]).await;
    let first = make(client, &own, &[&made]).await;
    make(client, &child, &[&first]).await;
    make(client, &shared, &[keeper, &made]).await;
    let propagation = [Propagation::Foreground, Propagation::Background, Propagation::Orphan][nth % 3];
    delete(client, &owner, propagation).await;
    maps.wait_until(&NamespacedName::new(NAMESPACE, &owner), |now| {
        now.is_none_or(|now| now.uid() != made.uid())
    })
    .await;

    let gone = [&made];
    let (again, _) = tokio::join!(make(client, &owner, &[]), make(client, &late, &gone));
    make(client, &new, &[&again]).await;
    let mut left = Expected::from([
        (owner.clone(), vec![]),
        (new, vec![owner]),
        (shared, vec![KEEPER.to_owned()]),
    ]);
    if propagation == Propagation::Orphan {
        left.extend([(own.clone(), vec![]), (child, vec![own])]);
    }
    left
}

fn is_as(objects: &[&Object], expected: &Expected) -> Result<(), String> {
    let ours = objects.iter().filter(|object| object.name() != "kube-root-ca.crt");
    let owners = |object: &Object| {
        let names = object.list_at("metadata.ownerReferences").iter();
        names.map(|owner| owner["name"].as_str().unwrap().to_owned()).collect()
    };
    let found: Expected = ours
        .clone()
        .map(|object| (object.name().to_owned(), owners(object)))
        .collect();
    if let Some(stuck) = ours
        .clone()
        .find(|object| object.is_deleting() || !object.finalizers().is_empty())
    {
        return Err(format!("{} is still being deleted", stuck.name()));
    }
    let differ = |(name, owners): (&String, &Vec<String>)| {
        (expected.get(name) != Some(owners)).then(|| format!("{name} of {owners:?} is left"))
    };
    let missing = expected
        .keys()
        .find(|name| !found.contains_key(*name))
        .map(|name| format!("{name} is gone"));
    match found.iter().find_map(differ).or(missing) {
        Some(wrong) => Err(wrong),
        None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_leaves_what_it_should_and_nothing_else() {
    let plane = Plane::start().await;
    let maps = plane.follow(&kinds::CONFIG_MAP).await;
    let keeper = make(&plane.admin, KEEPER, &[]).await;
    let families = (0..FAMILIES).map(|nth| family(&plane.admin, &maps, &keeper, nth));
    let mut expected: Expected = join_all(families).await.into_iter().flatten().collect();
    expected.insert(KEEPER.to_owned(), vec![]);
    until(&maps, |objects| is_as(objects, &expected)).await;

    // What the collector had in hand by now is done when it has done something that was asked of it later.
    let last = make(&plane.admin, "last", &[]).await;
    make(&plane.admin, "lasts", &[&last]).await;
    delete(&plane.admin, "last", Propagation::Background).await;
    until(&maps, |objects| is_as(objects, &expected)).await;

    // The keeper takes with it what only it held.
    delete(&plane.admin, KEEPER, Propagation::Foreground).await;
    expected.retain(|name, owners| name != KEEPER && !owners.iter().any(|owner| owner == KEEPER));
    until(&maps, |objects| is_as(objects, &expected)).await;
    plane.stop().await;
}
