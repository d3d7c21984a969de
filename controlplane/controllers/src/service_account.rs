//! Every namespace has a ServiceAccount `default`.

use api::{NamespacedName, Object};
use client::{
    Error, Informer, MetaObject, Scope, kinds,
    reconcile::{self, Action},
};

use crate::{Context, RESYNC, view::Namespace};

const NAME: &str = "default";

pub(crate) async fn run(context: Context) {
    let named = Scope::Fields(format!("metadata.name={NAME}"));
    let accounts = context.informers.get_metadata(&kinds::SERVICE_ACCOUNT, named);
    let namespaces: Informer<Namespace> = context.informers.get(&kinds::NAMESPACE, Scope::All);
    accounts.synced().await;
    let triggers = vec![
        reconcile::on_change(&namespaces),
        reconcile::mapped(&accounts, |delta| {
            delta.key.namespace.as_deref().map(NamespacedName::cluster)
        }),
        reconcile::every(RESYNC, &namespaces),
    ];
    let reconcile = |key| ensure(&context, &namespaces, &accounts, key);
    match reconcile::keyed("service-account", 4, triggers, reconcile).await {}
}

async fn ensure(
    context: &Context,
    namespaces: &Informer<Namespace>,
    accounts: &Informer<MetaObject>,
    key: NamespacedName,
) -> Result<Action, Error> {
    let active = namespaces
        .get(&key)
        .is_some_and(|namespace| !namespace.metadata.is_deleting());
    if !active || accounts.get(&NamespacedName::new(&key.name, NAME)).is_some() {
        return Ok(Action::Done);
    }
    let mut account = Object::new("v1", "ServiceAccount");
    account.set("metadata.name", NAME);
    account.set("metadata.namespace", key.name.to_string());
    match context
        .client
        .create(&kinds::SERVICE_ACCOUNT, Some(&key.name), &account)
        .await
    {
        Ok(created) => accounts.wait_written(&created).await,
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(Action::Done)
}
