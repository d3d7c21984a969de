//! What guests are linked with: WASI 0.2 and `wasi:http` as wasmtime gives them, with the pod's own sockets, names,
//! environment and directories laid over them.

use std::sync::Arc;

use wasmtime::{
    Engine, StoreContextMut,
    component::{Component, InstancePre, Linker, Resource},
};
use wasmtime_wasi::{
    WasiView,
    filesystem::{Descriptor, WasiFilesystemView},
    p2::bindings::filesystem::preopens::Host as _,
};

use super::{
    guest::{CoreGuest, Guest},
    sockets,
};

/// The version in which wasmtime names the packages it gives; guests of every 0.2.x are linked to it.
pub(crate) const VERSION: &str = "0.2.12";

/// The linker of components: services and commands alike, since toolchains import `wasi:cli` and `wasi:filesystem`
/// into services too.
pub(crate) fn components(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    sockets::guard(&mut linker)?;
    environment(&mut linker)?;
    directories(&mut linker)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

/// The linker of core modules. Preview 1 gives no way to make a socket, so there is nothing to guard.
pub(crate) fn modules(engine: &Engine) -> wasmtime::Result<wasmtime::Linker<CoreGuest>> {
    let mut linker = wasmtime::Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |guest: &mut CoreGuest| &mut guest.wasi)?;
    Ok(linker)
}

/// Links a component without running anything of it: the last word on whether we offer what it imports.
pub(crate) fn check_component(component: &Component) -> wasmtime::Result<()> {
    let _linked: InstancePre<Guest> = components(component.engine())?.instantiate_pre(component)?;
    Ok(())
}

/// As [`check_component`].
pub(crate) fn check_module(module: &wasmtime::Module) -> wasmtime::Result<()> {
    modules(module.engine())?.instantiate_pre(module)?;
    Ok(())
}

/// The container's environment and arguments, shared and not copied for each instance.
fn environment(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut environment = linker.instance(&format!("wasi:cli/environment@{VERSION}"))?;
    environment.func_wrap("get-environment", |store: StoreContextMut<'_, Guest>, (): ()| {
        Ok((Arc::clone(&store.data().prepared.env),))
    })?;
    environment.func_wrap("get-arguments", |store: StoreContextMut<'_, Guest>, (): ()| {
        Ok((Arc::clone(&store.data().prepared.args),))
    })?;
    environment.func_wrap("initial-cwd", |store: StoreContextMut<'_, Guest>, (): ()| {
        let directory = &store.data().prepared.working_dir;
        Ok((Some(if directory.is_empty() {
            "/".to_owned()
        } else {
            directory.clone()
        }),))
    })
}

/// The container's directories, given to an instance when it asks for them.
fn directories(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut preopens = linker.instance(&format!("wasi:filesystem/preopens@{VERSION}"))?;
    preopens.func_wrap("get-directories", |mut store: StoreContextMut<'_, Guest>, (): ()| {
        let guest = store.data_mut();
        *guest.ctx().ctx.filesystem() = guest.prepared.filesystem.clone();
        let directories: Vec<(Resource<Descriptor>, String)> = guest.filesystem().get_directories()?;
        Ok((directories,))
    })
}
