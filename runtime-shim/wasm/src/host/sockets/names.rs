//! `wasi:sockets/ip-name-lookup`: names as the pod knows them, with all their addresses.
//!
//! wasmtime's own interface asks the machine's resolver. It is replaced whole: a lookup has its answer before its stream is
//! made, so that a stream never makes a guest wait.

use std::{net::Ipv4Addr, sync::Arc};

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType},
};
use wasmtime_wasi::{
    p2::{
        DynPollable, Pollable,
        bindings::sockets::network::{ErrorCode, IpAddress, Network},
        subscribe,
    },
    sockets::WasiSocketsView,
};

use super::{Lowered, VERSION};
use crate::host::guest::Guest;

/// What is left of an answer.
struct Addresses(std::vec::IntoIter<Ipv4Addr>);

#[async_trait::async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {}
}

/// Lays the interface over wasmtime's.
pub(super) fn guard(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut names = linker.instance(&format!("wasi:sockets/ip-name-lookup@{VERSION}"))?;
    names.resource(
        "resolve-address-stream",
        ResourceType::host::<Addresses>(),
        |mut store, stream| {
            let stream: Resource<Addresses> = Resource::new_own(stream);
            store.data_mut().sockets().table.delete(stream)?;
            Ok(())
        },
    )?;
    names.func_wrap_async("resolve-addresses", |store, arguments| {
        Box::new(resolve(store, arguments))
    })?;
    names.func_wrap("[method]resolve-address-stream.resolve-next-address", next)?;
    names.func_wrap("[method]resolve-address-stream.subscribe", ready)
}

async fn resolve(
    mut store: StoreContextMut<'_, Guest>,
    (network, name): (Resource<Network>, String),
) -> Lowered<Resource<Addresses>> {
    // It stands for the permission to ask; there is nothing else in it.
    store.data_mut().sockets().table.get(&network)?;
    let addresses = Arc::clone(&store.data().prepared.addresses);
    Ok((match addresses.resolver.lookup(&name).await {
        Ok(found) => Ok(store.data_mut().sockets().table.push(Addresses(found.into_iter()))?),
        Err(error) => Err(error.code()),
    },))
}

/// The next address; of version 4, since pods have no others.
fn next(
    mut store: StoreContextMut<'_, Guest>,
    (stream,): (Resource<Addresses>,),
) -> wasmtime::Result<(Result<Option<IpAddress>, ErrorCode>,)> {
    let view = store.data_mut().sockets();
    let next = view.table.get_mut(&stream)?.0.next();
    Ok((Ok(next.map(|address| {
        let [a, b, c, d] = address.octets();
        IpAddress::Ipv4((a, b, c, d))
    })),))
}

/// Its answer is there already, so that waiting for it is over at once.
fn ready(
    mut store: StoreContextMut<'_, Guest>,
    (stream,): (Resource<Addresses>,),
) -> wasmtime::Result<(Resource<DynPollable>,)> {
    Ok((subscribe(store.data_mut().sockets().table, stream)?,))
}
