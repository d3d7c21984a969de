//! Compiled code in this process: mapped from the descriptor the agent passed, linked once, shared by all containers
//! that run it.

use std::{
    collections::HashMap,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use wasmtime::{
    Engine, InstancePre, Module,
    component::{Component, Linker},
};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::{
    exit,
    guest::{CoreGuest, Guest},
    linker,
};
use crate::protocol::compiled;

/// A guest's code, ready to be instantiated.
pub(crate) enum Code {
    Http(ProxyPre<Guest>),
    Command(CommandPre<Guest>),
    Preview1(InstancePre<CoreGuest>),
}

/// Why code cannot be used here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("the compiled code cannot be loaded: {detail}")]
    Load { detail: String },
    #[error("the guest cannot be linked: {detail}")]
    Link { detail: String },
}

/// The code that is loaded.
pub(crate) struct Library {
    engine: Engine,
    components: Linker<Guest>,
    modules: wasmtime::Linker<CoreGuest>,
    loaded: Mutex<HashMap<String, Weak<Code>>>,
}

impl Library {
    pub(crate) fn new(engine: Engine) -> wasmtime::Result<Self> {
        let (components, modules) = (linker::components(&engine)?, linker::modules(&engine)?);
        Ok(Self {
            engine,
            components,
            modules,
            loaded: Mutex::new(HashMap::new()),
        })
    }

    /// The code under a key, loaded from `file` unless some container has it already.
    ///
    /// The caller trusts the file: the agent wrote it, and this process cannot.
    pub(crate) fn load(&self, key: &str, kind: compiled::Guest, file: &OwnedFd) -> Result<Arc<Code>, LoadError> {
        let mut loaded = self.loaded.lock();
        if let Some(code) = loaded.get(key).and_then(Weak::upgrade) {
            return Ok(code);
        }
        let code = Arc::new(self.read(kind, file)?);
        loaded.retain(|_, code| code.strong_count() > 0);
        loaded.insert(key.to_owned(), Arc::downgrade(&code));
        Ok(code)
    }

    fn read(&self, kind: compiled::Guest, file: &OwnedFd) -> Result<Code, LoadError> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        match kind {
            compiled::Guest::Http | compiled::Guest::Command => {
                // SAFETY: the file holds what the compile child made and the agent alone can write; wasmtime checks that
                // it was made by this version with these settings.
                let component =
                    unsafe { Component::deserialize_file(&self.engine, path) }.map_err(|error| load(&error))?;
                self.link(kind, &component)
            }
            compiled::Guest::Preview1 => {
                // SAFETY: as above.
                let module = unsafe { Module::deserialize_file(&self.engine, path) }.map_err(|error| load(&error))?;
                self.modules
                    .instantiate_pre(&module)
                    .map(Code::Preview1)
                    .map_err(|error| link(&error))
            }
        }
    }

    fn link(&self, kind: compiled::Guest, component: &Component) -> Result<Code, LoadError> {
        let linked = self
            .components
            .instantiate_pre(component)
            .map_err(|error| link(&error))?;
        if kind == compiled::Guest::Http {
            ProxyPre::new(linked).map(Code::Http).map_err(|error| link(&error))
        } else {
            CommandPre::new(linked).map(Code::Command).map_err(|error| link(&error))
        }
    }
}

fn load(error: &wasmtime::Error) -> LoadError {
    LoadError::Load {
        detail: exit::describe(error),
    }
}

fn link(error: &wasmtime::Error) -> LoadError {
    LoadError::Link {
        detail: format!("{error:#}"),
    }
}
