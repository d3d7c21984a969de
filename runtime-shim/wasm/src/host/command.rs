//! A container that runs a program: a `wasi:cli` component or a preview 1 module, to its end or forever.
//!
//! Wasm has no signals: a program that is asked to end is ended at once, as a process without a handler would be by
//! `SIGTERM`. It is dropped where it waits, or at its next tick where it computes; nothing of it survives.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wasmtime::{InstancePre, Store};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::{
    cpu::{Metered, Ticker},
    exit::Exit,
    guest::{CoreGuest, Guest, Prepared},
    memory::Refused,
};

/// What is run.
pub(crate) enum Program {
    Component(CommandPre<Guest>),
    Module(InstancePre<CoreGuest>),
}

/// Runs a program until it ends or `stop`.
pub(crate) async fn run(
    program: Program,
    prepared: Arc<Prepared>,
    ticker: Arc<Ticker>,
    stop: CancellationToken,
) -> Exit {
    let account = Arc::clone(&prepared.cpu);
    let guest = {
        let prepared = Arc::clone(&prepared);
        async move {
            match program {
                Program::Component(program) => component(&program, &prepared).await,
                Program::Module(program) => module(&program, &prepared).await,
            }
        }
    };
    tokio::select! {
        ended = Metered::new(guest, account, ticker) => match ended {
            Ok(exit) => exit,
            Err((error, refused)) => Exit::of_error(&error, refused, prepared.memory.limit()),
        },
        () = stop.cancelled() => Exit::stopped(),
    }
}

type Ended = Result<Exit, (wasmtime::Error, Option<Refused>)>;

async fn component(program: &CommandPre<Guest>, prepared: &Arc<Prepared>) -> Ended {
    let mut store = Store::new(program.engine(), Guest::new(prepared));
    store.limiter(|guest| &mut guest.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| Ok(store.data().prepared.cpu.tick()));
    let result = async {
        let command = program.instantiate_async(&mut store).await?;
        command.wasi_cli_run().call_run(&mut store).await
    }
    .await;
    match result {
        Ok(Ok(())) => Ok(Exit::with_code(0)),
        Ok(Err(())) => Ok(Exit::with_code(1)),
        Err(error) => Err((error, store.data().memory.refused())),
    }
}

async fn module(program: &InstancePre<CoreGuest>, prepared: &Arc<Prepared>) -> Ended {
    let mut store = Store::new(program.module().engine(), CoreGuest::new(prepared));
    store.limiter(|guest| &mut guest.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| Ok(store.data().prepared.cpu.tick()));
    let result = async {
        let instance = program.instantiate_async(&mut store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call_async(&mut store, ()).await
    }
    .await;
    match result {
        Ok(()) => Ok(Exit::with_code(0)),
        Err(error) => Err((error, store.data().memory.refused())),
    }
}

#[cfg(test)]
mod tests;
