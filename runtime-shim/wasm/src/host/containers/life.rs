//! A container's run, from the moment its start was decided to the record of its end.

use std::{sync::Arc, time::Duration};

use cri::{ContainerId, ContainerState};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Container, Containers, Running, failures::cannot_listen, now};
use crate::{
    host::{
        code::Code,
        command,
        exit::Exit,
        http::{self, Service},
    },
    protocol::{Change, Failure},
};

impl Containers {
    pub(super) fn listen(&self, container: &Container, port: u16) -> Result<(u16, TcpListener), Failure> {
        let holder = {
            let live = self.live.lock();
            let others = live
                .containers
                .values()
                .filter(|other| other.sandbox == container.sandbox);
            let mut holders = others.filter(|other| other.running.as_ref().is_some_and(|run| run.port == Some(port)));
            holders.next().map(|other| other.name.clone())
        };
        if let Some(holder) = holder {
            return Err(Failure::PortTaken { port, holder });
        }
        let address = container.prepared.addresses.listen();
        let listener = http::listen(address, port).and_then(TcpListener::from_std);
        Ok((port, listener.map_err(|error| cannot_listen(&error, address, port))?))
    }

    /// Starts what has been decided to start.
    pub(super) fn launch(
        self: &Arc<Self>,
        id: ContainerId,
        mut container: Container,
        listener: Option<(u16, TcpListener)>,
    ) {
        let (fatal, failed) = mpsc::channel(1);
        let service = match &*container.code {
            Code::Http(component) => {
                let (prepared, ticker) = (Arc::clone(&container.prepared), Arc::clone(&self.ticker));
                Some(Service::new(component.clone(), prepared, ticker, fatal))
            }
            _ => None,
        };
        let running = Running {
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            done: CancellationToken::new(),
            port: listener.as_ref().map(|(port, _)| *port),
            service,
        };
        container.running = Some(running.clone());
        self.live.lock().containers.insert(id.clone(), container.clone());
        let containers = Arc::clone(self);
        tokio::spawn(async move {
            let exit = match (listener, &running.service) {
                (Some((_, listener)), Some(service)) => serve(Arc::clone(service), listener, &running, failed).await,
                _ => containers.execute(&container, &running).await,
            };
            containers.ended(&id, &container, exit);
            running.done.cancel();
        });
    }

    async fn execute(&self, container: &Container, running: &Running) -> Exit {
        let program = match &*container.code {
            Code::Command(program) => command::Program::Component(program.clone()),
            Code::Preview1(program) => command::Program::Module(program.clone()),
            Code::Http(_) => return Exit::failed("a service was started without a listener".to_owned()),
        };
        let (prepared, ticker) = (Arc::clone(&container.prepared), Arc::clone(&self.ticker));
        command::run(program, prepared, ticker, running.stop.clone()).await
    }

    fn ended(&self, id: &ContainerId, container: &Container, exit: Exit) {
        let log = &container.prepared.log;
        if !exit.message.is_empty() {
            log.host(&exit.message);
        }
        log.flush();
        log.end();
        self.live.lock().containers.remove(id);
        let Some(mut record) = self.table.container(id) else {
            return;
        };
        let container = &mut record.container;
        container.state = ContainerState::Exited;
        container.finished_at = now();
        container.exit_code = exit.code;
        container.reason = exit.reason.to_owned();
        container.message = exit.message;
        self.table.record_end(Change::Container(Box::new(record)));
    }

    /// Ends a container that runs; answers when it has ended.
    pub(super) async fn end(&self, id: &ContainerId, grace: Duration) {
        let running = self
            .live
            .lock()
            .containers
            .get(id)
            .and_then(|container| container.running.clone());
        let Some(running) = running else { return };
        running.stop.cancel();
        if timeout(grace, running.done.cancelled()).await.is_err() {
            running.kill.cancel();
            running.done.cancelled().await;
        }
    }
}

/// A service's life from its start to its end.
async fn serve(
    service: Arc<Service>,
    listener: TcpListener,
    running: &Running,
    mut failed: mpsc::Receiver<Exit>,
) -> Exit {
    let serving = async {
        match service.try_out().await {
            Ok(()) => {
                Arc::clone(&service).serve(listener, running.stop.clone()).await;
                Exit::drained()
            }
            Err(exit) => exit,
        }
    };
    let exit = tokio::select! {
        exit = serving => exit,
        Some(exit) = failed.recv() => exit,
        () = running.kill.cancelled() => Exit::killed(),
    };
    service.end();
    exit
}
